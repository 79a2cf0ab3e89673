"""Which rows an update learns from: a function of seed and step alone, so that a resumed run is the same."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int64

from recon.errors import ConfigError


class Sampler:
    """Rows of every batch.

    Without chances every row comes once an epoch, each epoch in an order of its own; a batch may straddle two epochs.
    With chances the rows of a batch are independent draws: an epoch is then as many draws as there are rows.

    Args:
        rows: of the sample.
        batch: rows of a batch; may exceed `rows`, rows then repeat.
        seed: of the orders and draws.
        chance: how likely each row is, relative to the others.

    Raises:
        ConfigError: a size that is not positive, chances of another length, negative, not finite or all 0.
    """

    def __init__(
        self, rows: int, batch: int, seed: int, chance: Float[np.ndarray, " n"] | None = None
    ) -> None:
        if rows < 1 or batch < 1:
            raise ConfigError(
                f"a sampler was given {rows} rows and a batch of {batch}; both must be 1 or more"
            )
        self.rows, self.batch, self.seed = rows, batch, seed
        self._steps = None if chance is None else _cumulative(np.asarray(chance, np.float64), rows)
        self._order = lru_cache(maxsize=2)(self._make_order)

    def _make_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(self.rows)

    def __call__(self, step: int) -> Int64[np.ndarray, " b"]:
        """Rows of the batch that follows `step` updates."""
        if self._steps is not None:
            draws = np.random.default_rng((self.seed, step)).random(self.batch)
            return np.searchsorted(self._steps, draws, side="right").astype(np.int64)
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, index = np.divmod(places, self.rows)
        picked = [self._order(int(epoch))[index[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(picked).astype(np.int64)


def _cumulative(chance: np.ndarray, rows: int) -> np.ndarray:
    total = chance.sum()
    if chance.shape != (rows,) or not np.isfinite(total) or chance.min() < 0 or total <= 0:
        raise ConfigError(
            f"chances have shape {chance.shape} and sum {total}; {rows} finite numbers, none negative and not all 0, "
            "are needed"
        )
    summed = np.cumsum(chance)
    return summed / summed[-1]


def take(tree: Any, rows: Int64[np.ndarray, " b"]) -> Any:
    """Rows of every array of a tree.

    Args:
        tree: arrays with one leading axis.
        rows: which ones.
    """
    return jax.tree.map(lambda array: array[rows], tree)


def validation_split(
    rows: int, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " v"]]:
    """Divide rows by chance into those to train on and those to look at.

    Args:
        rows: of the sample.
        fraction: of them that is held out, rounded; one row of either kind at least.
        seed: of the choice.

    Returns:
        Rows to train on and rows held out, both ascending.

    Raises:
        ConfigError: a fraction outside (0, 1), or fewer than two rows.
    """
    if not 0 < fraction < 1 or rows < 2:
        raise ConfigError(
            f"{rows} rows, of which {fraction} are to be held out; allowed: 2 or more, a fraction between 0 and 1"
        )
    held = min(max(round(rows * fraction), 1), rows - 1)
    order = np.random.default_rng((seed, rows)).permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])
