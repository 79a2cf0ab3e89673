"""Jets of files as the trainings of networks for their images want them: leading candidates, labels, augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from recon.errors import DataError
from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets
from recon.tagging.features import make_jets
from recon.tagging.image_training import Say
from recon.tagging.inputs import JetInputs
from recon.tagging.labels import LABELS
from recon.train.classification import LabelledBatch
from recon.types import Jets

COLUMNS = ("part_px", "part_py", "part_deta", "part_dphi", "jet_pt", "jet_label")
"""What is read of a file."""


def chosen_rows(count: int, wanted: int | None, seed: int) -> Int[np.ndarray, " n"]:
    """Rows of a sample, in order; some by chance where fewer are wanted than there are.

    Args:
        count: rows of the sample.
        wanted: most rows; all if not given.
        seed: of the choice.
    """
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, 2)).choice(count, wanted, replace=False))


def read_labelled_jets(files: tuple[Path, ...], inputs: JetInputs, say: Say = lambda _: None) -> Jets:
    """Leading candidates of all jets of some files, and their labels.

    Args:
        files: jets, as ROOT or parquet.
        inputs: what is read of a jet.
        say: told what was left out.

    Raises:
        DataError: there are none, or one has no label.
    """
    parts, dropped, candidates = [], 0, 0
    for file in files:
        for table in read_jets(file, COLUMNS):
            jets, report = make_jets(jet_columns(table), inputs)
            parts.append(jets)
            dropped, candidates = dropped + report.candidates_dropped, candidates + report.candidates
    if not parts:
        raise DataError(f"there are no jets in {', '.join(map(str, files))}")
    joined = Jets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    if not ((joined.label >= 0) & (joined.label < len(LABELS))).all():
        raise DataError(f"{', '.join(map(str, files))}: branch jet_label must be 0 to {len(LABELS) - 1}")
    say(f"{dropped:,} of {candidates:,} candidates beyond the leading {inputs.n_candidates} left out")
    return joined


def augmented(batch: LabelledBatch, rng: np.random.Generator, *, smear: float, drop: float) -> LabelledBatch:
    """A batch with transverse momenta smeared and a few candidates missing."""
    jets: Jets = batch.inputs
    candidates = np.array(jets.candidates)
    candidates[..., 2] += rng.normal(0, smear, candidates.shape[:2])
    kept = jets.candidate_valid & (rng.random(candidates.shape[:2]) >= drop)
    return batch._replace(inputs=jets._replace(candidates=candidates, candidate_valid=kept))


def rows_of_tables(
    tables: Iterable[tuple[str, Any]], rows: Int[np.ndarray, " h"]
) -> Iterator[tuple[str, Any]]:
    """Some jets of tables, as `recon.tagging.evaluation.evaluate_taggers` takes them; tables without any are left out.

    Args:
        tables: name of the file, and jets as every reader gives them.
        rows: of the jets, counted through all tables; in any order.
    """
    start = 0
    for name, table in tables:
        inside = np.sort(rows[(rows >= start) & (rows < start + len(table))]) - start
        start += len(table)
        if len(inside):
            yield name, table[inside]
