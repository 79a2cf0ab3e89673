"""Message passing: the interaction layers of recon beside PyTorch Geometric, same weights, same graph, same allocator.

    python benchmarks/message_passing.py --torch-python /path/to/python --json result.json

The other side runs in an environment of its own that has numpy, torch and torch-geometric (`message_passing_torch.py`).
Every measurement is a process of its own; the programs take turns, the least of all repeats counts. CPU time is that of
the process, all threads; peak memory is what the process grew by from before the first run (compiling included).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PEERS = ("pyg", "pyg-split")
OURS = ("recon", "recon-remat")
ALLOCATORS = {
    "glibc": {},
    "glibc, huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "jemalloc": {"LD_PRELOAD": "libjemalloc.so.2"},
}


def make_graph(path: Path, nodes: int, degree: int, hidden: int, layers: int) -> None:
    """Writes random points joined to their nearest neighbours, sorted by receiver, and the weights of the network."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    points = rng.random((nodes, 3)).astype(np.float32)
    nearest = cKDTree(points).query(points, degree + 1)[1][:, 1:]
    receivers = np.repeat(np.arange(nodes), degree).astype(np.int32)
    senders = nearest.reshape(-1).astype(np.int32)
    difference = points[senders] - points[receivers]
    data = {
        "node_inputs": points,
        "edge_inputs": np.c_[difference, np.linalg.norm(difference, axis=1)].astype(np.float32),
        "senders": senders,
        "receivers": receivers,
        "labels": (rng.random(len(senders)) < 0.3).astype(np.float32),
    }
    sizes = {"nodes": (3, hidden), "edges": (4, hidden), "head": (hidden, 1)}
    for layer in range(layers):
        sizes |= {f"layer{layer}.edge": (3 * hidden, hidden), f"layer{layer}.node": (2 * hidden, hidden)}
    for name, (inputs, outputs) in sizes.items():
        for index, shape in enumerate(((inputs, hidden), (hidden, outputs))):
            matrix = rng.normal(size=shape) / np.sqrt(shape[0])
            data[f"{name}.{index}.weight"] = matrix.astype(np.float32)
            data[f"{name}.{index}.bias"] = (0.1 * rng.normal(size=shape[1])).astype(np.float32)
    np.savez(path, **data)


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


