"""`recon train hgcal`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console, write_json
from recon.display.curves import plot_lines
from recon.hgcal_clustering.training import TrainingConfig
from recon.hgcal_clustering.training import train as train_model
from recon.train.log import read_metrics


def train(config: OmitArgPrefixes[TrainingConfig], *, json: Json = None) -> None:
    """Tune the clustering, or train its network, on simulated events; the same command goes on where it stopped."""
    model = train_model(config, console.print)
    draw_curve(config.output)
    settings = config.output / "settings.json"
    write_json(settings, model.config.to_json())
    console.print(model.card)
    console.print(
        f"model in {config.output / 'model'}, settings in {settings}, loss in {config.output / 'loss.png'}"
    )
    write_json(
        json, {"model": str(config.output / "model"), "card": model.card, "config": model.config.to_json()}
    )


def draw_curve(directory: Path) -> None:
    """Draw the loss of a run against the update."""
    metrics = read_metrics(directory / "metrics.csv")
    plot_lines(
        directory / "loss.png",
        {"training": (np.asarray(metrics["step"]), np.asarray(metrics["loss"]))},
        xlabel="update",
        ylabel="loss",
    )
