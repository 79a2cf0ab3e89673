"""Slow twins of the neutrino simulation: matrices, sums and loops written from the formulas, NumPy only."""

from __future__ import annotations

import math

import numpy as np

MASK = 2**64 - 1


def splitmix(word):
    """Finaliser of splitmix64 with Python's integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def stream_words(seed, kind, number):
    """First three words of an event's stream, before the warm-up."""
    golden = 0x9E3779B97F4A7C15
    word = splitmix((seed + golden) & MASK)
    for part in (kind, number):
        word = splitmix(word ^ ((part + golden) & MASK))
    words = []
    for _ in range(3):
        word = splitmix((word + golden) & MASK)
        words.append(word)
    return words


def turned(axis, cosine):
    """All directions at an angle to an axis, as the plane they span: centre of the circle and its radius."""
    axis = np.asarray(axis, float)
    return cosine * axis, math.sqrt(1 - cosine**2)


def boost_matrix(velocity):
    """Lorentz matrix for (px, py, pz, E) of a frame that moves with a velocity."""
    b = np.asarray(velocity, float)
    square = b @ b
    gamma = 1 / math.sqrt(1 - square)
    matrix = np.eye(4)
    if square > 0:
        matrix[:3, :3] += (gamma - 1) * np.outer(b, b) / square
    matrix[:3, 3] = matrix[3, :3] = gamma * b
    matrix[3, 3] = gamma
    return matrix


def invariant_mass(four):
    """Mass of the sum of four-momenta, rows of px, py, pz, E."""
    total = np.atleast_2d(four).sum(axis=0)
    return math.sqrt(max(total[3] ** 2 - total[:3] @ total[:3], 0.0))


def llewellyn_smith(energy, q2, lepton, sign=-1):
    """d sigma / d Q^2 in 1e-38 cm^2 / GeV^2, with F1, F2, FA, FP spelled out; sign +1 is the antineutrino."""
    m, mv2, ma = 0.9389, 0.71, 0.99
    mu_p, mu_n = 2.793, -1.913
    t = q2 / (4 * m * m)
    dipole = 1 / (1 + q2 / mv2) ** 2
    ge = dipole  # of the proton; that of the neutron is 0
    gm = (mu_p - mu_n) * dipole
    f1 = (ge + t * gm) / (1 + t)
    f2 = (gm - ge) / (1 + t)
    fa = -1.267 / (1 + q2 / ma**2) ** 2
    fp = 2 * m * m * fa / (0.1395704**2 + q2)
    su = 4 * m * energy - q2 - lepton**2
    first = 4 * t * (f1 * f2) + (1 + t) * fa**2 - (1 - t) * f1**2 + t * (1 - t) * f2**2
    second = (f1 + f2) ** 2 + (fa + 2 * fp) ** 2 - 4 * (1 + t) * fp**2
    a = (lepton**2 + q2) / m**2 * (first - lepton**2 / (4 * m**2) * second)
    b = 4 * t * fa * (f1 + f2)
    c = (fa**2 + f1**2 + t * f2**2) / 4
    fermi, cos2, unit = 1.16638e-5, 0.9494, 0.38938e-27 * 1e38
    return (
        fermi**2
        * m**2
        * cos2
        / (8 * math.pi * energy**2)
        * unit
        * (a + sign * b * su / m**2 + c * su**2 / m**4)
    )


def klein_nishina(energy, cosine):
    """Cross section per solid angle in units of r_e^2."""
    ratio = 1 / (1 + energy / 0.000510999 * (1 - cosine))
    return 0.5 * ratio**2 * (ratio + 1 / ratio - (1 - cosine**2))


def slice_of(hits):
    """Hits (plane, cell, charge) with company: two more in the nine blocks of 8 by 8 around, view by view."""
    kept = []
    for plane, cell, charge in hits:
        near = [
            other
            for other in hits
            if other[0] % 2 == plane % 2
            and abs(other[0] // 8 - plane // 8) <= 1
            and abs(other[1] // 8 - cell // 8) <= 1
        ]
        if len(near) >= 3:
            kept.append((plane, cell, charge))
    return kept


def window_of(hits):
    """First plane and, view by view, the upper median of the cells in the 200 planes that follow."""
    if not hits:
        return None
    first = min(plane for plane, _, _ in hits)
    medians = []
    for view in (0, 1):
        cells = sorted(cell for plane, cell, _ in hits if plane % 2 == view and plane < first + 200)
        medians.append(cells[len(cells) // 2] if cells else -1)
    return first, *medians


def arriving(distance):
    """Part of the light that comes through both arms of the fibre."""
    length = 384 * 39.7

    def arm(d):
        return 0.45 * math.exp(-d / 3000) + 0.55 * math.exp(-d / 13000)

    return (arm(distance) + arm(2 * length - distance)) / (arm(0) + arm(2 * length))


def map_of(hits):
    """Pixel map hits (view, plane, cell, GeV) of a slice, and how many the window does not hold."""
    first, *medians = window_of(hits)
    distance = []
    for view in (0, 1):
        across = [384 * 39.7 - (cell + 0.5) * 39.7 for plane, cell, _ in hits if plane % 2 == view]
        distance.append(sum(across) / len(across) if across else 384 * 39.7 / 2)
    inside, outside = [], 0
    for plane, cell, charge in hits:
        view = plane % 2
        row, column = (plane - first) // 2, cell - medians[view] + 40
        if row < 100 and 0 <= column < 80:
            inside.append((view, row, column, 1e-3 * charge / (6.0 * arriving(distance[1 - view]))))
        else:
            outside += 1
    return inside, outside
