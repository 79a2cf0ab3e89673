"""Slow twin of the track fit: least squares over perigee and every single kink, in float64 NumPy.

No filter, no analytic derivative, no linear transport: the helix is followed from surface to surface, all kinks
are free parameters with their variance as constraint, and the Jacobian is a difference quotient. For small errors
a Kalman filter and smoother gives the same result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LIGHT = 0.299792458e-3


class Stop(NamedTuple):
    """One surface for all tracks: a cylinder if `radius` is given, planes otherwise.

    `slot` is the measurement that is made here, or None. Material acts behind the measurement.
    """

    radius: float | None
    point: np.ndarray | None
    axes: np.ndarray | None
    thickness: float
    loss_per_length: float
    slot: int | None


def highland(path, momentum, mass):
    """Variance of the projected scattering angle."""
    beta = momentum / np.hypot(momentum, mass)
    width = 13.6e-3 / (beta * momentum) * np.sqrt(path) * (1 + 0.038 * np.log(path / beta**2))
    return width**2


def advance(position, phi, theta, q_over_p, path, field):
    """Follow helices for a path length in three dimensions."""
    turn = -LIGHT * field * q_over_p * path
    chord = path * np.sin(theta) * np.sinc(turn / 2 / np.pi)
    step = [chord * np.cos(phi + turn / 2), chord * np.sin(phi + turn / 2), path * np.cos(theta)]
    return position + np.stack(step, -1), phi + turn


def follow(perigee, kinks, stops, field, mass):
    """Predict all measurements: local positions [t, slots, 2] and the variance of every kink [t, stops]."""
    d0, z0, phi, theta, q_over_p = perigee.T.copy()
    position = np.stack([-d0 * np.sin(phi), d0 * np.cos(phi), z0], -1)
    predicted, variances = [], []
    for number, stop in enumerate(stops):
        path = np.zeros(len(d0))
        for _ in range(8):
            at, azimuth = advance(position, phi, theta, q_over_p, path, field)
            direction = np.stack(
                [np.sin(theta) * np.cos(azimuth), np.sin(theta) * np.sin(azimuth), np.cos(theta)], -1
            )
            if stop.radius is None:
                normal = stop.axes[:, 2]
                distance = ((at - stop.point) * normal).sum(-1)
            else:
                normal = np.stack([at[:, 0], at[:, 1], 0 * d0], -1) / np.hypot(at[:, 0], at[:, 1])[:, None]
                distance = np.hypot(at[:, 0], at[:, 1]) - stop.radius
                # At the beam line the way to a cylinder is not defined yet: begin with a step.
                distance = np.where(path == 0, -stop.radius, distance)
                normal = np.where(
                    (path == 0)[:, None], direction * [1, 1, 0] / np.sin(theta)[:, None], normal
                )
            path = path - distance / (normal * direction).sum(-1)
        position, phi = advance(position, phi, theta, q_over_p, path, field)
        if stop.slot is not None:
            predicted.append(np.einsum("ti,tji->tj", position - stop.point, stop.axes[:, :2]))
        crossed = stop.thickness / np.abs((normal * direction).sum(-1))
        momentum = 1 / np.abs(q_over_p)
        variances.append(highland(crossed, momentum, mass) if stop.thickness else np.zeros(len(d0)))
        phi = phi + kinks[:, number, 0] / np.sin(theta)
        theta = theta + kinks[:, number, 1]
        energy = np.hypot(momentum, mass) - stop.loss_per_length * crossed
        q_over_p = np.sign(q_over_p) / np.sqrt(energy**2 - mass**2)
    return np.stack(predicted, 1), np.stack(variances, 1)


def fit(start, local, variance, stops, field=2.0, mass=0.13957039, iterations=3):
    """Fit tracks: (perigee [t, 5], covariance [t, 5, 5], chi2 [t])."""
    tracks, kink_shape = len(start), (len(stops), 2)
    values = np.concatenate([start, np.zeros((tracks, 2 * len(stops)))], 1)

    def residuals(values, kink_variance):
        kinks = values[:, 5:].reshape(tracks, *kink_shape)
        predicted, _ = follow(values[:, :5], kinks, stops, field, mass)
        pulls = ((local - predicted) / np.sqrt(variance)).reshape(tracks, -1)
        return np.concatenate([pulls, (kinks / np.sqrt(kink_variance)[..., None]).reshape(tracks, -1)], 1)

    steps = np.concatenate([[1e-4, 1e-4, 1e-7, 1e-7, 1e-6], np.full(2 * len(stops), 1e-7)])
    for _ in range(iterations):
        kinks = values[:, 5:].reshape(tracks, *kink_shape)
        _, kink_variance = follow(values[:, :5], np.zeros_like(kinks), stops, field, mass)
        kink_variance = np.maximum(kink_variance, 1e-20)
        base = residuals(values, kink_variance)
        jacobian = np.empty((tracks, base.shape[1], values.shape[1]))
        for i, step in enumerate(steps):
            shift = np.zeros_like(values)
            shift[:, i] = step * (np.abs(values[:, 4]) if i == 4 else 1)
            up, down = residuals(values + shift, kink_variance), residuals(values - shift, kink_variance)
            jacobian[:, :, i] = (up - down) / (2 * shift[:, i, None])
        normal = np.einsum("tri,trj->tij", jacobian, jacobian)
        right = np.einsum("tri,tr->ti", jacobian, base)
        # Parameters differ by many orders of magnitude: scale before solving.
        scale = 1 / np.sqrt(np.einsum("tii->ti", normal))
        inverse = np.linalg.inv(normal * scale[:, :, None] * scale[:, None])
        covariance = inverse * scale[:, :, None] * scale[:, None]
        values = values - np.einsum("tij,tj->ti", covariance, right)
    chi2 = (residuals(values, kink_variance) ** 2).sum(1)
    return values[:, :5], covariance[:, :5, :5], chi2


class World(NamedTuple):
    """Toy tracks, each with sensors of its own around its path; rows of sensors and hits are the same.

    `stops` describes one region for the twin: (tracks of the region, hits [t, k], stops).
    """

    truth: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    thickness: np.ndarray
    layer: np.ndarray
    pixel: np.ndarray
    variance: np.ndarray
    hits: np.ndarray


BARREL = (32.0, 72.0, 116.0, 172.0, 260.0, 360.0, 500.0, 660.0, 820.0, 1020.0)
DISCS = (600.0, 700.0, 820.0, 960.0, 1100.0, 1300.0, 1500.0)
PIPE, TUBE = (19.0, 0.0022675737), (200.0, 0.0051020407)
SHARE = 0.1


def draw_perigees(rng, tracks, eta_range, pt_range):
    """Perigee parameters, logarithmic in pT."""
    pt = np.exp(rng.uniform(*np.log(pt_range), tracks))
    eta = rng.uniform(*eta_range, tracks) * rng.choice([-1, 1], tracks)
    theta = 2 * np.arctan(np.exp(-eta))
    charge = rng.choice([-1, 1], tracks)
    d0, z0, phi = rng.normal(0, 0.05, tracks), rng.normal(0, 50, tracks), rng.uniform(-np.pi, np.pi, tracks)
    return np.stack([d0, z0, phi, theta, charge * np.sin(theta) / pt], 1)


def make_world(rng, barrel, discs, capacity):
    """Sensors around the paths of tracks: the first ones through the barrel, the others through discs."""
    truth = np.concatenate([barrel, discs])
    rows = [_barrel_sensors(rng, perigee) for perigee in barrel] + [_disc_sensors(rng, p) for p in discs]
    hits = np.full((len(truth), capacity), -1, np.int32)
    first = 0
    for track, (center, *_) in enumerate(rows):
        hits[track, : len(center)] = np.arange(first, first + len(center))
        first += len(center)
    return World(truth, *(np.concatenate(column) for column in zip(*rows, strict=True)), hits)


def _crossing(perigee, radius=None, z=None):
    """Point of one helix at a radius or a z, by bisection in the path length."""
    start = np.array([-perigee[0] * np.sin(perigee[2]), perigee[0] * np.cos(perigee[2]), perigee[1]])
    low, high = 0.0, 1e4
    if radius is not None:
        # Up to the farthest point the distance to the beam line grows.
        high = min(high, np.pi / abs(LIGHT * 2 * perigee[4]) if perigee[4] else high)
    for _ in range(60):
        middle = (low + high) / 2
        point, _ = advance(start[None], *perigee[None, 2:].T, np.array([middle]), 2.0)
        beyond = np.hypot(*point[0, :2]) > radius if radius is not None else abs(point[0, 2]) > abs(z)
        low, high = (low, middle) if beyond else (middle, high)
    return point[0]


def _barrel_sensors(rng, perigee):
    points = np.array([_crossing(perigee, radius=radius) for radius in BARREL])
    phi = np.arctan2(points[:, 1], points[:, 0]) + 0.14
    zero, one = np.zeros_like(phi), np.ones_like(phi)
    u = np.stack([-np.sin(phi), np.cos(phi), zero], 1)
    v = np.stack([zero, zero, one], 1)
    w = np.cross(u, v)
    pixel = np.array(BARREL) < 200
    shift = rng.uniform(-5, 5, (len(points), 2))
    center = points + shift[:, :1] * u + shift[:, 1:] * v
    variance = np.where(pixel[:, None], 0.015**2, [0.023**2, 0.35**2])
    return center, np.stack([u, v, w], 1), one * 0.0172, np.arange(len(points)), pixel, variance


def _disc_sensors(rng, perigee):
    sign = 1 if perigee[3] < np.pi / 2 else -1
    points = np.array([_crossing(perigee, z=sign * z) for z in DISCS])
    phi = rng.uniform(-np.pi, np.pi, len(points))
    zero, one = np.zeros_like(phi), np.ones_like(phi)
    u = np.stack([-np.sin(phi), np.cos(phi), zero], 1)
    v = np.stack([np.cos(phi), np.sin(phi), zero], 1)
    shift = rng.uniform(-5, 5, (len(points), 2))
    center = points + shift[:, :1] * u + shift[:, 1:] * v
    layer = np.arange(len(points)) + len(BARREL) + (0 if sign > 0 else len(DISCS))
    axes = np.stack([u, v, np.cross(u, v)], 1)
    return center, axes, one * 0.0172, layer, np.ones(len(points), bool), np.full((len(points), 2), 0.015**2)


def make_stops(world, tracks, radius, loss, without_hit=None):
    """The surfaces that some tracks of one kind (all barrel or all discs) cross, in their order.

    Args:
        world: the toy tracks.
        tracks: rows of one kind.
        radius: of the supports of the barrel layers, mm; those of the discs are at the sensors.
        loss: energy loss in the cylinders, GeV per radiation length.
        without_hit: a slot whose sensors are missed, while the support of the layer is crossed.
    """
    hits = world.hits[tracks]
    n_slots = (hits[0] >= 0).sum()
    is_barrel = n_slots == len(BARREL)
    stops = [Stop(PIPE[0], None, None, PIPE[1], loss, None)]
    measurements = 0
    for slot in range(n_slots):
        row = hits[:, slot]
        axes, center, thickness = world.axes[row], world.center[row], world.thickness[row[0]]
        if is_barrel and slot and BARREL[slot - 1] < TUBE[0] < BARREL[slot]:
            stops.append(Stop(TUBE[0], None, None, TUBE[1], loss, None))
        carrier = Stop(None, center, axes, (1 - SHARE) * thickness, 0.0, None)
        if is_barrel:
            carrier = Stop(radius[slot], None, None, (1 - SHARE) * thickness, 0.0, None)
        layer = [carrier]
        if slot != without_hit:
            sensor = Stop(None, center, axes, SHARE * thickness, 0.0, measurements)
            measurements += 1
            layer = [carrier, sensor] if is_barrel and radius[slot] < BARREL[slot] else [sensor, carrier]
        stops += layer
    return stops
