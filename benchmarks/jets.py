"""Jets per second of CPU time: simulating, writing, reading, and computing the inputs of networks.

    taskset -c 1 python benchmarks/jets.py

The peer of reading is what a loop over awkward's own padding takes (`ak.pad_none`, one column at a time).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import awkward as ak
import numpy as np

from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets, write_jets
from recon.sim.jets import JetSimulation, simulate_chunk
from recon.sim.jets_generation import Process
from recon.tagging.features import fit_inputs, make_jets
from recon.tagging.inputs import JETCLASS_INPUTS


def cpu_seconds(function: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Result and least CPU time of some calls."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        times.append(time.process_time() - begin)
    return result, min(times)


def simulation(chunks: int) -> Any:
    """Jets per CPU second of every process; returns the jets of top pairs."""
    for process in get_args(Process):
        for pileup in (0.0, 40.0) if process == "top" else (0.0,):
            config = JetSimulation(process=process, pileup=pileup, minbias_pool=2000)
            simulate_chunk(config, chunks)  # sets the generator up
            tables, seconds = cpu_seconds(lambda c=config: [simulate_chunk(c, i) for i in range(chunks)], 1)
            n = sum(map(len, tables))
            print(f"simulate {process:<4} pile-up {pileup:>4.0f}: {n / seconds:8.0f} jets / CPU s")
        if process == "top":
            kept = ak.concatenate(tables)
    return kept


def loading(table: Any, folder: Path) -> None:
    """Jets per CPU second through files and into the inputs of networks."""
    inputs = fit_inputs(jet_columns(table))
    for name, layout in (("jets.parquet", "ttree"), ("jets.root", "ttree"), ("tuple.root", "rntuple")):
        path = folder / name
        _, seconds = cpu_seconds(lambda p=path, x=layout: write_jets(p, [table], layout=x))
        size = path.stat().st_size / len(table)
        print(f"write {name:<13}: {len(table) / seconds:8.0f} jets / CPU s, {size:.0f} bytes a jet")
        back, seconds = cpu_seconds(lambda p=path: ak.concatenate(list(read_jets(p))))
        print(f"read  {name:<13}: {len(table) / seconds:8.0f} jets / CPU s")
        for kind, one in (("DeepAK8", inputs), ("JetClass", JETCLASS_INPUTS)):
            _, more = cpu_seconds(lambda t=back, i=one: make_jets(jet_columns(t), i))
            print(f"      with inputs of {kind:<8}: {len(table) / (seconds + more):8.0f} jets / CPU s")
    _, seconds = cpu_seconds(lambda: padded(table))
    print(f"padding of 17 columns with awkward alone: {len(table) / seconds:8.0f} jets / CPU s")


def padded(table: Any) -> np.ndarray:
    """The peer: no sorting, no features, no standardisation."""
    names = [name for name in table.fields if name.startswith("part_")][:17]
    return np.stack(
        [ak.to_numpy(ak.fill_none(ak.pad_none(table[name], 128, clip=True), 0.0)) for name in names], axis=-1
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=8, help="of 200 collisions, of every process")
    chunks = parser.parse_args().chunks
    sample = simulation(chunks)
    with tempfile.TemporaryDirectory() as directory:
        loading(sample, Path(directory))
