"""What goes to a server and comes back, without one: `tests/integration/test_remote_jets.py` has the server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.jet_columns import jet_columns
from recon.tagging.features import make_jets
from recon.tagging.pfn import PFN, PFNConfig
from recon.tagging.remote import pack_jets, unpack_scores
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def packed(taggers):
    table = jet_columns(make_table(5, seed=3))
    return {kind: (make_jets(table, tagger.inputs)[0], tagger) for kind, tagger in taggers.items()}


def test_deepak8_gets_both_kinds_and_no_masks(packed):
    jets, tagger = packed["deepak8"]
    inputs = pack_jets(jets, tagger)
    assert set(inputs) == {"candidates", "vertices"}
    # What the artefact takes for padding.
    assert not inputs["candidates"][~jets.candidate_valid].any()
    assert not inputs["vertices"][~jets.vertex_valid].any()


def test_particle_net_gets_masks(packed):
    jets, tagger = packed["particlenet"]
    inputs = pack_jets(jets, tagger)
    assert set(inputs) == {"candidates", "candidate_valid"}
    np.testing.assert_array_equal(inputs["candidate_valid"], jets.candidate_valid)


def test_numbers_that_are_not_finite_stay_here(packed):
    jets, tagger = packed["deepak8"]
    broken = jets._replace(candidates=jets.candidates.copy())
    jet, row = np.argwhere(jets.candidate_valid)[-1]
    broken.candidates[jet, row, 2] = np.inf
    with pytest.raises(DataError, match=rf"jet {jet}, candidate {row}, column 2 is inf"):
        pack_jets(broken, tagger)


def test_networks_that_no_server_has_are_named(packed):
    jets, tagger = packed["deepak8"]
    network = PFN(PFNConfig(features=2, classes=2, particle=(3,), jet=(3,)), rngs=nnx.Rngs(0))
    other = replace(tagger, name="mine", model=replace(tagger.model, kind="pfn", network=network))
    with pytest.raises(ConfigError, match="mine is a pfn, which no server has; DeepAK8, ParticleNet"):
        pack_jets(jets, other)


@pytest.mark.parametrize("shape", [(4, 17), (5, 16), (5,)])
def test_answers_for_other_jets_or_classes_are_refused(packed, shape):
    jets, tagger = packed["deepak8"]
    right = np.full((5, 17), 1 / 17, np.float32)
    assert unpack_scores(jets, {"scores": right}, tagger.labels) is right
    with pytest.raises(DataError, match="scores"):
        unpack_scores(jets, {"scores": np.zeros(shape, np.float32)}, tagger.labels)
