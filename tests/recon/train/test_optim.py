from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recon.errors import ConfigError
from recon.train.optim import (
    ORTHOGONAL_LEAST,
    OptimConfig,
    decayed_parameters,
    make_optimizer,
    make_schedule,
)


def test_schedule_hand_case():
    config = OptimConfig(learning_rate=0.1, warmup_steps=4, total_steps=14, final_fraction=0.2)
    rates = [float(make_schedule(config)(step)) for step in range(16)]
    np.testing.assert_allclose(rates[:4], [0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    assert rates[4] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(0.1 * (0.2 + 0.8 * 0.5))
    np.testing.assert_allclose(rates[14:], 0.02, rtol=1e-6)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_schedule_starts_at_the_peak_with_no_or_one_step_of_warm_up(warmup_steps):
    config = OptimConfig(learning_rate=0.1, warmup_steps=warmup_steps, total_steps=10, schedule="constant")
    assert [float(make_schedule(config)(step)) for step in (0, 1, 9)] == pytest.approx([0.1] * 3)


def adamw_twin(config: OptimConfig, params: dict, gradients: list[dict]) -> dict:
    """AdamW written from the paper's Algorithm 2, in float64, with clipping of the global norm."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in params.items()}
    second = {name: np.zeros_like(value) for name, value in params.items()}
    for step, gradient in enumerate(gradients):
        norm = np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in gradient.values()))
        factor = min(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        rate = float(make_schedule(config)(step))
        for name in params:
            clipped = gradient[name] * factor
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            m = first[name] / (1 - 0.9 ** (step + 1))
            v = second[name] / (1 - 0.999 ** (step + 1))
            decay = config.weight_decay * params[name] if name == "kernel" else 0.0
            params[name] = params[name] - rate * (m / (np.sqrt(v) + 1e-8) + decay)
    return params


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_optimizer_equals_its_twin(clip_norm):
    config = OptimConfig(
        learning_rate=0.05, warmup_steps=2, total_steps=8, weight_decay=0.3, clip_norm=clip_norm
    )
    generator = np.random.default_rng(0)
    start = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=(4, 2))}
    # Norms that differ by orders of magnitude: Adam hides the clipping of a constant gradient.
    gradients = [
        {name: 10.0 ** (step % 3 - 1) * generator.normal(size=value.shape) for name, value in start.items()}
        for step in range(8)
    ]
    optimizer = make_optimizer(config)
    params = {name: jnp.asarray(value, jnp.float32) for name, value in start.items()}
    state = optimizer.init(params)
    for gradient in gradients:
        jax_gradient = {name: jnp.asarray(value, jnp.float32) for name, value in gradient.items()}
        updates, state = optimizer.update(jax_gradient, state, params)
        params = {name: params[name] + updates[name] for name in params}
    expected = adamw_twin(config, start, gradients)
    for name in start:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-4, atol=1e-5)


def test_weight_decay_leaves_stacked_biases_and_vectors_alone():
    params = {
        "layers": {"kernel": np.zeros((8, 4, 4)), "bias": np.zeros((8, 4)), "scale": np.zeros((8, 4))},
        "head": {"kernel": np.zeros((4, 1)), "offset": np.zeros(4)},
    }
    assert decayed_parameters(params) == {
        "layers": {"kernel": True, "bias": False, "scale": False},
        "head": {"kernel": True, "offset": False},
    }


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("total_steps", 0),
        ("warmup_steps", -1),
        ("warmup_steps", 10_000),
        ("weight_decay", -0.1),
        ("clip_norm", -1.0),
        ("final_fraction", 1.5),
        ("ema_decay", 1.0),
    ],
)
def test_bad_setting_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=rf"OptimConfig\.{setting} is {value}"):
        OptimConfig(**{setting: value})


def stepped(config, params, gradients):
    """Parameters after some updates with one gradient."""
    optimizer = make_optimizer(config)
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, params)
        params = {name: params[name] + updates[name] for name in params}
    return params


def test_muon_moves_all_directions_of_a_matrix_alike():
    """A gradient that is a thousand times steeper in one direction gives a step that is nearly orthogonal."""
    n = 2 * ORTHOGONAL_LEAST
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    gradient = jnp.asarray(left @ np.diag(np.geomspace(1.0, 1e-3, n)) @ right, jnp.float32)
    zero = {"kernel": jnp.zeros((n, n))}
    how = {"learning_rate": 0.1, "total_steps": 10, "schedule": "constant"}
    moved = {
        name: np.linalg.svd(
            stepped(OptimConfig(optimizer=name, **how), zero, {"kernel": gradient})["kernel"]
        )[1]
        for name in ("adamw", "muon")
    }
    assert moved["muon"][n // 2] > 0.5 * moved["muon"][0]
    assert moved["adamw"][n // 2] < 0.3 * moved["adamw"][0]


def test_muon_leaves_the_rest_to_adamw():
    rng = np.random.default_rng(1)
    narrow = ORTHOGONAL_LEAST - 1
    shapes = {
        "bias": (40,),
        "kernel": (40, narrow),
        "places": (40, 40),
    }
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    gradients = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    config = OptimConfig(optimizer="muon", learning_rate=0.1, total_steps=10, clip_norm=0.0)
    expected = optax.adamw(make_schedule(config), weight_decay=0.0, nesterov=True)
    state, wanted = expected.init(params), params
    for _ in range(3):
        updates, state = expected.update(gradients, state, wanted)
        wanted = optax.apply_updates(wanted, updates)
    found = stepped(config, params, gradients)
    for name in shapes:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)


def test_muon_decays_its_own_matrices_only():
    n = ORTHOGONAL_LEAST
    params = {"kernel": jnp.ones((n, n)), "scale": jnp.ones((n, n)), "bias": jnp.ones(n)}
    nothing = {name: jnp.zeros_like(value) for name, value in params.items()}
    config = OptimConfig(
        optimizer="muon", learning_rate=0.1, total_steps=10, weight_decay=0.5, schedule="constant"
    )
    after = stepped(config, params, nothing)
    np.testing.assert_allclose(after["kernel"], (1 - 0.1 * 0.5) ** 3, rtol=1e-5)
    np.testing.assert_allclose(after["scale"], 1.0)
    np.testing.assert_allclose(after["bias"], 1.0)
