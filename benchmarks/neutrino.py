"""The neutrino simulation: events a CPU second, and its physics beside published numbers.

    taskset -c 1 python benchmarks/neutrino.py --plot docs/images/neutrino-validation.png \
        --gallery-path docs/images/neutrino-events.png --sample test.root

`recon/sim/neutrino_validation.py` says how things are measured; the tests hold the same numbers.
"""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from recon.display.panels import Panel, plot_panels
from recon.io.pixel_maps import pixel_maps
from recon.io.root_pixel_maps import read_neutrino_events
from recon.sim.neutrino import CLASSES, NeutrinoSimulation, simulate_neutrinos
from recon.sim.neutrino_cosmics import surface_flux
from recon.sim.neutrino_detector import (
    ELECTRON,
    MUON,
    MUON_MASS,
    PHOTON,
    PLANE_PITCH,
    RADIATION_LENGTH,
    TAU_MASS,
)
from recon.sim.neutrino_flux import charged_current, fractions, mode_fractions, spectrum
from recon.sim.neutrino_matter import muon_range
from recon.sim.neutrino_quasielastic import differential_cross_section
from recon.sim.neutrino_validation import (
    PUBLISHED_FLUX,
    expected_maximum,
    quasi_elastic_sample,
    relative_flux,
    shoot,
    shower_maximum,
)
from recon.tagging.labels import NEUTRINO_LABELS, NEUTRINO_MODES

ENERGIES = (0.5, 1.0, 2.0, 5.0)
FLUX_ROWS = (1.0, 3.0, 5.0, 10.0, 14.0)
"""GeV."""


def rates(events: int, seed: int) -> dict[str, float]:
    """Kept events a CPU second, class by class and of the mixture; nothing is written."""
    found = {}
    for name, classes in [*((name, (name,)) for name in CLASSES), ("all", tuple(CLASSES))]:
        n = events if name == "all" else events // 5
        config = NeutrinoSimulation(events=n, classes=classes, seed=seed)
        for _ in simulate_neutrinos(NeutrinoSimulation(events=len(classes), classes=classes)):
            pass  # compiles
        begin = time.process_time()
        for _ in simulate_neutrinos(config):
            pass
        found[name] = n / (time.process_time() - begin)
    return found


def physics(shots: int) -> list[tuple[str, float, float]]:
    """Quantity, what we find, what is published."""
    rows = []
    for name, kind in (("electron", ELECTRON), ("photon", PHOTON)):
        for energy in (0.5, 2.0):
            depth = shower_maximum(shoot(kind, energy, shots))
            expected = expected_maximum(energy, photon=kind == PHOTON)
            rows.append((f"shower maximum, {name} of {energy} GeV [X0]", depth, expected))
    first = shoot(PHOTON, 1.0, 4 * shots).first
    rows.append(
        ("first light of a photon of 1 GeV [mm]", float(np.nanmean(first)), 9 / 7 * RADIATION_LENGTH / 0.91)
    )
    for energy in (1.0, 2.0):
        depth = float(np.median(shoot(MUON, energy, shots).last))
        rows.append((f"range of a muon of {energy} GeV [mm]", depth, muon_range(energy)))
    elastic = quasi_elastic_sample(2.0, 20 * shots)
    for name, published in (("q2", 0.539), ("proton", 0.777), ("cosine", 0.884), ("muon", 1.635)):
        rows.append((f"quasi-elastic, 2 GeV: mean {name}", float(getattr(elastic, name).mean()), published))
    for name, ours, published in zip(
        NEUTRINO_MODES, mode_fractions(MUON_MASS), (0.203, 0.332, 0.465), strict=True
    ):
        rows.append((f"numu CC: {name}", float(ours), published))
    for energy, published in PUBLISHED_FLUX:
        if energy in FLUX_ROWS:
            ours = relative_flux(np.array([energy]))[0]
            rows.append((f"flux at {energy:g} GeV over that at 2 GeV", float(ours), published))
    for energy, published in ((1.0, 21.8), (5.0, 4.04), (20.0, 0.241)):
        ours = surface_flux(np.array([energy]), np.ones(1))[0]
        rows.append((f"vertical muons of {energy:g} GeV [1/(m2 s sr GeV)]", float(ours), published))
    return rows


def panels(shots: int) -> list[Panel]:
    """What the table says, as curves."""
    maxima: dict[str, Any] = {}
    profiles: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    grid = np.geomspace(0.3, 8, 50)
    for name, kind in (("electrons", ELECTRON), ("photons", PHOTON)):
        shot = {energy: shoot(kind, energy, shots) for energy in ENERGIES}
        maxima[name] = (np.array(ENERGIES), np.array([shower_maximum(shot[energy]) for energy in ENERGIES]))
        expected[name] = (grid, np.array([expected_maximum(e, photon=kind == PHOTON) for e in grid]))
        profile = shot[2.0].profile[:70]
        profiles[name] = (np.arange(70) * PLANE_PITCH / RADIATION_LENGTH, profile / profile.sum())
    muons = np.array([0.3, 0.5, 1.0, 2.0, 3.0])
    depths = np.array([np.median(shoot(MUON, energy, shots).last) for energy in muons]) / 1e3
    csda = (grid[grid < 4], np.array([muon_range(e) for e in grid[grid < 4]]) / 1e3)
    energy = np.geomspace(0.7, 100, 60)
    known = (np.array([1.0, 5.0, 20.0]), np.array([21.8, 4.04, 0.241]))
    return [
        Panel("depth of the shower maximum: PDG, and simulated", "energy [GeV]", "radiation lengths", expected, maxima,
              log_x=True),
        Panel("light of 2 GeV by depth", "radiation lengths", "fraction a plane", profiles, {}),
        Panel("depth of muons: CSDA range, and simulated", "kinetic energy [GeV]", "m", {"muons": csda},
              {"muons": (muons, depths)}),
        _elastic_panel(shots),
        _spectrum_panel(),
        _flux_panel(),
        _modes_panel(),
        Panel("vertical muons: ours, and mulder", "energy [GeV]", r"1/(m$^2$ s sr GeV)",
              {"sea level": (energy, surface_flux(energy, np.ones_like(energy)))}, {"sea level": known},
              log_x=True, log_y=True),
    ]  # fmt: skip


