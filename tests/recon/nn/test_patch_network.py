"""The network for images that are almost empty: against its twin, and what must not change its answer."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn.patch_network import PatchNetwork, PatchNetworkConfig, patches_of, with_measured_cells
from tests.reference import patches as twin
from tests.reference.tagging import dense, norm, relu

SMALL = PatchNetworkConfig(
    image=(20, 12),
    channels=(6, 8, 5),
    blocks=(1, 0, 1),
    fused=7,
    classes=3,
    hidden=9,
    cells=(12, 6, 4),
)


ATTENTIVE = replace(SMALL, channels=(6, 8, 10), stem=11, attention=2, heads=5)


def images(n=3, config=SMALL, seed=0, share=0.03):
    rng = np.random.default_rng(seed)
    shape = (n, *config.image, config.views)
    made = np.where(rng.random(shape) < share, rng.exponential(2.0, shape), 0)
    made[0] = 0  # an event with two empty views
    return jnp.asarray(made, jnp.float32)


def trained_like(network, seed=0):
    """Statistics that are not those of the start, so that forgetting them is seen."""
    rng = np.random.default_rng(seed)
    for _, node in nnx.iter_graph(network):
        if isinstance(node, nnx.BatchNorm):
            node.mean[...] = jnp.asarray(rng.normal(0, 0.3, node.mean.shape), jnp.float32)
            node.var[...] = jnp.asarray(rng.uniform(0.5, 2, node.var.shape), jnp.float32)
            node.bias[...] = jnp.asarray(rng.normal(0, 0.3, node.bias.shape), jnp.float32)
    network.eval()
    return network


@nnx.jit
def run(module, given):
    return module(given)


@pytest.fixture(scope="module")
def network():
    return trained_like(PatchNetwork(SMALL, rngs=nnx.Rngs(0)))


def test_patches_by_hand():
    image = jnp.arange(32.0).reshape(1, 4, 4, 2)
    cut = patches_of(image, 2)
    assert cut.shape == (2, 2, 2, 4)
    assert cut[0, 0, 1].tolist() == [4, 6, 12, 14]
    assert cut[1, 1, 0].tolist() == [17, 19, 25, 27]


def test_as_the_twin(network):
    compare_with_twin(network, images())


def test_with_attention_as_the_twin():
    network = trained_like(PatchNetwork(ATTENTIVE, rngs=nnx.Rngs(0)))
    for block in network.featurizer.meeting.blocks:
        for layer in (block.answer, block.narrowing):
            inputs, outputs = layer.kernel.shape
            layer.kernel[...] = jax.random.normal(jax.random.key(inputs), (inputs, outputs)) / np.sqrt(inputs)
    compare_with_twin(network, images())


def compare_with_twin(network, given):
    found = run(network.featurizer, given)
    scores = run(network, given)
    assert found.shape[1] == network.config.features
    for row in range(len(given)):
        expected = twin.features(network.featurizer, np.asarray(given[row]))
        np.testing.assert_allclose(found[row], expected, rtol=2e-4, atol=2e-5)
        standard = norm(network.classifier.norm, np.asarray(found[row], np.float64))
        logits = dense(network.classifier.output, relu(dense(network.classifier.hidden, standard)))
        np.testing.assert_allclose(scores[row], logits, rtol=1e-4, atol=1e-5)


def test_an_event_alone_is_the_event_among_others(network):
    given = images(5, seed=1)
    together = run(network, given)
    for row in range(len(given)):
        np.testing.assert_allclose(run(network, given[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5)


def test_crowded_images_are_computed_with_all_cells(network):
    config = replace(SMALL, image=(80, 80), cells=(1, 1, 1))
    large = PatchNetwork(config, rngs=nnx.Rngs(0))
    nnx.update(large, nnx.state(network))
    large.eval()
    given = images(2, config, seed=2, share=0.5)
    occupied = (patches_of(given, config.patch) > 0).any(-1).sum()
    assert int(occupied) > config.capacity(2)[0]
    found = run(large, given)
    roomy = PatchNetwork(replace(config, cells=(800, 200, 50)), rngs=nnx.Rngs(0))
    nnx.update(roomy, nnx.state(network))
    roomy.eval()
    np.testing.assert_allclose(found, run(roomy, given), rtol=1e-5, atol=1e-6)
    # In training nothing may be lost in silence.
    large.train()
    assert bool(jnp.isnan(run(large, given)).all())


def test_training_updates_the_statistics_and_evaluation_does_not():
    network = PatchNetwork(SMALL, rngs=nnx.Rngs(0))
    norm = network.featurizer.activations[0].norm
    before = np.asarray(norm.mean[...])
    network.eval()
    given = images(4, seed=3)
    first = run(network, given)
    np.testing.assert_array_equal(run(network, given), first)
    np.testing.assert_array_equal(norm.mean[...], before)
    network.train()
    trained = run(network, given)
    assert float(jnp.abs(trained - first).max()) > 1e-4
    assert float(jnp.abs(norm.mean[...] - before).max()) > 0


def test_statistics_are_those_of_the_active_cells():
    """More room must not dilute the mean, more images of nothing must not either."""
    config = replace(SMALL, image=(80, 80))
    results = []
    for cells in ((40, 30, 20), (400, 200, 50)):
        network = PatchNetwork(replace(config, cells=cells), rngs=nnx.Rngs(0))
        network.train()
        results.append(run(network, images(4, config, seed=4, share=0.01)))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)
    assert bool(jnp.isfinite(results[0]).all())


def test_slopes_are_finite_with_empty_images():
    network = PatchNetwork(SMALL, rngs=nnx.Rngs(0))
    network.train()
    definition, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def slope(params, given):
        return jnp.square(nnx.merge(definition, params, rest, copy=True)(given)).sum()

    for given in (images(), jnp.zeros((3, *SMALL.image, 2))):
        slopes = slope(nnx.as_pure(params), given)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))


def test_measured_capacity_holds_the_sample():
    sample = np.asarray(images(400, seed=6, share=0.02))
    measured = with_measured_cells(SMALL, sample)
    cells = (sample.reshape(400, 5, 4, 3, 4, 2) > 0).any((2, 4)).sum((1, 2, 3))
    assert measured.cells[0] == int(np.ceil(cells.mean()))
    assert measured.capacity(64)[0] >= 64 * cells.mean() + 6 * cells.std() * 8
    assert measured.capacity(1)[0] >= cells.max()
    assert measured.cells[0] >= measured.cells[1] >= measured.cells[2] >= 1
    assert replace(measured, cells=SMALL.cells, spread=SMALL.spread) == SMALL


def test_wrong_images_are_refused(network):
    for shape in ((1, 12, 20, 2), (1, 20, 12, 3), (1, 2, 20, 12)):
        with pytest.raises(ConfigError, match=r"\(batch, rows, columns, views\) = \(b, 20, 12, 2\)"):
            network(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"image": (21, 12)}, "multiples of 4"),
        ({"channels": (4,)}, "one of each a scale"),
        ({"fused": 0}, "1 or more"),
        ({"gain": 0.0}, "above 0"),
        ({"attention": -1}, "0 or more"),
        ({"stem": -1}, "0 or more"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_settings_that_cannot_be(wrong, told):
    with pytest.raises(ConfigError, match=told):
        replace(SMALL, **wrong)


def test_one_program_a_shape(network):
    definition, state = nnx.split(network)
    program = jax.jit(lambda state, given: nnx.merge(definition, state, copy=True)(given))
    for seed in range(3):
        program(state, images(seed=seed))
    assert program._cache_size() == 1
