"""Taggers as artefacts: DeepAK8 and ParticleNet, features of jets in, probabilities of the classes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from recon.errors import ConfigError
from recon.export import Signature, Tensor, export_model
from recon.nn.export import flat_function
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.folded import fold
from recon.tagging.models import TaggingModel
from recon.tagging.particle_net import ParticleNet
from recon.types import Jets

BATCHES = (1, 4, 16, 64, 256)
"""Padded numbers of jets."""

ToJets = Callable[[dict[str, Any]], Jets]


def export_deepak8(
    directory: Path,
    model: TaggingModel,
    *,
    name: str = "deepak8",
    version: str = "1",
    batches: Sequence[int] = BATCHES,
    overwrite: bool = False,
) -> Path:
    """Write DeepAK8: `candidates` and `vertices`, both padded with zeros, to `scores`.

    Args:
        directory: the model repository.
        model: whose network is a DeepAK8.
        name: of the artefact.
        version: of the artefact.
        batches: padded numbers of jets.
        overwrite: replace an artefact of this name and version.

    Returns:
        The folder `directory/name/version`.

    Raises:
        ConfigError: the model is another network, or the artefact exists.
    """
    if not isinstance(model.network, DeepAK8):
        raise ConfigError(f"export_deepak8 was given a {type(model.network).__name__}")
    config = model.network.config
    candidates, vertices = model.capacities

    def jets_of(inputs: dict[str, Any]) -> Jets:
        # Zeros are what padding looks like to this network: nothing is left to be masked.
        valid = [jnp.ones(inputs[key].shape[:2], bool) for key in ("candidates", "vertices")]
        return _jets(inputs["candidates"], valid[0], inputs["vertices"], valid[1])

    inputs = (
        Tensor(
            name="candidates", datatype="FP32", shape=("batch", candidates, config.candidates), finite=True
        ),
        Tensor(name="vertices", datatype="FP32", shape=("batch", vertices, config.vertices), finite=True),
    )
    return _export(directory, model, inputs, jets_of, name, version, batches, overwrite)


def export_particle_net(
    directory: Path,
    model: TaggingModel,
    *,
    name: str = "particlenet",
    version: str = "1",
    batches: Sequence[int] = BATCHES,
    overwrite: bool = False,
) -> Path:
    """Write ParticleNet: `candidates` with `candidate_valid`, and the same of vertices if it has them, to `scores`.

    Args:
        directory: the model repository.
        model: whose network is a ParticleNet.
        name: of the artefact.
        version: of the artefact.
        batches: padded numbers of jets.
        overwrite: replace an artefact of this name and version.

    Returns:
        The folder `directory/name/version`.

    Raises:
        ConfigError: the model is another network, or the artefact exists.
    """
    if not isinstance(model.network, ParticleNet):
        raise ConfigError(f"export_particle_net was given a {type(model.network).__name__}")
    config = model.network.config
    columns = max(config.features, *(column + 1 for column in config.coordinates))
    inputs = _cloud("candidate", model.capacities[0], columns)
    if config.vertex_features:
        columns = max(config.vertex_features, *(column + 1 for column in config.vertex_coordinates))
        inputs += _cloud("vertex", model.capacities[1], columns)

    def jets_of(inputs: dict[str, Any]) -> Jets:
        candidates, valid = inputs["candidates"], inputs["candidate_valid"]
        vertices = inputs.get("vertices", candidates[:, :0])
        return _jets(candidates, valid, vertices, inputs.get("vertex_valid", valid[:, :0]))

    return _export(directory, model, inputs, jets_of, name, version, batches, overwrite)


def _cloud(kind: str, capacity: int, columns: int) -> tuple[Tensor, ...]:
    plural = {"candidate": "candidates", "vertex": "vertices"}[kind]
    return (
        Tensor(name=plural, datatype="FP32", shape=("batch", capacity, columns), finite=True),
        Tensor(name=f"{kind}_valid", datatype="BOOL", shape=("batch", capacity)),
    )


def _jets(candidates: Any, candidate_valid: Any, vertices: Any, vertex_valid: Any) -> Jets:
    label = jnp.full(candidates.shape[:1], -1, jnp.int32)
    return Jets(candidates, candidate_valid, vertices, vertex_valid, label)


def _export(
    directory: Path,
    model: TaggingModel,
    inputs: tuple[Tensor, ...],
    jets_of: ToJets,
    name: str,
    version: str,
    batches: Sequence[int],
    overwrite: bool,
) -> Path:
    folded = fold(model.network)
    weights, tree_of = flat_function(folded.weights)

    def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return {"scores": jax.nn.softmax(folded.logits(tree_of(weights), jets_of(inputs)))}

    signature = Signature(
        inputs=inputs,
        outputs=(Tensor(name="scores", datatype="FP32", shape=("batch", model.network.config.classes)),),
        buckets=tuple({"batch": batch} for batch in batches),
        batched=True,
    )
    return export_model(
        directory,
        program,
        weights,
        signature,
        name=name,
        version=version,
        description=f"jet tagger {model.kind}: features of candidates and vertices to probabilities of the classes",
        config={"kind": model.kind, "labels": list(model.labels)},
        features=[{"tensor": tensor, "table": table} for tensor, table in sorted(model.features.items())],
        provenance={"card": model.card},
        overwrite=overwrite,
    )
