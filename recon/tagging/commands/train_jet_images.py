"""`recon train jet-images`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console, progress_bars
from recon.errors import DataError
from recon.tagging.commands.evaluate import tables, tell_report
from recon.tagging.commands.train_neutrino import tell
from recon.tagging.evaluation import Question, evaluate_taggers
from recon.tagging.jet_image_samples import rows_of_tables
from recon.tagging.jet_image_training import JetImageTraining
from recon.tagging.jet_image_training import train as train_model
from recon.tagging.shipped import load_model

QUESTIONS = {
    "top": Question(("T",), ("QCD",)),
    "heavy": Question(("T", "Tbc", "Tbq", "W", "Z", "H"), ("QCD",)),
}
"""What the reports at the end ask: the confusion matrix of the second one has all classes."""


def train(config: OmitArgPrefixes[JetImageTraining], *, json: Json = None) -> None:
    """Train a network on images of jets; the same command goes on where it stopped."""
    with progress_bars() as report:
        trained = train_model(config, console.print, report)
    tell(config.output, trained.model.card, trained.fitted, json)
    judge(config, trained.held)


def judge(config: JetImageTraining, held: Int[np.ndarray, " h"]) -> None:
    """Compare the network with the truth of the jets that were held out, as `recon evaluate tagging` does.

    Args:
        config: of the run, whose model is judged.
        held: rows of the jets, counted through all files.
    """
    tagger = load_model(config.output / "model")
    kept = list(rows_of_tables(tables(config.train), held))
    for name, question in QUESTIONS.items():
        try:
            results = evaluate_taggers(kept, [tagger], question)
        except DataError as error:
            console.print(f"no report on {question}: {error}")
            continue
        tell_report(config.output / f"report-{name}", results, question)
