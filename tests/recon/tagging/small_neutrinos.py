"""A small network for neutrino events, and events in which it can find something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flax import nnx

from recon.nn.patch_network import PatchNetwork
from recon.tagging.cvn import TWO_VIEWS, NeutrinoModel
from recon.tagging.labels import NEUTRINO_LABELS
from tests.recon.io.neutrino_events import make_events

SHAPE = replace(TWO_VIEWS, channels=(4, 5, 6), blocks=(1, 0, 0), stem=7, attention=1, hidden=8)


def small_model(seed=0):
    network = PatchNetwork(SHAPE, rngs=nnx.Rngs(seed))
    network.eval()
    return NeutrinoModel("small", network, NEUTRINO_LABELS, "Random weights, for tests.")


def labelled_events(n=60, seed=0):
    """The cell of the hits tells the class; the first event has empty views."""
    events = make_events(n, seed, hits=14)
    label = (np.arange(n) % 5).astype(np.int32)
    row = np.repeat(np.arange(n), np.diff(events.offsets))
    # Sixteen cells to a class, each hit of an event in a plane of its own.
    rank = np.arange(len(row)) - events.offsets[:-1][row]
    return events._replace(
        label=label,
        cell=(16 * label[row] + events.cell % 8).astype(np.int32),
        plane=(6 * rank + events.plane % 4).astype(np.int32),
    )
