from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.tagging import precomputed
from recon.tagging.deepak8 import DeepAK8, DeepAK8Config
from recon.tagging.inputs import JETCLASS_INPUTS
from recon.tagging.labels import LABELS
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig
from recon.tagging.pfn import PFN, PFNConfig
from recon.tagging.precomputed import (
    Classifier,
    by_length,
    in_batches,
    logits_of,
    precompute,
    with_classifier,
)
from recon.tagging.samples import fitted_inputs, read_sample, single_precision
from recon.train.classification import predict
from tests.recon.tagging.conftest import random_jets
from tests.recon.tagging.small_files import write_separable

SMALL_NET = ParticleNetConfig(blocks=((3, (8,)), (3, (12,))), dense=(6,), classes=5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [write_separable(folder / f"{n}.parquet", 40 + n, seed=n) for n in (0, 1)]


@pytest.fixture(scope="module")
def particle_net():
    network = ParticleNet(SMALL_NET, rngs=nnx.Rngs(0))
    network.eval()
    return network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    return tmp_path / "features"


def direct(network, inputs, files):
    return predict(network, single_precision(read_sample(files, inputs, LABELS)[0].jets), 81)


def test_logits_are_those_of_the_network(files, particle_net, cache):
    kept = precompute(particle_net, JETCLASS_INPUTS, files)
    assert kept.shape == (81, 12)
    assert np.allclose(logits_of(particle_net, kept), direct(particle_net, JETCLASS_INPUTS, files), atol=5e-3)


def test_deepak8_too(files, cache):
    inputs = fitted_inputs(files, 16, 3)
    config = DeepAK8Config(
        candidates=len(inputs.candidates),
        vertices=len(inputs.vertices),
        candidate_stages=((8, 1),),
        vertex_stages=((8, 1),),
        dense=(8,),
    )
    network = DeepAK8(config, rngs=nnx.Rngs(0))
    network.eval()
    kept = precompute(network, inputs, files)
    assert kept.shape == (81, 16)
    assert np.allclose(logits_of(network, kept), direct(network, inputs, files), atol=2e-2)


def test_of_a_network_without_features_the_logits_are_kept(files, cache):
    network = PFN(PFNConfig(particle=(8,), jet=(8,)), rngs=nnx.Rngs(0))
    network.eval()
    kept = precompute(network, JETCLASS_INPUTS, files[:1])
    assert np.array_equal(logits_of(network, kept), kept.astype(np.float32))
    expected = direct(network, JETCLASS_INPUTS, files[:1])
    assert np.allclose(kept, expected, rtol=2e-3, atol=2e-2)


def test_a_file_is_read_once_for_all_classifiers(files, particle_net, cache):
    first = precompute(particle_net, JETCLASS_INPUTS, files)
    assert len(list(cache.iterdir())) == 2
    other = nnx.clone(particle_net)
    other.output.kernel[...] = other.output.kernel[...] + 1
    other.dense[0].bias[...] = other.dense[0].bias[...] + 1
    seen = []
    again = precompute(other, JETCLASS_INPUTS, files, lambda *told: seen.append(told))
    assert np.array_equal(first, again)
    assert not seen


def test_other_weights_inputs_or_files_are_computed_anew(files, particle_net, cache, tmp_path):
    precompute(particle_net, JETCLASS_INPUTS, files[:1])
    other = nnx.clone(particle_net)
    other.norm.scale[...] = other.norm.scale[...] * 2
    seen = []
    for network, inputs, path in (
        (other, JETCLASS_INPUTS, files[0]),
        (particle_net, precomputed_inputs(7), files[0]),
        (particle_net, JETCLASS_INPUTS, write_separable(tmp_path / "new.parquet", 10, seed=9)),
    ):
        precompute(network, inputs, [path], lambda *told: seen.append(told[0]))
    assert seen == [files[0].name, files[0].name, "new.parquet"]


def precomputed_inputs(n_candidates):
    return type(JETCLASS_INPUTS)(candidates=JETCLASS_INPUTS.candidates, n_candidates=n_candidates)


def test_the_capacity_in_vertices_does_not_matter_without_any(particle_net):
    one, other = (type(JETCLASS_INPUTS)(candidates=JETCLASS_INPUTS.candidates, n_vertices=n) for n in (1, 7))
    assert precomputed._key(particle_net, one) == precomputed._key(particle_net, other)


def test_a_classifier_on_its_own_and_back(particle_net):
    classifier = Classifier(particle_net)
    features = jnp.asarray(np.random.default_rng(0).normal(size=(4, 12)), jnp.float32)
    assert np.allclose(classifier(features), particle_net.classify(features), atol=1e-6)
    assert hasattr(particle_net, "blocks")
    names = {name.split("/")[1] for name in nnx_names(classifier)}
    assert names == {"dense", "output"}
    classifier.part.output.bias[...] = classifier.part.output.bias[...] + 3
    whole = with_classifier(particle_net, classifier)
    jets = random_jets(features=17, vertex_features=0)
    whole.eval()
    assert np.allclose(predict(whole, jets), predict(particle_net, jets) + 3, atol=1e-5)


def nnx_names(module):
    leaves = jax.tree_util.tree_leaves_with_path(nnx.as_pure(nnx.state(module, nnx.Param)))
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}


@pytest.mark.parametrize("count", [1, 7, 64, 100])
def test_short_jets_go_together_and_come_back_in_order(count):
    jets = random_jets(n=count, candidates=80, features=2)
    seen = []

    def function(part):
        seen.append(part.candidates.shape)
        return np.where(part.candidate_valid, part.candidates[..., 0], 0).sum(1)[:, None]

    clean = np.where(jets.candidate_valid, jets.candidates[..., 0], 0).sum(1)[:, None]
    assert np.allclose(by_length(function, 16)(jets), clean, atol=1e-4)
    assert {shape[0] for shape in seen} == {16}
    assert all(shape[1] in {32, 48, 64, 80} for shape in seen)
    seen.clear()
    assert np.allclose(in_batches(function, 16)(jets), clean, atol=1e-4)
    assert set(seen) == {(16, 80, 2)}
