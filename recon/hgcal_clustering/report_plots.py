"""The plots of the report on showers: which quantity, in which bins, with which labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.display.axis_ranges import efficiency_range, rate_range
from recon.display.curves import Points, binomial_points, plot_points, plot_stages
from recon.hgcal_clustering.evaluation import FinderResult
from recon.hgcal_clustering.metrics import ParticleTable, ShowerSelection, rate_in_bins, variable_of
from recon.hgcal_clustering.response import response_in_bins
from recon.metrics import Binned, integer_edges

ENERGY_EDGES = np.array(
    [1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 350.0, 500.0, 1000.0]
)
ETA_EDGES = np.linspace(1.5, 3.0, 7)
PILEUP_BINS = 8
_LABELS = {"energy": "energy [GeV]", "eta": "|pseudorapidity|", "pileup": "pile-up collisions"}
_FEWEST = 5
"""Particles in a bin below which a width means nothing: its error bar would be longer than its value."""


class _Plot(NamedTuple):
    rate: str
    variable: str
    ylabel: str


PLOTS = {
    f"{name}_vs_{variable}": _Plot(rate, variable, ylabel)
    for name, rate, ylabel in (
        ("efficiency", "efficiency_simple", "efficiency"),
        ("fake_rate", "fake", "fake rate"),
        ("merge_rate", "merge", "merge rate"),
    )
    for variable in _LABELS
}
"""Rates in bins, by the name of their file and of their entry in the JSON."""

MEASURES = {"response": "response", "resolution": "resolution", "purity": "mean purity"}
"""Quantities of the particles in bins, and what they are called."""


def _edges(results: Sequence[FinderResult]) -> dict[str, Float[np.ndarray, " b1"]]:
    pileup = integer_edges([result.evaluation.particles.pileup for result in results], PILEUP_BINS)
    return {"energy": ENERGY_EDGES, "eta": ETA_EDGES, "pileup": pileup}


def binned_curves(
    results: Sequence[FinderResult], selection: ShowerSelection
) -> dict[str, dict[str, Binned]]:
    """Every rate of the report in bins, by plot and by working point."""
    edges = _edges(results)
    return {
        name: {
            result.name: rate_in_bins(
                result.evaluation, plot.rate, plot.variable, edges[plot.variable], selection
            )
            for result in results
        }
        for name, plot in PLOTS.items()
    }


def response_points(result: FinderResult) -> dict[str, Points]:
    """Response and resolution of the particles that were found, and the purity of all, in bins.

    Args:
        result: of one working point.

    Returns:
        By the name of the plot, such as "response_vs_energy".
    """
    found: dict[str, Points] = {}
    particles = result.evaluation.particles
    for variable, edges in _edges([result]).items():
        bins = response_in_bins(particles, variable, edges)
        enough = bins.particles >= _FEWEST
        for name in ("response", "resolution"):
            value = np.where(enough, getattr(bins, name), np.nan)
            error = getattr(bins, f"{name}_error")
            found[f"{name}_vs_{variable}"] = Points(edges, value, value - error, value + error)
        found[f"purity_vs_{variable}"] = purity_points(particles, variable, edges)
    return found


def purity_points(particles: ParticleTable, variable: str, edges: Float[np.ndarray, " b1"]) -> Points:
    """Mean purity with its error in bins; a particle without a trackster counts as 0."""
    row = np.searchsorted(edges, variable_of(particles, variable), side="right") - 1
    purity = np.nan_to_num(particles.purity)
    mean, error = np.full((2, len(edges) - 1), np.nan)
    for index in range(len(edges) - 1):
        values = purity[row == index]
        if values.size:
            mean[index] = values.mean()
            error[index] = values.std() / np.sqrt(values.size)
    return Points(edges, mean, mean - error, np.minimum(mean + error, 1.0))


def write_plots(
    directory: Path, results: Sequence[FinderResult], selection: ShowerSelection, title: str
) -> dict[str, Path]:
    """Draw the plots of a report; those for which nothing was measured are left out.

    Args:
        directory: to write into.
        results: of the working points.
        selection: that they were evaluated with.
        title: above every plot.

    Returns:
        The files by the name of the plot.
    """
    files: dict[str, Path] = {}
    for name, curves in binned_curves(results, selection).items():
        plot = PLOTS[name]
        points = _measured({finder: binomial_points(binned) for finder, binned in curves.items()})
        y_range = efficiency_range(points) if name.startswith("efficiency") else rate_range(points)
        files |= _draw(directory, name, points, plot.variable, plot.ylabel, title, y_range)
    each = {result.name: response_points(result) for result in results}
    for measure, ylabel in MEASURES.items():
        for variable in _LABELS:
            name = f"{measure}_vs_{variable}"
            points = _measured({finder: found[name] for finder, found in each.items()})
            shown = efficiency_range(points) if measure == "purity" else None
            files |= _draw(directory, name, points, variable, ylabel, title, shown)
    times = {result.name: result.cpu_seconds for result in results if result.cpu_seconds}
    if times:
        files["cpu_time"] = directory / "cpu_time.png"
        plot_stages(files["cpu_time"], times, title=title)
    return files


def _measured(points: Mapping[str, Points]) -> dict[str, Points]:
    return {finder: each for finder, each in points.items() if np.isfinite(each.y).any()}


def _draw(
    directory: Path,
    name: str,
    points: Mapping[str, Points],
    variable: str,
    ylabel: str,
    title: str,
    y_range: tuple[float, float] | None,
) -> dict[str, Path]:
    if not points:
        return {}
    path = directory / f"{name}.png"
    plot_points(
        path,
        points,
        xlabel=_LABELS[variable],
        ylabel=ylabel,
        title=title,
        log_x=variable == "energy",
        y_range=y_range,
    )
    return {name: path}
