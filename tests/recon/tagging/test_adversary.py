"""The adversary: what it learns, what the tagger is told, and that both together hide the mass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.tagging.adversary import (
    AdversaryConfig,
    MassAdversary,
    adversary_loss,
    mass_bins,
    turn_gradient,
)

pytestmark = pytest.mark.usefixtures("quick_programs")

SMALL = AdversaryConfig(features=3, hidden=(8,), bins=4, mass=(0.0, 4.0), strength=0.5)


def test_the_gradient_is_turned_and_the_values_are_not():
    x = jnp.asarray([1.0, -2.0])
    values, backward = jax.vjp(lambda x: turn_gradient(x, jnp.asarray(0.5)), x)
    np.testing.assert_array_equal(values, x)
    np.testing.assert_array_equal(backward(jnp.asarray([1.0, 4.0]))[0], [-0.5, -2.0])


def test_bins_by_hand():
    mass = jnp.asarray([-3.0, 0.0, 0.99, 1.0, 3.5, 4.0, 90.0])
    assert mass_bins(mass, SMALL).tolist() == [0, 0, 0, 1, 3, 3, 3]


def test_loss_counts_the_background_only():
    logits = jnp.log(jnp.asarray([[0.25, 0.25, 0.5], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    bins, background = jnp.asarray([2, 1, 0]), jnp.asarray([True, True, False])
    assert adversary_loss(logits, bins, background) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)
    assert adversary_loss(logits, bins, jnp.zeros(3, bool)) == 0


def test_adversary_descends_where_the_tagger_climbs():
    """One step along each gradient: the adversary's own lowers its loss, the one it sends back raises it."""
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(64, 3)), jnp.float32)
    bins, background = mass_bins(2 + features[:, 0], SMALL), jnp.ones(64, bool)
    definition, parameters = nnx.split(MassAdversary(SMALL, rngs=nnx.Rngs(0)))

    @jax.jit
    def loss(parameters, features):
        return adversary_loss(nnx.merge(definition, parameters)(features), bins, background)

    before = loss(parameters, features)
    own, sent = jax.jit(jax.grad(loss, argnums=(0, 1)))(parameters, features)
    better = jax.tree.map(lambda p, g: p - 0.05 * g, parameters, own)
    assert loss(better, features) < before
    assert loss(parameters, features - 0.5 * sent / jnp.abs(sent).max()) > before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": ()}, "must not be empty"),
        ({"mass": (4.0, 4.0)}, "ascend"),
        ({"strength": -1.0}, "negative"),
        ({"bins": 0}, "positive"),
    ],
)
def test_configurations_refuse(change, message):
    with pytest.raises(ConfigError, match=message):
        AdversaryConfig(**change)
