"""Rows of the benchmark: one length a sample, settings that change what they say, a table to paste."""

from __future__ import annotations

import numpy as np
import pytest

from recon.tracking import benchmark, load_model
from recon.tracking.benchmark import (
    MARKDOWN_HEAD,
    BenchmarkRow,
    markdown_line,
    measure_network,
    scale_windows,
    working_points,
)
from recon.tracking.checks import padded_length
from recon.tracking.density import search_density
from recon.tracking.evaluation import NETWORK
from tests.recon.tracking.small_events import simulate

ROW = BenchmarkRow(
    finder="net",
    setting="shipped",
    pileup=200,
    events=2,
    hits=130_000.0,
    cpu=0.78,
    stages={"graph": 0.78},
    efficiency=0.9888,
    efficiency_error=0.0012,
    perfect=0.8858,
    fake_rate=0.0079,
    duplicate_rate=0.0,
)


@pytest.fixture(scope="module")
def model():
    return load_model()


def test_a_line_of_the_table():
    line = markdown_line(ROW)
    assert line == "| 200 | 130,000 | net | shipped | 0.78 | 6.0 | 98.88 ± 0.12 % | 88.58 % | 0.79 % |"
    assert [row.count("|") for row in MARKDOWN_HEAD.splitlines()] == [line.count("|")] * 2


def test_working_points_change_what_they_name(model):
    points = dict(working_points(model, windows=[0.5], edge_scores=[0.7]))
    assert list(points) == ["windows x 0.5", "edge score 0.7"]
    assert points["edge score 0.7"].config.building.edge_score == 0.7
    assert points["edge score 0.7"].pairs is model.pairs
    assert points["windows x 0.5"].config == model.config


def test_narrow_windows_let_fewer_segments_through(model):
    narrow = scale_windows(model, 0.5)
    np.testing.assert_array_equal(narrow.pairs.z0, 0.5 * model.pairs.z0)
    np.testing.assert_array_equal(narrow.pairs.inner, model.pairs.inner)
    # Azimuth and z0 halved.
    ratio = search_density(narrow.pairs).doublets / search_density(model.pairs).doublets
    assert ratio == pytest.approx(0.25, abs=0.01)
    assert narrow.capacities is not model.capacities


def test_a_sample_has_one_length(model, tmp_path, monkeypatch):
    events = simulate(tmp_path)
    seen = {}

    def evaluate(sample, finder, selection, progress, *, length):
        seen["length"] = length
        raise StopIteration

    monkeypatch.setattr(benchmark, "evaluate_network", evaluate)
    with pytest.raises(StopIteration):
        measure_network(events, model, lambda *_: None, pileup=0)
    assert seen["length"] == padded_length(event.hits for event in events)
    assert NETWORK == "graph network"
