"""`recon evaluate tagging`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from recon.commands import Json, console, progress_bars, write_json
from recon.errors import ConfigError, DataError
from recon.tagging.commands.options import load, losses
from recon.tagging.evaluation import Question, TaggerResult, evaluate_taggers
from recon.tagging.pipeline import open_jets, read_tables
from recon.tagging.report import summary_table, to_json, write_report
from recon.tagging.shipped import DEFAULT, Tagger


def evaluate(
    files: Positional[tuple[Path, ...]],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/evaluation-tagging"),
    model: UseAppendAction[tuple[str, ...]] = (),
    stored: UseAppendAction[tuple[str, ...]] = (),
    signal: tuple[str, ...] = ("T",),
    background: tuple[str, ...] = ("QCD",),
    jets: int | None = None,
    json: Json = None,
) -> None:
    """Compare taggers on the same jets: ROC, working points, pT, pile-up, mass sculpting, calibration, confusion.

    Args:
        files: jets with their truth, ROOT or parquet; ours or JetClass's.
        output: directory of the report (Markdown, JSON, pictures).
        model: as for reconstruct, as often as wanted: a shipped model, the directory of your own, or a file of weights
            (.onnx of CMS, .pt of weaver), MODEL,INPUTS with CMS's preprocess.json; NAME=MODEL to call it so.
        stored: scores that the files hold: a branch, or the NAME of branches NAME_CLASS, as reconstruct writes them.
        signal: classes, or groups such as T (top), W, Z, H, Hbb.
        background: the same.
        jets: most jets of each file.
        json: write the report here as JSON, too.
    """
    sources: list[Tagger | str] = [load(text) for text in (model if model or stored else (DEFAULT,))]
    sources += stored
    question = Question(tuple(signal), tuple(background))
    results = compare(files, sources, question, jets=jets)
    tell_losses(results, sources)
    tell_report(output, results, question, json=json)


def tell_report(
    output: Path, results: Sequence[TaggerResult], question: Question, *, json: Path | None = None
) -> None:
    """Write the report on some taggers and print its table.

    Args:
        output: directory of the report.
        results: of the same jets.
        question: that they were evaluated with.
        json: write the report here as JSON, too.
    """
    title = f"{question}, {len(results[0].score):,} jets"
    found, written = write_report(output, results, question=question, title=title)
    console.print(summary_table(results, found, title))
    console.print(f"report in {written['report']}")
    write_json(json, to_json(results, found, question=question, title=title))


def compare(
    files: tuple[Path, ...], sources: list[Tagger | str], question: Question, *, jets: int | None = None
) -> list[TaggerResult]:
    """Run taggers over the same files, and show how far they are.

    Args:
        files: of jets with truth.
        sources: taggers, or names of scores that the files hold.
        question: signal and background.
        jets: most jets of each file.

    Raises:
        ConfigError: no jets are wanted.
        DataError: files that cannot be read or have no truth.
    """
    if jets is not None and jets < 1:
        raise ConfigError(f"--jets {jets}; allowed: 1 or more")
    opened = [open_jets(file) for file in files]
    if not sum(file.entries for file in opened):
        raise DataError(f"there are no jets in {', '.join(map(str, files))}")
    total = sum(min(file.entries, jets if jets is not None else file.entries) for file in opened)
    with progress_bars() as report:
        return evaluate_taggers(
            tables(files, jets), sources, question, lambda done: report("jets", done, max(total, done))
        )


def tables(files: Sequence[Path], jets: int | None = None) -> Iterator[tuple[str, Any]]:
    """The jets of files, a few thousand at a time, each table with the name of its file.

    Args:
        files: of jets.
        jets: most jets of each file.
    """
    for path in files:
        for table in read_tables(open_jets(path), entries=jets):
            yield str(path), table


def tell_losses(results: list[TaggerResult], sources: list[Tagger | str]) -> None:
    """Say what was left out, replaced or missing on the way into each network."""
    for result, source in zip(results, sources, strict=True):
        if result.report is None or isinstance(source, str):
            continue
        for line in losses(result.report, source):
            console.print(line)
        if result.missing:
            console.print(f"{result.name}: inputs that are not in the files: {', '.join(result.missing)}")
