"""`recon simulate jets`."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from recon import __version__
from recon.commands import Json, Output, console, progress_bars, write_json
from recon.io.jets import write_jets
from recon.sim.jets import JetSimulation, simulate_jets
from recon.tagging.labels import LABELS


def simulate(
    *,
    output: Output,
    process: Literal["qcd", "top", "wz", "hz"] = "qcd",
    jets: int = 10_000,
    pt_min: float = 400.0,
    pt_max: float = 1200.0,
    eta_max: float = 2.0,
    pileup: float = 0.0,
    removal: Literal["puppi", "chs", "none"] = "puppi",
    seed: int = 1,
    pool_seed: int = 1,
    minbias_pool: int = 10_000,
    layout: Literal["ttree", "rntuple"] = "ttree",
    workers: int = max(1, min(4, os.cpu_count() or 1)),
    json: Json = None,
) -> None:
    """Simulate AK8 jets at 13 TeV with DeepAK8's labels; branches are called as in JetClass.

    Args:
        output: file to write: parquet if it ends in .parquet, else ROOT.
        process: QCD jets, top pairs, W Z or H Z; heavy particles decay to quarks, the Higgs boson to b or c.
        jets: number of jets.
        pt_min: of the jets, GeV.
        pt_max: of the jets, GeV.
        eta_max: largest absolute pseudorapidity of the jets.
        pileup: mean number of collisions under every hard scatter.
        removal: of pile-up: PUPPI weights, charged hadron subtraction, or none.
        seed: of the collisions; the same seed begins with the same jets, whatever the number of jets and processes.
        pool_seed: of the pile-up collisions; independent samples want independent pools.
        minbias_pool: distinct pile-up collisions to draw from, made once and kept in the cache.
        layout: of a ROOT file, TTree or RNTuple.
        workers: processes.
        json: write settings and totals here.
    """
    config = JetSimulation(
        process=process,
        jets=jets,
        seed=seed,
        pt_min=pt_min,
        pt_max=pt_max,
        eta_max=eta_max,
        pileup=pileup,
        removal=removal,
        minbias_pool=minbias_pool,
        pool_seed=pool_seed,
        workers=workers,
    )
    metadata = {"program": f"recon {__version__}", "simulation": settings(config)}
    labels: Counter[str] = Counter()
    begin = time.monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bars() as report:
        written = write_jets(
            output, _counted(simulate_jets(config, report), labels), layout=layout, metadata=metadata
        )
    listed = ", ".join(f"{name} {labels[name]}" for name in LABELS if labels[name])
    console.print(f"{written:,} jets in {output}: {listed}")
    totals = {"jets": written, "labels": dict(labels), "seconds": time.monotonic() - begin}
    write_json(json, metadata | totals | {"output": str(output)})


def settings(config: JetSimulation) -> dict[str, Any]:
    """What a sample depends on: the settings and the versions of the generators."""
    versions = {package: importlib.metadata.version(package) for package in ("pythia8mc", "fastjet")}
    return asdict(config) | {"versions": versions}


def _counted(tables: Iterator[Any], labels: Counter[str]) -> Iterator[Any]:
    for table in tables:
        rows, counts = np.unique(np.asarray(table["jet_label"]), return_counts=True)
        labels.update({LABELS[row]: int(count) for row, count in zip(rows, counts, strict=True)})
        yield table
