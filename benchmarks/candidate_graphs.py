"""Candidate graphs: edge efficiency and purity for the full and the pixel detector, at 1 GeV and 0.5 GeV.

    python benchmarks/candidate_graphs.py --train train.root --test test.root --json out/candidate_graphs.json

No network: this is the ceiling of what the search leaves to it. Efficiency is the share of true segments of the target
particles that are edges; purity the share of edges that are true segments of any charged particle.
"""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from recon.io.root import read_events
from recon.tracking.capacity import TrackingCapacity
from recon.tracking.data import event_graph
from recon.tracking.detector import load_detector
from recon.tracking.truth import TargetHits, true_segments
from recon.tracking.windows import LayerPairs, WindowConfig, learn_windows
from recon.types import Event


def edge_counts(
    event: Event, pairs: LayerPairs, pt_min: float, known: dict[int, TrackingCapacity]
) -> dict[str, float]:
    """True segments found, true segments, true edges, edges and CPU seconds of one event."""
    detector = load_detector()
    event_graph(event, detector, pairs, known)  # compiles where the size is new
    begin = time.process_time()
    graph = event_graph(event, detector, pairs, known)
    seconds = time.process_time() - begin
    n_edges, n_hits = int(graph.sizes.edges), len(event.hits.layer)
    inner, outer = (graph.hit[ends[:n_edges]].astype(np.int64) for ends in graph.edges[:2])
    edges = inner * n_hits + outer
    usable = np.isin(event.hits.layer, np.union1d(pairs.inner, pairs.outer))
    wanted = TargetHits(pt_min=pt_min, min_hits=7, radius_max=24.0, eta_max=4.0)
    target, anything = (
        np.asarray(a, np.int64) * n_hits + b
        for a, b in (true_segments(event, wanted, usable), true_segments(event, TargetHits(), usable))
    )
    return {
        "found": float(np.isin(target, edges).sum()),
        "targets": float(len(target)),
        "true_edges": float(np.isin(edges, anything).sum()),
        "edges": float(n_edges),
        "doublets": float(graph.sizes.doublets),
        "cpu": seconds,
    }


def main(train: Path, test: Path, events: int = 4, train_events: int = 20, json: Path | None = None) -> None:
    """Measure all four graphs.

    Args:
        train: events that the windows are learned from.
        test: events that they are measured on.
        events: number of test events.
        train_events: number of training events.
        json: write the table here, too.
    """
    learn_from = list(read_events(train, entry_stop=train_events))
    measure_on = list(read_events(test, entry_stop=events))
    rows: list[dict[str, Any]] = []
    print("| layers | pT > | layer pairs | edge efficiency | edge purity | doublets | edges | CPU [s] |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for pixel_only in (False, True):
        for pt_min in (1.0, 0.5):
            config = WindowConfig(pt_min=0.9 * pt_min, pixel_only=pixel_only, quantile=0.999)
            pairs = learn_windows(learn_from, load_detector(), config)
            known: dict[int, TrackingCapacity] = {}
            each = [edge_counts(event, pairs, pt_min, known) for event in measure_on]
            total = {name: sum(counts[name] for counts in each) for name in each[0]}
            row = {
                "layers": "pixel" if pixel_only else "all",
                "pt_min": pt_min,
                "pairs": len(pairs.inner),
                "efficiency": total["found"] / total["targets"],
                "purity": total["true_edges"] / total["edges"],
                "doublets": total["doublets"] / len(each),
                "edges": total["edges"] / len(each),
                "cpu": total["cpu"] / len(each),
            }
            rows.append(row)
            print(
                f"| {row['layers']} | {pt_min:g} GeV | {row['pairs']} | {row['efficiency']:.4f} | {row['purity']:.3f} "
                f"| {row['doublets']:,.0f} | {row['edges']:,.0f} | {row['cpu']:.3f} |",
                flush=True,
            )
            jax.clear_caches()
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(json_format.dumps({"rows": rows, "events": len(measure_on)}, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
