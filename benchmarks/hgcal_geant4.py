"""The parametrised HGCAL showers beside Geant4: response, resolution, profiles, hits and widths.

    python benchmarks/hgcal_geant4.py --reference ../shared/data/hgcal/geant4_reference.json.gz \
        --plot docs/images/hgcal-geant4.png

Every number is ours divided by Geant4's; `recon/sim/calorimeter_validation.py` says what is compared.
"""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path

import tyro

from recon.display.showers import ShowerCurves, plot_showers
from recon.sim.calorimeter_validation import SAMPLES, ShowerShapes, compare, read_reference, simulate_shapes

NAMES = {
    "Photon_E5": "photons, 5 GeV",
    "Photon_E50": "photons, 50 GeV",
    "Photon_E500": "photons, 500 GeV",
    "Pion_E50": "charged pions, 50 GeV",
}


def curves(ours: ShowerShapes, reference: ShowerShapes) -> ShowerCurves:
    """Pair what is drawn."""
    return ShowerCurves(
        *((getattr(ours, name), getattr(reference, name)) for name in ("profile", "hits", "rings"))
    )


def main(
    reference: Path, plot: Path | None = None, json: Path | None = None, scale: float = 1.0, seed: int = 1
) -> None:
    """Compare single particles with the reference.

    Args:
        reference: `geant4_reference.json.gz`.
        plot: PNG to write.
        json: write the ratios here.
        scale: of the numbers of particles (10,000, 4,000, 800 and 8,000 at 1).
        seed: of the random numbers.
    """
    numbers = {"Photon_E5": 10_000, "Photon_E50": 4_000, "Photon_E500": 800, "Pion_E50": 8_000}
    known, drawn, table = read_reference(reference), {}, {}
    for sample in SAMPLES:
        n = max(int(numbers[sample] * scale), 2)
        begin = time.process_time()
        shapes = simulate_shapes(sample, n, seed)
        seconds = time.process_time() - begin
        table[sample] = compare(shapes, known[sample]) | {"ms per shower": 1e3 * seconds / n}
        drawn[NAMES[sample]] = curves(shapes, known[sample])
    print("| ours / Geant4 | " + " | ".join(drawn) + " |\n| --- |" + " ---: |" * len(drawn))
    for quantity in table["Photon_E5"]:
        print(f"| {quantity} | " + " | ".join(f"{table[sample][quantity]:.3f}" for sample in SAMPLES) + " |")
    if plot is not None:
        plot_showers(plot, drawn, ours="parametrisation", reference="Geant4 (CMSSW)")
    if json is not None:
        json.write_text(json_format.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
