"""The whole chain, hits to tracks: what it finds, what it refuses, and what must change nothing.

Everything runs through programs for 512 hits. The physics is tested with the settings of the shipped model; the rest
with a single linearisation of the fit and open cuts, which compiles several times faster.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from recon.errors import CapacityError, DataError
from recon.tracking import find_tracks, load_model
from recon.tracking.capacity import TrackingCapacity, overflows
from recon.tracking.checks import LEAST_HITS, pad_hits
from recon.tracking.counts import EventCounts
from recon.tracking.fitting import FitResult
from recon.tracking.graph import GraphCapacity
from recon.tracking.matching import from_tracks
from recon.tracking.metrics import TargetSelection, evaluate_event, merge
from recon.tracking.pipeline import STEPS, reconstruct, run_steps, select, trim
from recon.types import NOISE, Tracks
from tests.recon.tracking.small_events import rows_of, simulate, with_quick_fit

ROOMY = TrackingCapacity(
    graph=GraphCapacity(
        queries=4096, rows=8192, chunks=8192, doublets=8192, shaped=4096, triplets=8192, edges=2048, nodes=512
    ),
    tracks=320,
)


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture(scope="module")
def model(shipped):
    """The shipped model with a quick fit that keeps every candidate."""
    return with_quick_fit(shipped, pt_min=0.0)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("collisions"))


@pytest.fixture(scope="module")
def event(events):
    """The largest of the small events."""
    return max(events, key=lambda event: len(event.hits.layer))


@pytest.fixture(scope="module")
def tracks(event, model):
    """What there is to find in it."""
    found = find_tracks(event, model, capacity=ROOMY)
    assert len(found.valid) >= 8
    return found


def hit_sets(tracks):
    return {frozenset(np.flatnonzero(tracks.hit_track == row).tolist()) for row in range(len(tracks.valid))}


def assert_consistent(tracks, n_hits):
    """Rows belong together, and nothing is left of the padding."""
    n = len(tracks.valid)
    assert tracks.hit_track.shape == (n_hits,)
    assert {len(column) for column in tracks[1:]} == {n}
    assert tracks.valid.all()
    on_track = tracks.hit_track[tracks.hit_track != NOISE]
    np.testing.assert_array_equal(np.bincount(on_track, minlength=n), tracks.n_hits)
    assert (tracks.n_hits >= 3).all()
    assert all(np.isfinite(column).all() for column in tracks)


def assert_same_tracks(one, other):
    """Equal up to rounding."""
    np.testing.assert_array_equal(one.hit_track, other.hit_track)
    np.testing.assert_array_equal(one.n_hits, other.n_hits)
    sigma = np.sqrt(np.diagonal(one.covariance, axis1=1, axis2=2))
    assert (np.abs(one.parameters - other.parameters) < 0.02 * sigma).all()


def test_tracks_of_simulated_events(events, shipped):
    counts = []
    for event in events:
        tracks = find_tracks(event, shipped, capacity=ROOMY)
        assert_consistent(tracks, len(event.hits.layer))
        counts.append(
            evaluate_event(
                event,
                from_tracks(tracks),
                tracks.parameters,
                TargetSelection(eta_max=0.6),
                covariance=tracks.covariance,
            )
        )
    total: EventCounts = merge(counts).counts
    assert total.targets > 60
    assert total.efficiency.value > 0.9
    assert total.fake_rate.value < 0.1


def test_fitted_momentum_is_that_of_the_particle(events, shipped):
    pulls = []
    for event in events:
        tracks = find_tracks(event, shipped, capacity=ROOMY)
        for row in range(len(tracks.valid)):
            made = event.particles.hit_particle[tracks.hit_track == row]
            particle = np.bincount(made[made >= 0], minlength=1).argmax()
            if (made == particle).mean() < 0.9:
                continue
            momentum = event.particles.momentum[particle]
            expected = event.particles.charge[particle] / np.linalg.norm(momentum)
            pulls.append((tracks.parameters[row, 4] - expected) / np.sqrt(tracks.covariance[row, 4, 4]))
    assert len(pulls) > 60
    # Half of a normal distribution lies within 0.67 sigma.
    assert 0.4 < np.median(np.abs(pulls)) < 1.1


def test_event_and_its_hits_give_the_same(event, tracks, model):
    assert_same_tracks(find_tracks(event.hits, model, capacity=ROOMY), tracks)


def test_tracks_are_consistent(event, tracks):
    assert_consistent(tracks, len(event.hits.layer))
    assert len(hit_sets(tracks)) == len(tracks.valid)


@pytest.mark.parametrize("n_hits", [0, 1, 2])
def test_event_without_tracks(event, model, n_hits):
    found = find_tracks(rows_of(event, np.arange(n_hits)), model, capacity=ROOMY)
    assert_consistent(found, n_hits)
    assert len(found.valid) == 0
    assert found.parameters.shape == (0, 5)
    assert found.covariance.shape == (0, 5, 5)
    assert found.hit_track.tolist() == [NOISE] * n_hits


def test_noise_alone_gives_no_track(events, model):
    for event in events:
        noise = rows_of(event, np.flatnonzero(event.particles.hit_particle == NOISE))
        assert len(find_tracks(noise, model, capacity=ROOMY).valid) == 0


def test_missing_layer(event, tracks, model):
    on_tracks = event.hits.layer[tracks.hit_track != NOISE]
    busiest = np.bincount(on_tracks).argmax()
    rows = np.flatnonzero(event.hits.layer != busiest)
    found = find_tracks(rows_of(event, rows), model, capacity=ROOMY)
    assert_consistent(found, len(rows))
    assert len(found.valid) >= len(tracks.valid) // 2


def test_duplicated_hits(event, tracks, model):
    n = len(event.hits.layer)
    again = np.arange(min(n, LEAST_HITS - n))
    assert len(again) >= 5
    found = find_tracks(rows_of(event, np.concatenate([np.arange(n), again])), model, capacity=ROOMY)
    assert_consistent(found, n + len(again))
    assert len(found.valid) >= 0.8 * len(tracks.valid)


def test_hit_identifiers_may_be_large(event, tracks, model):
    far = event._replace(hit_id=event.hit_id + np.uint64(2**40))
    assert_same_tracks(find_tracks(far, model, capacity=ROOMY), tracks)


@pytest.mark.parametrize("column", ["position", "local", "variance", "features"])
def test_number_that_is_none(event, model, column):
    values = getattr(event.hits, column).copy()
    values[17, 0] = np.nan
    with pytest.raises(DataError, match=rf"hits\.{column} is not finite in row 17: \[nan"):
        find_tracks(event.hits._replace(**{column: values}), model)


@pytest.mark.parametrize(("column", "value"), [("layer", 48), ("layer", -1), ("module", 10**6)])
def test_place_that_the_detector_does_not_have(event, model, column, value):
    values = getattr(event.hits, column).copy()
    values[3] = value
    with pytest.raises(DataError, match=f"hits.{column} is {value} in row 3"):
        find_tracks(event.hits._replace(**{column: values}), model)


def test_permuted_hits_give_permuted_labels(event, tracks, model):
    order = np.random.default_rng(3).permutation(len(event.hits.layer))
    found = find_tracks(rows_of(event, order), model, capacity=ROOMY)
    back = found._replace(hit_track=found.hit_track[np.argsort(order)])
    assert hit_sets(back) == hit_sets(tracks)
    # The same track wherever it stands in the list.
    first = [np.flatnonzero(tracks.hit_track == track)[0] for track in range(len(tracks.valid))]
    row = back.hit_track[first]
    sigma = np.sqrt(np.diagonal(tracks.covariance, axis1=1, axis2=2))
    assert (np.abs(back.parameters[row] - tracks.parameters) < 0.02 * sigma).all()


@pytest.mark.usefixtures("quick_compile")
def test_padding_changes_nothing(event, tracks, model):
    larger = replace(
        ROOMY, graph=replace(ROOMY.graph, queries=5120, edges=2560, nodes=640), tracks=ROOMY.tracks + 8
    )
    padded = pad_hits(event.hits, LEAST_HITS + 128)
    found, sizes = jax.device_get(run_steps(padded, model.device, model.config, larger))
    assert not overflows(sizes, larger)
    assert_same_tracks(trim(found, len(event.hits.layer)), tracks)


@pytest.mark.usefixtures("quick_compile")
def test_length_is_for_the_caller_to_choose(event, tracks, model):
    length = LEAST_HITS + 128
    assert_same_tracks(find_tracks(event, model, length=length, capacity=ROOMY), tracks)
    with pytest.raises(CapacityError, match="do not fit into a capacity of 100"):
        find_tracks(event, model, length=100)


@pytest.mark.usefixtures("quick_compile")
def test_one_program_equals_the_steps(event, tracks, model):
    program = jax.jit(reconstruct, static_argnames=("config", "capacity"))
    found, sizes = jax.device_get(
        program(pad_hits(event.hits), model.device, config=model.config, capacity=ROOMY)
    )
    assert not overflows(sizes, ROOMY)
    assert int(sizes.tracks) >= len(tracks.valid)
    assert_same_tracks(trim(found, len(event.hits.layer)), tracks)


@pytest.mark.usefixtures("quick_compile")
def test_capacity_too_small_is_named(event, model):
    small = replace(ROOMY, tracks=4, track_hits=5)
    with pytest.raises(CapacityError, match=r"tracks do not fit into a capacity of 4; .*tracks") as caught:
        find_tracks(event, model, capacity=small)
    assert caught.value.capacity == 4
    assert caught.value.needed > 4


@pytest.mark.usefixtures("quick_compile")
def test_capacity_grows_by_itself(event, tracks, model):
    fresh = replace(model, capacities={LEAST_HITS: replace(ROOMY, tracks=4, track_hits=5)})
    assert_same_tracks(find_tracks(event, fresh), tracks)
    grown = fresh.capacities[LEAST_HITS]
    assert grown.tracks >= len(tracks.valid)
    assert grown.track_hits >= tracks.n_hits.max()
    assert grown.graph == ROOMY.graph
    # What was learned is used for the next event.
    before = programs()
    find_tracks(event, fresh)
    assert programs() == before


def programs():
    return sum(step._cache_size() for step in STEPS)


def test_events_of_one_size_share_their_programs(events, event, model):
    find_tracks(event, model, capacity=ROOMY)
    before = programs()
    for other in events:
        find_tracks(other, model, capacity=ROOMY)
    assert programs() == before


def test_clock_sees_the_steps(event, model):
    seen = []
    find_tracks(event, model, capacity=ROOMY, clock=lambda step, result: seen.append((step, result)))
    assert [step for step, _ in seen] == ["graph", "network", "building", "fit"]
    assert isinstance(seen[-1][1], Tracks)


def test_trim_numbers_the_tracks_from_zero():
    valid = np.array([False, True, False, True])
    padded = Tracks(
        hit_track=np.array([3, NOISE, 1, 3, NOISE, NOISE], np.int32),
        parameters=np.arange(20, dtype=np.float32).reshape(4, 5),
        covariance=np.zeros((4, 5, 5), np.float32),
        chi2=np.arange(4, dtype=np.float32),
        n_hits=np.array([0, 1, 0, 2], np.int32),
        valid=valid,
    )
    found = trim(padded, 4)
    assert found.hit_track.tolist() == [1, NOISE, 0, 1]
    assert found.chi2.tolist() == [1, 3]
    assert found.n_hits.tolist() == [1, 2]
    assert found.parameters[:, 0].tolist() == [5, 15]


def test_hits_of_refused_candidates_are_free(model):
    config = replace(model.config, cleaning=replace(model.config.cleaning, min_hits=3))
    hits = np.array([[4, 2, 0, -1], [5, 3, 1, -1]], np.int32)
    fit = FitResult(
        parameters=np.tile(np.array([0, 0, 0, 1.5, 0.5], np.float32), (2, 1)),
        covariance=np.zeros((2, 5, 5), np.float32),
        chi2=np.ones(2, np.float32),
        ndof=np.ones(2, np.int32),
        hit_chi2=np.zeros((2, 4), np.float32),
        converged=np.array([True, False]),
    )
    found = jax.jit(select, static_argnums=(2, 3))(hits, fit, 6, config)
    assert found.hit_track.tolist() == [0, NOISE, 0, NOISE, 0, NOISE]
    assert found.n_hits.tolist() == [3, 0]
    assert found.valid.tolist() == [True, False]
