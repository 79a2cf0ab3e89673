"""jraph graphs: conversion, batching and padding, each undone by its inverse."""

import jraph
import numpy as np
import pytest

from recon import graphs
from recon.errors import CapacityError, DataError
from recon.types import EdgeList


def event(seed=0, n=5, e=8, padding=3):
    rng = np.random.default_rng(seed)
    receivers = np.sort(rng.integers(0, n, e + padding)).astype(np.int32)
    senders = rng.integers(0, n, e + padding).astype(np.int32)
    valid = np.arange(e + padding) < e
    nodes = rng.normal(size=(n, 2)).astype(np.float32)
    edges = rng.normal(size=(e + padding, 3)).astype(np.float32)
    return nodes, edges, EdgeList(senders, receivers, valid, np.array(False))


def assert_same(one, other):
    for name in ("nodes", "edges", "senders", "receivers", "n_node", "n_edge"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_conversion_leaves_padding_out():
    nodes, edges, edge_list = event()
    graph = graphs.to_graph(nodes, edges, edge_list)
    assert isinstance(graph, jraph.GraphsTuple)
    np.testing.assert_array_equal(graph.edges, edges[:8])
    np.testing.assert_array_equal(graph.senders, edge_list.senders[:8])
    assert graph.n_node.tolist() == [5]
    assert graph.n_edge.tolist() == [8]


def test_incomplete_edge_lists_are_refused():
    nodes, edges, edge_list = event()
    with pytest.raises(CapacityError, match="edges"):
        graphs.to_graph(nodes, edges, edge_list._replace(overflow=np.array(True)))


@pytest.mark.parametrize(("name", "value"), [("senders", 5), ("receivers", -1)])
def test_edges_to_nowhere_are_refused(name, value):
    nodes, edges, edge_list = event()
    ends = getattr(edge_list, name).copy()
    ends[2] = value
    with pytest.raises(DataError, match=rf"{name}\[2\] = {value} is no hit; allowed are 0 to 4"):
        graphs.to_graph(nodes, edges, edge_list._replace(**{name: ends}))


def test_batch_and_back():
    parts = [graphs.to_graph(*event(seed, n=3 + seed)) for seed in range(3)]
    batch = graphs.batch_graphs(parts)
    np.testing.assert_array_equal(batch.senders[8:16], parts[1].senders + 3)
    before = batch.senders.copy(), batch.receivers.copy()
    for part, again in zip(parts, graphs.unbatch_graphs(batch), strict=True):
        assert_same(part, again)
    # The function behind changes the arrays that it is given.
    np.testing.assert_array_equal(batch.senders, before[0])
    np.testing.assert_array_equal(batch.receivers, before[1])


def test_empty_batch_is_refused():
    with pytest.raises(DataError, match="no graph"):
        graphs.batch_graphs([])


def test_pad_masks_and_back():
    batch = graphs.batch_graphs([graphs.to_graph(*event(seed)) for seed in range(2)])
    padded = graphs.pad_graph(batch, nodes=14, edges=20)
    assert padded.nodes.shape == (14, 2)
    assert padded.edges.shape == (20, 3)
    np.testing.assert_array_equal(graphs.node_mask(padded), np.arange(14) < 10)
    np.testing.assert_array_equal(graphs.edge_mask(padded), np.arange(20) < 16)
    assert (np.asarray(padded.receivers)[16:] >= 10).all(), "padded edges touch no hit"
    assert_same(batch, graphs.unpad_graph(padded))


def test_padding_defaults_to_the_ladder_and_keeps_a_node_free():
    graph = graphs.to_graph(*event(n=8))
    assert graphs.pad_graph(graph).nodes.shape[0] == 16
    with pytest.raises(
        CapacityError, match=r"9 nodes do not fit .* raise pad_graph\(nodes=...\) to at least 9"
    ):
        graphs.pad_graph(graph, nodes=8)
    with pytest.raises(CapacityError, match="8 edges"):
        graphs.pad_graph(graph, edges=7)


def test_an_event_without_edges():
    nodes, edges, edge_list = event()
    graph = graphs.to_graph(nodes, edges, edge_list._replace(valid=np.zeros_like(edge_list.valid)))
    assert graph.n_edge.tolist() == [0]
    assert not graphs.edge_mask(graphs.pad_graph(graph)).any()
