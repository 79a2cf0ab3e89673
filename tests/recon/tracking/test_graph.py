"""The candidate graph: hand cases, the slow twin, symmetries, odd events, overflow."""

from __future__ import annotations

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tracking import data
from recon.tracking.checks import pad_hits
from recon.tracking.data import event_graph
from recon.tracking.graph import (
    EDGE_FEATURES,
    NODE_FEATURES,
    GraphCapacity,
    GraphSizes,
    _window_along,
    build_graph,
)
from recon.tracking.truth import TargetHits, true_segments
from tests.reference import graph as twin

pytestmark = pytest.mark.usefixtures("quick_compile")

SLACK = 2e-3


@pytest.fixture(scope="module")
def graph_of(generic, pairs, roomy):
    """Function (event, detector) -> graph, with room for everything; one program for up to 512 hits."""

    def build(event, detector=generic):
        assert len(event.hits.layer) <= 512
        return event_graph(event, detector, pairs, {512: roomy})

    return build


@pytest.fixture
def small_graph(graph_of, small_event):
    return graph_of(small_event)


def hit_pairs(graph):
    return set(twin.edges_as_hits(graph))


def rotate(event, detector, angle):
    """The event and its sensors, turned about the beam line."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    hits = event.hits._replace(position=(event.hits.position @ turn.T).astype(np.float32))
    turned = detector._replace(
        center=(detector.center @ turn.T).astype(np.float32),
        rotation=(detector.rotation @ turn.T).astype(np.float32),
    )
    return event._replace(hits=hits), turned


def straight(helices, **columns):
    """One particle a row of the columns, as stiff as can be unless a momentum is given."""
    n = len(columns["phi"])
    rows = {
        "pt": np.full(n, 500.0),
        "eta": np.full(n, 1e-4),
        "charge": np.ones(n, int),
        "vertex": np.zeros((n, 3)),
    }
    return helices(**{name: np.asarray(value) for name, value in (rows | columns).items()})


def assert_like_twin(graph, event, detector, pairs):
    """Edges between the narrow and the wide twin; features as the twin's."""
    exact, narrow, wide = (twin.build(event.hits, detector.rotation, pairs, s) for s in (0, -SLACK, SLACK))
    found = twin.edges_as_hits(graph)
    assert set(narrow.segments) <= set(found) <= set(wide.segments)
    assert len(set(found) ^ set(exact.segments)) <= 0.01 * len(exact.segments)
    assert len(wide.segments) - len(narrow.segments) <= 0.05 * len(exact.segments) + 1
    common = [key for key in found if key in exact.segments]
    rows = np.array([found[key] for key in common], int)
    expected = np.array([exact.features(key) for key in common]).reshape(-1, len(EDGE_FEATURES))
    got = np.asarray(graph.edge_features)[rows]
    np.testing.assert_allclose(got[:, :10], expected[:, :10], rtol=2e-3, atol=2e-3)
    # Numbers of compatible neighbours may differ where a comparison is at the edge of its window.
    assert (np.abs(got[:, 10:] - expected[:, 10:]) > 1e-5).sum() <= 0.01 * got[:, 10:].size


# Hand cases.


def test_one_stiff_track_by_hand(graph_of, make_event, helices):
    event = make_event(straight(helices, phi=[0.7], vertex=[[0.0, 0.0, 12.0]]))
    graph = graph_of(event)
    # Pairs that skip a layer are candidates, too: on one track they are compatible.
    assert hit_pairs(graph) >= set(zip(*true_segments(event, TargetHits()), strict=True))
    rows = np.flatnonzero(graph.edges.valid)
    columns = dict(zip(EDGE_FEATURES, graph.edge_features[rows].T, strict=True))
    np.testing.assert_allclose(columns["1000 mm x curvature through the beam line"], 0, atol=0.05)
    np.testing.assert_allclose(columns["20 x delta phi"], 0, atol=0.1)
    # Perpendicular to the beam line; strips measure z to half a millimetre, pixels to 0.02 mm.
    pixel = np.asarray(event.hits.variance)[graph.hit[graph.edges.senders[rows]], 1] < 0.01
    np.testing.assert_allclose(columns["polar angle"][pixel], np.pi / 2, atol=0.05)
    np.testing.assert_allclose(columns["z0 / 100 mm"][pixel], 0.12, atol=0.03)
    assert (columns["delta r / 200 mm"] > 0).all()


