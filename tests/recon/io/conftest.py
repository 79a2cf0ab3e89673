"""Random events that are self-consistent: every hit lies on its sensor, every identifier exists."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recon.tracking.detector import load_detector
from recon.types import NOISE, Detector, Event, Hits, HitTruth, Particles, Tracks

SHARED = Path(__file__).parents[4] / "shared" / "data" / "tracking" / "trackml_event"


def make_event(
    detector: Detector, seed: int = 0, *, n_hits: int = 40, n_particles: int = 6, number: int = 3
) -> Event:
    """Hits at random places of random sensors, about one in five of them noise; identifiers far past 2^32."""
    rng = np.random.default_rng(seed)
    module = rng.integers(0, len(detector.layer), n_hits).astype(np.int32)
    half_size = detector.half_size[module]
    half = np.stack([half_size[:, :2].min(axis=1), half_size[:, 2]], axis=1)
    local = (half * rng.uniform(-0.95, 0.95, (n_hits, 2))).astype(np.float32)
    axes = detector.rotation[module, :2].astype(np.float64)
    position = detector.center[module] + np.einsum("nk,nkx->nx", local, axes)
    features = np.stack([*rng.integers(1, 6, (2, n_hits)), rng.uniform(0.1, 2.0, n_hits)], axis=1)
    hits = Hits(
        position=position.astype(np.float32),
        layer=detector.layer[module],
        module=module,
        local=local,
        variance=rng.uniform(1e-5, 1.0, (n_hits, 2)).astype(np.float32),
        features=features.astype(np.float32),
        valid=np.ones(n_hits, bool),
    )
    noise = rng.uniform(size=n_hits) < 0.2 if n_particles else np.ones(n_hits, bool)
    owner = np.where(noise, NOISE, rng.integers(0, max(n_particles, 1), n_hits)).astype(np.int32)
    particles = _make_particles(rng, n_particles, owner)
    truth = _make_truth(rng, hits.position, owner)
    hit_id = unique_ids(rng, n_hits)
    return Event(number, hits, particles, truth, hit_id, unique_ids(rng, n_particles))


def unique_ids(rng: np.random.Generator, count: int) -> np.ndarray:
    return (rng.choice(1_000_000, count, replace=False).astype(np.uint64) + np.uint64(1)) * np.uint64(
        2**40 + 1
    )


def _make_particles(rng: np.random.Generator, count: int, owner: np.ndarray) -> Particles:
    return Particles(
        momentum=rng.normal(size=(count, 3)).astype(np.float32),
        vertex=rng.normal(size=(count, 3)).astype(np.float32),
        charge=rng.integers(-1, 2, count).astype(np.int32),
        pdg=rng.choice([211, -211, 11, 2212], count).astype(np.int32),
        primary=rng.uniform(size=count) < 0.7,
        valid=np.ones(count, bool),
        hit_particle=owner,
    )


def _make_truth(rng: np.random.Generator, position: np.ndarray, owner: np.ndarray) -> HitTruth:
    noise = owner == NOISE
    order = np.full(len(owner), NOISE, np.int32)
    for particle in np.unique(owner[~noise]):
        rows = np.flatnonzero(owner == particle)
        order[rows] = np.argsort(np.argsort(np.linalg.norm(position[rows], axis=1), kind="stable"))
    crossing = (position + rng.normal(0, 0.01, position.shape)).astype(np.float32)
    momentum = rng.normal(size=position.shape).astype(np.float32)
    crossing[noise] = np.nan
    momentum[noise] = np.nan
    return HitTruth(crossing, momentum, order)


def make_tracks(event: Event, seed: int = 0, *, capacity: int = 7, padding: int = 5) -> Tracks:
    """Padded tracks: some rows are invalid, some hits on no track, the last `padding` hits do not exist."""
    rng = np.random.default_rng(seed)
    valid = rng.uniform(size=capacity) < 0.7
    rows = np.append(np.flatnonzero(valid), NOISE)
    n_hits = len(event.hit_id)
    hit_track = np.full(n_hits + padding, NOISE, np.int32)
    hit_track[:n_hits] = rng.choice(rows, n_hits)
    limits = np.array([5.0, 200.0, np.pi, 1.0, 2.0])
    parameters = (rng.uniform(-1, 1, (capacity, 5)) * limits + [0, 0, 0, np.pi / 2, 0]).astype(np.float32)
    root = rng.normal(size=(capacity, 5, 5))
    return Tracks(
        hit_track=hit_track,
        parameters=parameters,
        covariance=(root @ root.transpose(0, 2, 1)).astype(np.float32),
        chi2=rng.uniform(0, 30, capacity).astype(np.float32),
        n_hits=np.bincount(hit_track[hit_track != NOISE], minlength=capacity).astype(np.int32),
        valid=valid,
    )


def assert_same_event(left: Event, right: Event) -> None:
    """Equal to the last bit and of the same types, NaN equal to NaN."""
    assert left.number == right.number
    for name in ("hit_id", "particle_id"):
        _assert_same(getattr(left, name), getattr(right, name), name)
    for part in ("hits", "particles", "truth"):
        one, other = getattr(left, part), getattr(right, part)
        assert (one is None) == (other is None), part
        for name in one._fields if one is not None else ():
            _assert_same(getattr(one, name), getattr(other, name), f"{part}.{name}")


def _assert_same(left: np.ndarray, right: np.ndarray, name: str) -> None:
    assert left.dtype == right.dtype, name
    np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.fixture(scope="session")
def detector() -> Detector:
    return load_detector()


@pytest.fixture
def event(detector: Detector) -> Event:
    return make_event(detector)


@pytest.fixture(scope="session")
def trackml_sample() -> Callable[[str], Path]:
    """Path of a file of the real TrackML event; skips where the sample is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"the TrackML sample {path} is not on this machine")
        return path

    return find
