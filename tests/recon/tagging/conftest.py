"""Random jets, and the reference data where it is."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.types import Jets

SHARED = Path(__file__).parents[4] / "shared" / "data"


def random_jets(n=6, candidates=12, features=7, vertices=3, vertex_features=4, seed=0, fullest=None):
    """Jets of every size, the first one empty; what lies in the padding is large and must not matter."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, candidates + 1, n)
    counts[0] = 0
    vertex_counts = rng.integers(0, vertices + 1, n)
    if fullest is not None:
        counts[1:] = fullest
    return Jets(
        candidates=(rng.normal(size=(n, candidates, features))).astype(np.float32),
        candidate_valid=np.arange(candidates) < counts[:, None],
        vertices=rng.normal(size=(n, vertices, vertex_features)).astype(np.float32),
        vertex_valid=np.arange(vertices) < vertex_counts[:, None],
        label=rng.integers(0, 5, n).astype(np.int32),
    )


def on_device(jets):
    return jax.tree.map(jnp.asarray, jets)


@pytest.fixture(scope="session")
def reference_file() -> Callable[[str], Path]:
    """Path of a file of reference data; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"the reference file {path} is not on this machine")
        return path

    return find
