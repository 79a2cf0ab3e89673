"""`recon bench tracking`: cost against the number of hits, and efficiency against CPU time, beside ACTS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import arg

from recon.display.curves import WorkingPoint, plot_cost, plot_working_points
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.commands.options import Json, ModelName, Report, console, progress_bars, write_json
from recon.tracking.evaluation import NETWORK, evaluate_acts, evaluate_network
from recon.tracking.metrics import TargetSelection
from recon.tracking.report import FinderResult
from recon.tracking.shipped import DEFAULT, TrackingModel, load_model
from recon.types import Event


def bench(
    *,
    pileup: tuple[int, ...] = (0, 20, 40, 100, 200, 300, 400),
    events: int = 2,
    working_points: tuple[str, ...] = ("default", "tuned-3", "tuned"),
    edge_scores: tuple[float, ...] = (0.1, 0.2, 0.5, 0.8),
    seed: int = 4001,
    model: ModelName = DEFAULT,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/bench"),
    json: Json = None,
) -> None:
    """Simulate events of rising pile-up and measure the graph network and ACTS on them.

    Args:
        pileup: numbers of collisions beside the hard scatter.
        events: events at every pile-up; each has a size of its own, for which the programs compile once.
        working_points: of ACTS; the first one is run at every pile-up, all at 200.
        edge_scores: working points of the graph network, run at 200.
        seed: of the events.
        model: a shipped model or the directory of your own.
        output: directory of the plots.
        json: write the rows of the table here.
    """
    finder = load_model(model)
    rows: list[dict[str, Any]] = []

    def keep(new: list[dict[str, Any]]) -> None:
        """Say and write what is measured as it comes: the whole takes long."""
        rows.extend(new)
        for row in new:
            console.print(_line(row))
        write_json(json, {"rows": rows, "model": str(model), "seed": seed})

    with progress_bars() as report:
        for collisions in pileup:
            config = TrackerSimulation(pileup=collisions, events=events, seed=seed, pool_seed=1001)
            sample = list(simulate_events(config))
            keep(_measure(sample, collisions, finder, working_points[:1], report))
            if collisions == 200:
                keep(_working_points(sample, finder, working_points[1:], edge_scores, report))
    output.mkdir(parents=True, exist_ok=True)
    _draw(rows, output)


def _line(row: dict[str, Any]) -> str:
    return (
        f"PU {row['pileup']:>3} {row['finder']:<26} {row['hits']:>9,.0f} hits {row['cpu']:7.3f} CPU-s "
        f"eff {row['efficiency']:.4f} fakes {row['fake_rate']:.4f} perfect {row['perfect']:.4f}"
    )


def _measure(
    sample: list[Event], pileup: int, finder: TrackingModel, points: tuple[str, ...], report: Report
) -> list[dict[str, Any]]:
    results = [evaluate_network(sample, finder, TargetSelection(), report)]
    results += [evaluate_acts(sample, point, TargetSelection(), report) for point in points]
    hits = float(np.mean([len(event.hits.layer) for event in sample]))
    return [_row(result, pileup, hits, result.name) for result in results]


def _working_points(
    sample: list[Event],
    finder: TrackingModel,
    points: tuple[str, ...],
    edge_scores: tuple[float, ...],
    report: Report,
) -> list[dict[str, Any]]:
    hits = float(np.mean([len(event.hits.layer) for event in sample]))
    rows = [
        _row(evaluate_acts(sample, point, TargetSelection(), report), 200, hits, f"ACTS CKF {point}")
        for point in points
    ]
    for score in edge_scores:
        building = dataclasses.replace(finder.config.building, edge_score=score)
        changed = dataclasses.replace(finder, config=dataclasses.replace(finder.config, building=building))
        result = evaluate_network(sample, changed, TargetSelection(), report)
        rows.append(_row(result, 200, hits, f"{NETWORK}, score {score:g}"))
    return rows


def _row(result: FinderResult, pileup: int, hits: float, name: str) -> dict[str, Any]:
    counts = result.evaluation.counts
    return {
        "finder": name,
        "pileup": pileup,
        "hits": hits,
        "events": counts.events,
        "cpu": sum(result.cpu_seconds.values()),
        "stages": dict(result.cpu_seconds),
        "efficiency": float(counts.efficiency.value),
        "efficiency_error": float(counts.efficiency.error),
        "perfect": float(counts.perfect_efficiency.value),
        "fake_rate": float(counts.fake_rate.value),
        "duplicate_rate": float(counts.duplicate_rate.value),
    }


def _draw(rows: list[dict[str, Any]], output: Path) -> None:
    scan = [row for row in rows if ", score" not in row["finder"] and row["finder"] != "ACTS CKF tuned"]
    names = sorted({row["finder"] for row in scan}, reverse=True)
    cost = {name: _columns(scan, name, "hits", "cpu") for name in names}
    plot_cost(output / "cost.png", {name: xy for name, xy in cost.items() if len(xy[0]) > 1})
    at_200 = [row for row in rows if row["pileup"] == 200]
    series = {
        "graph network": [_point(row, ", ") for row in at_200 if row["finder"].startswith(NETWORK)],
        "ACTS CKF": [_point(row, "CKF ") for row in at_200 if row["finder"].startswith("ACTS")],
    }
    if at_200:
        plot_working_points(output / "working_points.png", series)


def _point(row: dict[str, Any], before_label: str) -> WorkingPoint:
    return WorkingPoint(
        label=row["finder"].split(before_label)[-1],
        seconds=row["cpu"],
        efficiency=row["efficiency"],
        efficiency_error=row["efficiency_error"],
        fake_rate=row["fake_rate"],
    )


def _columns(rows: list[dict[str, Any]], name: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    chosen = [row for row in rows if row["finder"] == name]
    return np.array([row[x] for row in chosen]), np.array([row[y] for row in chosen])
