"""Edge classification on graphs of real TrackML events, beside earlier numbers.

    python benchmarks/trackml_graphs.py --data ../shared/data/tracking/trackml_graphs --json out.json

`--data` holds the folders `train` and `test` with graphs in the HEP.TrkX format (`recon.io.trackml_graphs`): the hits
of the ten barrel layers and the candidate segments between neighbouring layers. The network, its loss and the training
are those of the track finder; only the inputs are fewer, as these files have no cluster shapes.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import nnx

from recon.display.curves import plot_lines
from recon.geometry import delta_phi
from recon.io.trackml_graphs import SegmentGraph, read_segment_graphs
from recon.metrics import auc, efficiency_purity, roc
from recon.tracking.data import LabelledGraph, pad_alike
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.model import EdgeClassifier, NetworkConfig
from recon.tracking.training import edge_logits, loss, training_batch
from recon.train.loop import LoopConfig, fit
from recon.train.optim import OptimConfig
from recon.train.state import TrainState, create_state, make_train_step, merge_model

NODE_INPUTS, EDGE_INPUTS = NODE_FEATURES[:3], EDGE_FEATURES[:6]
"""The geometric features of the track finder's own graphs, under their names: `mirror` knows which ones change sign."""

SHAPES = 3

EARLIER = {
    "HEP.TrkX, about; quoted from memory": (None, 0.959, 0.957),
    "first network of this project, 14 epochs, 50 test events": (0.9996, 0.990, 0.991),
}
"""AUC, edge efficiency, edge purity on graphs of this format, though not on these very events: for orientation."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What to train on what.

    Attributes:
        data: folder with the folders `train` and `test`.
        steps: updates, one event each.
        seed: of weights and of the order of events.
        hidden: features of a hit and of a segment inside the network.
        layers: message-passing steps.
        learning_rate: its peak.
        ema_decay: of the averaged weights, which are evaluated.
        events: events to train on and events to test on at most; all if not given.
        output: directory of the run, which goes on where it stopped; a temporary one if not given.
        json: write the result here.
        plot: write the ROC curve here, PNG.
    """

    data: Path
    steps: int = 2000
    seed: int = 0
    hidden: int = 32
    layers: int = 6
    learning_rate: float = 3e-3
    ema_decay: float = 0.995
    events: int | None = None
    output: Path | None = None
    json: Path | None = None
    plot: Path | None = None


def labelled_graph(graph: SegmentGraph) -> LabelledGraph:
    """The inputs of the network for one event; every segment weighs the same."""
    r, phi, z = graph.cylindrical.astype(np.float64).T
    inner, outer = graph.senders, graph.receivers
    turn = delta_phi(phi[outer], phi[inner])
    delta_r, delta_z = r[outer] - r[inner], z[outer] - z[inner]
    chord = np.sqrt(delta_r**2 + 4 * r[inner] * r[outer] * np.sin(turn / 2) ** 2)
    node = {"r / 500 mm": r / 500, "z / 1500 mm": z / 1500, "eta / 2": np.arcsinh(z / r) / 2}
    edge = {
        "1000 mm x curvature through the beam line": 1000 * 2 * np.sin(turn) / chord,
        "polar angle": np.arctan2(delta_r, delta_z),
        "z0 / 100 mm": (z[inner] - r[inner] * delta_z / delta_r) / 100,
        "20 x delta phi": 20 * turn,
        "delta r / 200 mm": delta_r / 200,
        "delta z / 500 mm": delta_z / 500,
    }
    return LabelledGraph(
        nodes=np.stack([node[name] for name in NODE_INPUTS], 1).astype(np.float32),
        edges=np.stack([edge[name] for name in EDGE_INPUTS], 1).astype(np.float32),
        senders=inner,
        receivers=outer,
        node_valid=np.ones(len(r), bool),
        edge_valid=np.ones(len(inner), bool),
        label=graph.label,
        weight=np.ones(len(inner), np.float32),
    )


def load(directory: Path, events: int | None = None) -> list[LabelledGraph]:
    """The graphs of a folder by size, padded to three shapes: one would waste a third of the work."""
    graphs = [labelled_graph(graph) for graph in read_segment_graphs(directory)[:events]]
    graphs.sort(key=lambda graph: len(graph.edges))
    cuts = [round(len(graphs) * part / SHAPES) for part in range(SHAPES + 1)]
    return [padded for low, high in pairwise(cuts) if low < high for padded in pad_alike(graphs[low:high])]


