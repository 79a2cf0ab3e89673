"""Classes of jets: DeepAK8's seventeen in the order of CMS, those of JetClass, and the ratios that analyses cut on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError, DataError

LABELS = (
    "Tbcq", "Tbqq", "Tbc", "Tbq", "Wcq", "Wqq", "Zbb", "Zcc", "Zqq", "Hbb", "Hcc", "Hqqqq",
    "QCDbb", "QCDcc", "QCDb", "QCDc", "QCDothers",
)  # fmt: skip
"""Outputs of DeepAK8 (CMS, arXiv:2004.08262): the decay and which of its quarks lie in the jet."""

JETCLASS_LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""Outputs of networks trained on JetClass (arXiv:2202.03772)."""

GROUPS = {
    "T": ("Tbcq", "Tbqq"),
    "W": ("Wcq", "Wqq"),
    "Z": ("Zbb", "Zcc", "Zqq"),
    "Zbb": ("Zbb",),
    "H": ("Hbb", "Hcc", "Hqqqq"),
    "Hbb": ("Hbb",),
    "Hcc": ("Hcc",),
    "H4q": ("Hqqqq",),
    "ZHbb": ("Zbb", "Hbb"),
    "ZHcc": ("Zcc", "Hcc"),
    "QCD": ("QCDbb", "QCDcc", "QCDb", "QCDc", "QCDothers"),
}
"""Classes of `LABELS` that are one signal, as NanoAOD names it: `deepTag_TvsQCD` is "T" against "QCD"."""

NEUTRINO_LABELS = ("numu CC", "nue CC", "nutau CC", "NC", "cosmic")
"""Classes of neutrino events: charged currents by flavour, neutral currents, cosmic rays."""
NEUTRINO_MODES = ("QE", "RES", "DIS")
"""How a neutrino reacted: quasi-elastic (elastic for neutral currents), resonant, deep inelastic."""


def label_index(name: str, labels: Sequence[str] = LABELS) -> int:
    """Row of a class.

    Raises:
        ConfigError: there is no such class; names those that are.
    """
    try:
        return tuple(labels).index(name)
    except ValueError:
        raise ConfigError(f"there is no class {name!r}; there are {', '.join(labels)}") from None


def discriminant(
    scores: Float[np.ndarray, "*j k"],
    signal: str | Sequence[str],
    background: str | Sequence[str] = "QCD",
    labels: Sequence[str] = LABELS,
) -> Float[np.ndarray, "*j"]:
    """Score of a signal against a background: p(signal) / (p(signal) + p(background)).

    Args:
        scores: probabilities of the classes.
        signal: a name in `GROUPS`, or the classes themselves.
        background: the same.
        labels: of the columns of `scores`.

    Returns:
        In [0, 1]; 0 where both are 0.

    Raises:
        ConfigError: a class or group that is unknown, or a class on both sides.
        DataError: scores of another number of classes.

    Source:
        CMS, arXiv:2004.08262, section 5.
    """
    values = np.asarray(scores)
    if values.shape[-1:] != (len(labels),):
        raise DataError(f"scores have shape {values.shape}; the last axis must be the {len(labels)} classes")
    columns = [_columns(side, labels) for side in (signal, background)]
    if both := sorted({labels[row] for row in columns[0]} & {labels[row] for row in columns[1]}):
        raise ConfigError(f"{', '.join(both)} cannot be signal and background at once")
    of_signal, of_background = (values[..., rows].sum(-1) for rows in columns)
    total = of_signal + of_background
    return np.divide(of_signal, total, out=np.zeros_like(total), where=total > 0)


def _columns(names: str | Sequence[str], labels: Sequence[str]) -> list[int]:
    if isinstance(names, str):
        # A class by its own name comes first: JetClass has a class "QCD".
        names = (names,) if names in labels else GROUPS.get(names, (names,))
    return [label_index(name, labels) for name in names]