def _elastic_panel(shots: int) -> Panel:
    elastic = quasi_elastic_sample(2.0, 40 * shots)
    edges = np.linspace(0, 2, 41)
    middle = 0.5 * (edges[1:] + edges[:-1])
    count = np.histogram(elastic.q2, edges)[0] / len(elastic.q2) / (edges[1] - edges[0])
    free = differential_cross_section(2.0, middle, MUON_MASS)
    lines = {"free neutron": (middle, free / free.sum() / (edges[1] - edges[0]))}
    means = (np.array([0.539]), np.interp([0.539], middle, count))
    points = {"carbon": (middle, count), "mean of Achilles": means}
    return Panel("quasi-elastic, 2 GeV", r"$Q^2$ [GeV$^2$]", r"1/GeV$^2$", lines, points)


def _spectrum_panel() -> Panel:
    lines = {}
    for name, lepton in (("numu CC", MUON_MASS), ("nutau CC", TAU_MASS), ("NC", 0.0)):
        found = spectrum(lepton)
        rate = fractions(found).sum(axis=0)
        shown = found.energy < 25
        lines[name] = (found.energy[shown], rate[shown] / (found.energy[1] - found.energy[0]))
    return Panel("reacting neutrinos", "energy [GeV]", "fraction a GeV", lines, {})


def _flux_panel() -> Panel:
    energy = np.linspace(0.5, 20, 200)
    return Panel(
        "flux of muon neutrinos over that at 2 GeV: ours, and NOvA's (near detector)",
        "energy [GeV]",
        "",
        {"far detector": (energy, relative_flux(energy))},
        {"near detector": tuple(np.array(PUBLISHED_FLUX).T)},
        log_y=True,
    )


def _modes_panel() -> Panel:
    energy = np.geomspace(0.3, 30, 120)
    each = charged_current(energy) / energy
    lines = {name: (energy, values) for name, values in zip(NEUTRINO_MODES, each, strict=True)}
    measured = {"measured total": (np.array([10.0, 20.0]), np.array([0.66, 0.66]))}
    return Panel(
        "charged currents of muon neutrinos on CH$_2$",
        "energy [GeV]",
        r"$10^{-38}$ cm$^2$ / GeV a nucleon",
        lines | {"total": (energy, each.sum(0))},
        measured,
        log_x=True,
    )


def gallery(path: Path, sample: Path, per_class: int) -> None:
    """Draw the first events of every class of a file, in both views."""
    from recon.display.pixel_maps import Picture, plot_events

    events = next(read_neutrino_events(sample, entry_stop=len(NEUTRINO_LABELS) * per_class))
    maps, truth = pixel_maps(events), events.truth
    assert truth is not None
    pictures = []
    for row in np.argsort(events.label, kind="stable"):
        mode = NEUTRINO_MODES[truth.mode[row]] + ", " if truth.mode[row] >= 0 else ""
        title = f"{NEUTRINO_LABELS[events.label[row]]}, {mode}{truth.energy[row]:.1f} GeV"
        pictures.append(Picture(title, np.concatenate([maps.xz[row], maps.yz[row]], axis=-1)))
    plot_events(path, pictures)


def main(
    events: int = 20_000,
    shots: int = 300,
    seed: int = 1,
    per_class: int = 2,
    plot: Path | None = None,
    gallery_path: Path | None = None,
    sample: Path = Path("test.root"),
    json: Path | None = None,
) -> None:
    """Measure the rate and print the table.

    Args:
        events: of the mixture; a fifth of them of every class alone. 0 leaves the rate out.
        shots: single particles of every kind and energy.
        seed: of the events.
        per_class: events of every class in the gallery.
        plot: PNG of the comparison to write.
        gallery_path: PNG of some events to write.
        sample: file of `recon simulate neutrino` that they are of.
        json: write the numbers here.
    """
    found = rates(events, seed) if events else {}
    for name, rate in found.items():
        print(f"| {name} | {rate:,.0f} |")
    table = physics(shots)
    for name, ours, published in table:
        print(f"| {name} | {ours:.4g} | {published:.4g} |")
    if plot is not None:
        plot_panels(plot, panels(shots), columns=4)
    if gallery_path is not None:
        gallery(gallery_path, sample, per_class)
    if json is not None:
        json.write_text(json_format.dumps({"rates": found, "physics": table}, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