def train(graphs: Sequence[LabelledGraph], config: Benchmark, directory: Path) -> TrainState:
    """Train on randomly mirrored events, one an update."""
    optim = OptimConfig(
        learning_rate=config.learning_rate,
        warmup_steps=min(100, config.steps // 4),
        total_steps=config.steps,
        weight_decay=1e-4,
        ema_decay=config.ema_decay,
    )
    network = NetworkConfig(
        node_features=len(NODE_INPUTS),
        edge_features=len(EDGE_INPUTS),
        hidden=config.hidden,
        layers=config.layers,
    )
    return fit(
        create_state(EdgeClassifier(network, rngs=nnx.Rngs(config.seed)), optim, seed=config.seed),
        make_train_step(loss, optim),
        lambda step: training_batch(graphs, step, 1, config.seed),
        LoopConfig(total_steps=config.steps, directory=directory, checkpoint_every=250, progress=True),
        run_config={name: value for name, value in dataclasses.asdict(config).items() if name in SETTINGS},
    )


SETTINGS = ("steps", "seed", "hidden", "layers", "learning_rate", "ema_decay", "events")
"""What a resumed run must have in common with the run it goes on with."""


@nnx.jit
def _logits(network: EdgeClassifier, graph: LabelledGraph) -> jax.Array:
    return edge_logits(network, graph).logits


def score(network: EdgeClassifier, graphs: Sequence[LabelledGraph]) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits and labels of the segments of all events, and the CPU time of an event: compiled, best of three."""
    for graph in {graph.edges.shape: graph for graph in graphs}.values():
        _logits(network, graph).block_until_ready()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        logits = [np.asarray(_logits(network, graph))[graph.edge_valid] for graph in graphs]
        seconds.append((time.process_time() - start) / len(graphs))
    return np.concatenate(logits), np.concatenate([g.label[g.edge_valid] for g in graphs]), min(seconds)


def break_even(logits: np.ndarray, label: np.ndarray) -> float:
    """The threshold at which efficiency and purity are equal: as many segments pass as are true."""
    return float(np.sort(logits)[-int(label.sum())])


def evaluate(logits: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """AUC, and efficiency and purity of the segments at a score of 0.5 and at break-even."""
    result: dict[str, Any] = {"auc": auc(label, logits), "segments": len(label), "true": int(label.sum())}
    for name, threshold in (("at_half", 0.0), ("break_even", break_even(logits, label))):
        efficiency, purity = efficiency_purity(label, logits, threshold)
        result[name] = {
            "score": float(1 / (1 + np.exp(-threshold))),
            "efficiency": float(efficiency.value),
            "purity": float(purity.value),
            "efficiency_error": float(efficiency.error),
            "purity_error": float(purity.error),
        }
    return result


def run(config: Benchmark) -> dict[str, Any]:
    """Read, train, evaluate.

    The CPU time of the training is that of this process: a resumed run counts its last part only.
    """
    start = time.process_time()
    graphs, held_out = (load(config.data / name, config.events) for name in ("train", "test"))
    prepared = time.process_time()
    keep = nullcontext(config.output) if config.output else tempfile.TemporaryDirectory()
    with keep as directory:
        state = train(graphs, config, Path(directory))
    trained = time.process_time()
    network = merge_model(state, ema=True)
    logits, label, seconds = score(network, held_out)
    if config.plot is not None:
        _draw(config.plot, logits, label)
    return {
        **evaluate(logits, label),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "train_events": len(graphs),
        "test_events": len(held_out),
        "cpu_seconds": {
            "reading and features, an event": (prepared - start) / (len(graphs) + len(held_out)),
            "training with compilation": trained - prepared,
            "network, an event": seconds,
        },
    }


def _draw(path: Path, logits: np.ndarray, label: np.ndarray) -> None:
    curve = roc(label, logits)
    missed = 1 - curve.true_positive
    # Both axes are logarithmic: the ends of the curve, where one of the two is 0, have no place on them.
    inside = (missed > 0) & (curve.false_positive > 0)
    plot_lines(
        path,
        {
            f"TrackML test events, AUC {auc(label, logits):.5f}": (
                curve.false_positive[inside],
                missed[inside],
            )
        },
        xlabel="fraction of the false segments that pass",
        ylabel="fraction of the true segments that are missed",
        log_x=True,
        log_y=True,
    )


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = ["| | AUC | edge efficiency | edge purity |", "| --- | --- | --- | --- |"]
    for name, key in (("score 0.5", "at_half"), ("efficiency = purity", "break_even")):
        at = result[key]
        rows.append(
            f"| this network, {name} | {result['auc']:.5f} | {at['efficiency']:.4f} +- {at['efficiency_error']:.4f} "
            f"| {at['purity']:.4f} +- {at['purity_error']:.4f} |"
        )
    for name, (area, efficiency, purity) in EARLIER.items():
        rows.append(f"| {name} | {'-' if area is None else area} | {efficiency:.3f} | {purity:.3f} |")
    return "\n".join(rows)


def main(config: Benchmark) -> None:
    """Run the benchmark and print its table."""
    result = run(config)
    print(table(result))
    print(f"{result['parameters']:,} parameters, CPU seconds:")
    for name, seconds in result["cpu_seconds"].items():
        print(f"  {name}: {seconds:.3f}")
    if config.json is not None:
        settings = {name: value for name, value in dataclasses.asdict(config).items() if name in SETTINGS}
        config.json.write_text(json.dumps({"settings": settings, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitArgPrefixes[Benchmark]))
