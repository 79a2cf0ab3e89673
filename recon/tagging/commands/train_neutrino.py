"""`recon train nova`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console, write_json
from recon.display.curves import plot_lines
from recon.tagging.neutrino_training import NeutrinoTraining
from recon.tagging.neutrino_training import train as train_model
from recon.train.classification import Fitted
from recon.train.log import read_metrics


def train(config: OmitArgPrefixes[NeutrinoTraining], *, json: Json = None) -> None:
    """Train a network on both views of neutrino events; the same command goes on where it stopped."""
    model, fitted = train_model(config, console.print)
    tell(config.output, model.card, fitted, json)


def tell(output: Path, card: str, fitted: Fitted, json: Path | None) -> None:
    """Draw the loss, print the card, write the JSON."""
    draw_curves(output)
    console.print(card)
    console.print(f"model in {output / 'model'}, loss in {output / 'loss.png'}")
    if not fitted.finished:
        console.print("the time ran out: the same command goes on from here")
    summary = {"finished": fitted.finished, "steps": fitted.steps, "history": fitted.history, "card": card}
    write_json(json, {"model": str(output / "model"), **summary})


def draw_curves(directory: Path) -> None:
    """Draw the loss of a run against the update, as it was trained and as it was evaluated."""
    metrics = {
        name: read_metrics(directory / f"{name}.csv")
        for name in ("metrics", "evaluation")
        if (directory / f"{name}.csv").is_file()
    }
    names = {"metrics": "training", "evaluation": "held-out events"}
    plot_lines(
        directory / "loss.png",
        {
            names[name]: (np.asarray(table["step"]), np.asarray(table["loss"]))
            for name, table in metrics.items()
        },
        xlabel="update",
        ylabel="loss",
    )
