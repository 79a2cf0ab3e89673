"""From a file of jets to their scores: file -> jets -> features -> network -> probabilities of the classes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from recon.engines import Engine
from recon.errors import DataError
from recon.io.jet_columns import JetColumns, jet_columns
from recon.io.jets import count_jets, is_parquet, read_jets
from recon.io.jets_layout import require
from recon.io.root_pfnano import count_pfnano_events, is_pfnano, read_pfnano
from recon.pipeline import Job
from recon.tagging.features import InputReport, make_jets
from recon.tagging.remote import JetTagger
from recon.tagging.scoring import BATCH
from recon.tagging.shipped import Tagger
from recon.types import Jets

ESSENTIAL = (
    *("jet_pt", "jet_eta", "jet_phi", "jet_energy"),
    *(f"part_{name}" for name in ("px", "py", "pz", "energy", "deta", "dphi")),
)
"""Branches without which no tagger can do anything; others that are missing are reported."""


class TaggedJets(NamedTuple):
    """Jets with what a network says of them.

    Attributes:
        columns: the jets as they were read.
        scores: probabilities of the classes.
        report: what did not come through as it was.
    """

    columns: JetColumns
    scores: Float32[np.ndarray, "j k"]
    report: InputReport


class JetFile(NamedTuple):
    """A file of jets.

    Attributes:
        path: of the file.
        nano: it is CMS's PFNano, with several jets an entry.
        entries: number of jets, or of events.
    """

    path: Path
    nano: bool
    entries: int


def open_jets(path: str | Path) -> JetFile:
    """Look what kind of file of jets a file is.

    Raises:
        DataError: a file that is missing, truncated or damaged.
    """
    path = Path(path)
    nano = not is_parquet(path) and is_pfnano(path)
    return JetFile(path, nano, count_pfnano_events(path) if nano else count_jets(path))


def read_tables(file: JetFile, *, entries: int | None = None) -> Iterator[Any]:
    """The jets of a file, a few thousand at a time; awkward arrays of records.

    Args:
        file: from `open_jets`.
        entries: most entries.

    Raises:
        DataError: damaged data, or an essential branch is missing; named, with those that are spelled nearly the same.
    """
    reader = read_pfnano if file.nano else read_jets
    for table in reader(file.path, entry_stop=entries):
        require(ESSENTIAL, table.fields, str(file.path))
        yield table


def tag_jets(jets: Any, tagger: Tagger) -> TaggedJets:
    """Score jets.

    Args:
        jets: an awkward array of records, as every reader of jets gives them, or `JetColumns`.
        tagger: of `load_model`.

    Raises:
        DataError: none of the features of a kind can be computed; names a missing column.
    """
    columns = jets if isinstance(jets, JetColumns) else jet_columns(jets)
    made, report = make_jets(columns, tagger.inputs)
    return TaggedJets(columns, tagger.scorer(made), report)


def tag_tables(tables: Iterable[Any], tagger: Tagger) -> Iterator[tuple[Any, TaggedJets]]:
    """Tables of jets with their scores, one after the other in this process."""
    for table in tables:
        yield table, tag_jets(table, tagger)


class Batch(NamedTuple):
    """Jets that an engine is asked about at once.

    Attributes:
        table: as read.
        columns: the same taken apart.
        jets: features.
        report: of the features.
    """

    table: Any
    columns: JetColumns
    jets: Jets
    report: InputReport


def tag_tables_remotely(
    tables: Iterable[Any], tagger: Tagger, engine: Engine, *, streams: int = 4, batch: int = BATCH
) -> Generator[tuple[Any, TaggedJets], None, None]:
    """Tables of jets with their scores from an engine, several requests on their way at once.

    Args:
        tables: as for `tag_tables`; they are cut into batches.
        tagger: whose features are computed here; its network stays unused.
        engine: that serves an artefact of the same network.
        streams: requests on their way at once.
        batch: most jets of a request.
    """
    job = Job(_batches(tables, tagger, batch), {"scores": JetTagger(engine, tagger)}, streams=streams)
    with closing(job.results()) as results:
        for asked, products in results:
            yield asked.table, TaggedJets(asked.columns, products["scores"], asked.report)


def _batches(tables: Iterable[Any], tagger: Tagger, size: int) -> Iterator[Batch]:
    for table in tables:
        for start in range(0, len(table), size):
            part = table[start : start + size]
            columns = jet_columns(part)
            yield Batch(part, columns, *make_jets(columns, tagger.inputs))


def merge_reports(reports: Sequence[InputReport]) -> InputReport:
    """One report of several parts of a sample.

    Raises:
        DataError: there is none.
    """
    if not reports:
        raise DataError("there are no jets to report on")
    missing = dict.fromkeys(name for report in reports for name in report.missing)
    counts = {
        name: sum(getattr(report, name) for report in reports)
        for name in InputReport._fields
        if name != "missing"
    }
    return InputReport(**counts, missing=tuple(missing))
