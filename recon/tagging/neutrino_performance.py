"""How well neutrino events are classified: accuracy, efficiency and purity, in bins of energy and at working points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64

from recon.errors import DataError
from recon.metrics import Binned, Ratio, auc, auc_error, binned_efficiency, confusion
from recon.tagging.labels import NEUTRINO_LABELS

ENERGY_EDGES = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0])
"""Bins of the energy of the neutrino, GeV."""
BEAM_ENERGIES = (1.0, 4.0)
"""Where most of the beam is, GeV; no tau neutrino reacts there with charge exchanged."""
TAU, COSMIC = NEUTRINO_LABELS.index("nutau CC"), NEUTRINO_LABELS.index("cosmic")


class Judged(NamedTuple):
    """Events of known class with the scores of one network.

    Attributes:
        label: row of `NEUTRINO_LABELS`.
        scores: probabilities of the classes.
        energy: of the neutrino, GeV; NaN where unknown.
    """

    label: Int32[np.ndarray, " e"]
    scores: Float32[np.ndarray, "e k"]
    energy: Float32[np.ndarray, " e"]

    @property
    def likeliest(self) -> Int64[np.ndarray, " e"]:
        """Row of the class with the largest probability."""
        return self.scores.argmax(axis=1)


class Cut(NamedTuple):
    """A cut on the score of one class against all others.

    Attributes:
        threshold: events with at least this score pass.
        efficiency: of the class.
        purity: of what passes, in this sample.
    """

    threshold: float
    efficiency: Ratio
    purity: Ratio


class NeutrinoPerformance(NamedTuple):
    """What there is to say of a network.

    Attributes:
        events: number of events.
        accuracy: of the likeliest class, of all.
        beam_accuracy: of the likeliest of the four classes without tau neutrinos, of neutrinos and cosmic rays of
            `BEAM_ENERGIES`.
        efficiency: events of every class for which it is the likeliest.
        purity: events for which a class is the likeliest that are of it.
        area: of the ROC curve of every class against the rest, and its error.
        best: cut on every class with the largest signal / sqrt(signal + background) in this sample, without tau
            neutrinos.
        energy_efficiency: of every class, in bins of the energy.
        energy_purity: the same of the purity.
        confusion: events by true and by likeliest class.
    """

    events: int
    accuracy: Ratio
    beam_accuracy: Ratio
    efficiency: list[Ratio]
    purity: list[Ratio]
    area: list[tuple[float, float]]
    best: list[Cut]
    energy_efficiency: list[Binned]
    energy_purity: list[Binned]
    confusion: Int64[np.ndarray, "k k"]


def measure_neutrinos(judged: Judged, edges: Float[np.ndarray, " b1"] = ENERGY_EDGES) -> NeutrinoPerformance:
    """All numbers of a network.

    Args:
        judged: events with scores.
        edges: bins of the energy, GeV.

    Raises:
        DataError: there is no event, or scores of another number of classes.
    """
    classes = len(NEUTRINO_LABELS)
    if judged.scores.shape != (len(judged.label), classes) or not len(judged.label):
        raise DataError(
            f"{len(judged.label)} events with scores of shape {judged.scores.shape}; one event at least and "
            f"{classes} classes are needed"
        )
    truth, found = judged.label, judged.likeliest
    right = truth == found
    counts = confusion(truth, found, classes)
    each = range(classes)
    return NeutrinoPerformance(
        events=len(truth),
        accuracy=Ratio(int(right.sum()), len(truth)),
        beam_accuracy=beam_accuracy(judged),
        efficiency=[Ratio(int(counts[k, k]), int(counts[k].sum())) for k in each],
        purity=[Ratio(int(counts[k, k]), int(counts[:, k].sum())) for k in each],
        area=[_area(truth == k, judged.scores[:, k]) for k in each],
        best=[best_cut(truth == k, judged.scores[:, k], truth != TAU) for k in each],
        energy_efficiency=[binned_efficiency(judged.energy, right, edges, truth == k) for k in each],
        energy_purity=[binned_efficiency(judged.energy, right, edges, found == k) for k in each],
        confusion=counts,
    )


def beam_accuracy(judged: Judged) -> Ratio:
    """Accuracy of the four classes without tau neutrinos, at energies of the beam."""
    low, high = BEAM_ENERGIES
    chosen = (judged.label != TAU) & (judged.energy > low) & (judged.energy < high)
    four = np.delete(np.arange(len(NEUTRINO_LABELS)), TAU)
    found = four[judged.scores[chosen][:, four].argmax(axis=1)]
    return Ratio(int((found == judged.label[chosen]).sum()), int(chosen.sum()))


def _area(signal: Bool[np.ndarray, " e"], score: np.ndarray) -> tuple[float, float]:
    return auc(signal, score), auc_error(signal, score)


def best_cut(signal: Bool[np.ndarray, " e"], score: np.ndarray, valid: Bool[np.ndarray, " e"]) -> Cut:
    """The cut with the largest s / sqrt(s + b), as CVN's paper chooses its own (arXiv:1604.01444).

    The sample decides how much background there is: here there are as many events of every class, which is harder on
    the purity of electron neutrinos than cosmic rays that are rejected before, and easier than the beam's own mixture.

    Args:
        signal: true for the class.
        score: of the class.
        valid: events that count.
    """
    signal = signal & valid
    order = np.argsort(-score[valid], kind="stable")
    scores, truth = score[valid][order].astype(np.float64), signal[valid][order]
    if not truth.any():
        return Cut(np.nan, Ratio(0, 0), Ratio(0, 0))
    passed = np.cumsum(truth)
    merit = passed / np.sqrt(np.arange(1, len(truth) + 1))
    # Equal scores pass together: only the last of them is a cut.
    merit[:-1][scores[1:] == scores[:-1]] = -1
    last = int(np.argmax(merit))
    return Cut(
        float(scores[last]), Ratio(int(passed[last]), int(truth.sum())), Ratio(int(passed[last]), last + 1)
    )
