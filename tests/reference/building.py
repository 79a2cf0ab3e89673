"""Slow twins of `recon.tracking.building`: dictionaries of edges, and recursion along the paths."""

from __future__ import annotations

from functools import cache

import numpy as np

ZERO = np.float32(0)


def alive_edges(score, senders, receivers, valid, cut):
    """Score of every edge above the cut, by (sender, receiver)."""
    rows = zip(senders.tolist(), receivers.tolist(), score, valid.tolist(), strict=True)
    return {(inner, outer): value for inner, outer, value, used in rows if used and value > cut}


def walk(score, senders, receivers, valid, n_nodes, config):
    """(head, length) of the chain of every node."""
    edges = alive_edges(score, senders, receivers, valid, config.edge_score)
    before = {node: [a for a, b in edges if b == node] for node in range(n_nodes)}

    @cache
    def path_to(node, steps):
        """Weight of the best path of at most so many edges that ends in a node."""
        if steps == 0:
            return ZERO
        return max([ZERO, *(path_to(inner, steps - 1) + edges[inner, node] for inner in before[node])])

    steps = config.max_steps

    def best(choices):
        """Key of the largest value, the lowest of equals."""
        return min(choices, key=lambda key: (-choices[key], key)) if choices else None

    parent = {
        node: best({inner: path_to(inner, steps) + edges[inner, node] for inner in before[node]})
        for node in range(n_nodes)
    }
    children = {node: [outer for outer in range(n_nodes) if parent[outer] == node] for node in range(n_nodes)}

    @cache
    def path_from(node, steps):
        """Weight of the best path of the forest that begins in a node."""
        if steps == 0:
            return ZERO
        return max([ZERO, *(path_from(outer, steps - 1) + edges[node, outer] for outer in children[node])])

    child = {
        node: best({outer: path_from(outer, steps) + edges[node, outer] for outer in children[node]})
        for node in range(n_nodes)
    }

    def head_of(node):
        inner = parent[node]
        return node if inner is None or child[inner] != node else head_of(inner)

    head = np.array([head_of(node) for node in range(n_nodes)], np.int32)
    return head, np.bincount(head, minlength=n_nodes)[head]


def attach_loose(head, length, score, senders, receivers, valid, config):
    """Head of every node's track after the loose nodes have joined."""
    edges = alive_edges(score, senders, receivers, valid, config.attach_score)
    chains = head.tolist()
    head = dict(enumerate(chains))
    taken = {node for node in head if length[node] >= config.attach_to}
    for _ in range(config.attach_rounds):
        joining = {}
        for node in set(head) - taken:
            # Among equals a predecessor comes before a successor, then the lowest node.
            choices = [(-value, 0, inner) for (inner, outer), value in edges.items() if outer == node]
            choices += [(-value, 1, outer) for (inner, outer), value in edges.items() if inner == node]
            choices = [choice for choice in choices if choice[2] in taken]
            if choices:
                joining[node] = min(choices)[2]
        head |= {node: head[target] for node, target in joining.items()}
        taken |= set(joining)
    heads = [head[node] for node in range(len(head))]
    # Candidates that would be too long keep their chain only.
    kept = [
        first if heads.count(first) <= config.max_hits else chain
        for first, chain in zip(heads, chains, strict=True)
    ]
    return np.array(kept, np.int32)


def list_candidates(head, distance, valid, config):
    """Nodes of every candidate, in the order of the heads, each from the beam line outwards."""
    tracks = {}
    for node in np.flatnonzero(valid).tolist():
        tracks.setdefault(int(head[node]), []).append(node)
    return [
        sorted(nodes, key=lambda node: (distance[node], node))
        for _, nodes in sorted(tracks.items())
        if len(nodes) >= config.min_hits
    ]


def layered_dag(rng, n_layers, per_layer, n_edges, *, decimals):
    """A random graph whose edges run outwards: (score, senders, receivers), sorted by receiver.

    Few decimals make many scores equal.
    """
    n_nodes = n_layers * per_layer
    pairs = rng.integers(0, n_nodes, (n_edges, 2))
    pairs = np.unique(pairs[pairs[:, 0] // per_layer < pairs[:, 1] // per_layer], axis=0)
    pairs = pairs[np.lexsort((rng.random(len(pairs)), pairs[:, 1]))]
    score = rng.random(len(pairs)).round(decimals).astype(np.float32)
    return score, pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32)
