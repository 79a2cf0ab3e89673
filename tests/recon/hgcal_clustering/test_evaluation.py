"""Working points side by side: their showers, their report, and what the numbers in it are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.evaluation import (
    FinderResult,
    Trial,
    WorkingPoint,
    evaluate_points,
    timed_showers,
)
from recon.hgcal_clustering.metrics import ShowerSelection, evaluate_event, merge, rate
from recon.hgcal_clustering.pipeline import find_showers
from recon.hgcal_clustering.report import (
    RATES,
    summary_rows,
    summary_table,
    to_json,
    to_markdown,
    write_report,
)
from recon.hgcal_clustering.report_plots import PLOTS, purity_points, response_points
from recon.hgcal_clustering.response import energy_response, summarise
from tests.reference.toy_showers import dominant_particle, take_hits, toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")

OPEN = ShowerSelection(eta_min=0.0, eta_max=10.0)
POINTS = [WorkingPoint("ours", HgcalConfig()), WorkingPoint("peer [x]", HgcalConfig(method="hits"))]
NO_CELLS = {point.name: None for point in POINTS}


@pytest.fixture(scope="module")
def events():
    return [toy_event(seed=seed, showers=5, n_layers=20) for seed in (3, 4)]


@pytest.fixture(scope="module")
def results(events):
    done = []
    trials = [Trial(event, 10.0 * row, NO_CELLS) for row, event in enumerate(events)]
    found = evaluate_points(iter(trials), POINTS, OPEN, done.append)
    assert done == [1, 2]
    return found


def perfect(events, wrong=0.0):
    """Clusters that are the true particles, their energy off by a factor."""
    tables = []
    for event in events:
        label = dominant_particle(event)
        true = np.linalg.norm(event.truth.momentum.astype(float), axis=1)
        tables.append(evaluate_event(event, label, OPEN, energies=true * (1 + wrong)))
    return FinderResult(name="perfect", evaluation=merge(tables), n_hits=[1], n_tracksters=[5])


def test_a_working_point_is_what_find_showers_does(events, results):
    for result, point in zip(results, POINTS, strict=True):
        showers = [find_showers(event, point.config) for event in events]
        assert result.n_tracksters == [len(each.tracksters.valid) for each in showers]
        assert result.n_hits == [len(event.hits.energy) for event in events]
        assert result.config == point.config
        wanted = merge(
            [evaluate_event(e, s.hit_trackster, OPEN) for e, s in zip(events, showers, strict=True)]
        )
        for name in RATES:
            assert rate(result.evaluation, name, OPEN) == rate(wanted, name, OPEN)
    np.testing.assert_array_equal(np.unique(results[0].evaluation.particles.pileup), [0.0, 10.0])


def test_every_step_is_timed_and_compilation_is_not(events):
    size = take_hits(events[0].hits, np.arange(len(events[0].hits.energy)))
    showers, seconds = timed_showers(events[0]._replace(hits=size), HgcalConfig(), None)
    assert list(seconds)[-1] == "output"
    assert {"layer clusters", "tracksters"} <= set(seconds)
    # A program takes a second or more to compile.
    assert sum(seconds.values()) < 1.0
    np.testing.assert_array_equal(showers.hit_trackster, find_showers(events[0]).hit_trackster)


def test_response_is_that_of_the_regressed_energy(events):
    for wrong in (0.0, 0.1):
        particles = perfect(events, wrong).evaluation.particles
        np.testing.assert_allclose(energy_response(particles), 1 + wrong, rtol=1e-6)
        assert particles.found_simple.all()
    assert float(summarise(energy_response(particles)).resolution) == pytest.approx(0, abs=1e-6)
    with pytest.raises(DataError, match="2 energies for 5 clusters"):
        evaluate_event(events[0], dominant_particle(events[0]), OPEN, energies=np.ones(2))


def test_summary_of_what_is_perfect(events):
    rows = dict(summary_rows([perfect(events)], OPEN))
    assert rows["efficiency"][0].startswith("100.00 ±")
    assert rows["fake rate"][0].startswith("0.00 ±")
    assert rows["response"] == ["1.000 ± 0.000"]
    assert rows["purity"][0].startswith(("0.9", "1"))
    assert rows["particles to find"] == ["10"]
    assert "CPU time per event [s]" not in rows


def test_report(results, tmp_path):
    files = write_report(tmp_path / "report", results, title="toy events", selection=OPEN)
    text = files["report"].read_text("utf-8")
    assert text.startswith("# toy events\n")
    efficiency = rate(results[0].evaluation, "efficiency_simple", OPEN)
    assert f"| efficiency | {100 * float(efficiency.value):.2f} ±" in text
    for name, path in files.items():
        assert path.is_file()
        assert name in ("report", "json") or f"]({path.name})" in text
    tree = json.loads(files["json"].read_text("utf-8"))
    assert tree == to_json(results, title="toy events", selection=OPEN)
    assert [finder["name"] for finder in tree["finders"]] == ["ours", "peer [x]"]
    assert set(tree["finders"][0]["curves"]) == set(PLOTS)
    assert tree["finders"][0]["rates"]["efficiency_simple"]["passed"] == efficiency.passed
    assert HgcalConfig.from_json(tree["finders"][1]["settings"]) == POINTS[1].config


def test_every_number_of_the_report_is_defined(results):
    text = to_markdown(results, title="toy", selection=OPEN)
    for word in (
        "Efficiency:",
        "TICL:",
        "pure:",
        "duplicate:",
        "Fake:",
        "merge:",
        "split:",
        "Purity:",
        "Response:",
    ):
        assert word in text
    assert "more than 0.5 of the deposited energy" in text


def test_console_table_shows_brackets(results):
    console = Console(width=140, force_terminal=False)
    with console.capture() as captured:
        console.print(summary_table(results, OPEN, "toy"))
    for word in ("ours", "peer [x]", "CPU time per event [s]", "homogeneity"):
        assert word in captured.get()


def test_report_of_events_without_particles(events, tmp_path):
    nothing = ShowerSelection(energy_min=1e6)
    found = evaluate_event(events[0], np.full(len(events[0].hits.energy), -1), nothing)
    result = FinderResult(name="none", evaluation=found, n_hits=[0], n_tracksters=[0])
    files = write_report(tmp_path, [result], title="nothing", selection=nothing)
    assert set(files) == {"report", "json"}
    rates = json.loads(files["json"].read_text())["finders"][0]["rates"]
    assert rates["efficiency"] == {"passed": 0, "total": 0, "value": None, "low": None, "high": None}


def test_purity_in_bins(events):
    particles = perfect(events).evaluation.particles
    particles = particles._replace(
        energy=np.arange(10.0), purity=np.array([1.0, 0.5, *[np.nan] * 2, *[1.0] * 6])
    )
    points = purity_points(particles, "energy", np.array([0.0, 2.0, 4.0, 10.0, 20.0]))
    np.testing.assert_allclose(points.y, [0.75, 0.0, 1.0, np.nan])
    np.testing.assert_allclose(points.high - points.y, [0.25 / np.sqrt(2), 0, 0, np.nan])


def test_few_particles_have_no_width(events):
    particles = perfect(events).evaluation.particles._replace(
        energy=np.r_[np.full(8, 30.0), np.full(2, 60.0)]
    )
    result = perfect(events)
    changed = FinderResult(
        name="a", evaluation=result.evaluation._replace(particles=particles), n_hits=[1], n_tracksters=[1]
    )
    found = response_points(changed)["response_vs_energy"]
    measured = np.isfinite(found.y)
    assert found.edges[:-1][measured].tolist() == [20.0]


def test_what_cannot_be_compared(events):
    trials = [Trial(events[0], 0.0, NO_CELLS)]
    for points in ([], [POINTS[0], POINTS[0]]):
        with pytest.raises(ConfigError, match="different names"):
            evaluate_points(trials, points, OPEN, lambda _: None)
    with pytest.raises(DataError, match="no truth"):
        evaluate_points([Trial(events[0]._replace(truth=None), 0.0, NO_CELLS)], POINTS, OPEN, lambda _: None)
