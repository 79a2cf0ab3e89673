"""The compiled loop over events: vertex, transport, readout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim.compiled import compiled
from recon.sim.neutrino_cosmics import Cosmics, cosmic_ray
from recon.sim.neutrino_interactions import Neutrinos, neutrino_event
from recon.sim.neutrino_light import Light, darken
from recon.sim.neutrino_matter import Matter
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_readout import (
    Readout,
    digitise,
    find_window,
    slice_hits,
    write_hits,
)
from recon.sim.neutrino_stack import Stack
from recon.sim.neutrino_transport import follow

TRUTH = (
    "neutrino_energy", "lepton_px", "lepton_py", "lepton_pz", "vertex_x", "vertex_y", "vertex_z", "mode",
    "visible_energy", "first_plane", "median_x", "median_y",
)  # fmt: skip
"""Columns of the truth and of the window, GeV and mm; for cosmic rays those of the particle that enters."""
COUNTS = ("event", "hits", "outside")
"""Columns of the counts: number of the event within its class, hits within and outside of the window."""


class Memory(NamedTuple):
    """What the loop works in.

    Attributes:
        stack: particles that wait.
        light: of the cells.
        readout: hits.
    """

    stack: Stack
    light: Light
    readout: Readout


@compiled
def simulate_events(
    memory: Memory,
    matter: Matter,
    neutrinos: Neutrinos,
    cosmics: Cosmics,
    seed: int,
    label: int,
    cosmic: bool,
    events: tuple[int, int],
    least_hits: int,
    truth: Float64[np.ndarray, "e t"],
    counts: Int64[np.ndarray, "e c"],
    hits: Float64[np.ndarray, "h k"],
) -> tuple[int, int]:
    """Simulate events of one class.

    Args:
        memory: to work in.
        matter: tables of the detector.
        neutrinos: tables of the class; any for cosmic rays.
        cosmics: tables of cosmic rays.
        seed: of the sample.
        label: of the class, part of every event's seed.
        cosmic: make cosmic rays.
        events: first event and one past the last.
        least_hits: slices with fewer are dropped.
        truth: receives a row of `TRUTH` an event that is kept.
        counts: receives a row of `COUNTS` an event that is kept.
        hits: receives view, plane, cell, energy of the hits of all events.

    Returns:
        Number of events that are kept; number of hits, more than `hits` has rows if they did not fit.
    """
    stack, light, readout = memory.stack, memory.light, memory.readout
    kept, filled = 0, 0
    for number in range(events[0], events[1]):
        seed_stream(stack.random, seed, label, number)
        stack.size[0] = 0
        darken(light)
        row = truth[kept]
        if cosmic:
            cosmic_ray(stack, cosmics, row)
        elif not neutrino_event(stack, neutrinos, row):
            continue
        follow(stack, matter, light)
        n = digitise(stack.random, light, readout)
        if slice_hits(readout, n) < least_hits:
            continue
        window = find_window(readout, n)
        inside, outside = write_hits(light, readout, n, window, hits, filled)
        row[8] = light.energy[0]
        row[9], row[10], row[11] = window.first, window.median_x, window.median_y
        counts[kept, 0], counts[kept, 1], counts[kept, 2] = number, inside, outside
        kept += 1
        filled += inside
    return kept, filled
