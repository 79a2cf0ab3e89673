"""CLUE beside CLUEstering and scikit-learn: CPU time against the number of points, and a whole endcap.

    python benchmarks/clue_peer.py --folder out/peer
    taskset -c 1 python benchmarks/clue.py --peer out/peer/clue_peer.so --plot docs/images/hgcal-clue-scaling.png

Points: showers of 20 (sigma 1, one per 5 x 5 (x 5)) and 10 % noise, exponential weights. Times are CPU time, the best
of some, of whole calls on host arrays, compilation left out; methods alternate. Ids are compared with the peer's.
"""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from clue_peer import load

from recon.display.curves import plot_cost
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.clue_cells import KAPPA, clue_cells
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter

RADII = {2: 1.3, 3: 1.6}
RHO_C = 3.0
LARGEST = {"DBSCAN": 100_000, "HDBSCAN": 10_000}


def toy_showers(n: int, n_axes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights."""
    rng = np.random.default_rng(seed)
    n_showers = max(int(0.9 * n / 20), 1)
    side = 5.0 * n_showers ** (1 / n_axes)
    centre = rng.uniform(0, side, (n_showers, 1, n_axes))
    points = (centre + rng.normal(0, 1, (n_showers, 20, n_axes))).reshape(-1, n_axes)
    points = np.concatenate([points, rng.uniform(0, side, (max(n - len(points), 0), n_axes))])
    return rng.permutation(points[:n]).astype(np.float32), rng.exponential(1, n).astype(np.float32)


def cpu_times(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Best CPU seconds of each call; calls alternate."""
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - begin)
    return best


def methods(points: np.ndarray, weights: np.ndarray, peer: Any) -> dict[str, Callable[[], Any]]:
    """What is compared, by name."""
    n, n_axes = points.shape
    d_c = RADII[n_axes]
    calls: dict[str, Callable[[], Any]] = {
        "recon": lambda: clue(points, weights, d_c=d_c, rho_c=RHO_C, compat="cluestering-2.11").ids,
        "recon, outliers to 2 d_c": lambda: clue(points, weights, d_c=d_c, rho_c=RHO_C).ids,
    }
    if peer is not None:
        for name, per_tile in (("CLUEstering tuned", 10), ("CLUEstering default", 128)):
            calls[name] = lambda per_tile=per_tile: peer(
                points, weights, d_c, RHO_C, points_per_tile=per_tile
            )
    try:
        from sklearn.cluster import DBSCAN, HDBSCAN
    except ImportError:
        return calls
    if n <= LARGEST["DBSCAN"]:
        calls["scikit-learn DBSCAN"] = lambda: DBSCAN(eps=d_c, min_samples=5).fit_predict(
            points, sample_weight=weights
        )
    if n <= LARGEST["HDBSCAN"]:
        calls["scikit-learn HDBSCAN"] = lambda: HDBSCAN(min_cluster_size=5, copy=True).fit_predict(points)
    return calls


def growth(sizes: tuple[int, ...], peer: Any) -> list[dict[str, Any]]:
    """CPU times of all methods in two and three dimensions."""
    rows = []
    for n_axes in RADII:
        for n in sizes:
            points, weights = toy_showers(n, n_axes)
            calls = methods(points, weights, peer)
            if peer is not None:
                same = (calls["recon"]() == calls["CLUEstering tuned"]()).mean()
                print(f"{n_axes}D {n}: {100 * same:.4f} % of the ids equal", flush=True)
            times = cpu_times(calls, 3 if n > 100_000 else 5)
            rows.append({"axes": n_axes, "points": n, "seconds": times})
            print(
                "  " + "  ".join(f"{name} {1e3 * seconds:.1f} ms" for name, seconds in times.items()),
                flush=True,
            )
    return rows


def endcap(pileup: int, peer: Any) -> dict[str, Any]:
    """A simulated endcap on the table of all its cells, and the same hits as points in layers."""
    from recon.sim.calorimeter import CalorimeterSimulation, simulate_event

    calorimeter = load_calorimeter(EndcapGeometry())
    graph = CellGraph.from_calorimeter(calorimeter)
    near = CellGraph.from_calorimeter(calorimeter, outlier_delta_factor=1.0)
    hits = simulate_event(CalorimeterSimulation(pileup=pileup, pileup_source="hagedorn", events=1), 0).hits
    order = np.argsort(hits.layer, kind="stable")
    cell, energy, sigma = hits.cell[order], hits.energy[order], hits.sigma_noise[order]
    rho_c = (KAPPA * sigma).astype(np.float32)
    known: tuple[dict, dict] = ({}, {})
    calls: dict[str, Callable[[], Any]] = {
        "clue_cells, d_c": lambda: clue_cells(near, cell, energy, rho_c, known=known[0]),
        "clue_cells, outliers to 2 d_c": lambda: clue_cells(graph, cell, energy, rho_c, known=known[1]),
    }
    if peer is not None:
        # Weights in units of the noise, one threshold: what the peer can do without noise of every hit.
        points, weights = hits.position[order, :2], energy / sigma
        sizes = np.bincount(hits.layer[order], minlength=int(hits.layer.max()) + 1).tolist()
        for per_tile in (5, 10, 20, 128):
            calls[f"CLUEstering, {per_tile} points a tile"] = lambda per_tile=per_tile: peer(
                points, weights, 13.0, KAPPA, points_per_tile=per_tile, batch_sizes=sizes
            )
    seconds = cpu_times(calls, 5)
    print(f"endcap, {pileup} pile-up: {len(cell)} hits, {graph.n_cells} cells, {graph.n_bytes / 1e6:.0f} MB")
    for name, value in seconds.items():
        print(f"  {name} {1e3 * value:.1f} ms")
    return {"pileup": pileup, "hits": len(cell), "cells": graph.n_cells, "seconds": seconds}


def main(
    peer: Path | None = None,
    plot: Path | None = None,
    json: Path | None = None,
    sizes: tuple[int, ...] = (1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000),
    pileup: int = 200,
) -> None:
    """Measure, and draw the growth.

    Args:
        peer: module made by `clue_peer.py`; without it CLUEstering is left out.
        plot: PNG to write.
        json: write the numbers here, too.
        sizes: numbers of points.
        pileup: of the endcap; negative for none.
    """
    run = None if peer is None else load(peer)
    results: dict[str, Any] = {"growth": growth(sizes, run)}
    if pileup >= 0:
        results["endcap"] = endcap(pileup, run)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(json_format.dumps(results, indent=2) + "\n")
    if plot is not None:
        series: dict[str, tuple[list[int], list[float]]] = {}
        for row in results["growth"]:
            for name, seconds in row["seconds"].items():
                if name != "CLUEstering default" and not (row["axes"] == 3 and name.startswith("scikit")):
                    place = series.setdefault(f"{name}, {row['axes']}D", ([], []))
                    place[0].append(row["points"])
                    place[1].append(seconds)
        arrays = {name: (np.array(n), np.array(seconds)) for name, (n, seconds) in series.items()}
        plot_cost(plot, arrays, xlabel="points", ylabel="CPU time [s]")


if __name__ == "__main__":
    tyro.cli(main)
