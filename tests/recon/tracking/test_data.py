"""Labelled graphs: labels against loops, growth of capacities, mirrors, padding, batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.errors import CapacityError, DataError
from recon.tracking import data
from recon.tracking.data import event_graph, label_graph, mirror, pad_alike, pad_graph, stack
from recon.tracking.graph import EDGE_FEATURES
from tests.reference import graph as twin

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def graph_of(generic, pairs, roomy):
    """Function (event, detector, layer pairs) -> graph."""

    def build(event, detector=generic, windows=pairs):
        return event_graph(event, detector, windows, {512: roomy})

    return build


@pytest.fixture
def labelled(graph_of, small_event):
    return label_graph(small_event, graph_of(small_event), low_pt=1.5, low_pt_weight=0.25)


def slow_labels(event, edges):
    """Whether a particle went straight from one hit (or one of its overlaps) to the other."""
    path = {}
    for hit in np.argsort(event.truth.order, kind="stable"):
        particle = event.particles.hit_particle[hit]
        if particle >= 0:
            path.setdefault(particle, []).append(int(hit))
    true = set()
    for hits in path.values():
        groups = []
        for hit in hits:
            if not groups or event.hits.layer[groups[-1][-1]] != event.hits.layer[hit]:
                groups.append([])
            groups[-1].append(hit)
        for place in range(len(groups) - 1):
            true |= {(i, o) for i in groups[place] for o in groups[place + 1]}
    return [edge in true for edge in edges]


def test_labels_agree_with_loops(labelled, graph_of, small_event):
    edges = twin.edges_as_hits(graph_of(small_event))
    slow = slow_labels(small_event, edges)
    rows = list(edges.values())
    np.testing.assert_array_equal(labelled.label[rows], slow)
    assert 0 < labelled.label.sum() < len(labelled.label)


def test_soft_true_segments_count_less(labelled, graph_of, small_event):
    pt = np.hypot(*small_event.particles.momentum[:, :2].T)
    for (inner, _), row in twin.edges_as_hits(graph_of(small_event)).items():
        soft = labelled.label[row] and pt[small_event.particles.hit_particle[inner]] < 1.5
        assert labelled.weight[row] == (0.25 if soft else 1.0)
    assert set(labelled.weight) == {np.float32(0.25), np.float32(1.0)}


def test_graphs_are_trimmed_to_their_edges(labelled, graph_of, small_event):
    graph = graph_of(small_event)
    n_nodes, n_edges = int(graph.sizes.nodes), int(graph.sizes.edges)
    assert labelled.nodes.shape[0] == len(labelled.node_valid) == n_nodes
    assert labelled.edges.shape[0] == len(labelled.label) == n_edges
    assert labelled.node_valid.all()
    assert labelled.edge_valid.all()
    assert max(labelled.senders.max(), labelled.receivers.max()) < n_nodes
    assert (np.diff(labelled.receivers) >= 0).all()


def test_noise_without_any_particle_has_no_true_edge(graph_of, small_event):
    none = small_event.particles
    none = type(none)(*(column[:0] for column in none[:-1]), np.full_like(none.hit_particle, -1))
    event = small_event._replace(particles=none, truth=None)
    labelled = label_graph(event, graph_of(event), low_pt=1.0, low_pt_weight=0.1)
    assert len(labelled.label) > 0
    assert not labelled.label.any()
    np.testing.assert_array_equal(labelled.weight, 1.0)


def test_labels_need_truth(graph_of, small_event):
    with pytest.raises(DataError, match="event 7 has no truth to train on"):
        label_graph(
            small_event._replace(particles=None), graph_of(small_event), low_pt=1.0, low_pt_weight=1.0
        )


def test_bad_hits_are_refused_before_anything_is_built(graph_of, small_event):
    position = small_event.hits.position.copy()
    position[11, 2] = np.nan
    event = small_event._replace(hits=small_event.hits._replace(position=position))
    with pytest.raises(DataError, match=r"hits\.position is not finite in row 11"):
        graph_of(event)


# Capacities.


@pytest.fixture
def too_few_nodes(roomy, graph_of, small_event):
    """A capacity that falls short in its last array only, where growth leads back to the roomy one."""
    needed = int(graph_of(small_event).sizes.nodes)
    return replace(roomy, graph=replace(roomy.graph, nodes=needed - 1))


def test_capacities_grow_until_the_event_fits(too_few_nodes, graph_of, small_event, generic, pairs):
    known = {512: too_few_nodes}
    graph = event_graph(small_event, generic, pairs, known)
    assert not graph.edges.overflow
    assert twin.edges_as_hits(graph) == twin.edges_as_hits(graph_of(small_event))
    # What was learned is kept for the next event, and only what was too small grew.
    assert known[512].graph.nodes >= int(graph.sizes.nodes)
    assert replace(known[512].graph, nodes=1000) == replace(too_few_nodes.graph, nodes=1000)


def test_an_event_that_never_fits_is_not_cut_short(monkeypatch, too_few_nodes, small_event, generic, pairs):
    monkeypatch.setattr(data, "MAX_TRIES", 0)
    with pytest.raises(CapacityError, match="tracking nodes do not fit"):
        event_graph(small_event, generic, pairs, {512: too_few_nodes})


# Mirrors.


def test_two_mirrors_are_none(labelled):
    for charge, forward in ((True, False), (False, True), (True, True)):
        once = mirror(labelled, charge=charge, forward=forward)
        twice = mirror(once, charge=charge, forward=forward)
        assert not np.array_equal(once.edges, labelled.edges)
        for before, after in zip(labelled, twice, strict=True):
            np.testing.assert_allclose(after, before, atol=1e-6)


def test_mirrors_leave_the_graph_they_are_given(labelled):
    before = labelled.edges.copy(), labelled.nodes.copy()
    mirror(labelled, charge=True, forward=True)
    np.testing.assert_array_equal(labelled.edges, before[0])
    np.testing.assert_array_equal(labelled.nodes, before[1])
    for old, new in zip(labelled, mirror(labelled, charge=False, forward=False), strict=True):
        np.testing.assert_array_equal(old, new)


def reflect(event, detector, pairs, axis):
    """The event and its detector behind a mirror, and the layer pairs as the mirrored detector has them."""
    sign = np.ones(3, np.float32)
    sign[axis] = -1
    hits = event.hits._replace(position=event.hits.position * sign)
    mirrored = detector._replace(center=detector.center * sign, rotation=detector.rotation * sign)
    if axis == 2:
        disc = ~pairs.is_barrel[:, None]
        flipped = {
            "reach": np.where(disc, -pairs.reach[:, ::-1], pairs.reach),
            "extent": np.where(disc, pairs.extent, -pairs.extent[:, ::-1]),
        }
        pairs = pairs._replace(**flipped)
    return event._replace(hits=hits), mirrored, pairs


@pytest.mark.parametrize(("axis", "mirrors"), [(1, {"charge": True}), (2, {"forward": True})])
def test_the_mirrored_graph_is_that_of_the_mirrored_event(
    labelled, graph_of, small_event, generic, pairs, axis, mirrors
):
    graph = graph_of(small_event)
    event, detector, windows = reflect(small_event, generic, pairs, axis)
    behind = graph_of(event, detector, windows)
    theirs = label_graph(event, behind, low_pt=1.5, low_pt_weight=0.25)
    ours = mirror(labelled, **{"charge": False, "forward": False} | mirrors)
    mine, other = twin.edges_as_hits(graph), twin.edges_as_hits(behind)
    assert set(mine) == set(other)
    rows, their_rows = np.array([(mine[edge], other[edge]) for edge in mine]).T
    # Far-forward segments have short levers: 1e-3 of a feature's unit is far below any resolution.
    np.testing.assert_allclose(ours.edges[rows], theirs.edges[their_rows], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(ours.label[rows], theirs.label[their_rows])
    for ends in ("senders", "receivers"):
        mine_at, their_at = getattr(ours, ends)[rows], getattr(theirs, ends)[their_rows]
        np.testing.assert_allclose(ours.nodes[mine_at], theirs.nodes[their_at], rtol=1e-5, atol=1e-5)


def test_padded_edges_stay_zero_behind_a_mirror(labelled):
    n_nodes, n_edges = len(labelled.nodes), len(labelled.edges)
    padded = pad_graph(labelled, n_nodes + 8, n_edges + 8)
    mirrored = mirror(padded, charge=True, forward=True)
    assert not mirrored.edges[n_edges:].any()
    assert not mirrored.nodes[n_nodes:].any()
    before = mirror(labelled, charge=True, forward=True)
    np.testing.assert_array_equal(mirrored.edges[:n_edges], before.edges)


# Padding and batches.


def test_padding_is_neutral(labelled):
    n_nodes, n_edges = len(labelled.nodes), len(labelled.edges)
    padded = pad_graph(labelled, n_nodes + 5, n_edges + 11)
    for name, column in padded._asdict().items():
        real = getattr(labelled, name)
        assert column.dtype == real.dtype
        np.testing.assert_array_equal(column[: len(real)], real)
    assert not padded.node_valid[n_nodes:].any()
    assert not padded.edge_valid[n_edges:].any()
    assert not padded.label[n_edges:].any()
    assert not padded.weight[n_edges:].any()
    # Sums over the edges of a node may trust the order, and padding adds to the last node alone.
    assert (np.diff(padded.receivers) >= 0).all()
    np.testing.assert_array_equal(padded.receivers[n_edges:], n_nodes + 4)


def test_padding_to_the_same_size_changes_nothing(labelled):
    same = pad_graph(labelled, len(labelled.nodes), len(labelled.edges))
    for before, after in zip(labelled, same, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("fewer_nodes", "fewer_edges"), [(1, 0), (0, 1)])
def test_too_small_a_size_is_refused(labelled, fewer_nodes, fewer_edges):
    with pytest.raises(DataError, match="does not fit"):
        pad_graph(labelled, len(labelled.nodes) - fewer_nodes, len(labelled.edges) - fewer_edges)


def test_graphs_padded_alike_make_a_batch(labelled, graph_of, small_event, select_hits):
    half = select_hits(small_event, np.arange(0, len(small_event.hits.layer), 2))
    other = label_graph(half, graph_of(half), low_pt=1.5, low_pt_weight=0.25)
    assert len(other.edges) != len(labelled.edges)
    graphs = pad_alike([labelled, other])
    batch = stack(graphs)
    for name, column in batch._asdict().items():
        assert column.shape[0] == 2
        np.testing.assert_array_equal(column[1], getattr(graphs[1], name))
    # The last node belongs to the padding in every graph, so that no message of it reaches a hit.
    assert not batch.node_valid[:, -1].any()
    assert batch.edges.shape[-1] == len(EDGE_FEATURES)
    assert batch.edge_valid.sum() == len(labelled.edges) + len(other.edges)


def test_graphs_of_different_shapes_make_no_batch(labelled):
    with pytest.raises(ValueError, match="same shape"):
        stack([labelled, pad_graph(labelled, len(labelled.nodes) + 8, len(labelled.edges) + 8)])
