"""The network of the hybrid clustering as an artefact.

The graph of layer clusters and candidates has sizes that only the event knows and is made on the host, as is the choice
of members from the probabilities: `recon.hgcal_clustering.hybrid_remote` does both around a server's answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

from recon.errors import ConfigError
from recon.export import Program, Report, Signature, Sizes, Tensor, export_model, quiet
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.model import CondensationNetwork
from recon.hgcal_clustering.remote import model_name
from recon.hgcal_clustering.shower_graph import EDGE_FEATURES, ShowerGraph
from recon.nn.export import flat_function
from recon.types import NOISE

GRAPH_BUCKETS = ((4096, 512), (16_384, 2048), (65_536, 8192))
"""Padded numbers of layer clusters and candidates of an endcap."""
_ROWS = ("candidate", "higher", "row")


def export_network(
    directory: Path,
    network: CondensationNetwork,
    config: HgcalConfig,
    *,
    name: str = model_name("hybrid"),
    version: str = "1",
    buckets: tuple[tuple[int, int], ...] = GRAPH_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write the network: a graph to the probabilities of the candidates of every layer cluster.

    Args:
        directory: the model repository.
        network: of a trained model.
        config: settings of the same model.
        name: of the artefact.
        version: of the artefact.
        buckets: padded numbers of layer clusters and candidates.
        overwrite: replace an artefact of this name and version.
        report: hears (programs written, programs in all).

    Returns:
        The folder of the artefact.

    Raises:
        ConfigError: settings of another method.
    """
    if config.method != "hybrid":
        raise ConfigError(f"settings of the method {config.method!r}; the network belongs to 'hybrid'")
    network.eval()
    definition, state = nnx.split(network)
    weights, tree_of = flat_function(state)

    def program_of(sizes: Sizes) -> Program:
        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            merged = nnx.merge(definition, tree_of(weights), copy=True)
            return {"probability": jnp.exp(merged(_graph(inputs))[-1])}

        return program

    return export_model(
        directory, program_of, weights,
        _signature(config.hybrid.graph.slots, network.config.node_features, buckets),
        name=name, version=version, by_bucket=True, overwrite=overwrite, report=report,
        description="Condensation network: layer clusters and shower candidates to probabilities",
        config=config.to_json(),
    )  # fmt: skip


def _graph(inputs: dict[str, Any]) -> ShowerGraph:
    """The graph of padded inputs, whose padding is 0 and not a row that does not exist."""
    columns = {name: inputs[name] for name in ShowerGraph._fields}
    for name in _ROWS:
        valid = inputs["valid"].reshape(-1, *[1] * (columns[name].ndim - 1))
        columns[name] = jnp.where(valid, columns[name], NOISE)
    return ShowerGraph(**columns | {"seed": jnp.where(inputs["there"], columns["seed"], NOISE)})


def _signature(slots: int, node_features: int, buckets: tuple[tuple[int, int], ...]) -> Signature:
    shapes: dict[str, tuple[int | str, ...]] = {
        "nodes": ("n", node_features),
        "edges": ("n", slots, EDGE_FEATURES),
        "candidate": ("n", slots),
        "higher": ("n",),
        "energy": ("n",),
        "scale": ("n",),
        "seed": ("s",),
        "row": ("n",),
    }
    real = ("nodes", "edges", "energy", "scale")
    return Signature(
        inputs=tuple(
            Tensor(name=name, datatype="FP32" if name in real else "INT32", shape=shape, finite=name in real)
            for name, shape in shapes.items()
        ),
        outputs=(Tensor(name="probability", datatype="FP32", shape=("n", slots + 1)),),
        buckets=tuple({"n": rows, "s": seeds} for rows, seeds in buckets),
        batched=False,
        masks={"n": "valid", "s": "there"},
    )
