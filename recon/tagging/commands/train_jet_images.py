"""`recon train jet-images`."""

from __future__ import annotations

from tyro.conf import OmitArgPrefixes

from recon.commands import Json, console
from recon.tagging.commands.train_neutrino import tell
from recon.tagging.jet_image_training import JetImageTraining
from recon.tagging.jet_image_training import train as train_model


def train(config: OmitArgPrefixes[JetImageTraining], *, json: Json = None) -> None:
    """Train a network on images of jets; the same command goes on where it stopped."""
    model, fitted = train_model(config, console.print)
    tell(config.output, model.card, fitted, json)
