"""`recon demo hgcal`: from particles to showers on the screen in a minute."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon import __version__
from recon.commands import Json, console, progress_bars, write_json
from recon.hgcal_clustering.commands.display import draw
from recon.hgcal_clustering.commands.evaluate import compare
from recon.hgcal_clustering.commands.options import cells_of, open_source, settings_of
from recon.hgcal_clustering.config import METHODS
from recon.hgcal_clustering.evaluation import WorkingPoint
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.hgcal_clustering.metrics import ShowerSelection
from recon.hgcal_clustering.pipeline import find_showers
from recon.hgcal_clustering.report import summary_table, to_json, write_report
from recon.io.root_rechits import write_rechits
from recon.io.root_showers import StoredShowers, write_showers
from recon.sim.calorimeter import DESCRIPTION, CalorimeterSimulation, pileup_source, simulate_calorimeter


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/demo/hgcal"),
    events: int = 1,
    pileup: int = 40,
    particles: str = "photon,pion",
    seed: int = 11,
    json: Json = None,
) -> None:
    """Simulate an endcap of the HGCAL, find the showers with every algorithm, and draw the first event.

    Args:
        output: directory of the hits, the showers, the report and the pictures.
        events: number of events.
        pileup: collisions beside the particles to find; independent particles where Pythia is not installed.
        particles: twenty of them, as for `recon simulate hgcal`.
        seed: of the simulation.
        json: write the report here as JSON, too.
    """
    begin = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    config = CalorimeterSimulation(
        particles=particles,
        pileup=pileup,
        events=events,
        seed=seed,
        # A small pool is quick to make; that of the tracking demo is the same.
        minbias_pool=1000,
        pool_seed=seed,
    )
    hits = _simulate(config, output / "hits.root")
    source = open_source(hits)
    points = [WorkingPoint(name, settings_of(name, None, source.geometry)) for name in METHODS]
    selection = ShowerSelection()
    results = compare([source], points, selection)
    title = (
        f"Showers in {events} endcap{'s' if events > 1 else ''} of the HGCAL with {pileup} pile-up collisions"
    )
    written = write_report(output, results, title=title, selection=selection)
    console.print(summary_table(results, selection, title))
    with progress_bars() as report:
        cells = cells_of(source, points[0].config, report)
        sample = list(source.events())
        found = [find_showers(event, points[0].config, cells=cells) for event in sample]
        pictures = draw(sample[0], found[0], output / "event", report)
    stored = (StoredShowers(event.number, *showers) for event, showers in zip(sample, found, strict=True))
    write_showers(output / "showers.root", stored, metadata={"settings": points[0].config.to_json()})
    for path in (hits, output / "showers.root", written["report"], *pictures):
        console.print(f"wrote {path}")
    write_json(json, to_json(results, title=title, selection=selection))
    console.print(f"from particles to showers in {time.monotonic() - begin:.0f} s")


def _simulate(config: CalorimeterSimulation, path: Path) -> Path:
    """Write the events; says that they are a parametrisation and where the pile-up is from."""
    kind = pileup_source(config)
    console.print(f"pile-up of {kind}; {DESCRIPTION}")
    detector = EndcapGeometry(name=config.geometry)
    metadata = {
        "program": f"recon {__version__}",
        "simulation": asdict(config) | {"pileup_source": kind},
        "calorimeter": asdict(detector),
    }
    with progress_bars() as report:
        write_rechits(path, simulate_calorimeter(config, report), metadata=metadata)
    return path
