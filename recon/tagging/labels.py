"""Classes of jets: DeepAK8's seventeen in the order of CMS, those of JetClass, and the ratios that analyses cut on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int32

from recon.errors import ConfigError, DataError
from recon.types import NOISE

LABELS = (
    "Tbcq", "Tbqq", "Tbc", "Tbq", "Wcq", "Wqq", "Zbb", "Zcc", "Zqq", "Hbb", "Hcc", "Hqqqq",
    "QCDbb", "QCDcc", "QCDb", "QCDc", "QCDothers",
)  # fmt: skip
"""Outputs of DeepAK8 (CMS, arXiv:2004.08262): the decay and which of its quarks lie in the jet."""

JETCLASS_LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""Outputs of networks trained on JetClass (arXiv:2202.03772)."""

PARTICLE_NET_LABELS = (*LABELS[:4], "Tbel", "Tbmu", "Tbta", *LABELS[4:])
"""Outputs of CMS's ParticleNet for AK8 jets (RecoBTag/ONNXRuntime, pfParticleNet): leptons of a top quark, too."""

JETCLASS_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "QCD": ("QCDbb", "QCDcc", "QCDb", "QCDc", "QCDothers"),
    "Hbb": ("Hbb",),
    "Hcc": ("Hcc",),
    "Hgg": (),
    "H4q": ("Hqqqq",),
    "Hqql": (),
    "Zqq": ("Zbb", "Zcc", "Zqq"),
    "Wqq": ("Wcq", "Wqq"),
    "Tbqq": ("Tbcq", "Tbqq"),
    "Tbl": (),
}
"""JetClass's classes and those of DeepAK8 that they are made of; none of them where a quark of a top is outside."""

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


def members_of(labels: Sequence[str]) -> dict[str, frozenset[str]]:
    """What the classes of a network or of a file are made of, in the classes of `LABELS`.

    Args:
        labels: DeepAK8's or ParticleNet's own, JetClass's, or names of `GROUPS`; a class that is in none of them, a
            leptonic top quark for example, is made of itself.
    """
    own = set(labels)
    if own <= set(PARTICLE_NET_LABELS):
        return {name: frozenset((name,)) for name in labels}
    table = JETCLASS_MEMBERS if own <= set(JETCLASS_LABELS) else GROUPS
    return {name: frozenset(table.get(name) or (name,)) for name in labels}


def expand(names: str | Sequence[str]) -> frozenset[str]:
    """Classes that are meant by names: classes of `LABELS` first, then names of `GROUPS`, then those of JetClass.

    Raises:
        ConfigError: a name that is none of them.
    """
    found: set[str] = set()
    for name in (names,) if isinstance(names, str) else names:
        if name in PARTICLE_NET_LABELS:
            found.add(name)
        elif members := GROUPS.get(name, JETCLASS_MEMBERS.get(name)):
            found.update(members)
        elif name in JETCLASS_LABELS:
            found.add(name)
        else:
            known = dict.fromkeys((*LABELS, *GROUPS, *JETCLASS_LABELS))
            raise ConfigError(f"there is no class {name!r}; there are {', '.join(known)}")
    return frozenset(found)


def opposed(
    labels: Sequence[str], signal: str | Sequence[str], background: str | Sequence[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes of a network, or of a file, that stand for a signal and for a background.

    Args:
        labels: all of its classes.
        signal: names as `expand` takes them.
        background: the same.
        where: the network or the file, opens messages.

    Returns:
        The classes of both sides, in the order of `labels`.

    Raises:
        ConfigError: an unknown name, a class on both sides, or a side without any class.
    """
    sides = [expand(signal), expand(background)]
    members = members_of(labels)
    chosen = [tuple(name for name in labels if members[name] & side) for side in sides]
    if both := (sides[0] & sides[1]) or (set(chosen[0]) & set(chosen[1])):
        raise ConfigError(f"{where}: {', '.join(sorted(both))} cannot be signal and background at once")
    for given, classes in zip((signal, background), chosen, strict=True):
        if not classes:
            names = given if isinstance(given, str) else " ".join(given)
            raise ConfigError(f"{where} has no class for {names}; it has {', '.join(labels)}")
    return chosen[0], chosen[1]


def rows_among(labels: Sequence[str], others: Sequence[str]) -> Int32[np.ndarray, " k"]:
    """For each of some classes the row of the one among others that holds it whole.

    Args:
        labels: the classes.
        others: to look among; no two of them share anything.

    Returns:
        One row a class of `labels`; `NOISE` where none holds it.
    """
    theirs = list(members_of(others).values())
    rows = [
        next((row for row, whole in enumerate(theirs) if own <= whole), NOISE)
        for own in members_of(labels).values()
    ]
    return np.array(rows, np.int32)
