"""Showers found by the default, the tuned and the hybrid clusterings, at several amounts of pile-up: the physics table.

    python benchmarks/hgcal_physics.py test0.root test50.root test140.root test200.root --models clue3d tuned hybrid

A particle is found if one trackster holds more than half of its deposits and is more than half made of it; CMS's
validation asks for the first only. Response: the regressed over the true energy of the trackster with most of a
particle, median over all particles, and over those found. Purity: part of that trackster that the particle made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

from recon.hgcal_clustering.association import associate
from recon.hgcal_clustering.config import METHODS, HgcalConfig
from recon.hgcal_clustering.pipeline import Showers, find_showers, load_cells
from recon.hgcal_clustering.shipped import load_model
from recon.io.root_rechits import read_rechits
from recon.metrics import Ratio
from recon.types import CalorimeterEvent

COLUMNS = [
    "file",
    "model",
    "efficiency",
    "photons",
    "pions",
    "efficiency (CMS)",
    "response",
    "of found",
    "resolution",
    "purity (median)",
    "purity (mean)",
    "in showers",
    "CPU s",
]
DEPOSIT_MIN = 0.1
"""Particles that leave less of their energy in the hits (in a gap) need not be found."""


@dataclass
class Column:
    """What one model did with one file; one entry a hard-scatter particle, CPU seconds one an event."""

    shared: list[float] = field(default_factory=list)
    purity: list[float] = field(default_factory=list)
    response: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    pdg: list[int] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    eta: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    in_showers: list[float] = field(default_factory=list)

    @property
    def found(self) -> np.ndarray:
        """Which particles one trackster holds more than half of, and is more than half made of."""
        return (np.array(self.shared) > 0.5) & (np.array(self.purity) > 0.5)


def main(
    files: tyro.conf.Positional[tuple[Path, ...]],
    models: tuple[str, ...] = ("clue3d", "hits", "tuned", "hybrid", "hybrid-timing"),
    events: int | None = None,
    output: Path | None = None,
) -> None:
    """Compare models on files of simulated events.

    Args:
        files: of `recon simulate hgcal`.
        models: shipped models, directories of models, or methods with the settings of CMS.
        events: most events of a file.
        output: JSON with one entry a particle.
    """
    chains = {
        model: HgcalConfig(method=model) if model in METHODS[:3] else load_model(model).config
        for model in models
    }
    cells = load_cells()
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    result: dict[str, dict[str, Column]] = {}
    for file in files:
        columns = {model: Column() for model in models}
        for number, event in enumerate(read_rechits(file, entry_stop=events)):
            for model, chain in chains.items():
                if number == 0:
                    find_showers(event, chain, cells=cells)
                started = time.process_time()
                showers = find_showers(event, chain, cells=cells)
                columns[model].seconds.append(time.process_time() - started)
                judge(event, showers, columns[model])
        result[file.name] = columns
        for model, column in columns.items():
            print(row(file.stem, model, column), flush=True)
    if output:
        output.write_text(json.dumps({f: {m: vars(c) for m, c in cs.items()} for f, cs in result.items()}))


def judge(event: CalorimeterEvent, showers: Showers, column: Column) -> None:
    """Add the hard-scatter particles of one event."""
    truth = event.truth
    assert truth is not None
    pairs = associate(event.hits.energy, truth, showers.hit_trackster)
    energy = np.linalg.norm(truth.momentum.astype(float), axis=1)
    wanted = truth.hard_scatter & (pairs.particle_energy >= DEPOSIT_MIN * energy)
    regressed = showers.tracksters.regressed_energy
    for particle in np.flatnonzero(wanted):
        mine = np.flatnonzero(pairs.particle == particle)
        best = mine[np.argmax(pairs.shared_energy[mine])] if mine.size else -1
        cluster = pairs.cluster[best] if mine.size else 0
        shared = pairs.shared_energy[best] if mine.size else 0.0
        column.shared.append(float(shared / pairs.particle_energy[particle]))
        column.purity.append(float(shared / pairs.cluster_energy[cluster]) if mine.size else 0.0)
        column.response.append(float(regressed[cluster] / energy[particle]) if mine.size else 0.0)
        column.raw.append(float(pairs.cluster_energy[cluster] / energy[particle]) if mine.size else 0.0)
        column.pdg.append(int(truth.pdg[particle]))
        column.energy.append(float(energy[particle]))
        column.eta.append(float(np.arctanh(truth.momentum[particle, 2] / energy[particle])))
    column.in_showers.append(float(pairs.cluster_energy.sum() / event.hits.energy.sum()))


def row(file: str, model: str, column: Column) -> str:
    """One line of the table."""
    shared, purity, response, pdg = (
        np.array(values) for values in (column.shared, column.purity, column.response, column.pdg)
    )
    found = column.found
    everything = np.ones(len(pdg), bool)
    cells = [file, model]
    for passed, chosen in (
        (found, everything),
        (found, pdg == 22),
        (found, pdg != 22),
        (shared >= 0.5, everything),
    ):
        ratio = Ratio(int(passed[chosen].sum()), int(chosen.sum()))
        low, high = (float(np.asarray(end)) for end in ratio.interval("clopper-pearson"))
        value = float(np.asarray(ratio.value))
        cells.append(f"{value:.3f} (+{high - value:.3f} -{value - low:.3f})")
    error = 1.253 * response[found].std() / max(np.sqrt(found.sum()), 1)
    cells.append(f"{np.median(response):.3f} +- {error:.3f}")
    cells.append(f"{np.median(response[found]):.3f}")
    width = np.quantile(response[found], [0.16, 0.84]) if found.any() else (np.nan, np.nan)
    cells.append(f"{(width[1] - width[0]) / 2:.3f}")
    cells.append(f"{np.median(purity):.3f}")
    cells.append(f"{purity.mean():.3f}")
    cells.append(f"{np.mean(column.in_showers):.2f}")
    cells.append(f"{np.median(column.seconds):.2f}")
    return line(cells)


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    tyro.cli(main)
