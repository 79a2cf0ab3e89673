"""The ACTS Kalman fit of given hit lists, against exact helices and against simulated truth."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("acts.examples", reason="pyacts is not installed")

from recon.errors import DataError
from recon.sim.acts_fit import fit_tracks_kalman, subsequence_rows
from recon.sim.acts_output import PeerTracks, reconstruction_cpu
from recon.sim.acts_sequence import FIELD_TESLA
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.detector import load_detector
from recon.types import Detector, Event, Hits

CURVATURE = 0.299792458e-3 * FIELD_TESLA
"""1/(radius in mm) of a particle of unit charge with a transverse momentum of 1 GeV."""

PITCH = np.array([0.05, 0.05]) / np.sqrt(12)


class Truth(NamedTuple):
    """Perigee parameters as in `PeerTracks`."""

    d0: float
    z0: float
    phi: float
    theta: float
    q_over_p: float


@pytest.fixture(scope="session")
def detector() -> Detector:
    return load_detector()


# --- a slow twin: a helix in steps of half a millimetre through every barrel sensor near it ---


def helix_points(truth: Truth, length: float = 1100.0) -> np.ndarray:
    """Points of the trajectory from the perigee, one every half millimetre of transverse path."""
    path = np.arange(0, length, 0.5)
    kappa = CURVATURE * truth.q_over_p / np.sin(truth.theta)
    phi = truth.phi - kappa * path
    x0, y0 = -truth.d0 * np.sin(truth.phi), truth.d0 * np.cos(truth.phi)
    x = x0 + (np.sin(truth.phi) - np.sin(phi)) / kappa
    y = y0 + (np.cos(phi) - np.cos(truth.phi)) / kappa
    return np.stack([x, y, truth.z0 + path / np.tan(truth.theta)], 1)


def crossings(truth: Truth, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """(sensor, local position) of every barrel sensor that the helix crosses, along the path."""
    points, found = helix_points(truth), []
    barrel = np.flatnonzero(np.isin(detector.volume_id, (8, 13, 17)))
    gap = np.linalg.norm(detector.center[barrel, None] - points[None, ::40], axis=2).min(1)
    reach = np.linalg.norm(detector.half_size[barrel], axis=1) + 20  # the sampled points are 20 mm apart
    for sensor in barrel[gap < reach]:
        center, axes = detector.center[sensor].astype(float), detector.rotation[sensor].astype(float)
        local = (points - center) @ axes.T
        step = np.flatnonzero(np.sign(local[:-1, 2]) != np.sign(local[1:, 2]))
        if len(step) == 0:
            continue
        before, after = local[step[0]], local[step[0] + 1]
        crossing = before + (after - before) * before[2] / (before[2] - after[2])
        if (abs(crossing[:2]) < detector.half_size[sensor, 1:]).all():
            found.append((step[0], sensor, crossing[:2]))
    found.sort(key=lambda item: item[0])
    return np.array([sensor for _, sensor, _ in found], np.int32), np.array([local for *_, local in found])


def exact_event(detector: Detector, *truths: Truth) -> tuple[Event, list[np.ndarray]]:
    """An event with the exact crossings of some helices, and the rows of each."""
    parts = [crossings(truth, detector) for truth in truths]
    sensor = np.concatenate([part[0] for part in parts])
    local = np.concatenate([part[1] for part in parts])
    n_hits = len(sensor)
    ends = np.cumsum([len(part[0]) for part in parts])
    hits = Hits(
        position=np.zeros((n_hits, 3), np.float32),
        layer=detector.layer[sensor],
        module=sensor,
        local=local.astype(np.float32),
        variance=np.broadcast_to(PITCH**2, (n_hits, 2)).astype(np.float32),
        features=np.zeros((n_hits, 0), np.float32),
        valid=np.ones(n_hits, bool),
    )
    event = Event(0, hits, None, None, np.arange(n_hits, dtype=np.uint64), np.zeros(0, np.uint64))
    return event, np.split(np.arange(n_hits), ends[:-1])


def as_lists(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    hits = np.concatenate([np.zeros(0, np.int64), *parts])
    return np.cumsum([0, *map(len, parts)]), hits


def take(event: Event, rows: np.ndarray) -> Event:
    return event._replace(hits=Hits(*(array[rows] for array in event.hits)), hit_id=event.hit_id[rows])


def fit(event: Event, parts: list[np.ndarray], detector: Detector) -> PeerTracks:
    (tracks,) = fit_tracks_kalman([event], [as_lists(parts)], detector)
    return tracks


HELICES = [
    Truth(0.0, 0.0, 0.3, 1.5, 0.1),
    Truth(0.5, -20.0, 2.9, 1.2, -0.2),
    Truth(-1.0, 30.0, -2.0, 1.9, 0.5),
    Truth(0.2, 5.0, -3.1, 1.6, -0.02),
]


# --- exact helices ---


@pytest.mark.parametrize("truth", HELICES, ids=lambda truth: f"q/p={truth.q_over_p}")
def test_exact_hits_give_the_parameters_of_the_helix(detector: Detector, truth: Truth) -> None:
    event, parts = exact_event(detector, truth)
    assert len(parts[0]) >= 10
    tracks = fit(event, parts, detector)
    assert tracks.valid.tolist() == [True]
    sigma = np.sqrt(np.diagonal(tracks.covariance[0]))
    assert (sigma > 0).all()
    pull = (tracks.parameters[0] - truth) / sigma
    # The helix loses no energy, the fit corrects for a loss in the beam pipe: a small pull of q/p remains.
    assert (abs(pull) < 0.3).all(), pull
    assert tracks.chi2[0] < 0.5
    assert tracks.n_holes.tolist() == [0]
    assert tracks.n_outliers.tolist() == [0]


def test_the_hits_come_back_in_order(detector: Detector) -> None:
    event, parts = exact_event(detector, *HELICES)
    tracks = fit(event, parts, detector)
    for low, high, rows in zip(tracks.offsets, tracks.offsets[1:], parts, strict=False):
        assert tracks.hits[low:high].tolist() == rows.tolist()


def test_errors_shrink_with_the_errors_of_the_hits(detector: Detector) -> None:
    event, parts = exact_event(detector, HELICES[3])
    coarse = event._replace(hits=event.hits._replace(variance=event.hits.variance * np.float32(100)))
    fine, wide = (fit(sample, parts, detector).covariance[0] for sample in (event, coarse))
    assert (np.diagonal(wide) > np.diagonal(fine)).all()
    # At 50 GeV scattering is small, so that ten times the hit error is nearly ten times the error of d0.
    assert 5 < np.sqrt(wide[0, 0] / fine[0, 0]) < 10.1


def test_a_shifted_hit_raises_chi2(detector: Detector) -> None:
    event, parts = exact_event(detector, HELICES[3])
    local = event.hits.local.copy()
    local[4, 0] += 10 * np.float32(PITCH[0])
    shifted = fit(event._replace(hits=event.hits._replace(local=local)), parts, detector)
    assert shifted.chi2[0] > fit(event, parts, detector).chi2[0] + 10


# --- rows ---


def test_every_list_keeps_its_row(detector: Detector) -> None:
    event, parts = exact_event(detector, *HELICES)
    none = np.zeros(0, np.int64)
    lists = [none, parts[0], parts[1][:1], parts[2], parts[3][:2], none, parts[1], parts[3], none]
    tracks = fit(event, lists, detector)
    assert tracks.valid.tolist() == [False, True, False, True, False, False, True, True, False]
    alone = fit(event, [parts[0], parts[2], parts[1], parts[3]], detector)
    assert np.array_equal(tracks.parameters[tracks.valid], alone.parameters)
    assert np.array_equal(tracks.covariance[tracks.valid], alone.covariance)
    assert np.isnan(tracks.parameters[~tracks.valid]).all()
    assert np.isnan(tracks.covariance[~tracks.valid]).all()
    assert np.isnan(tracks.chi2[~tracks.valid]).all()
    assert np.diff(tracks.offsets)[~tracks.valid].tolist() == [0] * 5
    assert tracks.offsets[-1] == len(tracks.hits)


def test_permuting_hits_permutes_the_rows(detector: Detector) -> None:
    event, parts = exact_event(detector, *HELICES)
    order = np.random.default_rng(3).permutation(len(event.hits.valid))
    place = np.argsort(order)
    permuted = fit(take(event, order), [place[rows] for rows in parts], detector)
    tracks = fit(event, parts, detector)
    assert np.array_equal(order[permuted.hits], tracks.hits)
    np.testing.assert_allclose(permuted.parameters, tracks.parameters, rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing(detector: Detector) -> None:
    event, parts = exact_event(detector, *HELICES)
    rows = np.concatenate([[0], np.arange(len(event.hits.valid)), [0]])
    padded = take(event, rows)
    arrays = {name: getattr(padded.hits, name).copy() for name in ("local", "module", "valid")}
    for name, empty in {"local": np.nan, "module": -1, "valid": False}.items():
        arrays[name][[0, -1]] = empty
    padded = padded._replace(hits=padded.hits._replace(**arrays))
    tracks, expected = fit(padded, [rows + 1 for rows in parts], detector), fit(event, parts, detector)
    assert np.array_equal(tracks.hits, expected.hits + 1)
    assert np.array_equal(tracks.parameters, expected.parameters)
    with pytest.raises(DataError, match="name row 0; allowed are the valid rows"):
        fit(padded, [np.r_[0, parts[0] + 1]], detector)


def test_a_second_hit_on_the_sensor_is_left_out(detector: Detector) -> None:
    event, parts = exact_event(detector, HELICES[0])
    n_hits = len(parts[0])
    doubled = take(event, np.r_[np.arange(n_hits), 5])
    tracks = fit(doubled, [np.r_[parts[0][:6], n_hits, parts[0][6:]]], detector)
    assert tracks.valid.tolist() == [True]
    assert len(tracks.hits) == n_hits
    assert {5, n_hits} & set(tracks.hits.tolist())
    assert not {5, n_hits} <= set(tracks.hits.tolist())


def test_two_events_and_two_calls_do_not_mix(detector: Detector) -> None:
    first, one = exact_event(detector, *HELICES[:2])
    second, two = exact_event(detector, *HELICES[2:])
    for _ in range(2):
        both = fit_tracks_kalman([first, second], [as_lists(one), as_lists(two)], detector)
        for tracks, event, parts in zip(both, (first, second), (one, two), strict=True):
            assert np.array_equal(tracks.parameters, fit(event, parts, detector).parameters)


def test_cpu_time_is_booked_by_stage(detector: Detector) -> None:
    event, parts = exact_event(detector, *HELICES)
    cpu = fit(event, parts, detector).cpu
    assert set(cpu) == {"input", "start", "fit", "output"}
    assert cpu["fit"] > 0


# --- nothing to fit, wrong input ---


def test_empty_input(detector: Detector) -> None:
    event, _ = exact_event(detector, HELICES[0])
    assert fit_tracks_kalman([], [], detector) == []
    nothing = (np.zeros(1, np.int64), np.zeros(0, np.int64))
    for sample in (event, take(event, np.zeros(0, np.int64)), take(event, np.zeros(1, np.int64))):
        (tracks,) = fit_tracks_kalman([sample], [nothing], detector)
        assert tracks.offsets.tolist() == [0]
        assert tracks.parameters.shape == (0, 5)
        assert tracks.valid.shape == (0,)


@pytest.mark.parametrize(
    ("offsets", "hits", "message"),
    [
        ([0, 3], [0, 1, 500], "name row 500; allowed are the valid rows among the"),
        ([0, 3], [0, -1, 2], "name row -1"),
        ([0, 2], [0, 1, 2], "must rise from 0 to the number of hits, 3; given"),
        ([1, 3], [0, 1, 2], "must rise from 0"),
        ([0, 3, 1, 3], [0, 1, 2], "must rise from 0"),
        ([], [], "must rise from 0"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    detector: Detector, offsets: list[int], hits: list[int], message: str
) -> None:
    event, _ = exact_event(detector, HELICES[0])
    lists = np.array(offsets, np.int64), np.array(hits, np.int64)
    with pytest.raises(DataError, match=message):
        fit_tracks_kalman([event], [lists], detector)


def test_one_entry_an_event_is_needed(detector: Detector) -> None:
    event, parts = exact_event(detector, HELICES[0])
    with pytest.raises(DataError, match="1 entries of track_hits for 2 events"):
        fit_tracks_kalman([event, event], [as_lists(parts)], detector)


# --- which list a fitted track was made from ---


@pytest.mark.parametrize(
    ("candidates", "lists", "expected"),
    [
        ([], [[1, 2]], []),
        ([[1, 2]], [[1, 2]], [0]),
        ([[4, 5]], [[1, 2], [4, 5, 6]], [1]),
        ([[1], [1]], [[1, 2], [1, 2]], [0, 1]),
        ([[2, 1], [7]], [[1, 2, 3], [], [4], [7, 8]], [0, 3]),
    ],
)
def test_subsequence_hand_cases(
    candidates: list[list[int]], lists: list[list[int]], expected: list[int]
) -> None:
    assert subsequence_rows(candidates, lists) == expected


def test_subsequence_is_found_whenever_there_is_one() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        lists = [rng.choice(6, rng.integers(0, 5), replace=False).tolist() for _ in range(rng.integers(0, 6))]
        candidates = [
            rng.choice(6, rng.integers(1, 3), replace=False).tolist() for _ in range(rng.integers(0, 4))
        ]
        choices = itertools.combinations(range(len(lists)), len(candidates))
        possible = [
            rows
            for rows in choices
            if all(set(c) <= set(lists[row]) for c, row in zip(candidates, rows, strict=True))
        ]
        if possible:
            assert tuple(subsequence_rows(candidates, lists)) == min(possible)
        else:
            with pytest.raises(DataError, match="on none of the lists left"):
                subsequence_rows(candidates, lists)


# --- simulated particles ---


def true_perigee(momentum: np.ndarray, vertex: np.ndarray, charge: int) -> Truth:
    """Parameters at the point of the truth helix that is closest to the beam line."""
    p = float(np.linalg.norm(momentum))
    pt = float(np.hypot(momentum[0], momentum[1]))
    phi = float(np.arctan2(momentum[1], momentum[0]))
    radius = pt / (CURVATURE * charge)
    center = vertex[:2] + radius * np.array([np.sin(phi), -np.cos(phi)])
    closest = center * (1 - abs(radius) / np.linalg.norm(center))
    at_perigee = float(np.arctan2((center - closest)[0] / radius, -(center - closest)[1] / radius))
    turn = (at_perigee - phi + np.pi) % (2 * np.pi) - np.pi
    d0 = -closest[0] * np.sin(at_perigee) + closest[1] * np.cos(at_perigee)
    return Truth(
        d0, vertex[2] - radius * turn * momentum[2] / pt, at_perigee, np.arccos(momentum[2] / p), charge / p
    )


def simulated_sample() -> tuple[list[Event], list[list[np.ndarray]], list[list[Truth]]]:
    """Pions, kaons, protons and muons above 1 GeV with 7 hits or more, and all their hits in true order."""
    events = list(simulate_events(TrackerSimulation(pileup=0, events=4, noise_fraction=0.0, seed=11)))
    lists, truths = [], []
    for event in events:
        particles = event.particles
        heavy = np.isin(abs(particles.pdg), (13, 211, 321, 2212)) & particles.primary
        fast = np.hypot(particles.momentum[:, 0], particles.momentum[:, 1]) > 1
        chosen = [row for row in np.flatnonzero(heavy & fast) if (particles.hit_particle == row).sum() >= 7]
        rows = [np.flatnonzero(particles.hit_particle == row) for row in chosen]
        lists.append([hits[np.argsort(event.truth.order[hits])] for hits in rows])
        truths.append(
            [
                true_perigee(
                    particles.momentum[row].astype(float),
                    particles.vertex[row].astype(float),
                    int(particles.charge[row]),
                )
                for row in chosen
            ]
        )
    return events, lists, truths


def test_pulls_of_simulated_tracks(detector: Detector) -> None:
    pytest.importorskip("pythia8mc", reason="pythia8mc is not installed")
    events, lists, truths = simulated_sample()
    fits = fit_tracks_kalman(events, [as_lists(parts) for parts in lists], detector)
    valid = np.concatenate([tracks.valid for tracks in fits])
    assert len(valid) > 100
    assert valid.mean() > 0.97
    covariance = np.concatenate([tracks.covariance for tracks in fits])
    difference = np.concatenate([tracks.parameters for tracks in fits]) - np.concatenate(
        [np.array(truth) for truth in truths]
    )
    difference[:, 2] = (difference[:, 2] + np.pi) % (2 * np.pi) - np.pi
    pull = (difference / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))[valid]
    low, middle, high = np.quantile(pull, [0.16, 0.5, 0.84], axis=0)
    width = (high - low) / 2
    assert (abs(middle) < 0.35).all(), middle
    assert 0.8 < width[4] < 1.2, width
    assert ((width > 0.75) & (width < 1.4)).all(), width
    n_missing = sum(len(hits) for parts in lists for hits in parts) - sum(len(tracks.hits) for tracks in fits)
    assert n_missing <= 0.02 * sum(len(tracks.hits) for tracks in fits)
    assert all(reconstruction_cpu(tracks) > 0 for tracks in fits)
