"""Slow NumPy twins of `recon.segments` and of the object condensation loss: one loop an item."""

from __future__ import annotations

import numpy as np


def groups(segments, count, valid):
    """Rows of every segment."""
    return [np.flatnonzero((segments == number) & valid) for number in range(count)]


def segment_sum(values, segments, count, valid):
    return np.stack([values[rows].sum(0) for rows in groups(segments, count, valid)])


def segment_mean(values, segments, count, valid):
    zero = np.zeros(values.shape[1:])
    return np.stack([values[rows].mean(0) if len(rows) else zero for rows in groups(segments, count, valid)])


def segment_max(values, segments, count, valid, empty):
    fill = np.full(values.shape[1:], empty)
    return np.stack([values[rows].max(0) if len(rows) else fill for rows in groups(segments, count, valid)])


def segment_softmax(logits, segments, count, valid):
    result = np.zeros(logits.shape)
    for rows in groups(segments, count, valid):
        if len(rows):
            weights = np.exp(logits[rows] - logits[rows].max(0))
            result[rows] = weights / weights.sum(0)
    return result


def connected_components(senders, receivers, valid, count):
    """Breadth-first from every node not yet reached, the smallest first."""
    neighbours = [[] for _ in range(count)]
    for one, other in zip(senders[valid], receivers[valid], strict=True):
        neighbours[one].append(other)
        neighbours[other].append(one)
    label = np.full(count, -1, np.int32)
    for start in range(count):
        queue = [start] if label[start] < 0 else []
        while queue:
            node = queue.pop()
            if label[node] < 0:
                label[node] = start
                queue += neighbours[node]
    return label


def condensation_loss(beta, coordinates, objects, valid, count, q_min):
    """Equations 3 to 8 of arXiv:2002.03605, one pair of hit and object at a time."""
    charge = np.arctanh(np.minimum(beta, 1 - 1e-4)) ** 2 + q_min
    attractive = repulsive = coward = 0.0
    used = [rows for rows in groups(objects, count, valid) if len(rows)]
    for rows in used:
        point = rows[np.argmax(charge[rows])]
        coward += 1 - beta[point]
        for hit in np.flatnonzero(valid):
            distance = np.linalg.norm(coordinates[hit] - coordinates[point])
            if hit in rows:
                attractive += charge[hit] * charge[point] * distance**2
            else:
                repulsive += charge[hit] * charge[point] * max(0.0, 1 - distance)
    hits = max(valid.sum(), 1)
    noise = beta[valid & (objects < 0)]
    return (
        attractive / hits,
        repulsive / hits,
        coward / max(len(used), 1),
        noise.mean() if len(noise) else 0.0,
    )
