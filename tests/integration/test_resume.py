"""A training run killed with SIGKILL, twice, ends with the very bits of one that was left alone."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recon.io.weights import flatten_state
from recon.train.checkpoint import Checkpointer

# A program of its own, so that it can be killed; with a batch normalisation, dropout and averaged weights.
PROGRAM = """
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from recon.train.loop import LoopConfig, fit
from recon.train.optim import OptimConfig
from recon.train.state import create_state, make_train_step, merge_model


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.second = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.relu(self.norm(self.first(x)))))


def loss(model, batch, key):
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2), {}


def make_batch(step):
    x = np.random.default_rng([3, step]).normal(size=(64, 3)).astype(np.float32)
    return {"x": x, "y": np.sin(x[:, :1]) + x[:, 1:2]}


@jax.jit
def score(state, batch):
    model = merge_model(state, ema=True)
    model.eval()
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2)


def evaluate(state):
    return {"mse": score(state, make_batch(10**6))}


def fresh_state(optim):
    return create_state(Network(nnx.Rngs(0)), optim, seed=11)


OPTIM = OptimConfig(learning_rate=1e-2, warmup_steps=10, total_steps=90, weight_decay=1e-4, ema_decay=0.95)


STEP = make_train_step(loss, OPTIM)


def main(directory, kill_at=None):
    def batches(step):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return make_batch(step)

    config = LoopConfig(
        total_steps=90, directory=Path(directory), eval_every=30, checkpoint_every=20, log_every=7,
        best_metric="mse", best_mode="min",
    )
    return fit(
        fresh_state(OPTIM), STEP, batches, config, evaluate=evaluate,
        run_config={"seed": 11},
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
"""

LOGS = ("metrics.csv", "evaluation.csv", "config.json")


def kill_run(program: Path, directory: Path, at_batch: int) -> None:
    """Start or resume the run in a process that kills itself when it asks for a batch."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(program), str(directory), str(at_batch)], timeout=300, check=False
    )
    assert finished.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "train_regression.py"
    path.write_text(PROGRAM)
    return path


def test_killed_twice_equals_uninterrupted(tmp_path, program):
    names = runpy.run_path(str(program))
    expected = flatten_state(names["main"](tmp_path / "whole"))

    killed = tmp_path / "killed"
    # Batch 20 is asked for right after checkpoint 20 was handed over: most likely while it is written.
    kill_run(program, killed, at_batch=20)
    with Checkpointer(killed, read_only=True) as reader:
        assert reader.steps in ([], [20])
    # Between two checkpoints, with rows in the log that must not appear twice.
    kill_run(program, killed, at_batch=55)
    with Checkpointer(killed, read_only=True) as reader:
        assert reader.steps[-1] in {30, 40}
    result = flatten_state(names["main"](killed))

    assert result.keys() == expected.keys()
    assert int(result["step"]) == 90
    assert [name for name in expected if expected[name].tobytes() != result[name].tobytes()] == []
    for name in LOGS:
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    steps = [int(line.split(",")[0]) for line in (killed / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == list(range(1, 91))
