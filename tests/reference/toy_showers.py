"""Events of a small calorimeter without any simulation: gaussian showers on a square lattice of cells, and noise."""

from __future__ import annotations

import numpy as np

from recon.types import CalorimeterEvent, HitTimes, RecHits, ShowerTruth

PITCH = 10.0
SIGMA_NOISE = 0.005


def layer_z(n_layers):
    """Planes of a front part with thin absorbers and a back part with thick ones."""
    return np.cumsum(np.r_[3210.0, np.where(np.arange(n_layers - 1) < 27, 15.0, 54.0)])


def spots(rng, energy, direction, n_layers, z):
    """(x, y, layer, energy) of the deposits of one shower from the interaction point."""
    n = int(rng.poisson(6 * energy)) + 20
    layer = np.minimum(rng.gamma(4.0, 0.06 * n_layers, n).astype(int), n_layers - 1)
    width = 4.0 + 1.2 * layer
    centre = direction * z[layer, None]
    xy = centre + rng.normal(0, 1, (n, 2)) * width[:, None]
    share = rng.exponential(1.0, n)
    return xy, layer, energy * share / share.sum()


def toy_event(seed=0, showers=6, n_layers=12, noise=40, energy=(5.0, 60.0), both_ends=False, spread=None):
    """A CalorimeterEvent with hits in random order; cells that several showers hit are shared.

    `spread` is the half width of the square in x/z that the showers point into.
    """
    rng = np.random.default_rng(seed)
    z = layer_z(n_layers)
    reach = 0.12 if spread is None else spread
    momenta, columns = [], []
    for particle in range(showers):
        size = rng.uniform(*energy)
        direction = rng.uniform(-reach, reach, 2) + np.array([0.25, 0.1])
        side = rng.choice([-1, 1]) if both_ends else 1
        unit = np.r_[direction, side] / np.sqrt(1 + (direction**2).sum())
        momenta.append(size * unit)
        xy, layer, deposit = spots(rng, size, direction, n_layers, z)
        columns.append((xy, layer, deposit, np.full(len(layer), particle), np.full(len(layer), side)))
    layer = rng.integers(0, n_layers, noise)
    xy = (rng.uniform(-reach, reach, (noise, 2)) + np.array([0.25, 0.1])) * z[layer, None]
    side = rng.choice([-1, 1], noise) if both_ends else np.ones(noise, int)
    columns.append((xy, layer, np.full(noise, 3.5 * SIGMA_NOISE), np.full(noise, -1), side))
    return collect(rng, [np.concatenate(column) for column in zip(*columns, strict=True)], z, momenta)


def collect(rng, columns, z, momenta):
    """Sum the deposits in the cells and shuffle these."""
    xy, layer, deposit, particle, side = columns
    cell = np.rint(xy / PITCH).astype(int)
    keys, hit = np.unique(np.c_[side, layer, cell], axis=0, return_inverse=True)
    n = len(keys)
    energy = np.bincount(hit, weights=deposit, minlength=n)
    shuffle = rng.permutation(n)
    place = np.argsort(shuffle)
    made = particle >= 0
    pairs, which = np.unique(np.c_[place[hit[made]], particle[made]], axis=0, return_inverse=True)
    pairs = pairs.reshape(-1, 2)
    given = np.bincount(which, weights=deposit[made], minlength=len(pairs))
    side, layer = keys[shuffle, 0], keys[shuffle, 1]
    hits = RecHits(
        position=np.c_[keys[shuffle, 2:] * PITCH, side * z[layer]].astype(np.float32),
        energy=energy[shuffle].astype(np.float32),
        layer=layer.astype(np.int32),
        cell=np.full(n, -1, np.int32),
        sigma_noise=np.full(n, SIGMA_NOISE, np.float32),
        valid=np.ones(n, bool),
    )
    count = len(momenta)
    truth = ShowerTruth(
        momentum=np.reshape(momenta, (count, 3)).astype(np.float32),
        vertex=np.zeros((count, 3), np.float32),
        charge=np.zeros(count, np.int32),
        pdg=np.full(count, 22, np.int32),
        hard_scatter=np.ones(count, bool),
        hit=pairs[:, 0].astype(np.int32),
        particle=pairs[:, 1].astype(np.int32),
        fraction=(given / energy[shuffle][pairs[:, 0]]).astype(np.float32),
    )
    return CalorimeterEvent(0, hits, truth)


def with_times(event, seed=0, error=0.05, measured=0.7):
    """The event with times of most hits: those of a shower share one, noise has any within a nanosecond."""
    rng = np.random.default_rng(seed)
    own = dominant_particle(event)
    shower = rng.normal(0.0, 0.17, int(own.max(initial=-1)) + 2)
    time = np.where(own >= 0, shower[own], rng.uniform(-0.5, 0.5, len(own))) + rng.normal(0, error, len(own))
    there = rng.random(len(own)) < measured
    times = HitTimes(
        np.where(there, time, np.nan).astype(np.float32), np.where(there, error, np.nan).astype(np.float32)
    )
    return event._replace(times=times)


def take_hits(hits, rows):
    """Some hits only, or hits in another order."""
    return RecHits(*(column[rows] for column in hits))


def dominant_particle(event):
    """For every hit the particle that gave most of its energy; -1 for noise."""
    found = np.full(len(event.hits.energy), -1)
    order = np.argsort(event.truth.fraction, kind="stable")
    found[event.truth.hit[order]] = event.truth.particle[order]
    return found
