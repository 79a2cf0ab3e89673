from __future__ import annotations

import numpy as np
import pytest

from recon.features import Feature, FeatureTable
from recon.tagging.augmentation import Turning
from recon.tagging.inputs import JETCLASS_INPUTS, JetInputs
from recon.types import Jets
from tests.recon.tagging.conftest import random_jets

INPUTS = JetInputs(
    candidates=FeatureTable(
        features=(
            Feature(column="pfcand_etarel", mean=0.1, scale=0.2),
            Feature(column="pfcand_pt_log", mean=1.0, scale=2.0),
            Feature(column="pfcand_phirel", mean=-0.05, scale=0.3),
            Feature(column="pfcand_dxy", mean=0.01, scale=0.5),
        )
    ),
    vertices=FeatureTable(features=(Feature(column="sv_phirel"), Feature(column="sv_etarel", scale=0.5))),
    n_candidates=12,
    n_vertices=3,
)


@pytest.fixture(scope="module")
def jets():
    clean = random_jets(n=400, features=4, vertex_features=2)
    zero = np.float32(0)
    return clean._replace(
        candidates=np.where(clean.candidate_valid[..., None], clean.candidates, zero),
        vertices=np.where(clean.vertex_valid[..., None], clean.vertices, zero),
    )


def raw(table, values, name):
    feature = table.features[table.columns.index(name)]
    return values[..., table.columns.index(name)] * feature.scale + feature.mean


def turned(jets, seed=0):
    return Turning(INPUTS)(jets, np.random.default_rng(seed))


def positions(jets):
    """Of candidates and of vertices, as complex numbers."""
    return [
        raw(table, values, eta) + 1j * raw(table, values, phi)
        for table, values, eta, phi in (
            (INPUTS.candidates, jets.candidates, "pfcand_etarel", "pfcand_phirel"),
            (INPUTS.vertices, jets.vertices, "sv_etarel", "sv_phirel"),
        )
    ]


def test_every_jet_turns_as_a_whole(jets):
    before, after = positions(jets), positions(turned(jets))
    mirrored = 0
    for jet in range(1, len(jets.label)):
        pairs = [
            (z[jet][valid[jet]], w[jet][valid[jet]])
            for z, w, valid in zip(before, after, (jets.candidate_valid, jets.vertex_valid), strict=True)
        ]
        z, w = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        ratios = [w / z, w / z.conj()]
        spread = [np.abs(ratio - ratio[0]).max() for ratio in ratios]
        assert min(spread) < 1e-4
        assert abs(ratios[int(np.argmin(spread))][0]) == pytest.approx(1, abs=1e-5)
        mirrored += len(z) > 1 and spread[1] < spread[0]
    assert 100 < mirrored < 300


def test_what_a_turn_does_not_change_stays(jets):
    new = turned(jets)
    assert np.array_equal(new.candidates[..., 1], jets.candidates[..., 1])
    assert new.candidates.dtype == np.float32
    for name in ("candidate_valid", "vertex_valid", "label"):
        assert np.array_equal(getattr(new, name), getattr(jets, name))


def test_padding_stays_zero(jets):
    new = turned(jets)
    assert not new.candidates[~jets.candidate_valid].any()
    assert not new.vertices[~jets.vertex_valid].any()


def test_the_side_of_a_track_turns_round_in_a_mirror_only(jets):
    old, new = (raw(INPUTS.candidates, one.candidates, "pfcand_dxy") for one in (jets, turned(jets)))
    signs = []
    for jet in range(1, len(jets.label)):
        valid = jets.candidate_valid[jet]
        same, other = (np.allclose(new[jet][valid], sign * old[jet][valid], atol=1e-5) for sign in (1, -1))
        assert same != other
        signs.append(same)
    assert 0.3 < np.mean(signs) < 0.7


def test_it_depends_on_the_generator_alone(jets):
    assert np.array_equal(turned(jets, 3).candidates, turned(jets, 3).candidates)
    assert not np.array_equal(turned(jets, 3).candidates, turned(jets, 4).candidates)


def test_jetclass_has_its_own_names_and_no_vertices():
    jets = random_jets(n=5, features=17, vertex_features=0)
    new = Turning(JETCLASS_INPUTS)(jets, np.random.default_rng(0))
    changed = [
        column
        for column, name in enumerate(JETCLASS_INPUTS.candidates.columns)
        if not np.array_equal(
            new.candidates[1:][..., column],
            np.where(jets.candidate_valid, jets.candidates[..., column], 0)[1:],
        )
    ]
    names = {JETCLASS_INPUTS.candidates.columns[column] for column in changed}
    assert {"part_deta", "part_dphi"} <= names <= {"part_deta", "part_dphi", "part_d0"}


def test_inputs_without_positions_stay_as_they_are():
    table = FeatureTable(features=(Feature(column="pfcand_pt_log"),))
    jets = random_jets(n=3, features=1, vertex_features=0)
    new = Turning(JetInputs(candidates=table))(jets, np.random.default_rng(0))
    assert isinstance(new, Jets)
    assert np.array_equal(new.candidates, jets.candidates)


def test_no_direction_is_preferred_and_half_of_the_jets_are_mirrored():
    n = 3000
    plain = random_jets(n=n, candidates=1, features=4, vertex_features=2, fullest=1)
    place = [0.0, 0.0, 0.0, 0.0]
    for name, value in (("pfcand_etarel", 1.0), ("pfcand_phirel", 0.0), ("pfcand_dxy", 0.2)):
        feature = INPUTS.candidates.features[INPUTS.candidates.columns.index(name)]
        place[INPUTS.candidates.columns.index(name)] = (value - feature.mean) / feature.scale
    there = plain.candidate_valid[..., None]
    after = turned(plain._replace(candidates=np.where(there, np.float32(place), np.float32(0))), seed=3)
    eta, phi, dxy = (
        raw(INPUTS.candidates, after.candidates, name)[plain.candidate_valid]
        for name in ("pfcand_etarel", "pfcand_phirel", "pfcand_dxy")
    )
    np.testing.assert_allclose(np.hypot(eta, phi), 1, rtol=1e-4)
    # Both harmonics vanish, by five standard deviations.
    for power in (1, 2):
        assert abs(((eta + 1j * phi) ** power).mean()) < 5 / n**0.5
    np.testing.assert_allclose(np.abs(dxy), 0.2, rtol=1e-4)
    assert abs((dxy > 0).mean() - 0.5) < 2.5 / n**0.5
