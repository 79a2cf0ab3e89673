"""Rows in parts: the same numbers whatever the parts, few programs, nothing of the padding."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.tagging.batches import in_batches


class Rows(NamedTuple):
    matrix: np.ndarray
    flag: np.ndarray


class Sums(NamedTuple):
    total: jax.Array
    several: jax.Array


@pytest.mark.parametrize("count", [0, 1, 5, 16, 39])
def test_parts_are_put_together(count):
    rng = np.random.default_rng(count)
    rows = Rows(rng.normal(size=(count, 3)).astype(np.float32), rng.random(count) < 0.5)

    @jax.jit
    def program(some):
        total = jnp.where(some.flag, some.matrix.sum(1), -1.0)
        return Sums(total, jnp.stack([total, some.matrix[:, 0]], 1))

    found = in_batches(program, rows, 16)
    expected = np.where(rows.flag, rows.matrix.sum(1), -1.0)
    assert isinstance(found, Sums)
    np.testing.assert_allclose(found.total, expected, rtol=1e-6)
    np.testing.assert_allclose(found.several, np.stack([expected, rows.matrix[:, 0]], 1), rtol=1e-6)


def test_sizes_of_the_ladder():
    seen = []

    def program(rows):
        seen.append(len(rows))
        return rows

    for count in (1, 2, 7, 9, 12, 64, 70):
        assert len(in_batches(program, np.ones((count, 2)), 64)) == count
    assert seen == [1, 8, 8, 16, 16, 64, 64, 8]