def test_charge_decides_the_sign_of_the_curvature(graph_of, make_event, helices):
    event = make_event(straight(helices, phi=[0.5, 2.5], pt=[2.0, 2.0], charge=[1, -1]))
    graph = graph_of(event)
    rows = np.flatnonzero(graph.edges.valid)
    made = event.particles.hit_particle[graph.hit[graph.edges.receivers[rows]]]
    pixel = np.asarray(event.hits.variance)[graph.hit[graph.edges.receivers[rows]], 0] < 5e-4
    # 0.3 GeV / (T m) x 2 T / 2 GeV = 0.3 per metre; a positive particle turns clockwise in a field along +z.
    for particle, expected in ((0, -0.3), (1, 0.3)):
        curvature = graph.edge_features[rows[(made == particle) & pixel], 0]
        np.testing.assert_allclose(np.median(curvature), expected, rtol=0.1)


def test_nodes_are_the_hits_on_edges_with_their_features(small_graph, small_event, pairs):
    graph, hits = small_graph, small_event.hits
    on_edges = sorted({hit for edge in hit_pairs(graph) for hit in edge})
    nodes = np.flatnonzero(graph.node_valid)
    assert sorted(graph.hit[nodes]) == on_edges
    hit = graph.hit[nodes]
    x, y, z = hits.position[hit].astype(float).T
    pixel, barrel = pairs.is_pixel[hits.layer[hit]], pairs.is_barrel[hits.layer[hit]]
    expected = np.stack(
        [
            np.hypot(x, y) / 500,
            z / 1500,
            np.arcsinh(z / np.hypot(x, y)) / 2,
            *np.log1p(hits.features[hit, :2]).T,
            pixel & barrel,
            pixel & ~barrel,
            ~pixel & barrel,
            ~pixel & ~barrel,
        ],
        1,
    )
    assert expected.shape[1] == len(NODE_FEATURES)
    np.testing.assert_allclose(graph.node_features[nodes], expected, rtol=1e-5, atol=1e-6)


def test_padding_is_marked_and_empty(small_graph, small_event):
    graph = small_graph
    n_nodes, n_edges = int(graph.sizes.nodes), int(graph.sizes.edges)
    np.testing.assert_array_equal(graph.node_valid, np.arange(len(graph.hit)) < n_nodes)
    np.testing.assert_array_equal(graph.edges.valid, np.arange(len(graph.edges.valid)) < n_edges)
    assert not graph.node_features[n_nodes:].any()
    assert not graph.edge_features[n_edges:].any()
    np.testing.assert_array_equal(graph.hit[n_nodes:], len(pad_hits(small_event.hits).layer))
    np.testing.assert_array_equal(graph.edges.receivers[n_edges:], len(graph.hit) - 1)


def test_receivers_are_sorted(small_graph):
    assert (np.diff(small_graph.edges.receivers) >= 0).all()
    assert not small_graph.edges.overflow


def test_windows_keep_the_true_segments(small_graph, small_event):
    true = set(zip(*true_segments(small_event, TargetHits(min_hits=6)), strict=True))
    assert len(true & hit_pairs(small_graph)) > 0.97 * len(true)


# The slow twin.


def test_agrees_with_the_twin(small_graph, small_event, generic, pairs):
    assert len(hit_pairs(small_graph)) > 300
    assert_like_twin(small_graph, small_event, generic, pairs)


def test_agrees_with_the_twin_in_a_dense_sector(graph_of, learning_events, generic, pairs, select_hits):
    event = learning_events[0]
    x, y, _ = event.hits.position.T
    # The sector lies around phi = pi, where azimuth wraps around.
    rows = np.flatnonzero(np.abs(np.arctan2(y, -x)) < 0.42)[:512]
    event = select_hits(event, rows)
    assert_like_twin(graph_of(event), event, generic, pairs)


def test_agrees_with_the_twin_on_simulated_hits(graph_of, simulated_events, generic, pairs, select_hits):
    event = simulated_events[0]
    x, y, _ = event.hits.position.T
    rows = np.argsort(np.abs(np.arctan2(y, -x)), kind="stable")[:512]
    event = select_hits(event, rows)
    assert_like_twin(graph_of(event), event, generic, pairs)


# Symmetries.


