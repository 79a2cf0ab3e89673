"""The tagger that ships with the package."""

from __future__ import annotations

import numpy as np
import pytest

from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets
from recon.io.weights import model_arrays
from recon.metrics import auc
from recon.tagging.commands.demo import SAMPLE
from recon.tagging.deepak8 import NOMINAL
from recon.tagging.labels import LABELS, discriminant
from recon.tagging.pipeline import tag_jets
from recon.tagging.shipped import CHECKPOINTS, load_model


@pytest.fixture(scope="module")
def tagger():
    return load_model("deepak8")


def test_it_is_deepak8_as_cms_has_it_with_the_features_there_are(tagger):
    config = tagger.model.network.config
    assert (config.candidate_stages, config.vertex_stages) == (
        NOMINAL.candidate_stages,
        NOMINAL.vertex_stages,
    )
    assert (config.dense, config.candidate_stem) == (NOMINAL.dense, NOMINAL.candidate_stem)
    assert tagger.labels == LABELS
    assert tagger.model.capacities == (100, 7)
    assert (config.candidates, config.vertices) == (32, 15)
    # Ten features of 42 are missing: their normalisation, and their rows of the first convolution.
    missing = 10 * 4 + 10 * 3 * NOMINAL.candidate_stem
    assert sum(array.size for array in model_arrays(tagger.model.network).values()) == 468_373 - missing


def test_it_is_small(tagger):
    assert sum(path.stat().st_size for path in (CHECKPOINTS / "deepak8").iterdir()) < 3e6


def test_its_card_says_where_it_is_from(tagger):
    for text in ("recon train tagging", "recon simulate jets", "seed 1", "AUC", "MIT licence"):
        assert text in tagger.model.card


def test_it_tells_top_quarks_from_quarks_and_gluons(tagger):
    columns = jet_columns(next(iter(read_jets(SAMPLE))))
    tagged = tag_jets(columns, tagger)
    label = np.asarray(columns.jets["jet_label"])
    top = np.isin(label, [LABELS.index("Tbcq"), LABELS.index("Tbqq")])
    quarks = np.isin(label, [row for row, name in enumerate(LABELS) if name.startswith("QCD")])
    score = discriminant(tagged.scores, "T")
    assert min(top.sum(), quarks.sum()) >= 3
    assert auc(top, score, top | quarks) > 0.9
