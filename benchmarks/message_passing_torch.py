"""The PyTorch Geometric side of `message_passing.py`; needs only numpy, torch and torch-geometric.

Reads the graph and the weights from an .npz file, runs one form of the network and prints one line of JSON.

Run it through `message_passing.py`, which makes the file and compares the outputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing


def dense(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """A linear layer that holds the given [inputs, outputs] matrix."""
    layer = nn.Linear(*weight.shape)
    layer.weight.data = torch.tensor(weight.T.copy())
    layer.bias.data = torch.tensor(bias)
    return layer


def perceptron(weights: dict[str, np.ndarray], name: str, *, activate_last: bool = True) -> nn.Sequential:
    """Two linear layers, `name.0` and `name.1`, with ReLU after the first and, for encoders, after both."""
    layers = [dense(weights[f"{name}.{i}.weight"], weights[f"{name}.{i}.bias"]) for i in (0, 1)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], *([nn.ReLU()] if activate_last else []))


class MessagePassingLayer(MessagePassing):
    """The interaction layer as PyG users write it: concatenate, gather, scatter."""

    def __init__(self, edge_network: nn.Sequential, node_network: nn.Sequential) -> None:
        """Takes over the two perceptrons."""
        super().__init__(aggr="add")
        self.edge_network, self.node_network = edge_network, node_network

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the updated nodes and edges."""
        incoming = self.propagate(edge_index, x=nodes, edges=edges, size=(len(nodes), len(nodes)))
        return nodes + self.node_network(torch.cat([nodes, incoming], -1)), self.updated_edges

    def message(self, x_i: Tensor, x_j: Tensor, edges: Tensor) -> Tensor:
        """Updates the edges and sends them to their receivers."""
        self.updated_edges = edges + self.edge_network(torch.cat([edges, x_j, x_i], -1))
        return self.updated_edges


class SplitLayer(nn.Module):
    """The same layer with the first edge matrix split by hand, the node parts applied before the gather."""

    def __init__(self, edge_network: nn.Sequential, node_network: nn.Sequential) -> None:
        """Takes over the two perceptrons."""
        super().__init__()
        self.edge_network, self.node_network = edge_network, node_network

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the updated nodes and edges."""
        first, hidden = self.edge_network[0], nodes.shape[1]
        sent = (nodes @ first.weight[:, hidden : 2 * hidden].T).index_select(0, edge_index[0])
        received = nn.functional.linear(nodes, first.weight[:, 2 * hidden :], first.bias)
        inputs = (
            nn.functional.linear(edges, first.weight[:, :hidden])
            + sent
            + received.index_select(0, edge_index[1])
        )
        edges = edges + self.edge_network[1:](inputs)
        incoming = torch.zeros_like(nodes).index_add_(0, edge_index[1], edges)
        return nodes + self.node_network(torch.cat([nodes, incoming], -1)), edges


class Network(nn.Module):
    """Encoders, interaction layers and an edge head."""

    def __init__(self, weights: dict[str, np.ndarray], form: str) -> None:
        """Builds the network around the given weights; `form` is one of "message passing" and "split"."""
        super().__init__()
        layer = {"pyg": MessagePassingLayer, "pyg-split": SplitLayer}[form]
        self.node_encoder, self.edge_encoder = perceptron(weights, "nodes"), perceptron(weights, "edges")
        count = sum(name.endswith("edge.0.weight") for name in weights)
        self.layers = nn.ModuleList(
            layer(perceptron(weights, f"layer{i}.edge"), perceptron(weights, f"layer{i}.node"))
            for i in range(count)
        )
        self.head = perceptron(weights, "head", activate_last=False)

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> Tensor:
        """Returns one logit an edge."""
        nodes, edges = self.node_encoder(nodes), self.edge_encoder(edges)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, edge_index)
        return self.head(edges)[:, 0]


def main() -> None:
    """Runs one form of the network and prints its cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--form", choices=["pyg", "pyg-split"], required=True)
    parser.add_argument("--mode", choices=["forward", "backward"], required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = dict(np.load(options.graph))
    network = Network(data, options.form)
    nodes, edges, labels = (torch.tensor(data[name]) for name in ("node_inputs", "edge_inputs", "labels"))
    edge_index = torch.tensor(np.stack([data["senders"], data["receivers"]]).astype(np.int64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def run() -> Tensor:
        if options.mode == "forward":
            with torch.inference_mode():
                return network(nodes, edges, edge_index)
        network.zero_grad(set_to_none=True)
        loss = nn.functional.binary_cross_entropy_with_logits(network(nodes, edges, edge_index), labels)
        loss.backward()
        return network.edge_encoder[0].weight.grad.T

    result, cpu, wall = run(), [], []
    for _ in range(options.repeats):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        result = run()
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    if options.output:
        np.save(options.output, result.detach().numpy())
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"cpu": min(cpu), "wall": min(wall), "peak_mb": peak, "version": torch.__version__}))


if __name__ == "__main__":
    main()