def test_permuting_the_hits_permutes_the_graph(small_graph, small_event, graph_of, select_hits):
    order = np.random.default_rng(3).permutation(len(small_event.hits.layer))
    graph = graph_of(select_hits(small_event, order))
    before, after = twin.edges_as_hits(small_graph), twin.edges_as_hits(graph)
    renamed = {(int(order[inner]), int(order[outer])): row for (inner, outer), row in after.items()}
    assert set(renamed) == set(before)
    for edge, row in before.items():
        np.testing.assert_allclose(
            graph.edge_features[renamed[edge]], small_graph.edge_features[row], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("angle", [0.3, np.pi, -2.0])
def test_rotating_the_event_changes_no_edge(small_graph, small_event, generic, graph_of, angle):
    graph = graph_of(*rotate(small_event, generic, angle))
    assert hit_pairs(graph) == hit_pairs(small_graph)


def test_azimuth_wraps_around(graph_of, make_event, helices, generic):
    phi = np.pi + np.array([-0.01, -0.004, 0.002, 0.01])
    event = make_event(
        straight(helices, phi=phi, pt=[2.0, 3.0, 2.0, 3.0], charge=[1, -1, 1, -1], eta=[-1.0, -0.3, 0.4, 1.2])
    )
    hit_phi = np.arctan2(*event.hits.position.T[1::-1])
    assert (hit_phi > 3).any()
    assert (hit_phi < -3).any()
    graph = graph_of(event)
    true = set(zip(*true_segments(event, TargetHits()), strict=True))
    assert true <= hit_pairs(graph)
    crossing = {(i, o) for i, o in true if hit_phi[i] * hit_phi[o] < 0}
    assert crossing
    assert hit_pairs(graph_of(*rotate(event, generic, np.pi))) == hit_pairs(graph)


def test_longer_padding_changes_nothing(small_graph, small_event, generic, pairs, roomy):
    hits = pad_hits(small_event.hits, 640)
    longer = jax.jit(build_graph, static_argnums=3)(hits, generic.rotation, pairs, roomy.graph)
    before, after = twin.edges_as_hits(small_graph), twin.edges_as_hits(longer)
    assert before == after
    rows = list(before.values())
    np.testing.assert_allclose(
        longer.edge_features[np.array(rows)], small_graph.edge_features[rows], atol=1e-5
    )
    assert longer.sizes == small_graph.sizes


def test_what_lies_in_the_padding_does_not_matter(small_graph, small_event, graph_of):
    # Copies of real hits, marked as padding.
    n = len(small_event.hits.layer)
    copies = np.r_[np.arange(n), np.arange(512 - n)]
    hits = type(small_event.hits)(*(column[copies] for column in small_event.hits))
    hits = hits._replace(valid=np.arange(512) < n)
    graph = graph_of(small_event._replace(hits=hits))
    assert twin.edges_as_hits(graph) == twin.edges_as_hits(small_graph)


# Odd events.


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_hits_give_no_edge(small_event, graph_of, select_hits, n):
    graph = graph_of(select_hits(small_event, np.arange(n)))
    assert not graph.edges.valid.any()
    assert not graph.node_valid.any()
    assert not graph.edges.overflow
    assert int(graph.sizes.edges) == int(graph.sizes.nodes) == 0


def test_noise_alone(learning_events, graph_of, generic, pairs, select_hits):
    event = learning_events[1]
    event = select_hits(event, np.flatnonzero(event.particles.hit_particle < 0)[:512])
    graph = graph_of(event)
    assert_like_twin(graph, event, generic, pairs)
    assert len(hit_pairs(graph)) < 0.1 * len(event.hits.layer)


def test_a_missing_layer(small_event, graph_of, generic, pairs, select_hits):
    busiest = np.bincount(small_event.hits.layer).argmax()
    event = select_hits(small_event, np.flatnonzero(small_event.hits.layer != busiest))
    graph = graph_of(event)
    assert hit_pairs(graph)
    assert_like_twin(graph, event, generic, pairs)


def test_hits_that_come_twice_double_every_end(small_event, graph_of, select_hits):
    rows = np.flatnonzero(small_event.particles.hit_particle < 15)[:200]
    once = hit_pairs(graph_of(select_hits(small_event, rows)))
    twice = hit_pairs(graph_of(select_hits(small_event, np.tile(rows, 2))))
    n = len(rows)
    assert once
    assert twice == {(i + a, o + b) for i, o in once for a in (0, n) for b in (0, n)}


@pytest.mark.parametrize("missing", ["cluster size", "sensor"])
def test_hits_without_a_cluster_shape_pass_every_size_window(
    small_graph, small_event, graph_of, generic, pairs, missing
):
    # Every cluster contradicts every direction, so that only hits without a shape can be on an edge.
    hits = small_event.hits
    known = np.arange(len(hits.layer)) % 8 == 0
    features, module = np.full_like(hits.features, 200.0), hits.module.copy()
    if missing == "cluster size":
        features[~known] = 0
    else:
        module[~known] = -1
    event = small_event._replace(hits=hits._replace(features=features, module=module))
    graph = graph_of(event)
    assert {edge for edge in hit_pairs(graph) if known[list(edge)].any()} == set()
    assert len(hit_pairs(graph)) > 0.3 * len(hit_pairs(small_graph))
    assert_like_twin(graph, event, generic, pairs)


def test_wrong_cluster_sizes_remove_edges(small_graph, small_event, graph_of):
    features = small_event.hits.features.copy()
    features[:, :2] = 200.0
    graph = graph_of(small_event._replace(hits=small_event.hits._replace(features=features)))
    assert len(hit_pairs(graph)) < 0.5 * len(hit_pairs(small_graph))


# Capacities.


@pytest.fixture(scope="module")
def tight(generic, pairs, roomy, small_event):
    """Sizes and overflow of capacities that are exact (first) or one too small in one place."""
    hits = pad_hits(small_event.hits)
    needed = event_graph(small_event, generic, pairs, {512: roomy}).sizes
    exact = GraphCapacity(**{name: int(size) for name, size in needed._asdict().items()})
    names = [field.name for field in fields(exact)]
    capacities = [exact, *(replace(exact, **{name: getattr(exact, name) - 1}) for name in names)]

    @jax.jit
    def build_all(hits, rotation, pairs):
        graphs = [build_graph(hits, rotation, pairs, capacity) for capacity in capacities]
        return [(graph.edges.overflow, graph.sizes) for graph in graphs]

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    results = build_all(hits, generic.rotation, pairs)
    jax.config.update("jax_disable_most_optimizations", before)
    return needed, dict(zip([None, *names], results, strict=True))


def test_exact_capacities_suffice(tight):
    needed, results = tight
    overflow, sizes = results[None]
    assert not overflow
    assert sizes == needed


@pytest.mark.parametrize("name", GraphSizes._fields)
def test_one_too_few_overflows_and_reports_the_need(tight, name):
    needed, results = tight
    overflow, sizes = results[name]
    assert overflow
    assert getattr(sizes, name) == getattr(needed, name)
    # What comes before the array that was too short is complete.
    place = GraphSizes._fields.index(name)
    assert sizes[:place] == needed[:place]


@pytest.mark.parametrize("name", GraphSizes._fields)
def test_capacities_below_eight_are_refused(name):
    allowed = dict.fromkeys(GraphSizes._fields, 8)
    GraphCapacity(**allowed)
    with pytest.raises(ConfigError, match=rf"GraphCapacity\.{name} = 7: allowed is 8 and more"):
        GraphCapacity(**allowed | {name: 7})


def test_one_program_serves_events_of_one_padded_size(small_event, graph_of, select_hits):
    graph_of(small_event)
    programs = data._graph._cache_size()
    for n in (30, 200, 300):
        graph_of(select_hits(small_event, np.arange(n)))
    assert data._graph._cache_size() == programs


# The window on the inner layer.


def test_the_window_holds_every_line_from_the_beam_spot(pairs):
    rng = np.random.default_rng(5)
    n = 1000
    pair = rng.integers(0, len(pairs.inner), n)
    # Outer hits anywhere, also within the beam spot in z and on the far side.
    r, z = rng.uniform(30, 1100, n), rng.uniform(-1500, 1500, n)
    z[::5] = rng.uniform(-1, 1, len(z[::5])) * pairs.z0[pair[::5]]
    low, high = jax.jit(_window_along)(pairs, pair, jnp.asarray(r, jnp.float32), jnp.asarray(z, jnp.float32))
    inner = pairs.inner[pair]
    barrel, reach = pairs.is_barrel[inner], pairs.reach[inner].astype(float)
    for _ in range(20):
        z0 = rng.uniform(-1, 1, n) * pairs.z0[pair]
        at = reach[:, 0] + rng.uniform(0, 1, n) * (reach[:, 1] - reach[:, 0])
        crossing = np.where(barrel, z0 + (z - z0) * at / r, r * (at - z0) / (z - z0))
        meets = (crossing > 0) & (crossing < 1e6) | barrel
        slack = 1e-3 + 1e-4 * np.abs(crossing)
        inside = (crossing >= low - slack) & (crossing <= high + slack)
        assert inside[meets].all()
    # Discs on the other side of the beam spot are not searched.
    behind = ~barrel & (z * reach.mean(1) < 0) & (np.abs(z) > pairs.z0[pair])
    assert behind.any()
    assert (np.asarray(high)[behind & (np.abs(reach).min(1) > pairs.z0[pair])] <= 0).all()
