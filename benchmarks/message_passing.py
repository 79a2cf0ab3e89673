"""Message passing: the interaction layers of recon beside PyTorch Geometric, same weights, same graph, same allocator.

    python benchmarks/message_passing.py --torch-python /path/to/python --json result.json

The other side runs in an environment of its own that has numpy, torch and torch-geometric.
Every measurement is a process of its own; the programs take turns, the least of all repeats counts. CPU time is that of
the process, all threads; peak memory is what the process grew by from before the first run (compiling included).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

HERE = Path(__file__).resolve().parent
PEERS = ("pyg", "pyg-split")
OURS = "recon"
ALLOCATORS = {
    "glibc": {},
    "glibc, huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "jemalloc": {"LD_PRELOAD": "libjemalloc.so.2"},
}


def make_graph(path: Path, nodes: int, degree: int, hidden: int, layers: int) -> None:
    """Writes random points joined to their nearest neighbours, sorted by receiver, and the weights of the network."""
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
        command = [sys.executable, str(HERE / "message_passing_recon.py"), str(graph)]
    # Pinned: XLA's pools take as many threads as there are cores to run on.
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[-options.threads :])
    command = ["taskset", "-c", cores, *command]
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
    forms = [*PEERS, OURS]
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
    options = parser.parse_args()
    rows = []
    print("| allocator | features | | program | CPU s | wall s | peak MB | against ours |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for allocator in options.allocators:
            for hidden in options.hidden:
                for mode in options.modes:
                    best = compare(options, hidden, mode, allocator, Path(folder))
                    ours = best[OURS]["cpu"]
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
