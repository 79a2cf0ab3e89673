"""`recon bench tracking`: cost against the number of hits, and efficiency against CPU time, beside ACTS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from recon.display.curves import WorkingPoint, plot_cost, plot_working_points
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.benchmark import (
    EDGE_SCORE,
    MARKDOWN_HEAD,
    SHIPPED,
    BenchmarkRow,
    markdown_line,
    measure_acts,
    measure_network,
    working_points,
)
from recon.tracking.commands.options import Json, ModelName, Report, console, progress_bars, write_json
from recon.tracking.shipped import DEFAULT, TrackingModel, load_model
from recon.types import Event

MOST_SMALL_EVENTS = 4
"""Events at low pile-up are cheap: up to this many times as many of them are run."""


def bench(
    *,
    pileup: tuple[int, ...] = (0, 20, 40, 100, 200, 300, 400),
    events: int = 3,
    peer: tuple[str, ...] = ("default",),
    scan_at: int = 200,
    peer_scan: tuple[str, ...] = ("wide", "tuned-3", "tuned"),
    windows: tuple[float, ...] = (0.7, 0.8, 0.9),
    edge_scores: tuple[float, ...] = (0.05, 0.5, 0.8),
    seed: int = 4001,
    pool_seed: int = 4001,
    model: ModelName = DEFAULT,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/bench"),
    json: Json = None,
) -> None:
    """Simulate events of rising pile-up and measure the graph network and ACTS on them.

    Args:
        pileup: numbers of collisions beside the hard scatter.
        events: events at the largest pile-up; smaller ones get more.
        peer: working points of ACTS that are run at every pile-up.
        scan_at: pile-up at which more working points are compared.
        peer_scan: working points of ACTS that are run there, too.
        windows: factors on the windows of the graph network, run there, too.
        edge_scores: thresholds of the graph network, run there, too.
        seed: of the events.
        pool_seed: of the pile-up collisions.
        model: a shipped model or the directory of your own.
        output: directory of the table and the plots; the table grows as rows are measured.
        json: write the rows here as they are measured.
    """
    finder, rows = load_model(model), list[BenchmarkRow]()
    with progress_bars() as report:
        for collisions in pileup:
            sample = _sample(collisions, events, max(pileup), seed, pool_seed)
            scan = collisions == scan_at
            peers = (*peer, *peer_scan) if scan else peer
            for row in _measure(sample, collisions, finder, peers, report):
                _keep(row, rows, output, json)
            for setting, changed in working_points(finder, windows, edge_scores) if scan else ():
                row = measure_network(sample, changed, report, pileup=collisions, setting=setting)
                _keep(row, rows, output, json)
    _draw(rows, scan_at, output)


def _sample(pileup: int, events: int, largest: int, seed: int, pool_seed: int) -> list[Event]:
    more = min(MOST_SMALL_EVENTS, max(1, round((largest + 5) / (pileup + 5))))
    config = TrackerSimulation(pileup=pileup, events=events * more, seed=seed, pool_seed=pool_seed)
    return list(simulate_events(config))


def _measure(
    sample: Sequence[Event], pileup: int, finder: TrackingModel, peers: Sequence[str], report: Report
) -> Iterator[BenchmarkRow]:
    yield measure_network(sample, finder, report, pileup=pileup)
    for point in peers:
        yield measure_acts(sample, point, report, pileup=pileup)


def _keep(row: BenchmarkRow, rows: list[BenchmarkRow], output: Path, json: Path | None) -> None:
    """Show and write a row at once: the next one may take minutes."""
    if not rows:
        console.print(MARKDOWN_HEAD)
    console.print(markdown_line(row))
    rows.append(row)
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text("\n".join([MARKDOWN_HEAD, *map(markdown_line, rows)]) + "\n")
    write_json(json, {"rows": [dataclasses.asdict(row) for row in rows]})


def _draw(rows: Sequence[BenchmarkRow], scan_at: int, output: Path) -> None:
    pileups = {row.pileup for row in rows}
    everywhere = [
        key
        for key in dict.fromkeys((row.finder, row.setting) for row in rows)
        if {row.pileup for row in rows if (row.finder, row.setting) == key} == pileups
    ]
    if len(pileups) > 1:
        series = {" ".join(key).removesuffix(f" {SHIPPED}"): _cost(rows, key) for key in everywhere}
        plot_cost(output / "cost.png", series)
        console.print(f"wrote {output / 'cost.png'}")
    at_scan = [row for row in rows if row.pileup == scan_at]
    if at_scan:
        # Thresholds on the score cost nothing: their points would lie on top of each other.
        shown = [row for row in at_scan if not row.setting.startswith(EDGE_SCORE)]
        points = {
            name: [_point(row) for row in shown if row.finder == name]
            for name in dict.fromkeys(row.finder for row in shown)
        }
        title = f"{at_scan[0].events} t tbar events with {scan_at} pile-up collisions"
        plot_working_points(output / "working_points.png", points, title=title)
        console.print(f"wrote {output / 'working_points.png'}")


def _cost(rows: Sequence[BenchmarkRow], key: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    chosen = [row for row in rows if (row.finder, row.setting) == key]
    return np.array([row.hits for row in chosen]), np.array([row.cpu for row in chosen])


def _point(row: BenchmarkRow) -> WorkingPoint:
    return WorkingPoint(
        label=row.setting,
        seconds=row.cpu,
        efficiency=row.efficiency,
        efficiency_error=row.efficiency_error,
        fake_rate=row.fake_rate,
    )
