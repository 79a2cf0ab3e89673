"""A regression small enough to train in a test, with every kind of state a network can have."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.train.optim import OptimConfig
from recon.train.state import StepFn, TrainState, create_state, make_train_step, merge_model


class Samples(NamedTuple):
    x: np.ndarray
    y: np.ndarray


class Network(nnx.Module):
    """Linear layers in a list, batch normalisation and dropout."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(3, hidden, rngs=rngs), nnx.Linear(hidden, 1, rngs=rngs)])
        self.norm = nnx.BatchNorm(hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(nnx.gelu(self.norm(self.layers[0](x)))))


class Problem:
    """y = 2 x0 - x1 + 1 with a little noise; counts how often its loss is traced."""

    def __init__(self) -> None:
        self.traces = 0
        self.optim = OptimConfig(
            learning_rate=5e-2, warmup_steps=5, total_steps=60, weight_decay=1e-3, ema_decay=0.9
        )

    def loss(self, model, batch, key):
        self.traces += 1
        residual = model(batch.x) - batch.y
        noise = jax.random.normal(key, residual.shape)
        loss = jnp.mean((residual + 0.01 * noise) ** 2)
        return loss, {"mse": jnp.mean(residual**2)}

    def batch(self, step: int, size: int = 32) -> Samples:
        generator = np.random.default_rng([5, step])
        x = generator.normal(size=(size, 3)).astype(np.float32)
        return Samples(x, 2 * x[:, :1] - x[:, 1:2] + 1)

    def state(self, *, hidden: int = 8, seed: int = 1) -> TrainState:
        return create_state(Network(hidden, nnx.Rngs(0)), self.optim, seed=seed)

    @cached_property
    def step_fn(self) -> StepFn:
        return make_train_step(self.loss, self.optim)

    @cached_property
    def evaluate(self):
        held_out = self.batch(10_000)

        @jax.jit
        def score(state):
            model = merge_model(state, ema=True)
            model.eval()
            return jnp.mean((model(held_out.x) - held_out.y) ** 2)

        return lambda state: {"mse": score(state)}

    def train(self, n_steps: int) -> TrainState:
        state = self.state()
        for step in range(n_steps):
            state, _ = self.step_fn(state, self.batch(step))
        return state


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Shared, so that its step compiles once for all tests."""
    return Problem()


@pytest.fixture
def fresh_problem() -> Problem:
    """For counting traces."""
    return Problem()


@pytest.fixture(scope="session")
def trained(problem) -> TrainState:
    """A state after some updates; read it, never hand it to a step: its buffers would be consumed."""
    return problem.train(4)
