"""`recon train tagging`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console, progress_bars, write_json
from recon.display.curves import plot_lines
from recon.report import console_table
from recon.tagging.training import train as train_model
from recon.tagging.training_config import TrainingConfig
from recon.tagging.training_report import quality_json, table_rows
from recon.train.log import read_metrics


def train(config: OmitArgPrefixes[TrainingConfig], *, json: Json = None) -> None:
    """Train, fine-tune or distil a jet tagger; the same command goes on after an interruption."""
    with progress_bars() as report:
        trained = train_model(config, console.print, report)
    draw_curves(config.output)
    found = [trained.quality] if trained.before is None else [trained.quality, trained.before]
    names = ["this model", "what it began from"][: len(found)]
    where = ", ".join(path.name for path in config.test) or "the jets held out"
    console.print(console_table(names, table_rows(found), where))
    if not trained.fitted.finished:
        console.print(f"stopped after {trained.fitted.steps} updates; the same command goes on")
    console.print(f"model in {config.output / 'model'}, curves in {config.output / 'loss.png'}")
    write_json(
        json,
        {
            "model": str(config.output / "model"),
            "updates": trained.fitted.steps,
            "best": trained.fitted.step,
            "sample": where,
            "quality": quality_json(trained.quality),
            "before": None if trained.before is None else quality_json(trained.before),
            "card": trained.model.card,
        },
    )


def draw_curves(directory: Path) -> None:
    """Draw the loss of a run against the update."""
    kinds = {"training": "metrics.csv", "held out": "evaluation.csv"}
    curves = {}
    for name, file in kinds.items():
        path = directory / file
        if path.is_file() and path.stat().st_size:
            metrics = read_metrics(path)
            curves[name] = (np.asarray(metrics["step"]), np.asarray(metrics["loss"]))
    plot_lines(directory / "loss.png", curves, xlabel="update", ylabel="loss")
