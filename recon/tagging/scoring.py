"""Scores of any number of jets: arrays in, probabilities out, with few compiled programs."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32

from recon.errors import ConfigError, DataError
from recon.tagging.batches import in_batches
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.folded import fold
from recon.tagging.particle_net import ParticleNet
from recon.types import Jets

BATCH = 256
"""Jets that are scored at once."""


class Scorer:
    """Compiled scoring of jets by one network.

    DeepAK8 and ParticleNet run folded, see `recon.tagging.folded`.

    Args:
        network: any network of `recon.tagging.models` that takes jets alone; put into evaluation mode.
        batch: largest number of jets at once; fewer are padded to a ladder of sizes.

    Raises:
        ConfigError: batch is not positive.
    """

    def __init__(self, network: Any, batch: int = BATCH) -> None:
        if batch < 1:
            raise ConfigError(f"batch is {batch}; allowed: 1 or more")
        network.eval()
        self.batch = batch
        self._weights: Any
        if isinstance(network, DeepAK8 | ParticleNet):
            folded = fold(network)
            self._weights, logits = jax.device_put(folded.weights), folded.logits
        else:
            definition, self._weights = nnx.split(network)

            def logits(weights: Any, jets: Jets) -> Any:
                return nnx.merge(definition, weights, copy=True)(jets)

        self._program: Any = jax.jit(lambda weights, jets: jax.nn.softmax(logits(weights, jets)))

    @property
    def programs(self) -> int:
        """How many were compiled so far."""
        return int(self._program._cache_size())

    def __call__(self, jets: Jets) -> Float32[np.ndarray, "j k"]:
        """Probabilities of the classes.

        Args:
            jets: host arrays without a batch axis; labels are not looked at.

        Raises:
            DataError: a feature of a valid candidate or vertex is not finite; names jet and column.
        """
        host = Jets(*(np.asarray(array) for array in jets))
        check_finite(host)
        scores: np.ndarray = in_batches(partial(self._program, self._weights), host, self.batch)
        return scores


def check_finite(jets: Jets) -> None:
    """Refuse features that are not finite.

    Args:
        jets: host arrays.

    Raises:
        DataError: a feature of a valid candidate or vertex is not finite; names jet and column.
    """
    for what, features, valid in (
        ("candidate", jets.candidates, jets.candidate_valid),
        ("vertex", jets.vertices, jets.vertex_valid),
    ):
        bad = ~np.isfinite(features) & valid[..., None]
        if bad.any():
            jet, row, column = (int(axis[0]) for axis in np.nonzero(bad))
            raise DataError(
                f"jet {jet}, {what} {row}, column {column} is {features[jet, row, column]}; {int(bad.sum())} such "
                "numbers; the feature table replaces them"
            )
