"""The report of several finders: table, Markdown, JSON and plots."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from recon.errors import ConfigError
from recon.report import format_ratio
from recon.tracking.metrics import TargetSelection, evaluate_event, merge
from recon.tracking.report import FinderResult, summary_rows, summary_table, write_report
from recon.tracking.report_plots import PLOTS, binned_curves, resolution_points
from recon.tracking.resolution import PARAMETERS, spread, spread_in_bins
from tests.reference import toy_tracks as toy


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(0)
    fitted, bare = [], []
    for number in range(4):
        event = toy.helix_event(rng, n_particles=80, number=number)
        tracks, fit, covariance = toy.perfect_finder(event, rng)
        weights = np.full(len(event.hits.layer), 1 / len(event.hits.layer))
        fitted.append(
            evaluate_event(event, tracks, fit, covariance=covariance, weights=weights, pileup=10.0 + number)
        )
        random = toy.random_tracks(rng, event.particles.hit_particle)
        bare.append(evaluate_event(event, toy.track_hits(*random), pileup=10.0 + number))
    return [
        FinderResult(
            name="network", evaluation=merge(fitted), cpu_seconds={"graph": 0.1, "fit": 0.02}, note="a|b"
        ),
        FinderResult(name="peer [x]", evaluation=merge(bare)),
    ]


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    directory = tmp_path_factory.mktemp("report") / "made"
    return directory, write_report(
        directory, results, title="toy events", selection=TargetSelection(pt_min=1.2)
    )


def test_report_writes_every_file_that_it_names(report):
    directory, files = report
    assert {"report", "json", "pulls", "cpu_time", "resolution_qp_vs_pt", *PLOTS} <= set(files)
    assert sorted(path.name for path in directory.iterdir()) == sorted(path.name for path in files.values())
    for path in files.values():
        assert path.stat().st_size > 1000
        assert path.suffix != ".png" or path.read_bytes()[:4] == b"\x89PNG"


def refuse_constant(word):
    raise AssertionError(f"{word} is not JSON")


def test_json_agrees_with_the_counts_and_has_no_nan(report, results):
    _, files = report
    content = json.loads(files["json"].read_text("utf-8"), parse_constant=refuse_constant)
    assert content["schema"] == "recon.tracking.report/1"
    assert content["selection"]["pt_min"] == 1.2
    network, peer = content["finders"]
    counts = results[0].evaluation.counts
    assert network["counts"]["found"] == counts.found
    assert network["rates"]["efficiency"]["value"] == counts.found / counts.targets
    rate = network["rates"]["fake_rate"]
    assert rate["low"] <= rate["value"] <= rate["high"]
    assert network["trackml_score"] == pytest.approx(counts.mean_score)
    assert network["cpu_seconds_total"] == pytest.approx(0.12)
    assert network["parameters"]["q/p"]["pull"]["width"] == pytest.approx(1, abs=0.15)
    assert peer["trackml_score"] is None
    assert peer["cpu_seconds_total"] is None
    assert peer["parameters"]["d0"]["residual"] == {"n": 0} | dict.fromkeys(
        ["mean", "median", "width", "width_error", "core"]
    )


def test_json_curves_hold_every_entry(report, results):
    _, files = report
    network = json.loads(files["json"].read_text("utf-8"))["finders"][0]
    assert set(network["curves"]) == set(PLOTS)
    counts = results[0].evaluation.counts
    eta = network["curves"]["efficiency_vs_eta"]
    pileup = network["curves"]["efficiency_vs_pileup"]
    assert sum(pileup["total"]) == counts.targets
    assert pileup["outside"] == 0
    assert sum(eta["passed"]) == counts.found
    fakes = network["curves"]["fake_rate_vs_pt"]
    assert sum(fakes["total"]) + fakes["outside"] == counts.candidates


def test_markdown_has_the_numbers_and_links_the_plots(report, results):
    directory, files = report
    text = files["report"].read_text("utf-8")
    assert text.startswith("# toy events\n")
    assert "pT > 1.2 GeV" in text
    efficiency = format_ratio(results[0].evaluation.counts.efficiency)
    assert f"| efficiency (double majority) | {efficiency} |" in text
    for name in ("efficiency_vs_pt.png", "pulls.png"):
        assert f"]({name})" in text
        assert (directory / name).exists()
    assert "| graph | 0.1 | - |" in text


def test_console_table_shows_names_and_units(results):
    console = Console(width=140, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(summary_table(results, "toy"))
    text = captured.get()
    for word in ("network", "peer [x]", "d0 resolution [mm]", "CPU time per event [s]", "fake rate"):
        assert word in text


def test_rows_that_nobody_measured_are_left_out(results):
    labels = [label for label, _ in summary_rows(results[1:])]
    assert "TrackML score" not in labels
    assert "d0 pull width" not in labels
    assert "fake rate" in labels


def test_report_of_an_empty_event(tmp_path):
    nothing = evaluate_event(toy.event(toy.particles(np.zeros(0, np.int32))), toy.track_hits())
    files = write_report(tmp_path, [FinderResult(name="nothing", evaluation=nothing)])
    assert set(files) == {"report", "json"}
    rates = json.loads(files["json"].read_text("utf-8"))["finders"][0]["rates"]
    assert rates["efficiency"] == {"passed": 0, "total": 0, "value": None, "low": None, "high": None}


def test_names_must_differ(results):
    for wrong in ([], [results[0], results[0]]):
        with pytest.raises(ConfigError, match="different names"):
            summary_table(wrong)


def test_pileup_bins_hold_single_and_many_values(results):
    evaluation = results[0].evaluation
    curve = binned_curves({"a": evaluation})["efficiency_vs_pileup"]["a"]
    assert curve.edges.tolist() == [9.5, 10.5, 11.5, 12.5, 13.5]
    wide = evaluation._replace(
        particles=evaluation.particles._replace(pileup=np.linspace(0, 200, len(evaluation.particles.pileup)))
    )
    assert len(binned_curves({"a": wide})["efficiency_vs_pileup"]["a"].edges) == 9


def test_resolution_points_have_the_width_that_was_put_in(results):
    tracks = results[0].evaluation.tracks
    edges = np.array([1.0, 3.0, 6.0])
    np.testing.assert_allclose(resolution_points(tracks, "d0", edges).y, 20, rtol=0.25)
    np.testing.assert_allclose(resolution_points(tracks, "q/p", edges).y, 2, rtol=0.25)
    assert np.isnan(resolution_points(results[1].evaluation.tracks, "phi", edges).y).all()


def test_spread_of_a_gaussian_with_tails():
    rng = np.random.default_rng(1)
    core = rng.normal(0.1, 2.0, 20_000)
    values = np.concatenate([core, rng.uniform(-100, 100, 400), [np.nan]])
    result = spread(values)
    assert result.n == 20_400
    assert result.core == pytest.approx(2.0, rel=0.03)
    assert result.width == pytest.approx(2.0, rel=0.04)
    assert result.median == pytest.approx(0.1, abs=0.1)
    assert values[:-1].std() > 5


def test_width_error_is_the_scatter_of_the_width():
    rng = np.random.default_rng(2)
    each = [spread(rng.normal(size=400)) for _ in range(400)]
    assert np.mean([s.width_error for s in each]) == pytest.approx(np.std([s.width for s in each]), rel=0.12)


def test_spread_of_little():
    assert spread(np.zeros(0)).n == 0
    assert np.isnan(spread(np.array([np.nan]))[1:]).all()
    assert spread(np.array([3.0]))[:4] == (1, 3.0, 3.0, 0.0)


def test_spread_in_bins():
    values, variable = np.array([1.0, 2.0, 5.0]), np.array([0.5, 0.5, 1.5])
    assert [s.n for s in spread_in_bins(values, variable, np.array([0.0, 1.0, 2.0]))] == [2, 1]
    with pytest.raises(ConfigError, match="ascend"):
        spread_in_bins(values, variable, np.array([1.0, 0.0]))
    assert len(PARAMETERS) == 5
