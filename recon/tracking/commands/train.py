"""`recon train tracking`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tyro.conf import OmitArgPrefixes

from recon.display.curves import plot_lines
from recon.tracking.commands.options import Json, console, write_json
from recon.tracking.training import TrainingConfig
from recon.tracking.training import train as train_model
from recon.train.log import read_metrics


def train(config: OmitArgPrefixes[TrainingConfig], *, json: Json = None) -> None:
    """Train a track finder on simulated events; the same command goes on after an interruption."""
    model = train_model(config, console.print)
    draw_curves(config.output)
    console.print(model.card, markup=False)
    console.print(f"model in {config.output / 'model'}, loss curve in {config.output / 'loss.png'}")
    write_json(
        json, {"model": str(config.output / "model"), "card": model.card, "config": model.config.to_json()}
    )


def draw_curves(directory: Path) -> None:
    """Draw the loss of a run against the update."""
    metrics = read_metrics(directory / "metrics.csv")
    steps = np.asarray(metrics["step"])
    plot_lines(
        directory / "loss.png",
        {"training": (steps, np.asarray(metrics["loss"]))},
        xlabel="update",
        ylabel="loss per edge",
        log_y=True,
    )
