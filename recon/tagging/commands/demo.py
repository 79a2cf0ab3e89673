"""`recon demo jets`: from collisions to tagged jets on the screen in a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import arg

from recon import __version__
from recon.commands import Json, console, progress_bars, write_json
from recon.io.jet_columns import with_columns
from recon.io.jets import read_jets, write_jets
from recon.metrics import Ratio
from recon.report import console_table, format_ratio, ratio_json
from recon.tagging.commands.display import draw
from recon.tagging.commands.options import ModelName, load, missing_inputs, tell_inputs
from recon.tagging.commands.reconstruct import branch_names
from recon.tagging.labels import LABELS, discriminant, opposed, rows_among
from recon.tagging.pipeline import TaggedJets, merge_reports, tag_tables
from recon.tagging.shipped import DEFAULT, Tagger

SAMPLE = Path(__file__).parents[2] / "data" / "jets.root"
"""Simulated jets that ship with the package, for installations without the `sim` extra."""

SAMPLE_EACH = 8
"""Jets of each process in it."""
PROCESSES: tuple[Literal["top", "hz", "qcd"], ...] = ("top", "hz", "qcd")
_ROWS = 12
_SCORES = {"TvsQCD": "T", "HbbvsQCD": "Hbb"}


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/demo/jets"),
    jets: int = 40,
    seed: int = 11,
    model: ModelName = DEFAULT,
    json: Json = None,
) -> None:
    """Simulate jets of top quarks, H Z and QCD, tag them, print some with their truth and draw one.

    Args:
        output: directory of the jets with their scores and of the pictures.
        jets: number of each kind.
        seed: of the simulation.
        model: the tagger.
        json: write what was found here as JSON.
    """
    begin = time.monotonic()
    tagger = load(model)
    output.mkdir(parents=True, exist_ok=True)
    tagged = list(tag_tables(_jets(jets, seed), tagger))
    found = [one for _, one in tagged]
    tell_inputs(
        merge_reports([one.report for one in found]), missing_inputs(found[0].columns, tagger), tagger
    )
    _show(found, tagger)
    right = accuracy(found, tagger)
    console.print(
        f"the likeliest class is the true one for {format_ratio(right)} of the jets whose class it knows"
    )
    path = output / "jets.root"
    write_jets(path, (_scored(table, one, tagger) for table, one in tagged), metadata=_metadata(model, seed))
    pictures = draw(found[0], int(np.argmax(_score(found[0], tagger, "T"))), tagger.labels, output / "jet")
    for written in (path, *pictures):
        console.print(f"wrote {written}")
    write_json(json, _metadata(model, seed) | {"accuracy": ratio_json(right), "output": str(output)})
    console.print(f"from collisions to tagged jets in {time.monotonic() - begin:.0f} s")


def _jets(jets: int, seed: int) -> Iterator[Any]:
    if not all(find_spec(name) for name in ("pythia8mc", "fastjet")):
        console.print(f"the `sim` extra is not installed: taking the jets of {SAMPLE}")
        for table in read_jets(SAMPLE):
            yield from (table[start : start + SAMPLE_EACH] for start in range(0, len(table), SAMPLE_EACH))
        return
    from recon.sim.jets import JetSimulation, simulate_jets  # noqa: PLC0415  the sim extra is optional

    with progress_bars() as report:
        for process in PROCESSES:
            config = JetSimulation(
                process=process, jets=jets, seed=seed, pt_min=500.0, pt_max=1000.0, chunk_events=2 * jets
            )
            yield from simulate_jets(config, report)


def _score(tagged: TaggedJets, tagger: Tagger, signal: str) -> np.ndarray:
    sides = opposed(tagger.labels, signal, "QCD", tagger.name)
    return discriminant(tagged.scores, *sides, tagger.labels)


def _truth(tagged: TaggedJets) -> list[str]:
    return [LABELS[row] for row in np.asarray(tagged.columns.jets["jet_label"])]


def accuracy(found: list[TaggedJets], tagger: Tagger) -> Ratio:
    """Jets whose likeliest class is the true one, of those whose true class the tagger knows."""
    rows = rows_among(LABELS, tagger.labels)
    total = Ratio(0, 0)
    for tagged in found:
        truth = rows[np.asarray(tagged.columns.jets["jet_label"])]
        total += Ratio(int((tagged.scores.argmax(1) == truth).sum()), int((truth >= 0).sum()))
    return total


def _show(found: list[TaggedJets], tagger: Tagger) -> None:
    """A table of the first jets of every kind, one row a jet."""
    shown = max(_ROWS // len(found), 1)
    heads = ("pT", "mass", "particles", "likeliest", "with", *_SCORES)
    rows = []
    for tagged in found:
        jets, best = tagged.columns.jets, tagged.scores.argmax(1)
        scores = [_score(tagged, tagger, signal) for signal in _SCORES.values()]
        for jet, truth in enumerate(_truth(tagged)[:shown]):
            texts = [f"{jets['jet_pt'][jet]:.0f}", f"{jets['jet_sdmass'][jet]:.0f}"]
            texts += [str(int(tagged.columns.candidate_count[jet])), tagger.labels[best[jet]]]
            texts += [f"{tagged.scores[jet, best[jet]]:.3f}", *(f"{score[jet]:.4f}" for score in scores)]
            rows.append((truth, texts))
    console.print(console_table(heads, rows, f"true classes and what {tagger.name} says; GeV"))


def _scored(table: Any, tagged: TaggedJets, tagger: Tagger) -> Any:
    columns = (np.ascontiguousarray(column) for column in tagged.scores.T)
    return with_columns(table, dict(zip(branch_names(tagger), columns, strict=True)))


def _metadata(model: str, seed: int) -> dict[str, Any]:
    return {"program": f"recon {__version__}", "model": model, "seed": seed}
