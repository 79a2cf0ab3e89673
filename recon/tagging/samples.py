"""Jets to train on: files of any format, one after the other, with the classes that their labels say.

Features are kept in half precision, which the standardised and clipped numbers bear: they are most of the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from recon.errors import DataError
from recon.io.jet_columns import JetColumns, jet_columns
from recon.tagging.evaluation import true_classes
from recon.tagging.features import InputReport, fit_inputs, make_jets
from recon.tagging.inputs import DEEPAK8_CANDIDATES, DEEPAK8_VERTICES, JetInputs
from recon.tagging.labels import JETCLASS_LABELS
from recon.tagging.pipeline import merge_reports, open_jets, read_tables
from recon.types import NOISE, Jets

Report = Callable[[str, int, int], None]
FIT_JETS = 20_000
"""Jets that the standardisation is fitted on."""


class JetSample(NamedTuple):
    """Jets as a network reads them, with what the training looks at besides.

    Attributes:
        jets: host arrays; features in half precision, labels are rows of the classes that are trained.
        pt: transverse momentum, GeV.
        mass: soft-drop mass, GeV; NaN where the file does not say.
    """

    jets: Jets
    pt: Float[np.ndarray, " j"]
    mass: Float[np.ndarray, " j"]


def file_labels(columns: JetColumns, where: str) -> tuple[tuple[str, ...], Int[np.ndarray, " j"]]:
    """Classes of a file and the row of every jet: `jet_label` of DeepAK8's classes, or all of JetClass's `label_*`.

    Args:
        columns: of the file.
        where: the file, opens messages.

    Raises:
        DataError: the file has neither, or a jet has two flags.
    """
    missing = [f"label_{name}" for name in JETCLASS_LABELS if f"label_{name}" not in columns.jets]
    if missing and "jet_label" not in columns.jets:
        raise DataError(
            f"{where}: there is no column 'jet_label', nor {', '.join(missing)}: nothing says what the jets are"
        )
    return true_classes(columns, where)


def tables(path: Path, report: Report | None = None) -> Iterator[JetColumns]:
    """The jets of a file, a few thousand at a time.

    Raises:
        DataError: a file that cannot be read, has no jets or lacks an essential branch.
    """
    file, done = open_jets(path), 0
    if not file.entries:
        raise DataError(f"{path} has no jets")
    for table in read_tables(file):
        columns = jet_columns(table)
        done += len(columns.candidate_count)
        if report is not None:
            report(path.name, done, max(file.entries, done))
        yield columns


def fitted_inputs(files: Sequence[Path], n_candidates: int, n_vertices: int) -> JetInputs:
    """DeepAK8's features as far as the files give them, standardised on the first jets of every file.

    Args:
        files: that are trained on.
        n_candidates: capacity.
        n_vertices: capacity.
    """
    share = max(FIT_JETS // len(files), 1)
    parts = [first_rows(next(tables(path)), share) for path in files]
    whole = joined(parts)
    missing = make_jets(whole, fit_inputs(whole, n_candidates=n_candidates, n_vertices=n_vertices))[1].missing
    kept = [[n for n in names if n not in missing] for names in (DEEPAK8_CANDIDATES, DEEPAK8_VERTICES)]
    return fit_inputs(whole, kept[0], kept[1], n_candidates=n_candidates, n_vertices=n_vertices)


def read_sample(
    files: Sequence[Path], inputs: JetInputs, labels: Sequence[str], report: Report | None = None
) -> tuple[JetSample, InputReport]:
    """Read all jets of files.

    Args:
        files: in this order.
        inputs: of the network.
        labels: classes that are trained; a jet of another class gets the label `NOISE`.
        report: told how far it is.

    Returns:
        The jets, and what did not come through as it was.

    Raises:
        DataError: a file that cannot be read, has no jets, no labels or lacks an essential branch.
    """
    samples, reports = [], []
    for path in files:
        for columns in tables(path, report):
            sample, lost = _sample(columns, inputs, labels, str(path))
            samples.append(sample)
            reports.append(lost)
    jets = Jets(*(np.concatenate(parts) for parts in zip(*(s.jets for s in samples), strict=True)))
    pt, mass = (np.concatenate([getattr(s, name) for s in samples]) for name in ("pt", "mass"))
    return JetSample(jets, pt, mass), merge_reports(reports)


def _sample(
    columns: JetColumns, inputs: JetInputs, labels: Sequence[str], where: str
) -> tuple[JetSample, InputReport]:
    jets, lost = make_jets(columns, inputs)
    theirs, rows = file_labels(columns, where)
    ours = np.array([*(labels.index(name) if name in labels else NOISE for name in theirs), NOISE], np.int32)
    kept = jets._replace(
        candidates=jets.candidates.astype(np.float16),
        vertices=jets.vertices.astype(np.float16),
        label=ours[np.where((rows >= 0) & (rows < len(theirs)), rows, len(theirs))],
    )
    pt = np.asarray(columns.jets["jet_pt"], np.float32)
    mass = np.asarray(columns.jets.get("jet_sdmass", np.full(len(pt), np.nan)), np.float32)
    return JetSample(kept, pt, mass), lost


def first_rows(columns: JetColumns, count: int) -> JetColumns:
    """The first jets of a table."""
    candidates, vertices = (int(n[:count].sum()) for n in (columns.candidate_count, columns.vertex_count))
    return JetColumns(
        {name: values[:count] for name, values in columns.jets.items()},
        {name: values[:candidates] for name, values in columns.candidates.items()},
        columns.candidate_count[:count],
        {name: values[:vertices] for name, values in columns.vertices.items()},
        columns.vertex_count[:count],
    )


def joined(parts: Sequence[JetColumns]) -> JetColumns:
    """Jets of several tables as one, with the columns that all of them have."""
    merged = [
        {
            name: np.concatenate([getattr(part, kind)[name] for part in parts])
            for name in getattr(parts[0], kind)
            if all(name in getattr(part, kind) for part in parts)
        }
        for kind in ("jets", "candidates", "vertices")
    ]
    counts = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("candidate_count", "vertex_count")
    ]
    return JetColumns(merged[0], merged[1], counts[0], merged[2], counts[1])


def select(sample: JetSample, rows: Int[np.ndarray, " k"]) -> JetSample:
    """Some jets of a sample."""
    return JetSample(Jets(*(array[rows] for array in sample.jets)), sample.pt[rows], sample.mass[rows])


def single_precision(jets: Jets) -> Jets:
    """Jets with features as networks read them."""
    return jets._replace(
        candidates=np.asarray(jets.candidates, np.float32), vertices=np.asarray(jets.vertices, np.float32)
    )
