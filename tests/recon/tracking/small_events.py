"""Simulated events that fit into the smallest program: compiling costs more than everything else in these tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.tracking.checks import LEAST_HITS
from recon.types import Hits, HitTruth

# What `recon simulate tracking` calls these settings; hard scatters only, their central and harder part.
SETTINGS = {"pileup": 0, "minbias_pool": 1, "pt_min": 0.7, "eta_max": 0.6}


def simulate(cache, *, events=12, seed=1):
    """Events of at most `LEAST_HITS` hits; skips without the `sim` extra.

    Args:
        cache: directory of the collisions: tests must not depend on what the user's holds.
        events: number before the large ones are left out.
        seed: of the events.
    """
    pytest.importorskip("acts")
    pytest.importorskip("pythia8mc")
    from recon.sim.tracker import TrackerSimulation, simulate_events  # noqa: PLC0415  optional

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(cache))
        sample = list(simulate_events(TrackerSimulation(events=events, seed=seed, **SETTINGS)))
    return [event for event in sample if len(event.hits.layer) <= LEAST_HITS]


def rows_of(event, rows):
    """The event with some of its hits, with all in another order, or with some more than once."""
    particles = event.particles
    return event._replace(
        hits=Hits(*(column[rows] for column in event.hits)),
        particles=particles._replace(hit_particle=particles.hit_particle[rows]),
        truth=HitTruth(*(column[rows] for column in event.truth)),
        hit_id=np.arange(1, len(rows) + 1, dtype=np.uint64),
    )


def with_quick_fit(model, **cleaning):
    """A model whose fit compiles fast and keeps every candidate, but for the cuts given.

    Args:
        model: to start from.
        cleaning: settings of the cleaning in place of the model's.
    """
    fit = replace(model.config.fit, iterations=1, max_step=1e6)
    cuts = replace(model.config.cleaning, rounds=0, chi2_per_dof=1e6, **cleaning)
    return replace(model, config=replace(model.config, fit=fit, cleaning=cuts), capacities={})
