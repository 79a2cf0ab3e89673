"""Small events: helices through the real sensor table without any simulation, and a few simulated ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree

from recon.tracking.capacity import TrackingCapacity
from recon.tracking.detector import load_detector, to_global
from recon.tracking.graph import GraphCapacity, GraphSizes
from recon.tracking.windows import WindowConfig, learn_windows
from recon.types import NOISE, Event, Hits, HitTruth, Particles

FIELD = 2.0
LIGHT = 0.299792458e-3
CELLS_PER_TANGENT = (3.0, 2.0)
"""Cells that a track covers along u and v, per tangent of its incidence angle."""
SIGMA = {True: (0.01, 0.02), False: (0.03, 0.5)}
"""Resolution along u and v by `Detector.pixel`, mm."""


class Helices(NamedTuple):
    """Charged particles from the beam spot; angles in rad, mm and GeV."""

    pt: np.ndarray
    phi: np.ndarray
    eta: np.ndarray
    charge: np.ndarray
    vertex: np.ndarray

    def at(self, s):
        """Position after the transverse path `s`; both of shape (particles, ...)."""
        shape = (-1, *[1] * (s.ndim - 1))
        bend = (-self.charge * LIGHT * FIELD / self.pt).reshape(shape)
        phi, pitch = self.phi.reshape(shape), np.sinh(self.eta).reshape(shape)
        vertex = self.vertex.reshape(*shape, 3)
        x = vertex[..., 0] + (np.sin(phi + bend * s) - np.sin(phi)) / bend
        y = vertex[..., 1] - (np.cos(phi + bend * s) - np.cos(phi)) / bend
        return np.stack([x, y, vertex[..., 2] + pitch * s], -1)

    def direction(self, s):
        """Derivative of the position with respect to `s`."""
        shape = (-1, *[1] * (s.ndim - 1))
        phi = self.phi.reshape(shape) - (self.charge * LIGHT * FIELD / self.pt).reshape(shape) * s
        pitch = np.sinh(self.eta).reshape(shape) * np.ones_like(s)
        return np.stack([np.cos(phi), np.sin(phi), pitch], -1)


def random_helices(n, rng):
    return Helices(
        pt=1.0 + rng.exponential(2.0, n),
        phi=rng.uniform(-np.pi, np.pi, n),
        eta=rng.uniform(-2.5, 2.5, n),
        charge=rng.choice([-1, 1], n),
        vertex=np.concatenate([rng.normal(0, 0.01, (n, 2)), rng.normal(0, 30.0, (n, 1))], 1),
    )


def crossings(helices, detector):
    """(particle, module, path, local position) of every sensor that a helix crosses on its way out."""
    path = np.linspace(20.0, 1100.0, 541)[None]
    track = helices.at(np.repeat(path, len(helices.pt), 0))
    radius = np.hypot(track[..., 0], track[..., 1])
    found = []
    for layer in range(int(detector.layer.max()) + 1):
        modules = np.flatnonzero(detector.layer == layer)
        center = detector.center[modules]
        spread = np.ptp(np.hypot(center[:, 0], center[:, 1])), np.ptp(center[:, 2])
        if spread[0] < spread[1]:
            rho = np.hypot(center[:, 0], center[:, 1]).mean()
            start = np.array([np.interp(rho, row, path[0], right=np.nan) for row in radius])
        else:
            # A track in the transverse plane never meets a disc.
            with np.errstate(divide="ignore"):
                start = (center[:, 2].mean() - helices.vertex[:, 2]) / np.sinh(helices.eta)
        crosses = np.isfinite(start) & (start > 20.0) & (start < 1100.0)
        if not crosses.any():
            continue
        at = helices.at(np.where(crosses, start, 20.0)[:, None])[:, 0]
        _, near = cKDTree(center).query(at, k=min(6, len(modules)))
        module = modules[near]
        s = np.repeat(np.where(crosses, start, 20.0)[:, None], module.shape[1], 1)
        u, v, w = np.moveaxis(detector.rotation[module], 2, 0)
        for _ in range(4):
            height = ((helices.at(s) - detector.center[module]) * w).sum(-1)
            s -= height / (helices.direction(s) * w).sum(-1)
        offset = helices.at(s) - detector.center[module]
        local = np.stack([(offset * u).sum(-1), (offset * v).sum(-1)], -1)
        low, high, half_v = np.moveaxis(detector.half_size[module], -1, 0)
        half_u = low + (high - low) * (local[..., 1] + half_v) / (2 * half_v)
        on = crosses[:, None] & (np.abs(local[..., 0]) < half_u) & (np.abs(local[..., 1]) < half_v)
        particle, slot = np.nonzero(on)
        found.append((particle, module[particle, slot], s[particle, slot], local[particle, slot]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def cluster_sizes(detector, module, direction, rng):
    """What a digitisation into cells would give: one cell and those that the track covers besides."""
    along = np.einsum("nij,nj->ni", detector.rotation[module], direction)
    tangent = np.abs(along[:, :2]) / np.maximum(np.abs(along[:, 2:]), 1e-6)
    return 1 + np.floor(tangent * CELLS_PER_TANGENT + rng.uniform(0, 1, tangent.shape))


def helix_event(helices, detector, rng, noise=0.15, number=0):
    """The hits of helices and noise, in random order, with the truth that a simulation would give."""
    particle, module, path, local = crossings(helices, detector)
    order = np.lexsort((path, particle))
    particle, module, path, local = particle[order], module[order], path[order], local[order]
    n, n_noise = len(particle), round(noise * len(particle))
    starts = np.searchsorted(particle, particle)
    spot = Helices(*(column[particle] for column in helices))
    flight = spot.direction(path[:, None])[:, 0]
    at = spot.at(path[:, None])[:, 0]
    extra = rng.integers(0, len(detector.layer), n_noise)
    spread = detector.half_size[extra][:, [0, 2]] * rng.uniform(-0.9, 0.9, (n_noise, 2))
    sigma = np.array([SIGMA[bool(pixel)] for pixel in detector.pixel[np.concatenate([module, extra])]])
    sigma = sigma.reshape(-1, 2)
    local = np.concatenate([local, spread]) + sigma * rng.normal(0, 1, (n + n_noise, 2))
    module = np.concatenate([module, extra]).astype(np.int32)
    sizes = cluster_sizes(detector, module[:n], flight, rng)
    sizes = np.concatenate([sizes, 1 + rng.poisson(1.0, (n_noise, 2))])
    unknown = np.full((n_noise, 3), np.nan)
    momentum = helices.pt[:, None] * helices.direction(np.zeros((len(helices.pt), 1)))[:, 0]
    shuffle = rng.permutation(n + n_noise)
    local = local.astype(np.float32)
    hits = Hits(
        position=to_global(detector, module, local)[shuffle],
        layer=detector.layer[module][shuffle],
        module=module[shuffle],
        local=local[shuffle],
        variance=(sigma**2).astype(np.float32)[shuffle],
        features=np.c_[sizes, np.full(len(sizes), 0.1)].astype(np.float32)[shuffle],
        valid=np.ones(n + n_noise, bool),
    )
    truth = HitTruth(
        position=np.concatenate([at, unknown]).astype(np.float32)[shuffle],
        momentum=np.concatenate([momentum[particle], unknown]).astype(np.float32)[shuffle],
        order=np.r_[np.arange(n) - starts, np.full(n_noise, NOISE)].astype(np.int32)[shuffle],
    )
    particles = Particles(
        momentum=momentum.astype(np.float32),
        vertex=helices.vertex.astype(np.float32),
        charge=helices.charge.astype(np.int32),
        pdg=(-211 * helices.charge).astype(np.int32),
        primary=np.ones(len(helices.pt), bool),
        valid=np.ones(len(helices.pt), bool),
        hit_particle=np.r_[particle, np.full(n_noise, NOISE)].astype(np.int32)[shuffle],
    )
    ids = np.arange(1, n + n_noise + 1, dtype=np.uint64)
    return Event(number, hits, particles, truth, ids, np.arange(1, len(helices.pt) + 1, dtype=np.uint64))


def take_hits(event, rows):
    """The event with some of its hits only, or with its hits in another order."""
    particles = event.particles
    return event._replace(
        hits=Hits(*(column[rows] for column in event.hits)),
        particles=particles and particles._replace(hit_particle=particles.hit_particle[rows]),
        truth=event.truth and HitTruth(*(column[rows] for column in event.truth)),
        hit_id=event.hit_id[rows],
    )


@pytest.fixture(scope="session")
def generic():
    """The shipped sensor table."""
    return load_detector("generic")


@pytest.fixture(scope="session")
def learning_events(generic):
    """Three synthetic events to learn windows from."""
    rng = np.random.default_rng(11)
    return [helix_event(random_helices(250, rng), generic, rng, number=number) for number in range(3)]


@pytest.fixture(scope="session")
def pairs(learning_events, generic):
    """The layer-pair map of the synthetic events."""
    return learn_windows(learning_events, generic, WindowConfig())


@pytest.fixture(scope="session")
def small_event(generic):
    """Thirty particles and noise: fewer than 512 hits."""
    rng = np.random.default_rng(12)
    return helix_event(random_helices(30, rng), generic, rng, number=7)


@pytest.fixture(scope="session")
def roomy():
    """A capacity for any 512 hits: one program for most tests."""
    lengths = dict.fromkeys(GraphSizes._fields, 4096)
    return TrackingCapacity(graph=GraphCapacity(**lengths | {"rows": 8192}), tracks=128)


@pytest.fixture(scope="session")
def helices():
    """The type of the particles that `make_event` takes."""
    return Helices


@pytest.fixture(scope="session")
def make_event(generic):
    """Function (helices, seed, noise) -> event."""

    def make(helices, seed=0, noise=0.0):
        return helix_event(helices, generic, np.random.default_rng(seed), noise)

    return make


@pytest.fixture(scope="session")
def select_hits():
    """Function (event, rows) -> the event with these hits."""
    return take_hits


@pytest.fixture(scope="session")
def simulated_events(tmp_path_factory):
    """Two simulated t tbar events without pile-up; skipped without the `sim` extra."""
    pytest.importorskip("acts")
    pytest.importorskip("pythia8mc")
    from recon.sim.tracker import TrackerSimulation, simulate_events  # noqa: PLC0415 - optional

    with pytest.MonkeyPatch.context() as patch:
        # A cache of our own: tests must not depend on what the user's holds.
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("collisions")))
        return list(simulate_events(TrackerSimulation(pileup=0, events=2, seed=7)))


@pytest.fixture
def quick_compile():
    """Compile without optimisation: what is computed is tested here, not how fast."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
