"""Our side of `message_passing.py`: reads graph and weights from an .npz file, runs the network, prints JSON."""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from recon.nn.interaction import InteractionConfig, InteractionStack
from recon.nn.message_passing import Topology
from recon.nn.mlp import MLP

PARTS = ("nodes", "edges", "head")


def stacked_weights(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of all layers as `recon.nn.interaction` holds them: the first matrices cut into one an input."""
    layers = sum(name.endswith("edge.0.weight") for name in data)

    def stack(name: str) -> np.ndarray:
        return np.stack([data[f"layer{layer}.{name}"] for layer in range(layers)])

    edge, node = np.split(stack("edge.0.weight"), 3, axis=1), np.split(stack("node.0.weight"), 2, axis=1)
    weights = dict(zip(("edge_from_edge", "edge_from_sender", "edge_from_receiver"), edge, strict=True))
    weights |= dict(zip(("node_from_node", "node_from_incoming"), node, strict=True))
    for kind in ("edge", "node"):
        weights[f"{kind}_bias"] = stack(f"{kind}.0.bias")
        weights[f"{kind}_out"], weights[f"{kind}_out_bias"] = (
            stack(f"{kind}.1.weight"),
            stack(f"{kind}.1.bias"),
        )
    return weights


def perceptron(data: dict[str, np.ndarray], name: str) -> MLP:
    """The encoder or head of that name with the given weights."""
    shapes = [data[f"{name}.{index}.weight"].shape for index in (0, 1)]
    network = MLP([shapes[0][0], shapes[0][1], shapes[1][1]], activate_last=name != "head", rngs=nnx.Rngs(0))
    for index, layer in enumerate(network.layers):
        layer.kernel[...] = jnp.asarray(data[f"{name}.{index}.weight"])
        layer.bias[...] = jnp.asarray(data[f"{name}.{index}.bias"])
    return network


def interactions(data: dict[str, np.ndarray]) -> InteractionStack:
    """The interaction layers with the given weights: no normalisation, incoming edges only, as the peers."""
    weights = stacked_weights(data)
    layers, hidden = weights["edge_out_bias"].shape
    config = InteractionConfig(hidden=hidden, layers=layers, normalise=False, outgoing=False)
    stack = InteractionStack(config, rngs=nnx.Rngs(0))
    for name, value in weights.items():
        stack.weights[name][...] = jnp.asarray(value)
    return stack


def main() -> None:
    """Runs one form of the network and prints its cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--form", choices=["recon"], required=True)
    parser.add_argument("--mode", choices=["forward", "backward"], required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    data = dict(np.load(options.graph))
    network = (
        *(perceptron(data, name) for name in PARTS),
        interactions(data),
    )
    definition, state = nnx.split(network)
    inputs = [jnp.asarray(data[name]) for name in ("node_inputs", "edge_inputs", "senders", "receivers")]
    valid = jnp.ones(len(data["senders"]), bool)

    def logits(state: Any, nodes: jax.Array, edges: jax.Array, *ends: jax.Array) -> jax.Array:
        encode_nodes, encode_edges, head, interact = nnx.merge(definition, state, copy=True)
        return head(interact(encode_nodes(nodes), encode_edges(edges), Topology(*ends, valid))[1])[:, 0]

    def loss(state: Any, *event: jax.Array) -> jax.Array:
        value = logits(state, *event)
        return (jax.nn.softplus(value) - value * data["labels"]).mean()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = jax.jit(logits if options.mode == "forward" else jax.grad(loss)).lower(state, *inputs).compile()
    result, cpu, wall = jax.block_until_ready(program(state, *inputs)), [], []
    for _ in range(options.repeats):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        result = jax.block_until_ready(program(state, *inputs))
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    if options.mode == "backward":
        result = nnx.merge(definition, result)[PARTS.index("edges")].layers[0].kernel[...]
    np.save(options.output, np.asarray(result))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"cpu": min(cpu), "wall": min(wall), "peak_mb": peak, "version": jax.__version__}))


if __name__ == "__main__":
    main()