def run_ours(options: argparse.Namespace) -> None:
    """Runs one form of our network and prints its cost as JSON; the process of one measurement."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from recon.nn.interaction import InteractionConfig, InteractionStack, Topology
    from recon.nn.mlp import MLP

    data = dict(np.load(options.worker))
    hidden, rngs = data["nodes.1.weight"].shape[1], nnx.Rngs(0)
    weights = stacked_weights(data)
    config = InteractionConfig(
        hidden=hidden,
        layers=len(weights["edge_out"]),
        normalise=False,
        outgoing=False,
        remat=options.form == "recon-remat",
    )
    stack = InteractionStack(config, rngs=rngs)
    for name, value in weights.items():
        stack.weights[name][...] = jnp.asarray(value)
    parts = {
        "nodes": ([3, hidden, hidden], True),
        "edges": ([4, hidden, hidden], True),
        "head": ([hidden, hidden, 1], False),
    }
    dense = {name: MLP(sizes, activate_last=last, rngs=rngs) for name, (sizes, last) in parts.items()}
    for name, network in dense.items():
        for index, layer in enumerate(network.layers):
            layer.kernel[...] = jnp.asarray(data[f"{name}.{index}.weight"])
            layer.bias[...] = jnp.asarray(data[f"{name}.{index}.bias"])
    definition, state = nnx.split((dense["nodes"], dense["edges"], stack, dense["head"]))
    valid = jnp.ones(len(data["senders"]), bool)
    inputs = [jnp.asarray(data[name]) for name in ("node_inputs", "edge_inputs", "senders", "receivers")]

    def logits(state, nodes, edges, senders, receivers):  # noqa: ANN001, ANN202
        encode_nodes, encode_edges, interact, head = nnx.merge(definition, state, copy=True)
        _, edges = interact(encode_nodes(nodes), encode_edges(edges), Topology(senders, receivers, valid))
        return head(edges)[:, 0]

    def loss(state, *event):  # noqa: ANN001, ANN002, ANN202
        value, label = logits(state, *event), data["labels"]
        return (jax.nn.softplus(value) - value * label).mean()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = jax.jit(logits if options.mode == "forward" else jax.grad(loss)).lower(state, *inputs).compile()
    result, cpu, wall = jax.block_until_ready(program(state, *inputs)), [], []
    for _ in range(options.repeats):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        result = jax.block_until_ready(program(state, *inputs))
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    if options.mode == "backward":
        result = nnx.merge(definition, result)[1].layers[0].kernel[...]
    np.save(options.output, np.asarray(result))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"cpu": min(cpu), "wall": min(wall), "peak_mb": peak, "version": jax.__version__}))


def measure(
    form: str, graph: Path, output: Path, options: argparse.Namespace, mode: str, allocator: str
) -> dict:
    """Starts one process and reads what it prints."""
    environment = os.environ | ALLOCATORS[allocator]
    arguments = ["--form", form, "--mode", mode, "--repeats", str(options.repeats), "--output", str(output)]
    if form in PEERS:
        command = [options.torch_python, str(HERE / "message_passing_torch.py"), str(graph)]
        arguments += ["--threads", str(options.threads)]
    else:
        command = [sys.executable, str(Path(__file__)), "--worker", str(graph)]
        if options.threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{form} {mode} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    options: argparse.Namespace, hidden: int, mode: str, allocator: str, folder: Path
) -> dict[str, dict]:
    """Least cost of every form; stops where outputs differ."""
    graph = folder / f"graph{hidden}.npz"
    if not graph.exists():
        make_graph(graph, options.nodes, options.degree, hidden, options.layers)
    forms = [*PEERS, *(OURS if mode == "backward" else OURS[:1])]
    best: dict[str, dict] = {}
    for _ in range(options.rounds):
        for form in forms:
            output = folder / f"{form}.npy"
            cost = measure(form, graph, output, options, mode, allocator)
            known = best.get(form, cost)
            best[form] = cost | {name: min(cost[name], known[name]) for name in ("cpu", "wall", "peak_mb")}
    outputs = {form: np.load(folder / f"{form}.npy") for form in forms}
    scale = np.abs(outputs["pyg"]).max()
    for form, values in outputs.items():
        best[form]["difference"] = float(np.abs(values - outputs["pyg"]).max() / scale)
        if best[form]["difference"] > 1e-4:
            raise SystemExit(
                f"{form} {mode}: outputs differ by {best[form]['difference']:.1e} of the largest"
            )
    return best


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--torch-python", default=sys.executable, help="Python that has torch and torch-geometric"
    )
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--degree", type=int, default=10, help="edges into each node")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--modes", nargs="+", default=["forward", "backward"])
    parser.add_argument("--allocators", nargs="+", choices=list(ALLOCATORS), default=["glibc"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="processes a program; they take turns")
    parser.add_argument("--repeats", type=int, default=4, help="runs a process")
    parser.add_argument("--json", type=Path)
    for name in ("worker", "form", "mode", "output"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_ours(options)
        return
    rows = []
    print(
        "| allocator | features | | program | CPU s | wall s | peak MB | against ours |\n|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for allocator in options.allocators:
            for hidden in options.hidden:
                for mode in options.modes:
                    best = compare(options, hidden, mode, allocator, Path(folder))
                    ours = min(best[form]["cpu"] for form in OURS if form in best)
                    for form, cost in best.items():
                        row = {"allocator": allocator, "hidden": hidden, "mode": mode, "form": form} | cost
                        rows.append(row | {"threads": options.threads, "ratio": cost["cpu"] / ours})
                        print(
                            f"| {allocator} | {hidden} | {mode} | {form} | {cost['cpu']:.3f} | {cost['wall']:.3f} "
                            f"| {cost['peak_mb']:.0f} | {cost['cpu'] / ours:.2f} |",
                            flush=True,
                        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
