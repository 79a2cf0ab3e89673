"""`recon reconstruct jets`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from recon import __version__
from recon.commands import (
    HERE,
    Json,
    Output,
    Remote,
    Report,
    console,
    progress_bars,
    write_json,
)
from recon.engines import connect
from recon.errors import ConfigError, DataError
from recon.io.jet_columns import with_columns
from recon.io.jets import is_parquet, read_jet_metadata, write_jets
from recon.io.metadata import OWN
from recon.io.root_pfnano_scores import Keep, write_pfnano_scores
from recon.tagging.commands.options import ModelName, load, missing_inputs, tell_inputs
from recon.tagging.features import InputReport
from recon.tagging.jet_image_network import JetImageNetwork
from recon.tagging.pipeline import (
    JetFile,
    TaggedJets,
    merge_reports,
    open_jets,
    read_tables,
    tag_tables,
    tag_tables_remotely,
)
from recon.tagging.shipped import DEFAULT, Tagger
from recon.tagging.two_part_engine import connect_parts


def reconstruct(
    file: Positional[Path],
    *,
    output: Output,
    model: ModelName = DEFAULT,
    layout: Literal["ttree", "rntuple"] = "ttree",
    keep: Keep = "all",
    remote: Remote = HERE,
    served: str | None = None,
    json: Json = None,
) -> None:
    """Tag every jet in a file: the same file with the probabilities of the classes as branches NAME_CLASS.

    Args:
        file: jets as ROOT or parquet: ours, JetClass's, or CMS's PFNano, whose branches are then FatJet_NAME_CLASS.
        output: file to write: parquet if it ends in .parquet, else ROOT.
        model: the tagger; with --server the one whose inputs are computed here.
        layout: TTree or RNTuple; copies of PFNano are TTrees.
        keep: of PFNano: every branch, or those of AK8 jets and the numbers of the event, which is quicker.
        remote: runs the network in the place of this process.
        served: name of the model on the server; the kind of the network by default, as `recon export tagging` has it.
        json: write what became of the jets here.
    """
    settings = remote.settings()
    if served is not None and remote.server is None:
        raise ConfigError(f"--served {served} goes with --server")
    source = open_jets(file)
    if keep != "all" and not source.nano:
        raise ConfigError(f"--keep {keep} goes with PFNano; of {file} every branch is kept")
    if source.nano and (is_parquet(output) or layout != "ttree"):
        raise ConfigError(f"{file} is PFNano, of which a copy is a TTree; given is {output} as {layout}")
    tagger = load(model)
    seen = _Seen(tagger, source.entries)
    output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bars() as report, ExitStack() as stack:
        tables = read_tables(source)
        if remote.server is None:
            tagged: Iterator[tuple[Any, TaggedJets]] = tag_tables(tables, tagger)
        else:
            # Images go to a featurizer and a classifier, each with a name of its own.
            join = connect_parts if isinstance(tagger.model.network, JetImageNetwork) else connect
            engine = stack.enter_context(
                closing(join(remote.server, model=served or tagger.model.kind, **settings))
            )
            answers = tag_tables_remotely(tables, tagger, engine, streams=remote.streams)
            tagged = stack.enter_context(closing(answers))
        origin = {"server": remote.server} if remote.server else {"model": model}
        metadata = {"program": f"recon {__version__}", "input": str(file), "tagger": tagger.name, **origin}
        left_out = write_scores(source, output, seen.watched(tagged, report), tagger, layout, keep, metadata)
    _tell(seen, source, output, left_out)
    write_json(json, metadata | seen.summary() | {"not_copied": left_out, "output": str(output)})


@dataclass
class _Seen:
    """Watches jets go by.

    Attributes:
        tagger: that scores them.
        total: number of entries of the file.
        reports: of all tables.
        missing: inputs that the file cannot give.
    """

    tagger: Tagger
    total: int
    reports: list[InputReport] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def watched(
        self, tagged: Iterator[tuple[Any, TaggedJets]], report: Report
    ) -> Iterator[tuple[Any, TaggedJets]]:
        for table, jets in tagged:
            if jets.report.missing and not self.missing:
                self.missing = missing_inputs(jets.columns, self.tagger)
            self.reports.append(jets.report)
            done = sum(one.jets for one in self.reports)
            report("jets", done, max(self.total, done))
            yield table, jets

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        counts = merge_reports(self.reports)._asdict()
        return counts | {"missing": self.missing, "labels": list(self.tagger.labels)}


def branch_names(tagger: Tagger) -> list[str]:
    """Names of the branches, one a class; what no name of a branch may hold becomes an underscore."""
    return [re.sub(r"\W", "_", f"{tagger.name}_{label}") for label in tagger.labels]


def write_scores(
    source: JetFile,
    output: Path,
    tagged: Iterator[tuple[Any, TaggedJets]],
    tagger: Tagger,
    layout: Literal["ttree", "rntuple"],
    keep: Keep,
    metadata: dict[str, Any],
) -> list[str]:
    """Write a file of jets with their scores; returns the names of what could not be copied."""
    names = branch_names(tagger)
    if source.nano:
        scores = (jets.scores for _, jets in tagged)
        return write_pfnano_scores(source.path, output, scores, names, keep=keep)[1]

    def tables() -> Iterator[Any]:
        for table, jets in tagged:
            columns = (np.ascontiguousarray(column) for column in jets.scores.T)
            yield with_columns(table, dict(zip(names, columns, strict=True)))

    kept = {key: value for key, value in _metadata(source.path).items() if key != OWN}
    write_jets(output, tables(), layout=layout, metadata=kept | {"tagging": metadata})
    return []


def _metadata(path: Path) -> dict[str, Any]:
    """What the file says of itself; files of others say nothing."""
    try:
        return read_jet_metadata(path)
    except DataError:
        return {}


def _tell(seen: _Seen, source: JetFile, output: Path, left_out: list[str]) -> None:
    report = merge_reports(seen.reports)
    tell_inputs(report, seen.missing, seen.tagger)
    if left_out:
        console.print(f"not copied: {', '.join(left_out)}")
    console.print(
        f"{report.jets:,} jets of {source.path} tagged by {seen.tagger.name} and written to {output}"
    )
