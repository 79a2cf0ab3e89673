"""What the displays of showers are given."""

import numpy as np
import pytest

from recon.errors import DataError
from recon.hgcal_clustering.scene import dominant_particle, shower_scene
from recon.types import NOISE, CalorimeterEvent, RecHits, ShowerTruth, Tracksters


def hits(n, valid=None):
    rng = np.random.default_rng(1)
    return RecHits(
        position=rng.normal(3000, 100, (n, 3)).astype(np.float32),
        energy=np.arange(1, n + 1, dtype=np.float32),
        layer=np.arange(n, dtype=np.int32),
        cell=np.arange(n, dtype=np.int32),
        sigma_noise=np.full(n, 0.01, np.float32),
        valid=np.ones(n, bool) if valid is None else np.asarray(valid),
    )


def truth(entries):
    """Two particles of 3 and 4 GeV, the second of the hard scatter, and (hit, particle, fraction)."""
    hit, particle, fraction = np.array(entries).reshape(-1, 3).T
    return ShowerTruth(
        momentum=np.array([[3, 0, 0], [0, 0, 4]], np.float32),
        vertex=np.zeros((2, 3), np.float32),
        charge=np.array([1, 0], np.int32),
        pdg=np.array([-211, 22], np.int32),
        hard_scatter=np.array([False, True]),
        hit=hit.astype(np.int32),
        particle=particle.astype(np.int32),
        fraction=fraction.astype(np.float32),
    )


def tracksters(n):
    zeros = np.zeros((n, 3), np.float32)
    return Tracksters(
        member_trackster=np.zeros(0, np.int32), position=zeros + np.float32([100, 0, 3000]),
        axes=np.zeros((n, 3, 3), np.float32),
        variance=zeros, energy=np.arange(n, 0, -1, dtype=np.float32), regressed_energy=np.ones(n, np.float32),
        size=np.ones(n, np.int32), seed=np.zeros(n, np.int32), valid=np.ones(n, bool),
    )  # fmt: skip


def test_the_largest_fraction_decides_and_of_equals_the_first_particle():
    given = truth([(0, 0, 0.2), (0, 1, 0.7), (1, 1, 0.5), (1, 0, 0.5), (3, 0, 0.1)])
    assert dominant_particle(given, 5).tolist() == [1, 0, NOISE, 0, NOISE]


def test_found_and_true_lie_beside_each_other():
    event = CalorimeterEvent(
        5, hits(4, [True, True, True, False]), truth([(0, 0, 1), (1, 1, 0.9), (2, 1, 0.5)])
    )
    scene = shower_scene(event, np.array([0, 1, NOISE, NOISE], np.int32), tracksters(2))
    assert scene.title == "event 5"
    assert len(scene.energy) == 3
    found, true = scene.groups
    assert found.member.tolist() == [0, 1, NOISE]
    assert found.labels[0] == "2.0 GeV, eta 4.09"
    assert true.member.tolist() == [0, 1, 1]
    assert true.labels == ("pion 3.0 GeV", "photon 4.0 GeV, hard scatter")
    np.testing.assert_allclose(true.energy, [1.0, 2 * 0.9 + 3 * 0.5])


def test_data_have_no_truth_and_may_be_empty():
    scene = shower_scene(CalorimeterEvent(1, hits(0), None), np.zeros(0, np.int32), tracksters(0))
    assert len(scene.groups) == 1
    assert scene.groups[0].labels == ()


@pytest.mark.parametrize("member", [[0, 0], [0, 0, 2]])
def test_tracksters_of_other_hits_are_refused(member):
    event = CalorimeterEvent(1, hits(3), None)
    with pytest.raises(DataError, match="event 1 has 3 hits"):
        shower_scene(event, np.array(member, np.int32), tracksters(2))
