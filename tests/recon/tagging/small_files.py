"""Files of small random jets that can be told apart: a top's candidates are harder and further from the axis."""

from __future__ import annotations

import awkward as ak
import numpy as np

from recon.io.jets import write_jets
from recon.tagging.labels import LABELS
from tests.recon.tagging.small_jets import make_table


def separable_table(n_jets, seed, names=("QCDothers", "Tbqq")):
    """Jets of two classes, or more."""
    table = make_table(n_jets, seed, candidates=(3, 20))
    which = np.random.default_rng(seed + 1).integers(0, len(names), n_jets)
    table["jet_label"] = np.array([LABELS.index(name) for name in names], np.int32)[which]
    wider = 1 + which.astype(np.float32)
    for name in ("part_deta", "part_dphi"):
        table[name] = table[name] * wider
    table["jet_sdmass"] = (60 + 50 * which + np.random.default_rng(seed).normal(0, 20, n_jets)).astype(
        np.float32
    )
    return table


def write_separable(path, n_jets=400, seed=0, **options):
    """Write such jets; returns the path."""
    write_jets(path, [separable_table(n_jets, seed, **options)], metadata={"simulation": {"seed": seed}})
    return path


def as_jetclass(table):
    """The same jets with the flags of JetClass in place of DeepAK8's labels."""
    label = np.asarray(table["jet_label"])
    names = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
    top = label == LABELS.index("Tbqq")
    flags = {f"label_{name}": np.zeros(len(label), bool) for name in names}
    flags["label_Tbqq"], flags["label_QCD"] = top, ~top
    kept = {name: table[name] for name in table.fields if name != "jet_label"}
    return ak.Array(kept | flags)
