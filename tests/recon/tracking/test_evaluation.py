"""Track finders side by side: their tracks, and the CPU time of every step."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tracking import find_tracks, load_model
from recon.tracking.evaluation import NETWORK, evaluate_acts, evaluate_network, timed_tracks
from recon.tracking.matching import from_tracks
from recon.tracking.metrics import TargetSelection, evaluate_event
from tests.recon.tracking.small_events import simulate

pytestmark = pytest.mark.usefixtures("quick_programs")

SELECTION = TargetSelection(eta_max=0.6)
STEPS = ["graph", "network", "building", "fit", "output"]


@pytest.fixture(scope="module")
def model():
    """The shipped model with a quick fit: fewer linearisations compile faster."""
    shipped = load_model()
    fit = replace(shipped.config.fit, iterations=1, max_step=1e6)
    cleaning = replace(shipped.config.cleaning, rounds=0, chi2_per_dof=1e6)
    return replace(shipped, config=replace(shipped.config, fit=fit, cleaning=cleaning), capacities={})


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    sample = simulate(tmp_path_factory.mktemp("collisions"))
    # The largest first: what it needs is enough for the other.
    return sorted(sample, key=lambda event: -len(event.hits.layer))[:2]


def test_compilation_is_not_counted(events, model):
    begin = time.process_time()
    tracks, seconds = timed_tracks(events[0], model)
    first = time.process_time() - begin
    assert list(seconds) == STEPS
    assert all(value >= 0 for value in seconds.values())
    # The first use of the programs costs seconds, their run milliseconds.
    assert sum(seconds.values()) < first / 2
    np.testing.assert_array_equal(tracks.hit_track, find_tracks(events[0], model).hit_track)


def test_network_is_measured_against_the_truth(events, model):
    calls = []
    result = evaluate_network(events, model, SELECTION, lambda *call: calls.append(call))
    assert result.name == NETWORK
    assert calls == [(NETWORK, 1, 2), (NETWORK, 2, 2)]
    assert list(result.cpu_seconds) == STEPS
    assert result.cpu_total > 0
    counts = result.evaluation.counts
    assert counts.events == counts.scored == 2
    found = 0
    for event in events:
        tracks = find_tracks(event, model)
        hits = from_tracks(tracks)
        single = evaluate_event(event, hits, tracks.parameters, SELECTION, covariance=tracks.covariance)
        found += single.counts.found
    assert counts.found == found
    assert counts.efficiency.value > 0.9


def test_acts_is_measured_on_the_same_events(events):
    from recon.sim.acts_output import CONVERSION_STAGES  # noqa: PLC0415  optional

    calls = []
    result = evaluate_acts(events, "default", SELECTION, lambda *call: calls.append(call))
    assert result.name == "ACTS CKF default"
    assert [call[1:] for call in calls] == [(0, 2), (1, 2), (2, 2)]
    assert result.cpu_seconds
    assert set(result.cpu_seconds).isdisjoint(CONVERSION_STAGES)
    assert result.evaluation.counts.events == 2
    assert result.evaluation.counts.efficiency.value > 0.9


def test_unknown_working_point_lists_those_there_are(events):
    with pytest.raises(ConfigError, match=r"'fast'.*default.*tuned"):
        evaluate_acts(events, "fast", SELECTION, lambda *_: None)
