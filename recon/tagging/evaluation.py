"""Taggers side by side on the same jets: what each of them says, and what is true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from recon.errors import ConfigError, DataError
from recon.io.jet_columns import JetColumns, jet_columns
from recon.tagging.features import InputReport, missing_columns
from recon.tagging.labels import JETCLASS_LABELS, LABELS, PARTICLE_NET_LABELS, opposed, rows_among
from recon.tagging.labels import discriminant as ratio_of
from recon.tagging.pipeline import merge_reports, tag_jets
from recon.tagging.shipped import Tagger
from recon.types import NOISE

_NAMES = tuple(dict.fromkeys((*PARTICLE_NET_LABELS, *JETCLASS_LABELS)))


class Question(NamedTuple):
    """What is to be told from what.

    Attributes:
        signal: classes, groups such as "T", or classes of JetClass.
        background: the same.
    """

    signal: tuple[str, ...]
    background: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' + '.join(self.signal)} against {' + '.join(self.background)}"


class Sample(NamedTuple):
    """The jets that taggers are compared on: of the signal or of the background.

    Attributes:
        signal: whether it is of the signal, or else of the background.
        label: true class, a row of `labels`.
        labels: the classes that the files know.
        pt: GeV.
        mass: soft-drop mass, GeV; NaN where the file does not say.
        pileup: collisions under the hard scatter; NaN where the file does not say.
    """

    signal: Bool[np.ndarray, " j"]
    label: Int32[np.ndarray, " j"]
    labels: tuple[str, ...]
    pt: Float32[np.ndarray, " j"]
    mass: Float32[np.ndarray, " j"]
    pileup: Float32[np.ndarray, " j"]


@dataclass(frozen=True)
class TaggerResult:
    """What one tagger says of a sample.

    Attributes:
        name: for legends.
        sample: the jets.
        score: signal against background, larger is more like signal.
        labels: classes of the columns of `probabilities`; empty where there is one score a jet.
        probabilities: of the classes.
        truth: true class as a row of `labels`; `NOISE` where they do not have it.
        report: what became of the inputs; `None` for scores that were stored.
        missing: inputs that the files cannot give, and the branch that each lacks.
        cpu_seconds: a jet, features and network, without compiling; NaN where there were too few jets to tell.
    """

    name: str
    sample: Sample
    score: Float64[np.ndarray, " j"]
    labels: tuple[str, ...]
    probabilities: Float32[np.ndarray, "j k"]
    truth: Int32[np.ndarray, " j"]
    report: InputReport | None = None
    missing: dict[str, str] = field(default_factory=dict)
    cpu_seconds: float = np.nan


def true_classes(columns: JetColumns, where: str) -> tuple[tuple[str, ...], Int32[np.ndarray, " j"]]:
    """The classes that a file knows, and the one of every jet.

    Args:
        columns: of the file: `jet_label` as we write it, or the flags `label_*` of JetClass.
        where: for messages.

    Raises:
        DataError: the file has neither, or a jet has two flags.
    """
    if "jet_label" in columns.jets:
        return LABELS, np.asarray(columns.jets["jet_label"], np.int32)
    known = tuple(name for name in JETCLASS_LABELS if f"label_{name}" in columns.jets)
    if not known:
        raise DataError(f"{where}: no truth to compare with: neither jet_label nor label_QCD and the like")
    flags = np.stack([columns.jets[f"label_{name}"] != 0 for name in known], axis=1)
    if (flags.sum(axis=1) > 1).any():
        raise DataError(f"{where}: jet {int(np.flatnonzero(flags.sum(axis=1) > 1)[0])} has two labels")
    return known, np.where(flags.any(axis=1), flags.argmax(axis=1), NOISE).astype(np.int32)


def take_sample(columns: JetColumns, question: Question, where: str) -> tuple[Sample, Bool[np.ndarray, " j"]]:
    """The jets of a table that are asked about.

    Args:
        columns: all jets of the table.
        question: signal and background.
        where: for messages.

    Returns:
        The sample, and which jets of the table are in it.

    Raises:
        DataError: the file has no truth.
        ConfigError: a class that is unknown, or on both sides.
    """
    labels, label = true_classes(columns, where)
    sides = opposed(labels, *question, where)
    of_signal, of_background = (np.isin(label, [labels.index(name) for name in side]) for side in sides)
    used = of_signal | of_background

    def column(name: str) -> Float32[np.ndarray, " j"]:
        values = columns.jets.get(name, np.full(len(used), np.nan))
        return np.asarray(values, np.float32)[used]

    sample = Sample(
        of_signal[used], label[used], labels, column("jet_pt"), column("jet_sdmass"), column("n_pileup")
    )
    return sample, used


class _Trial:
    """Collects what one tagger, or what is stored under a name, says of one table after the other."""

    def __init__(self, source: Tagger | str, question: Question) -> None:
        self.source, self.question = source, question
        self.name = source if isinstance(source, str) else source.name
        self.labels: tuple[str, ...] | None = None
        self.scores: list[np.ndarray] = []
        self.probabilities: list[np.ndarray] = []
        self.reports: list[InputReport] = []
        self.missing: dict[str, str] = {}
        self._seconds: list[float] = []

    def add(self, columns: JetColumns, used: np.ndarray, where: str) -> None:
        if isinstance(self.source, str):
            labels, probabilities = stored_scores(columns, self.source, where)
        else:
            labels, probabilities = self.source.labels, self._tagged(columns, self.source)
        if self.labels not in (None, labels):
            raise DataError(f"{where}: {self.name} has the classes {labels}, before it had {self.labels}")
        self.labels = labels
        if labels:
            sides = opposed(labels, *self.question, self.name)
            score = ratio_of(probabilities.astype(np.float64), *sides, labels)
        else:
            score = probabilities[:, 0].astype(np.float64)
        self.scores.append(score[used])
        self.probabilities.append(probabilities[used])

    def _tagged(self, columns: JetColumns, tagger: Tagger) -> np.ndarray:
        begin = time.process_time()
        jets = tag_jets(columns, tagger)
        self._seconds.append((time.process_time() - begin) / max(len(jets.scores), 1))
        if jets.report.missing and not self.missing:
            self.missing = missing_columns(columns, tagger.inputs)
        self.reports.append(jets.report)
        return jets.scores

    def result(self, sample: Sample) -> TaggerResult:
        labels = self.labels or ()
        rows = rows_among(sample.labels, labels) if labels else np.full(len(sample.labels), NOISE, np.int32)
        return TaggerResult(
            name=self.name,
            sample=sample,
            score=np.concatenate(self.scores),
            labels=labels,
            probabilities=np.concatenate(self.probabilities),
            truth=rows[sample.label],
            report=merge_reports(self.reports) if self.reports else None,
            missing=self.missing,
            # The first table pays for the compiler.
            cpu_seconds=float(np.median(self._seconds[1:])) if len(self._seconds) > 1 else np.nan,
        )


def stored_scores(
    columns: JetColumns, name: str, where: str
) -> tuple[tuple[str, ...], Float32[np.ndarray, "j k"]]:
    """Scores that a file holds already.

    Args:
        columns: of the file.
        name: of a branch that is one score, or of a tagger whose classes are branches NAME_CLASS.
        where: for messages.

    Returns:
        The classes, none for one score; and the scores, one column a class.

    Raises:
        DataError: the file holds no such scores, or numbers that are not finite.
    """
    labels: tuple[str, ...] = ()
    if name in columns.jets:
        given = [columns.jets[name]]
    else:
        labels = tuple(label for label in _NAMES if f"{name}_{label}" in columns.jets)
        given = [columns.jets[f"{name}_{label}"] for label in labels]
    if not given:
        held = ", ".join(column for column in columns.jets if not column.startswith("label_"))
        raise DataError(f"{where}: there are no scores {name!r}, nor branches {name}_CLASS; it has {held}")
    scores = np.stack([np.asarray(column, np.float32) for column in given], axis=1)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise DataError(f"{where}: the stored score {name} of jet {row} is not finite")
    return labels, scores


def evaluate_taggers(
    tables: Iterable[tuple[str, Any]],
    sources: Sequence[Tagger | str],
    question: Question,
    progress: Callable[[int], None] = lambda _: None,
) -> list[TaggerResult]:
    """Run taggers over the same jets.

    Args:
        tables: name of the file, and jets as every reader gives them.
        sources: taggers, or names of scores that the files hold.
        question: signal and background.
        progress: called with the number of jets that are done.

    Returns:
        One result a tagger, all of the same sample.

    Raises:
        ConfigError: no tagger, two of one name, or one that cannot answer the question.
        DataError: a file without truth, or no jet of one of the sides.
    """
    trials = [_Trial(source, question) for source in sources]
    names = [trial.name for trial in trials]
    if not trials or len(set(names)) < len(names):
        raise ConfigError(f"taggers are called {', '.join(names) or 'nothing'}; each needs a name of its own")
    samples: list[Sample] = []
    done = 0
    for where, table in tables:
        columns = jet_columns(table)
        sample, used = take_sample(columns, question, where)
        for trial in trials:
            trial.add(columns, used, where)
        samples.append(sample)
        done += len(used)
        progress(done)
    sample = _joined(samples, question)
    return [trial.result(sample) for trial in trials]


def _joined(samples: Sequence[Sample], question: Question) -> Sample:
    kinds = {sample.labels for sample in samples}
    if len(kinds) > 1:
        raise DataError(f"the files have different classes: {'; '.join(map(', '.join, sorted(kinds)))}")
    counts = (
        sum(int(sample.signal.sum()) for sample in samples),
        sum(len(sample.signal) for sample in samples),
    )
    if not 0 < counts[0] < counts[1]:
        raise DataError(
            f"{counts[0]} jets of the signal and {counts[1] - counts[0]} of the background ({question}) in the files; "
            "both are needed"
        )
    columns = {
        name: np.concatenate([getattr(sample, name) for sample in samples])
        for name in ("signal", "label", "pt", "mass", "pileup")
    }
    return Sample(labels=samples[0].labels, **columns)
