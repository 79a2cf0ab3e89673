"""Where a training begins: the weights of a trained network, which may learn to see times on the way."""

from __future__ import annotations

import numpy as np

from recon.errors import ConfigError
from recon.hgcal_clustering.cluster_times import TIME_FEATURES
from recon.hgcal_clustering.model import CondensationNetwork
from recon.hgcal_clustering.shipped import load_model
from recon.hgcal_clustering.shower_graph import EDGE_FEATURES, NODE_FEATURES
from recon.io.weights import model_arrays, set_model_arrays

_PLACES = EDGE_FEATURES + NODE_FEATURES
"""Features of a layer cluster and one of its candidates without times."""


def begin_with(network: CondensationNetwork, name: str) -> CondensationNetwork:
    """Give a network the weights of a trained one.

    A network with `timing` may begin as one without: what it sees of times counts for nothing at first, so that it
    says the same.

    Args:
        network: whose features have their scales, which those of the trained network replace.
        name: of a shipped model or the directory of one of yours.

    Raises:
        ConfigError: there is no such model, it has no network, or one of another shape.
    """
    trained = load_model(name)
    shape = trained.config.hybrid.network
    own = network.config
    if not trained.weights:
        raise ConfigError(f"--initial {name} has settings only and no network to begin with")
    if (shape.hidden, shape.rounds) != (own.hidden, own.rounds):
        raise ConfigError(
            f"--initial {name} has {shape.hidden} hidden features and {shape.rounds} rounds; those of the network to "
            f"train are {own.hidden} and {own.rounds}"
        )
    if shape.timing and not own.timing:
        raise ConfigError(f"the network of --initial {name} sees times: train with --timing")
    fresh = model_arrays(network)
    arrays = {name: _grown(value, fresh[name]) for name, value in trained.weights.items()}
    return set_model_arrays(network, arrays)


def _grown(value: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """An array of a network without times as that of one with: rows of 0 for new inputs, own scales of new features."""
    if value.shape == fresh.shape:
        return value
    grown = fresh.copy() if value.ndim == 1 else np.zeros_like(fresh)
    grown[:_PLACES] = value[:_PLACES]
    if value.ndim > 1:
        # Times follow the other features of a layer cluster; how they go with a candidate comes last.
        grown[_PLACES + TIME_FEATURES : len(value) + TIME_FEATURES] = value[_PLACES:]
    return grown
