"""The benchmark on graphs of real TrackML events: its inputs, its training, its bar."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from recon.geometry import origin_curvature
from recon.io.trackml_graphs import SegmentGraph
from recon.tracking.data import mirror
from recon.train.log import read_metrics

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "tracking" / "trackml_graphs"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location(
        "trackml_graphs_benchmark", ROOT / "benchmarks" / "trackml_graphs.py"
    )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def data():
    if not SHARED.is_dir():
        pytest.skip(f"the TrackML graphs {SHARED} are not on this machine")
    return SHARED


def random_graph(seed=0, n_hits=60, n_segments=90):
    """Segments from 72 mm to 116 mm with azimuths on both sides of the cut at pi."""
    rng = np.random.default_rng(seed)
    half = n_hits // 2
    phi = np.pi + rng.uniform(-0.05, 0.05, n_hits)
    cylindrical = np.stack(
        [
            np.where(np.arange(n_hits) < half, 72.0, 116.0),
            (phi + np.pi) % (2 * np.pi) - np.pi,
            rng.normal(0, 300, n_hits),
        ],
        1,
    )
    return SegmentGraph(
        name="random",
        cylindrical=cylindrical.astype(np.float32),
        senders=rng.integers(0, half, n_segments).astype(np.int32),
        receivers=np.sort(rng.integers(half, n_hits, n_segments)).astype(np.int32),
        label=rng.uniform(size=n_segments) < 0.5,
    )


def test_inputs_of_a_segment_by_hand(benchmark):
    graph = SegmentGraph(
        name="hand",
        cylindrical=np.array([[30.0, np.pi - 0.01, 10.0], [60.0, -np.pi + 0.01, 40.0]], np.float32),
        senders=np.zeros(1, np.int32),
        receivers=np.ones(1, np.int32),
        label=np.ones(1, bool),
    )
    labelled = benchmark.labelled_graph(graph)
    np.testing.assert_allclose(labelled.nodes[0], [0.06, 10 / 1500, np.arcsinh(1 / 3) / 2], rtol=1e-5)
    chord = np.hypot(60 * np.cos(0.02) - 30, 60 * np.sin(0.02))
    expected = [2000 * np.sin(0.02) / chord, np.pi / 4, -20 / 100, 0.4, 0.15, 0.06]
    np.testing.assert_allclose(labelled.edges[0], expected, rtol=1e-4)


def test_curvature_is_that_of_the_geometry(benchmark):
    graph = random_graph()
    r, phi, z = graph.cylindrical.T.astype(np.float64)
    points = np.stack([r * np.cos(phi), r * np.sin(phi), z], 1)
    expected = 1000 * origin_curvature(points[graph.senders], points[graph.receivers])
    np.testing.assert_allclose(benchmark.labelled_graph(graph).edges[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_rotation_changes_nothing(benchmark):
    graph = random_graph()
    turned = graph.cylindrical.copy()
    turned[:, 1] -= np.float32(3.0)
    before, after = (benchmark.labelled_graph(g) for g in (graph, graph._replace(cylindrical=turned)))
    np.testing.assert_allclose(before.edges, after.edges, atol=2e-4)
    np.testing.assert_array_equal(before.nodes, after.nodes)


@pytest.mark.parametrize(("charge", "forward"), [(True, False), (False, True), (True, True)])
def test_mirrored_inputs_are_those_of_the_mirrored_event(benchmark, charge, forward):
    graph = random_graph()
    reflected = graph.cylindrical * np.array([1, -1 if charge else 1, -1 if forward else 1], np.float32)
    expected = benchmark.labelled_graph(graph._replace(cylindrical=reflected))
    given = mirror(benchmark.labelled_graph(graph), charge=charge, forward=forward)
    np.testing.assert_allclose(given.nodes, expected.nodes, atol=1e-6)
    np.testing.assert_allclose(given.edges, expected.edges, atol=1e-4)


def test_break_even_is_where_efficiency_equals_purity(benchmark):
    rng = np.random.default_rng(1)
    label = rng.uniform(size=500) < 0.4
    result = benchmark.evaluate(rng.normal(size=500) + 2 * label, label)
    assert result["break_even"]["efficiency"] == result["break_even"]["purity"]
    assert 0.7 < result["break_even"]["efficiency"] < 0.95
    assert result["at_half"]["efficiency"] > result["break_even"]["efficiency"]


def test_twenty_steps_on_two_events_lower_the_loss(benchmark, data, tmp_path):
    config = benchmark.Benchmark(
        data=data,
        steps=20,
        events=2,
        hidden=16,
        layers=2,
        learning_rate=1e-2,
        output=tmp_path / "run",
        json=tmp_path / "out.json",
        plot=tmp_path / "roc.png",
    )
    benchmark.main(config)
    losses = read_metrics(tmp_path / "run" / "metrics.csv")["loss"]
    assert len(losses) == 20
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["settings"]["steps"] == 20
    assert (result["train_events"], result["test_events"]) == (2, 2)
    assert result["auc"] > 0.8
    assert (tmp_path / "roc.png").stat().st_size > 1000


@pytest.mark.slow
def test_training_reaches_the_bar(benchmark, data, tmp_path):
    """Default settings; some minutes of CPU time."""
    result = benchmark.run(benchmark.Benchmark(data=data, output=tmp_path))
    assert result["test_events"] == 15
    assert result["auc"] >= 0.9996
    assert result["break_even"]["efficiency"] >= 0.99
    assert result["break_even"]["purity"] >= 0.99
