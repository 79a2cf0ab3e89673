"""Training of the edge classifier, from event files to a model directory, top to bottom.

files -> layer-pair map -> labelled graphs -> network -> model with its card
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.root import read_events
from recon.metrics import auc, efficiency_purity
from recon.tracking.capacity import TrackingCapacity
from recon.tracking.config import TrackingConfig
from recon.tracking.data import LabelledGraph, event_graph, label_graph, mirror, pad_alike, stack
from recon.tracking.detector import load_detector
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.model import EdgeClassifier, EdgeOutput, NetworkConfig
from recon.tracking.scoring import network_weights
from recon.tracking.shipped import TrackingModel, save_tracking_model
from recon.tracking.windows import LayerPairs, WindowConfig, learn_windows
from recon.train.loop import LoopConfig, fit
from recon.train.optim import OptimConfig
from recon.train.state import TrainState, create_state, data_mesh, make_train_step, merge_model
from recon.types import Event

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What to train on, what, and for how long.

    Attributes:
        train: event files; events of one file should be alike, since they are padded to one size.
        validation: event files that are never trained on.
        output: directory of the run; the model goes to `output/model`.
        steps: updates.
        seed: of weights and of the order of events.
        hidden: features of a node and of an edge inside the network.
        layers: message-passing steps.
        learning_rate: its peak.
        warmup_steps: linear rise to the peak.
        ema_decay: of the averaged weights, which become the model.
        pt_min: momentum threshold of the windows, GeV; a tenth below the softest track that is wanted.
        quantile: fraction of true segments that each window keeps.
        pixel_only: find tracks in the pixel layers only.
        low_pt: true segments of softer particles count less in the loss, GeV.
        low_pt_weight: how much.
        window_events: events that the windows are learned from, taken from the end of the last file.
        eval_every: updates between validations.
        checkpoint_every: updates between checkpoints.
        max_seconds: wall time after which to stop with a checkpoint; the same command goes on from there.
        progress: draw a progress bar.
        tensorboard: write TensorBoard events.
    """

    train: tuple[Path, ...]
    output: Path
    validation: tuple[Path, ...] = ()
    steps: int = 2000
    seed: int = 0
    hidden: int = 32
    layers: int = 4
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    ema_decay: float = 0.995
    pt_min: float = 0.9
    quantile: float = 0.999
    pixel_only: bool = False
    low_pt: float = 0.7
    low_pt_weight: float = 0.3
    window_events: int = 10
    eval_every: int = 500
    checkpoint_every: int = 250
    max_seconds: float | None = None
    progress: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("no file to train on was given; make one with `recon simulate tracking`")
        if set(self.train) & set(self.validation):
            raise ConfigError(
                "a file is given for training and for validation: the numbers would mean nothing"
            )
        if self.steps <= self.warmup_steps:
            raise ConfigError(f"steps = {self.steps} must be more than warmup_steps = {self.warmup_steps}")

    @property
    def tracking(self) -> TrackingConfig:
        """Settings of the chain that the model is for."""
        return TrackingConfig(
            windows=WindowConfig(pt_min=self.pt_min, quantile=self.quantile, pixel_only=self.pixel_only),
            network=NetworkConfig(
                node_features=len(NODE_FEATURES),
                edge_features=len(EDGE_FEATURES),
                hidden=self.hidden,
                layers=self.layers,
            ),
        )


def train(config: TrainingConfig, say: Say = lambda _: None) -> TrackingModel:
    """Train a track finder; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.

    Returns:
        The model, which is also written to `config.output / "model"`.
    """
    tracking = config.tracking
    detector = load_detector(tracking.detector)
    samples = [list(read_events(path)) for path in config.train]
    say(f"learning windows from {config.window_events} events of {config.train[-1]}")
    pairs = learn_windows(samples[-1][-config.window_events :], detector, tracking.windows)
    say(f"building {sum(map(len, samples))} training graphs")
    known: dict[int, TrackingCapacity] = {}
    graphs = [graph for sample in samples for graph in _labelled(sample, pairs, config, known)]
    held_out = [
        g for path in config.validation for g in _labelled(list(read_events(path)), pairs, config, known)
    ]
    say(
        f"training on {len(graphs)} graphs, {int(np.mean([g.edge_valid.sum() for g in graphs]))} edges on average"
    )
    state = _run(config, tracking.network, graphs, held_out)
    network = merge_model(state, ema=True)
    model = TrackingModel(
        config=tracking,
        pairs=pairs,
        weights=network_weights(network),
        card=_card(config, state, graphs, _validate(network, held_out)),
    )
    save_tracking_model(config.output / "model", model)
    return model


def _labelled(
    events: Sequence[Event], pairs: LayerPairs, config: TrainingConfig, known: dict[int, TrackingCapacity]
) -> list[LabelledGraph]:
    detector = load_detector(config.tracking.detector)
    if not events:
        raise DataError("a file without events was given for training or validation")
    return pad_alike(
        [
            label_graph(
                event,
                event_graph(event, detector, pairs, known),
                low_pt=config.low_pt,
                low_pt_weight=config.low_pt_weight,
            )
            for event in events
        ]
    )


