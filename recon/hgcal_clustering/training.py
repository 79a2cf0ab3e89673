"""Training for `recon train hgcal`: parameters by gradient, or the network of the hybrid clustering, top to bottom.

files -> layer clusters with shares -> windows or graphs -> fit -> calibration -> model with its card
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.condensation import LabelledGraph, condensation_loss, label_graph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.hybrid import HybridConfig
from recon.hgcal_clustering.layer_clusters import LayerClusterConfig
from recon.hgcal_clustering.model import CondensationConfig, CondensationNetwork
from recon.hgcal_clustering.pipeline import load_cells
from recon.hgcal_clustering.shipped import HgcalModel, save_model
from recon.hgcal_clustering.shower_graph import pad_graph, shower_graph
from recon.hgcal_clustering.starting import begin_with
from recon.hgcal_clustering.training_data import TrainingEvent, calibrate, read_training_events, sides
from recon.hgcal_clustering.tuning import TunedClue, TunedClue3d, TunedParameters, tuning_loss
from recon.hgcal_clustering.tuning_windows import tuning_windows
from recon.io.weights import model_arrays
from recon.train.loop import LoopConfig, fit
from recon.train.optim import OptimConfig
from recon.train.state import LossFn, TrainState, create_state, make_train_step, merge_model

Say = Callable[[str], None]
ModelKind = Literal["tuned", "clue3d", "hybrid"]
_TUNED: Mapping[str, type[TunedParameters]] = {"tuned": TunedClue, "clue3d": TunedClue3d}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What to train, on what, and for how long.

    Attributes:
        train: files of simulated events with truth.
        output: directory of the run; the model goes to `output/model`.
        calibrate: files of events that the calibration is fitted to; those of `train` if none is given, which a network
            knows better than others.
        initial: `hybrid` only; a model whose network to begin with, shipped or a directory of yours; see `starting`.
        model: `tuned` or `clue3d`, parameters of CLUE on layer clusters or of CLUE3D by gradient, or `hybrid`, the
            network.
        steps: updates, each with one window (tuned) or one endcap (hybrid).
        schedule: updates that the fall of the learning rate is spread over, `steps` or more; `steps` if not given.
        seed: of weights and of the order of events.
        learning_rate: its peak.
        hidden: features inside the network.
        rounds: of the network.
        timing: `hybrid` only; let the network see when the layer clusters were made; the files must say.
        member_share: see `HybridConfig`.
        least_probability: see `HybridConfig`.
        energy_min: particles that windows and the calibration look at, GeV.
        window: layer clusters of a window.
        slots: neighbours of a layer cluster in a window.
        min_size: least number of hits of a layer cluster that CLUE3D looks at.
        checkpoint_every: updates between checkpoints.
        max_seconds: wall time after which to stop with a checkpoint; the same command goes on from there.
        progress: draw a progress bar.
    """

    train: tuple[Path, ...]
    output: Path
    calibrate: tuple[Path, ...] = ()
    initial: str | None = None
    model: ModelKind = "tuned"
    steps: int = 600
    schedule: int | None = None
    seed: int = 0
    learning_rate: float = 4e-3
    hidden: int = 40
    rounds: int = 3
    timing: bool = False
    member_share: float = 0.8
    least_probability: float = 0.1
    energy_min: float = 15.0
    window: int = 1024
    slots: int = 192
    min_size: int = 2
    checkpoint_every: int = 100
    max_seconds: float | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("no file to train on was given; make one with `recon simulate hgcal`")
        for name in ("steps", "window", "slots", "min_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"TrainingConfig.{name} = {getattr(self, name)}; allowed is 1 or more")
        if self.schedule is not None and self.schedule < self.steps:
            raise ConfigError(
                f"TrainingConfig.schedule = {self.schedule}; allowed is steps = {self.steps} or more"
            )
        if self.model != "hybrid" and (self.initial is not None or self.timing):
            raise ConfigError(
                f"TrainingConfig.model = {self.model!r} has no network that could begin as another one or see times: "
                f"initial = {self.initial!r} and timing = {self.timing} are for 'hybrid'"
            )


def train(config: TrainingConfig, say: Say = lambda _: None, *, cells: CellGraph | None = None) -> HgcalModel:
    """Train; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.
        cells: of the calorimeter of the files; those of the final detector if not given.

    Returns:
        The model, which is also written to `config.output / "model"`.

    Raises:
        DataError: files without events or without truth.
    """
    base = HgcalConfig(layer_clusters=LayerClusterConfig(min_size=config.min_size))
    if config.model == "hybrid":
        base = replace(base, method="hybrid", hybrid=_hybrid(config))
    cells = load_cells(base) if cells is None else cells
    say(f"clustering the layers of the events in {len(config.train)} files")
    events = list(read_training_events(config.train, base, cells))
    say(f"{len(events)} events")
    make = _train_tuned if config.model in _TUNED else _train_hybrid
    model = make(config, base, events, say)
    # The hybrid chain reads its network from the directory.
    save_model(config.output / "model", model)
    if config.calibrate:
        events = list(read_training_events(config.calibrate, base, cells))
        say(f"calibration on {len(events)} events")
    calibration = calibrate(events, model.config, energy_min=config.energy_min)
    model = replace(model, config=replace(model.config, calibration=calibration))
    save_model(config.output / "model", model)
    return model


def _train_tuned(
    config: TrainingConfig, base: HgcalConfig, events: Sequence[TrainingEvent], say: Say
) -> HgcalModel:
    start = _TUNED[config.model](base)
    room: dict[str, Any] = {"energy_min": config.energy_min, "size": config.window, "slots": config.slots}
    windows = [
        window
        for event in events
        for window in tuning_windows(event, start.choose, layer_step=start.layer_step, **room)
    ]
    if not windows:
        raise DataError(f"no particle of {config.energy_min} GeV or more left anything in the events")
    say(f"tuning on {len(windows)} windows")
    state = _fit(config, start, tuning_loss, lambda step: item_of_step(windows, config.seed, step), 0.99)
    chain = merge_model(state, ema=True).tuned(base)
    return HgcalModel(chain, _card(config, state, chain, f"{len(windows)} windows of {len(events)} events"))


def _train_hybrid(
    config: TrainingConfig, base: HgcalConfig, events: Sequence[TrainingEvent], say: Say
) -> HgcalModel:
    hybrid = base.hybrid
    graphs = [graph for event in events for graph in labelled_graphs(event, hybrid)]
    if not graphs:
        raise DataError("there are no layer clusters in the events")
    say(f"training on {len(graphs)} endcaps")
    network = CondensationNetwork(hybrid.network, rngs=nnx.Rngs(config.seed))
    set_scales(network, graphs)
    if config.initial is not None:
        network = begin_with(network, config.initial)
    state = _fit(
        config, network, condensation_loss, lambda step: item_of_step(graphs, config.seed, step), 0.98
    )
    weights = model_arrays(merge_model(state, ema=True))
    return HgcalModel(base, _card(config, state, base, f"{len(graphs)} endcaps"), weights)


def _hybrid(config: TrainingConfig) -> HybridConfig:
    return HybridConfig(
        weights=str(config.output / "model"),
        network=CondensationConfig(hidden=config.hidden, rounds=config.rounds, timing=config.timing),
        member_share=config.member_share,
        least_probability=config.least_probability,
    )


def labelled_graphs(event: TrainingEvent, config: HybridConfig) -> list[LabelledGraph]:
    """Graphs of both endcaps with targets, padded to sizes of the ladder."""
    made = []
    for clusters in sides(event.clusters):
        graph, density = shower_graph(clusters, config.graph, event.times)
        if len(graph.seed) == 0:
            continue
        labelled = label_graph(graph, density, event.shares, event.energy)
        padded = pad_graph(graph)
        spare = len(padded.row) - len(graph.row)
        made.append(
            LabelledGraph(
                padded,
                np.pad(labelled.target, ((0, spare), (0, 0))),
                np.pad(labelled.weight, (0, spare)),
                np.pad(labelled.deposit, (0, len(padded.seed) - len(graph.seed))),
            )
        )
    return made


def set_scales(network: CondensationNetwork, graphs: Sequence[LabelledGraph]) -> None:
    """Let the network see features of mean 0 and width 1."""
    rows = []
    for graph, *_ in graphs[:: max(len(graphs) // 8, 1)]:
        nodes = np.broadcast_to(graph.nodes[:, None], (*graph.candidate.shape, graph.nodes.shape[1]))
        rows.append(np.concatenate([graph.edges, nodes], -1)[graph.candidate >= 0])
    features = np.concatenate(rows)
    network.mean[...] = jax.numpy.asarray(features.mean(0), jax.numpy.float32)
    network.width[...] = jax.numpy.asarray(features.std(0) + 1e-3, jax.numpy.float32)


def item_of_step(items: Sequence[Any], seed: int, step: int) -> Any:
    """What an update learns from: every epoch a new order, a function of its arguments alone."""
    epoch, index = divmod(step, len(items))
    return items[int(np.random.default_rng((seed, epoch)).permutation(len(items))[index])]


def _fit(
    config: TrainingConfig, module: nnx.Module, loss: LossFn, batches: Callable[[int], Any], ema: float
) -> TrainState:
    optim = OptimConfig(
        learning_rate=config.learning_rate,
        warmup_steps=min(20, config.steps - 1),
        total_steps=config.schedule or config.steps,
        ema_decay=ema,
    )
    loop = LoopConfig(
        total_steps=config.steps,
        directory=config.output,
        checkpoint_every=config.checkpoint_every,
        max_seconds=config.max_seconds,
        progress=config.progress,
    )
    return fit(
        create_state(module, optim, seed=config.seed),
        make_train_step(loss, optim),
        batches,
        loop,
        run_config=run_settings(config),
    )


def run_settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide the result, as JSON values."""
    tree = dataclasses.asdict(config)
    for name in ("output", "max_seconds", "progress"):
        del tree[name]
    for name in ("train", "calibrate"):
        tree[name] = [path.name for path in tree[name]]
    return tree


def _card(config: TrainingConfig, state: TrainState, chain: HgcalConfig, data: str) -> str:
    """The model card: data, seeds, settings."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in sorted(run_settings(config).items()))
    n = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    what = {
        "tuned": f"CLUE on layer clusters, {n} parameters tuned by gradient: {_listed(chain.clusters)}",
        "clue3d": f"CLUE3D, {n} parameters tuned by gradient: {_listed(chain.clue3d)}",
        "hybrid": f"Seeds by CLUE and a condensation network of {n:,} parameters",
    }[config.model]
    return f"""# Showers in a high-granularity calorimeter: {config.model}

{what}. {int(state.step)} updates on {data}.

## Settings

| setting | value |
| --- | --- |
{settings}
"""


def _listed(settings: Any) -> str:
    return ", ".join(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items())
