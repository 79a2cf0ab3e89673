"""`recon train nova`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console, progress_bars, write_json
from recon.tagging.commands.evaluate_neutrino import write_report
from recon.tagging.commands.train import draw_curves
from recon.tagging.neutrino_training import NeutrinoTraining
from recon.tagging.neutrino_training import train as train_model
from recon.train.classification import Fitted


def train(config: OmitArgPrefixes[NeutrinoTraining], *, json: Json = None) -> None:
    """Train a network on both views of neutrino events; the same command goes on where it stopped."""
    with progress_bars() as report:
        trained = train_model(config, console.print, report)
    tell(config.output, trained.model.card, trained.fitted, json)
    count = len(trained.held.label)
    if count:
        title = f"{count:,} events that were held out"
        names = {"this network": trained.model}
        write_report(config.output / "report", lambda: [trained.held], names, title, total=count)


def tell(output: Path, card: str, fitted: Fitted, json: Path | None) -> None:
    """Draw the loss, print the card, write the JSON."""
    draw_curves(output)
    console.print(card)
    console.print(f"model in {output / 'model'}, loss in {output / 'loss.png'}")
    if not fitted.finished:
        console.print("the time ran out: the same command goes on from here")
    summary = {"finished": fitted.finished, "steps": fitted.steps, "history": fitted.history, "card": card}
    write_json(json, {"model": str(output / "model"), **summary})
