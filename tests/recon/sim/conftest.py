"""One cache of collisions and one sample of events for all tests of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

from recon.sim.collisions import generate_pool
from recon.sim.tracker import TrackerSimulation, simulate_events

SMALL_POOL = 500
"""One cache file of pile-up: what the tests draw from."""


@pytest.fixture(scope="session", autouse=True)
def collision_cache(tmp_path_factory):
    """A cache of our own: tests must not depend on what the user's holds."""
    directory = tmp_path_factory.mktemp("recon-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(directory))
        yield directory


@pytest.fixture(scope="session")
def minbias():
    """A pool of pile-up collisions."""
    pytest.importorskip("pythia8mc")
    return generate_pool("minbias", SMALL_POOL, seed=1)


@pytest.fixture(scope="session")
def ttbar():
    """A pool of hard collisions."""
    pytest.importorskip("pythia8mc")
    return generate_pool("ttbar", 20, seed=1)


@pytest.fixture(scope="session")
def settings():
    """Small events, quick to make: the settings of `events`."""
    return TrackerSimulation(pileup=10, events=6, minbias_pool=SMALL_POOL)


@pytest.fixture(scope="session")
def events(settings):
    """Six simulated events with a pile-up of 10."""
    pytest.importorskip("acts")
    pytest.importorskip("pythia8mc")
    return list(simulate_events(settings))


@pytest.fixture
def rng():
    return np.random.default_rng(42)
