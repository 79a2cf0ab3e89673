"""The published table of the top-tagging reference set from the published scores themselves."""

import numpy as np
import pytest

from recon.metrics import accuracy, auc, auc_error, rejection, rejection_interval

# AUC, accuracy, rejection at 30 % and 50 % signal efficiency: Kasieczka et al., SciPost Phys. 7 (2019) 014, and
# Qu and Gouskos, arXiv:1902.08570, table 2, for P-CNN and ResNeXt-50 (ParticleNet: the version of February 2019).
PUBLISHED = {
    "p_cnn": (0.9803, 0.930, 759, 201),
    "particlenet": (0.985, 0.938, 1294, 329),
    "resnext50": (0.9837, 0.936, 1147, 302),
    "pfn": (0.982, 0.932, 889, 257),
}


@pytest.fixture(scope="module")
def scores(reference_file):
    with np.load(reference_file("toptag/scores.npz")) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_table(scores, name):
    area, fraction, at30, at50 = PUBLISHED[name]
    label, score = scores["label"], scores[name]
    digits = len(str(area)) - 2
    assert round(auc(label, score), digits) == area
    assert round(float(accuracy(label, score).value), 3) == fraction
    assert round(rejection(label, score, 0.3)) == at30
    assert round(rejection(label, score, 0.5)) == at50
    assert 0 < auc_error(label, score) < 5e-4
    low, high = rejection_interval(label, score, 0.3)
    # 156 to 266 of 202,000 background jets pass: six to eight per cent each way.
    assert low < at30 < high
    assert 0.1 < (high - low) / at30 < 0.2
