"""Classes and what they are made of: DeepAK8's, JetClass's, groups, and which of them stand for a question."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tagging.labels import (
    GROUPS,
    JETCLASS_LABELS,
    JETCLASS_MEMBERS,
    LABELS,
    PARTICLE_NET_LABELS,
    expand,
    members_of,
    opposed,
    rows_among,
)
from recon.types import NOISE


def test_tables_hold_known_classes():
    assert set(LABELS) < set(PARTICLE_NET_LABELS)
    assert len(PARTICLE_NET_LABELS) == 20
    assert tuple(JETCLASS_MEMBERS) == JETCLASS_LABELS
    of_jetclass = [name for members in JETCLASS_MEMBERS.values() for name in members]
    assert set(of_jetclass) < set(LABELS)
    assert len(set(of_jetclass)) == len(of_jetclass)
    assert {name for members in GROUPS.values() for name in members} <= set(LABELS)


@pytest.mark.parametrize(
    ("labels", "name", "members"),
    [
        (LABELS, "Tbqq", {"Tbqq"}),
        (JETCLASS_LABELS, "Tbqq", {"Tbqq", "Tbcq"}),
        (JETCLASS_LABELS, "Hgg", {"Hgg"}),
        (PARTICLE_NET_LABELS, "Tbmu", {"Tbmu"}),
        (("QCD", "T"), "T", {"Tbqq", "Tbcq"}),
    ],
)
def test_a_class_means_what_its_network_means(labels, name, members):
    assert members_of(labels)[name] == members


@pytest.mark.parametrize(
    ("names", "members"),
    [
        ("T", {"Tbqq", "Tbcq"}),
        ("Tbqq", {"Tbqq"}),
        (("Tbqq", "Hbb"), {"Tbqq", "Hbb"}),
        (("QCD", "Hgg"), {*GROUPS["QCD"], "Hgg"}),
    ],
)
def test_names_of_a_question(names, members):
    assert expand(names) == members


@pytest.mark.parametrize(
    ("labels", "signal", "chosen"),
    [
        (LABELS, ("Tbqq", "Tbcq"), (("Tbcq", "Tbqq"), GROUPS["QCD"])),
        (JETCLASS_LABELS, ("Tbqq", "Tbcq"), (("Tbqq",), ("QCD",))),
        # A network that tells tops in one class is asked for one kind of them: that is its best answer.
        (JETCLASS_LABELS, "Tbqq", (("Tbqq",), ("QCD",))),
        (("QCD", "T"), "T", (("T",), ("QCD",))),
    ],
)
def test_a_question_to_networks_of_different_classes(labels, signal, chosen):
    assert opposed(labels, signal, "QCD", "here") == chosen


@pytest.mark.parametrize(
    ("labels", "signal", "background", "message"),
    [
        (LABELS, "top", "QCD", "there is no class 'top'; there are Tbcq, "),
        (LABELS, "T", ("QCD", "Tbqq"), "here: Tbqq cannot be signal and background at once"),
        (JETCLASS_LABELS, "Tbqq", "Tbcq", "here: Tbqq cannot be signal and background at once"),
        (("QCD", "T"), ("Hbb", "Hcc"), "QCD", "here has no class for Hbb Hcc; it has QCD, T"),
    ],
)
def test_questions_that_cannot_be_answered(labels, signal, background, message):
    with pytest.raises(ConfigError, match=message):
        opposed(labels, signal, background, "here")


def test_rows_of_true_classes():
    np.testing.assert_array_equal(rows_among(LABELS, LABELS), np.arange(17))
    rows = rows_among(LABELS, JETCLASS_LABELS)
    assert rows[LABELS.index("Tbcq")] == JETCLASS_LABELS.index("Tbqq")
    assert rows[LABELS.index("QCDb")] == 0
    # A top whose quarks are not all inside is in no class of JetClass.
    assert rows[LABELS.index("Tbc")] == NOISE
    back = rows_among(JETCLASS_LABELS, LABELS)
    assert back[JETCLASS_LABELS.index("Hbb")] == LABELS.index("Hbb")
    assert back[JETCLASS_LABELS.index("QCD")] == NOISE
