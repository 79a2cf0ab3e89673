"""Slow twin of the candidate graph: every pair of hits is looked at, in double precision, without a grid.

A comparison in single precision may fall on the other side of a window's edge. The twin therefore takes a `slack`:
a positive one widens every window by that fraction, a negative one narrows it. Neither can remove (add) a segment
from the pruned graph, so the graph of the package must lie between the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

SIZE_EDGES = (1.0, 4.0, 10.0, 20.0)


class Segment(NamedTuple):
    """Geometry of one candidate and the distance of its cluster sizes from the expected ones."""

    curvature: float
    theta: float
    z0: float
    delta_phi: float
    delta_r: float
    delta_z: float
    residuals: tuple


def segment(position, inner, outer):
    """Window variables of one segment, from the definitions: angles first, no products of coordinates."""
    (x_in, y_in, z_in), (x_out, y_out, z_out) = position[inner], position[outer]
    r_in, r_out = math.hypot(x_in, y_in), math.hypot(x_out, y_out)
    delta_phi = math.remainder(math.atan2(y_out, x_out) - math.atan2(y_in, x_in), 2 * math.pi)
    delta_r, delta_z = r_out - r_in, z_out - z_in
    chord = max(math.hypot(x_out - x_in, y_out - y_in), 1e-3)
    lever = delta_r if abs(delta_r) >= 1e-3 else 1e-3
    return Segment(
        curvature=2 * math.sin(delta_phi) / chord,
        theta=math.atan2(delta_r, delta_z),
        z0=z_in - r_in * delta_z / lever,
        delta_phi=delta_phi,
        delta_r=delta_r,
        delta_z=delta_z,
        residuals=(),
    )


def in_doublet_windows(shape, pairs, pair, slack):
    grow = 1 + slack
    return (
        abs(shape.delta_phi) < pairs.delta_phi[pair] * grow
        and abs(shape.z0) < pairs.z0[pair] * grow
        and abs(shape.curvature) < pairs.curvature[pair] * grow
    )


def size_residual(seen, expected, low, high, slack):
    """(residual, allowed) of one cluster size; on the border of two bins the slack decides which of them counts."""
    if seen <= 0:
        return 1.0, True
    residual = seen - expected
    votes = []
    for shifted in (expected * (1 - abs(slack)), expected, expected * (1 + abs(slack))):
        index = sum(shifted >= edge for edge in SIZE_EDGES)
        votes.append(low[index] - slack <= residual <= high[index] + slack)
    return residual, any(votes) if slack >= 0 else all(votes)


def size_residuals(hits, rotation, pairs, end, other, slack):
    """Residuals along u and v at one end of a segment, and whether both lie in their windows."""
    u, v, w = rotation[max(hits.module[end], 0)].astype(float) @ (
        hits.position[other].astype(float) - hits.position[end]
    )
    normal, layer = max(abs(w), 1e-6), hits.layer[end]
    residuals, allowed = [], True
    for axis, along in enumerate((u, v)):
        expected = pairs.slope[layer, axis] * abs(along) / normal
        seen = hits.features[end, axis] if hits.module[end] >= 0 else 0
        residual, inside = size_residual(
            seen, expected, pairs.size_low[layer, axis], pairs.size_high[layer, axis], slack
        )
        residuals.append(residual)
        allowed &= bool(inside)
    return residuals, allowed


def candidates(hits, rotation, pairs, slack=0.0):
    """{(inner hit, outer hit): Segment} that pass the windows and the cluster sizes at both ends."""
    found = {}
    position = hits.position.astype(float)
    phi = np.arctan2(position[:, 1], position[:, 0])
    on_layer = [np.flatnonzero(hits.valid & (hits.layer == layer)) for layer in range(len(pairs.first))]
    for pair, (inner_layer, outer_layer) in enumerate(zip(pairs.inner, pairs.outer, strict=True)):
        for outer in on_layer[outer_layer]:
            # A shortcut for speed only, five times as wide as the window that follows.
            apart = np.abs(np.angle(np.exp(1j * (phi[on_layer[inner_layer]] - phi[outer]))))
            for inner in on_layer[inner_layer][apart < 5 * pairs.delta_phi[pair]]:
                shape = segment(position, inner, outer)
                if not in_doublet_windows(shape, pairs, pair, slack):
                    continue
                at_inner, first = size_residuals(hits, rotation, pairs, inner, outer, slack)
                at_outer, second = size_residuals(hits, rotation, pairs, outer, inner, slack)
                if first and second:
                    found[int(inner), int(outer)] = shape._replace(residuals=(*at_inner, *at_outer))
    return found


def compatible(segments, before, after, hits, pairs, slack):
    """Whether two segments that share a hit agree in curvature, polar angle and longitudinal impact."""
    strips = sum(not pairs.is_pixel[hits.layer[hit]] for hit in (before[0], before[1], after[1]))
    window = pairs.triplet[strips] * (1 + slack)
    one, two = segments[before], segments[after]
    change = (one.curvature - two.curvature, one.theta - two.theta, one.z0 - two.z0)
    return all(abs(value) < limit for value, limit in zip(change, window, strict=True))


def neighbours(segments, hits, pairs, slack):
    """For every segment the compatible ones that end where it begins, and those that begin where it ends."""
    ending = {}
    for key in segments:
        ending.setdefault(key[1], []).append(key)
    before = {
        key: [
            other for other in ending.get(key[0], []) if compatible(segments, other, key, hits, pairs, slack)
        ]
        for key in segments
    }
    after = {key: [] for key in segments}
    for key, others in before.items():
        for other in others:
            after[other].append(key)
    return before, after


def in_chain_of_three(key, before, after):
    two_before = any(before[other] for other in before[key])
    two_after = any(after[other] for other in after[key])
    return two_before or two_after or bool(before[key] and after[key])


class TwinGraph(NamedTuple):
    """The pruned graph: segments by (inner hit, outer hit), with the numbers of compatible neighbours."""

    segments: dict
    n_before: dict
    n_after: dict

    def features(self, key):
        """The edge features in the order of `EDGE_FEATURES`."""
        shape = self.segments[key]
        return [
            shape.curvature * 1000,
            shape.theta,
            shape.z0 / 100,
            shape.delta_phi * 20,
            shape.delta_r / 200,
            shape.delta_z / 500,
            *(residual / 2 for residual in shape.residuals),
            math.log1p(self.n_before[key]),
            math.log1p(self.n_after[key]),
        ]


def build(hits, rotation, pairs, slack=0.0):
    """The whole graph of one event."""
    segments = candidates(hits, rotation, pairs, slack)
    before, after = neighbours(segments, hits, pairs, slack)
    kept = {key: shape for key, shape in segments.items() if in_chain_of_three(key, before, after)}
    return TwinGraph(kept, {key: len(before[key]) for key in kept}, {key: len(after[key]) for key in kept})


def edges_as_hits(graph):
    """{(inner hit, outer hit): row of the edge} of a graph of the package."""
    valid = np.flatnonzero(graph.edges.valid)
    inner = np.asarray(graph.hit)[np.asarray(graph.edges.senders)[valid]]
    outer = np.asarray(graph.hit)[np.asarray(graph.edges.receivers)[valid]]
    return {(int(i), int(o)): int(row) for i, o, row in zip(inner, outer, valid, strict=True)}
