"""Graphs of TrackML events in .npz files."""

from pathlib import Path

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.trackml_graphs import read_segment_graph, read_segment_graphs

SHARED = Path(__file__).parents[4] / "shared" / "data" / "tracking" / "trackml_graphs"


def arrays(**changes):
    """Four hits on three layers; the segments are not sorted by receiver."""
    columns = {
        "node_features": np.array(
            [[0.032, 0.5, 0.1], [0.072, 0.51, 0.2], [0.072, -1.0, 0.0], [0.116, 0.52, -0.3]], np.float32
        ),
        "senders": np.array([1, 0, 2, 0], np.int32),
        "receivers": np.array([3, 1, 3, 2], np.int32),
        "edge_label": np.array([1, 1, 0, 0], np.uint8),
    }
    columns |= changes
    return {name: column for name, column in columns.items() if column is not None}


@pytest.fixture
def written(tmp_path):
    def write(name="event000001000_g000.npz", **changes):
        np.savez(tmp_path / name, **arrays(**changes))
        return tmp_path / name

    return write


def test_hand_case_in_mm_and_rad_sorted_by_receiver(written):
    graph = read_segment_graph(written())
    assert graph.name == "event000001000_g000"
    np.testing.assert_allclose(graph.cylindrical[0], [32.0, np.pi / 2, 100.0], rtol=1e-6)
    np.testing.assert_allclose(graph.cylindrical[2], [72.0, -np.pi, 0.0], rtol=1e-6)
    assert graph.receivers.tolist() == [1, 2, 3, 3]
    assert graph.senders.tolist() == [0, 0, 1, 2]
    assert graph.label.tolist() == [True, False, True, False]
    assert (graph.senders.dtype, graph.label.dtype) == (np.int32, bool)


def test_order_of_the_segments_in_the_file_does_not_matter(written):
    expected = read_segment_graph(written())
    order = np.random.default_rng(0).permutation(4)
    shuffled = {name: arrays()[name][order] for name in ("senders", "receivers", "edge_label")}
    graph = read_segment_graph(written(**shuffled))
    key = ["senders", "receivers", "label"]
    assert {tuple(row) for row in zip(*(getattr(graph, name).tolist() for name in key), strict=True)} == {
        tuple(row) for row in zip(*(getattr(expected, name).tolist() for name in key), strict=True)
    }
    assert (np.diff(graph.receivers) >= 0).all()


@pytest.mark.parametrize("missing", ["node_features", "senders", "receivers", "edge_label"])
def test_names_the_missing_array(written, missing):
    with pytest.raises(DataError, match=rf"event000001000_g000\.npz lacks {missing}; it holds"):
        read_segment_graph(written(**{missing: None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"senders": np.array([1, 0, 4, 0])},
            "senders is 4 at row 2; allowed are the rows of the hits, 0 to 3",
        ),
        ({"receivers": np.array([3, 1, -1, 2])}, "receivers is -1 at row 2"),
        ({"senders": np.array([1, 0, 2])}, "senders has 3, receivers has 4, edge_label has 4; one row"),
        ({"edge_label": np.array([1, 1, 0, 2])}, "edge_label is 2 at row 3; allowed are 0 and 1"),
        ({"edge_label": np.ones((4, 1))}, r"edge_label has shape \(4, 1\); 1 axes"),
        ({"node_features": np.ones((4, 2))}, "node_features has 2 columns"),
        ({"senders": np.array([1.0, 0.0, 2.0, 0.0])}, "senders holds float64; whole numbers are needed"),
        (
            {"senders": np.array([3, 0, 2, 0]), "receivers": np.array([1, 1, 3, 2])},
            "the sender must be the inner hit",
        ),
    ],
)
def test_refuses_what_cannot_be_a_graph(written, changes, message):
    with pytest.raises(DataError, match=message):
        read_segment_graph(written(**changes))


def test_refuses_a_position_that_is_not_finite(written):
    nodes = arrays()["node_features"]
    nodes[1, 2] = np.nan
    with pytest.raises(DataError, match=r"node_features is .*nan.* at row 1; it must be finite"):
        read_segment_graph(written(node_features=nodes))


def test_refuses_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"absent\.npz cannot be read"):
        read_segment_graph(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("r,phi,z")
    with pytest.raises(DataError, match=r"text\.npz cannot be read"):
        read_segment_graph(tmp_path / "text.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"torn\.npz cannot be read"):
        read_segment_graph(tmp_path / "torn.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.npz cannot be read"):
        read_segment_graph(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(DataError, match=r"single\.npz cannot be read"):
        read_segment_graph(tmp_path / "single.npz")


def test_directory_in_the_order_of_the_names(written, tmp_path):
    for name in ("event2.npz", "event1.npz"):
        written(name)
    assert [graph.name for graph in read_segment_graphs(tmp_path)] == ["event1", "event2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.npz file"):
        read_segment_graphs(tmp_path / "empty")


def test_real_events_are_barrel_graphs_between_neighbouring_layers():
    if not SHARED.is_dir():
        pytest.skip(f"the TrackML graphs {SHARED} are not on this machine")
    for graph in read_segment_graphs(SHARED / "test")[:3]:
        r, phi, z = graph.cylindrical.T
        assert 31 < r.min() < r.max() < 1030
        assert np.abs(phi).max() <= np.float32(np.pi)
        assert np.abs(z).max() < 1100
        assert (r[graph.receivers] - r[graph.senders]).min() > 20
        # A hit belongs to one particle, which comes from one hit at most and goes to one.
        assert np.bincount(graph.receivers[graph.label]).max() == 1
        assert np.bincount(graph.senders[graph.label]).max() == 1
        assert 0.4 < graph.label.mean() < 0.65