def edge_logits(network: EdgeClassifier, graph: LabelledGraph) -> EdgeOutput:
    """Run the network on a labelled graph without batch axis."""
    return network(*graph[:6])


def loss(
    network: EdgeClassifier, batch: LabelledGraph, rng: jax.Array
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Weighted binary cross-entropy of the edges of a batch."""
    del rng  # the network has no dropout

    def total(graph: LabelledGraph) -> tuple[jax.Array, jax.Array]:
        logits = edge_logits(network, graph).logits
        each = optax.sigmoid_binary_cross_entropy(logits, graph.label.astype(logits.dtype))
        return (each * graph.weight).sum(), graph.weight.sum()

    if batch.weight.shape[0] == 1:
        # A batch axis turns sorted segment sums into general scatters: without need it is left out.
        value, weight = total(jax.tree.map(lambda leaf: leaf[0], batch))
    else:
        value, weight = (part.sum() for part in jax.vmap(total)(batch))
    # An event can be without edges: it has no loss, and 0 / 0 would end the training.
    return value / jnp.maximum(weight, 1e-12), {}


def _run(
    config: TrainingConfig,
    network: NetworkConfig,
    graphs: Sequence[LabelledGraph],
    held_out: Sequence[LabelledGraph],
) -> TrainState:
    optim = OptimConfig(
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        total_steps=config.steps,
        weight_decay=1e-4,
        ema_decay=config.ema_decay,
    )
    mesh = data_mesh()
    state = create_state(EdgeClassifier(network, rngs=nnx.Rngs(config.seed)), optim, seed=config.seed)
    batch_size = mesh.size if mesh else 1
    loop = LoopConfig(
        total_steps=config.steps,
        directory=config.output,
        eval_every=config.eval_every if held_out else 0,
        checkpoint_every=config.checkpoint_every,
        max_seconds=config.max_seconds,
        progress=config.progress,
        tensorboard=config.tensorboard,
        best_metric="auc" if held_out else None,
    )
    return fit(
        state,
        make_train_step(loss, optim, mesh=mesh),
        lambda step: training_batch(graphs, step, batch_size, config.seed),
        loop,
        evaluate=(lambda now: _validate(merge_model(now, ema=True), held_out)) if held_out else None,
        run_config=run_settings(config),
    )


def run_settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide the result, as JSON values."""
    tree = dataclasses.asdict(config)
    for name in ("output", "max_seconds", "progress", "tensorboard"):
        del tree[name]
    tree["train"] = [path.name for path in config.train]
    tree["validation"] = [path.name for path in config.validation]
    return tree


def training_batch(graphs: Sequence[LabelledGraph], step: int, size: int, seed: int) -> LabelledGraph:
    """Batch of an update: every epoch a new order, every graph in a random mirror.

    A function of its arguments alone, so that a resumed run sees what an uninterrupted one would have.
    """
    chosen = []
    for place in range(step * size, (step + 1) * size):
        epoch, index = divmod(place, len(graphs))
        order = np.random.default_rng((seed, epoch)).permutation(len(graphs))
        charge, forward = np.random.default_rng((seed, epoch, index)).integers(0, 2, 2).astype(bool)
        chosen.append(mirror(graphs[order[index]], charge=bool(charge), forward=bool(forward)))
    # Graphs of one device batch must be of one shape: smaller ones are padded up.
    return stack(pad_alike(chosen) if size > 1 else chosen)


@nnx.jit
def _logits(network: EdgeClassifier, graph: LabelledGraph) -> jax.Array:
    return edge_logits(network, graph).logits


def _validate(network: EdgeClassifier, held_out: Sequence[LabelledGraph]) -> dict[str, float]:
    """Edge metrics over all held-out graphs."""
    if not held_out:
        return {}
    scores = np.concatenate(
        [np.asarray(_logits(network, jax.tree.map(jnp.asarray, g)))[g.edge_valid] for g in held_out]
    )
    label = np.concatenate([graph.label[graph.edge_valid] for graph in held_out])
    efficiency, purity = efficiency_purity(label, scores, 0.0)
    return {
        "auc": float(auc(label, scores)),
        "edge_efficiency": float(efficiency.value),
        "edge_purity": float(purity.value),
    }


def _card(
    config: TrainingConfig, state: TrainState, graphs: Sequence[LabelledGraph], metrics: Mapping[str, float]
) -> str:
    """The model card: data, seeds, settings, numbers."""
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    settings = "\n".join(f"| {name} | {value} |" for name, value in sorted(run_settings(config).items()))
    numbers = (
        "\n".join(f"| {name} | {value:.5f} |" for name, value in metrics.items())
        or "| - | no validation file |"
    )
    return f"""# Edge classifier for track finding

Interaction network, {n_parameters:,} parameters, {int(state.step)} updates of one event each on {len(graphs)} events.

## Settings

| setting | value |
| --- | --- |
{settings}

## Validation, edges of the candidate graph at a score of 0.5

| metric | value |
| --- | --- |
{numbers}
"""
