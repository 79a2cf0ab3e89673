"""What a network makes of the jets of files, computed once and kept: for teachers, and for classifiers trained alone.

A network with `features` and `classify` keeps its features, from which its classifier is a small step; of any other
network the logits are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Float16

from recon.io.weights import arrays_digest, model_arrays, set_model_arrays
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.features import make_jets
from recon.tagging.features_cache import kept_features
from recon.tagging.folded import fold
from recon.tagging.inputs import JetInputs, inputs_to_json
from recon.tagging.particle_net import ParticleNet
from recon.tagging.samples import Report, tables
from recon.train.classification import predict
from recon.types import Array, Jets

BATCH = 64
SHORTEST, STEP = 32, 16
"""Capacities that jets are cut to: the cost of an edge convolution grows faster than the number of its points."""

_BEHIND = ("dense", "dropout", "output")
_VERSION = 1
Forward = Callable[[Jets], np.ndarray]


def has_features(network: nnx.Module) -> bool:
    """Whether a network is one of those whose features are kept."""
    return isinstance(network, DeepAK8 | ParticleNet)


def precompute(
    network: nnx.Module, inputs: JetInputs, files: Sequence[Path], report: Report | None = None
) -> Float16[np.ndarray, "j f"]:
    """Features of all jets of files, or logits; what was computed before comes from the cache.

    Args:
        network: in evaluation mode.
        inputs: what it reads.
        files: of jets, in this order.
        report: told how far it is.

    Raises:
        DataError: a file that cannot be read or has no jets.
    """
    key = _key(network, inputs)
    forward = _forward(network)
    return np.concatenate([_of_file(path, key, forward, inputs, report) for path in files])


def logits_of(network: Any, kept: Float[np.ndarray, "j f"]) -> Float[np.ndarray, "j k"]:
    """Logits of the jets from what `precompute` kept."""
    values = np.asarray(kept, np.float32)
    return predict(Classifier(network), values, 4096) if has_features(network) else values


class Classifier(nnx.Module):
    """The part of a network behind its features, on its own.

    Args:
        network: DeepAK8 or ParticleNet; not changed.
    """

    def __init__(self, network: Any) -> None:
        self.part = nnx.clone(network)
        for name, value in list(vars(network).items()):
            if isinstance(value, nnx.Module) and name not in _BEHIND:
                delattr(self.part, name)

    def __call__(self, features: Float[Array, "j f"]) -> Float[Array, "j k"]:
        """Logits from `features`."""
        logits: Array = self.part.classify(features)
        return logits


def with_classifier(network: Any, classifier: Classifier) -> Any:
    """A copy of a network with the classifier in place of its own."""
    arrays = model_arrays(network) | model_arrays(classifier.part)
    return set_model_arrays(nnx.clone(network), arrays)


def _key(network: nnx.Module, inputs: JetInputs) -> str:
    """What the result depends on beside the file: not the classifier where it is not used."""
    arrays: Mapping[str, np.ndarray] = model_arrays(network)
    own = {
        name: array
        for name, array in arrays.items()
        if not (has_features(network) and name.startswith(("dense/", "output/")))
    }
    read = inputs_to_json(inputs)
    if inputs.vertices is None:
        del read["n_vertices"]
    return f"{json.dumps([_VERSION, read], sort_keys=True)} {arrays_digest(own)}"


def _of_file(path: Path, key: str, forward: Forward, inputs: JetInputs, report: Report | None) -> np.ndarray:
    state = path.stat()

    def compute() -> np.ndarray:
        parts = [forward(make_jets(columns, inputs)[0]) for columns in tables(path, report)]
        return np.concatenate(parts).astype(np.float16)

    return kept_features(f"{key} {path.resolve()} {state.st_size} {state.st_mtime_ns}", compute)


def _forward(network: Any) -> Forward:
    if not has_features(network):
        return lambda jets: predict(network, jets, BATCH)
    folded = fold(network)
    weights = jax.device_put(folded.weights)
    program = jax.jit(folded.features)

    def batch(jets: Jets) -> np.ndarray:
        return np.asarray(program(weights, jax.tree.map(jnp.asarray, jets)))

    # DeepAK8's padding is part of its input: its length must stay.
    return by_length(batch) if isinstance(network, ParticleNet) else in_batches(batch)


def in_batches(function: Forward, size: int = BATCH) -> Forward:
    """Calls a function of `size` jets for any number of them."""

    def whole(jets: Jets) -> np.ndarray:
        count = len(jets.label)
        starts = range(0, count, size)
        rows = [np.minimum(np.arange(start, start + size), count - 1) for start in starts]
        return np.concatenate([function(Jets(*(array[pick] for array in jets))) for pick in rows])[:count]

    return whole


def by_length(function: Forward, size: int = BATCH) -> Forward:
    """Calls a function of `size` jets for any number of them, short jets with short ones and cut to their length.

    Args:
        function: that padding changes nothing for.
        size: jets at once.
    """

    def whole(jets: Jets) -> np.ndarray:
        length = jets.candidate_valid.sum(1)
        order = np.argsort(length, kind="stable")
        parts = []
        for start in range(0, len(order), size):
            rows = order[np.minimum(np.arange(start, start + size), len(order) - 1)]
            capacity = max(SHORTEST, -(-int(length[rows].max()) // STEP) * STEP)
            chosen = Jets(*(array[rows] for array in jets))
            parts.append(
                function(
                    chosen._replace(
                        candidates=chosen.candidates[:, :capacity],
                        candidate_valid=chosen.candidate_valid[:, :capacity],
                    )
                )
            )
        values = np.concatenate(parts)[: len(order)]
        result = np.empty_like(values)
        result[order] = values
        return result

    return whole
