"""The command line: `recon VERB TASK`, a thin layer over one function a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import tyro
from rich.console import Console

from recon import __version__
from recon.cache import keep_compiled_programs
from recon.errors import ReconError

COMMANDS = {
    ("demo", "tracking"): (
        "recon.tracking.commands.demo:demo",
        "collisions to tracks beside ACTS, with pictures, in minutes",
    ),
    ("demo", "hgcal"): (
        "recon.hgcal_clustering.commands.demo:demo",
        "particles to showers in the HGCAL, with pictures, in a minute",
    ),
    ("demo", "nova"): (
        "recon.tagging.commands.demo_neutrino:demo",
        "neutrino events to classes by two served models, with pictures",
    ),
    ("simulate", "tracking"): (
        "recon.tracking.commands.simulate:simulate",
        "make collisions and the hits they leave",
    ),
    ("simulate", "hgcal"): (
        "recon.hgcal_clustering.commands.simulate:simulate",
        "make showers in an HGCAL endcap and the hits they leave",
    ),
    ("reconstruct", "hgcal"): (
        "recon.hgcal_clustering.commands.reconstruct:reconstruct",
        "find the showers in a file of hits, or the clusters of points",
    ),
    ("evaluate", "hgcal"): (
        "recon.hgcal_clustering.commands.evaluate:evaluate",
        "compare found showers with the true particles",
    ),
    ("display", "hgcal"): (
        "recon.hgcal_clustering.commands.display:display",
        "draw the showers of an event as PNG and as a page in 3D",
    ),
    ("export", "hgcal"): (
        "recon.hgcal_clustering.commands.export:export",
        "write CLUE and CLUE3D as artefacts for serving",
    ),
    ("simulate", "jets"): (
        "recon.tagging.commands.simulate:simulate",
        "make AK8 jets with the labels of DeepAK8",
    ),
    ("simulate", "neutrino"): (
        "recon.tagging.commands.simulate_neutrino:simulate",
        "make neutrino events and cosmic rays as pixel maps",
    ),
    ("reconstruct", "jets"): (
        "recon.tagging.commands.reconstruct:reconstruct",
        "tag every jet of a file: probabilities of the classes as branches",
    ),
    ("evaluate", "tagging"): (
        "recon.tagging.commands.evaluate:evaluate",
        "compare taggers: ROC, working points, pT, pile-up, mass, calibration",
    ),
    ("train", "tagging"): (
        "recon.tagging.commands.train:train",
        "train, fine-tune or distil a jet tagger",
    ),
    ("train", "tracking"): ("recon.tracking.commands.train:train", "train a track finder"),
    ("train", "hgcal"): (
        "recon.hgcal_clustering.commands.train:train",
        "tune the clustering of showers, or train its network",
    ),
    ("reconstruct", "nova"): (
        "recon.tagging.commands.reconstruct_neutrino:reconstruct",
        "classify every neutrino event in a file",
    ),
    ("export", "nova"): (
        "recon.tagging.commands.export_neutrino:export",
        "write the classifier of neutrino events as two artefacts",
    ),
    ("display", "jet-images"): (
        "recon.tagging.commands.display_jet_images:display",
        "draw the mean image of jets of every kind",
    ),
    ("train", "jet-images"): (
        "recon.tagging.commands.train_jet_images:train",
        "train a jet tagger on images of jets",
    ),
    ("train", "nova"): (
        "recon.tagging.commands.train_neutrino:train",
        "train a classifier of neutrino events on both of their views",
    ),
    ("evaluate", "tracking"): (
        "recon.tracking.commands.evaluate:evaluate",
        "compare found tracks with the truth and with ACTS",
    ),
    ("evaluate", "nova"): (
        "recon.tagging.commands.evaluate_neutrino:evaluate",
        "compare classifiers of neutrino events: efficiency, purity, energy, gallery",
    ),
    ("reconstruct", "tracking"): (
        "recon.tracking.commands.reconstruct:reconstruct",
        "find the tracks in a file of hits",
    ),
    ("display", "tracking"): (
        "recon.tracking.commands.display:display",
        "draw an event as PNG and as a page in 3D",
    ),
    ("export", "tracking"): (
        "recon.tracking.commands.export:export",
        "write the track finder as artefacts for serving",
    ),
    ("export", "tagging"): (
        "recon.tagging.commands.export:export",
        "write a jet tagger as an artefact for serving, or as ONNX",
    ),
    ("export", "backbone"): (
        "recon.nn.commands:export",
        "write a network for images, featurizer and classifier, as artefacts",
    ),
    ("export", "resnet50"): (
        "recon.nn.commands:export",
        "write ResNet-50, featurizer and classifier, as artefacts",
    ),
    ("bench", "tracking"): (
        "recon.tracking.commands.bench:bench",
        "cost against hits, efficiency against CPU time",
    ),
    ("demo", "jets"): (
        "recon.tagging.commands.demo:demo",
        "collisions to tagged jets, with a picture, in a minute",
    ),
    ("display", "jets"): (
        "recon.tagging.commands.display:display",
        "draw a jet, its particles and its scores, as PNG and as a page",
    ),
}
"""Where each command lives; nothing is imported before it is called."""

USER_ERROR = 2


PLUGINS = "recon.commands"
"""Group of entry points: commands that other packages bring, called with the rest of the line.

A dot stands for the space in a command of two words.
"""


def _plugins() -> dict[str, Any]:
    return {found.name: found for found in entry_points(group=PLUGINS)}


def _usage() -> str:
    lines = [f"recon {__version__}: recon VERB TASK [options], recon VERB TASK --help for the options", ""]
    lines += [f"  recon {verb:<12}{task:<10} {text}" for (verb, task), (_, text) in COMMANDS.items()]
    for name, found in sorted(_plugins().items()):
        verb, _, task = name.partition(".")
        lines.append(f"  recon {verb:<12}{task:<10} from {found.value}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 2 after an error of the user's, which is printed without a traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        print(__version__)
        return 0
    command = (words[0] if words else "", words[1] if len(words) > 1 else "")
    if command not in COMMANDS:
        plugins = _plugins()
        for length in (2, 1):
            if plugin := plugins.get(".".join(words[:length])):
                return int(plugin.load()(words[length:]))
        print(_usage())
        if not words or not {"-h", "--help"}.isdisjoint(command):
            return 0
        return _fail(f"there is no command {' '.join(command).strip()!r}")
    return _run(command, words[2:])


def _run(command: tuple[str, str], options: list[str]) -> int:
    """Call the function of a command."""
    keep_compiled_programs()
    module, name = COMMANDS[command][0].split(":")
    try:
        tyro.cli(getattr(import_module(module), name), prog=f"recon {' '.join(command)}", args=options)
    except ReconError as error:
        return _fail(str(error))
    except OSError as error:
        # A file that is not there, a folder in its place, a disk that is full.
        return _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    return 0


def _fail(message: str) -> int:
    """Say what the user did wrong, on one line however narrow the screen is."""
    errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    errors.print(f"error: {' '.join(message.split())}", style="bold red")
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
