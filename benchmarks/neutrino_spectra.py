"""The beam of the neutrino simulation beside two others: how wide it is, and what reacts.

    python benchmarks/neutrino_spectra.py --narrow narrow.txt --published NOvA_FHC.dat

`--narrow` also writes a beam with fewer kaons, all of its parents well focused and nothing above 20 GeV, as a table for
`recon simulate neutrino --flux`.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import tyro

from recon.sim.flux_table import FluxTable, read_flux
from recon.sim.neutrino_detector import MUON_MASS
from recon.sim.neutrino_flux import energies, flux, fractions, mode_fractions, spectrum
from recon.tagging.labels import NEUTRINO_MODES

BANDS = (0.0, 1.0, 3.0, 5.0, 8.0, 12.0, 20.0, 60.0)
NARROW_DIVERGENCE, NARROW_KAON_SHARE, NARROW_END = ((1.0, 2.2e-3),), 0.016, 20.0


def narrow_beam() -> FluxTable:
    """The narrow beam."""
    energy = energies()
    values = np.where(energy < NARROW_END, flux(NARROW_DIVERGENCE, NARROW_KAON_SHARE), 0)
    return FluxTable(tuple(energy.tolist()), tuple((values / values.max()).tolist()))


def shares(table: FluxTable | None) -> list[float]:
    """Of the charged currents of muon neutrinos, in bands of energy and by mode."""
    found = spectrum(MUON_MASS, table)
    bands = np.histogram(found.energy, BANDS, weights=fractions(found).sum(0))[0]
    return [*bands.tolist(), *mode_fractions(MUON_MASS, table=table).tolist()]


def main(narrow: Path | None = None, published: Path | None = None, column: int = 2) -> None:
    """Compare.

    Args:
        narrow: table to write.
        published: table of a flux to compare with, such as NOvA's in the package DarkNews.
        column: of `published` that holds the muon neutrinos.
    """
    beams: dict[str, FluxTable | None] = {"built-in": None, "narrow": narrow_beam()}
    if published is not None:
        beams["published"] = read_flux(published, column)
    if narrow is not None:
        rows = np.array([beams["narrow"].energy, beams["narrow"].flux]).T
        np.savetxt(narrow, rows, fmt="%.6g", header="GeV, muon neutrinos in arbitrary units")
    names = [f"{low:g} to {high:g} GeV" for low, high in itertools.pairwise(BANDS)]
    columns = [shares(table) for table in beams.values()]
    print("| numu CC | " + " | ".join(beams) + " |")
    print("| --- |" + " ---: |" * len(beams))
    for name, *values in zip([*names, *NEUTRINO_MODES], *columns, strict=True):
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f} %" for value in values) + " |")


if __name__ == "__main__":
    tyro.cli(main)
