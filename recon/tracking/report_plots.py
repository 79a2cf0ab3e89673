"""The plots of the tracking report: which quantity, in which bins, with which labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.display.axis_ranges import efficiency_range, rate_range
from recon.display.curves import Points, binomial_points, plot_points, plot_pulls, plot_stages
from recon.metrics import Binned, integer_edges
from recon.tracking.metrics import Evaluation, TrackTable, efficiency_in_bins, rate_in_bins
from recon.tracking.resolution import PARAMETERS, spread_in_bins

PT_EDGES = np.array([0.5, 0.7, 0.85, 1.0, 1.25, 1.6, 2.0, 2.6, 3.5, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0])
ETA_EDGES = np.linspace(-4.0, 4.0, 17)
RADIUS_EDGES = np.array([0.0, 0.1, 1.0, 5.0, 10.0, 24.0, 40.0, 60.0, 90.0, 120.0, 170.0, 260.0])
PILEUP_BINS = 8


class _Plot(NamedTuple):
    """A curve of every finder; `rate` is empty for the efficiency."""

    rate: str
    variable: str
    xlabel: str
    ylabel: str


_EFFICIENCY, _PT, _ETA = "efficiency (double majority)", "transverse momentum [GeV]", "pseudorapidity"

PLOTS = {
    "efficiency_vs_pt": _Plot("", "pt", _PT, _EFFICIENCY),
    "efficiency_vs_eta": _Plot("", "eta", _ETA, _EFFICIENCY),
    "efficiency_vs_pileup": _Plot("", "pileup", "pile-up interactions", _EFFICIENCY),
    "efficiency_vs_radius": _Plot("", "radius", "production radius [mm]", _EFFICIENCY),
    "fake_rate_vs_pt": _Plot("fake", "pt", "fitted " + _PT, "fake rate"),
    "fake_rate_vs_eta": _Plot("fake", "eta", "fitted " + _ETA, "fake rate"),
    "duplicate_rate_vs_pt": _Plot("duplicate", "pt", "fitted " + _PT, "duplicate rate"),
    "duplicate_rate_vs_eta": _Plot("duplicate", "eta", "fitted " + _ETA, "duplicate rate"),
}
"""Binned curves by the name of their file and of their entry in the JSON."""

_RESOLUTIONS = {
    "d0": (1e3, "resolution of d0 [um]"),
    "z0": (1e3, "resolution of z0 [um]"),
    "phi": (1e3, "resolution of phi [mrad]"),
    "theta": (1e3, "resolution of theta [mrad]"),
    "q/p": (1e2, "relative resolution of q/p [%]"),
}


def binned_curves(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, Binned]]:
    """Every curve of the report, by plot and by finder.

    Args:
        evaluations: merged over events, by the name of the finder.
    """
    pileup = integer_edges([e.particles.pileup for e in evaluations.values()], PILEUP_BINS)
    edges = {"pt": PT_EDGES, "eta": ETA_EDGES, "radius": RADIUS_EDGES, "pileup": pileup}
    return {
        name: {
            finder: rate_in_bins(evaluation, plot.rate, plot.variable, edges[plot.variable])
            if plot.rate
            else efficiency_in_bins(evaluation, plot.variable, edges[plot.variable])
            for finder, evaluation in evaluations.items()
        }
        for name, plot in PLOTS.items()
    }


def resolution_points(tracks: TrackTable, parameter: str, edges: Float[np.ndarray, " b1"]) -> Points:
    """Width of the residual of one parameter against the true transverse momentum, for tracks of targets.

    Args:
        tracks: of one finder.
        parameter: one of `PARAMETERS`; that of q/p is relative to the true value.
        edges: of the bins, GeV.

    Returns:
        In the unit of the label of the plot: um, mrad, %.
    """
    row = PARAMETERS.index(parameter)
    scale = np.full(len(tracks.pt), _RESOLUTIONS[parameter][0])
    if parameter == "q/p":
        scale *= tracks.truth_pt * np.cosh(tracks.truth_eta)
    use = tracks.target
    widths = spread_in_bins(tracks.residual[use, row] * scale[use], tracks.truth_pt[use], edges)
    value, error = np.array([w.width for w in widths]), np.array([w.width_error for w in widths])
    # Two tracks have no meaningful width: an error bar longer than the value says nothing.
    few = np.array([w.n < 5 for w in widths])
    value = np.where(few, np.nan, value)
    return Points(edges, value, value - error, value + error)


def write_plots(
    directory: Path,
    evaluations: Mapping[str, Evaluation],
    stages: Mapping[str, Mapping[str, float]],
    title: str,
) -> dict[str, Path]:
    """Draw the plots of a report; those for which nothing was measured are left out.

    Args:
        directory: to write into.
        evaluations: merged over events, by the name of the finder.
        stages: CPU seconds an event by stage, by the name of the finder.
        title: above every plot.

    Returns:
        The files by the name of the plot.
    """
    files: dict[str, Path] = {}
    for name, curves in binned_curves(evaluations).items():
        points = {finder: binomial_points(binned) for finder, binned in curves.items()}
        points = {finder: each for finder, each in points.items() if np.isfinite(each.y).any()}
        if points:
            files[name] = directory / f"{name}.png"
            plot = PLOTS[name]
            y_range = rate_range(points) if plot.rate else efficiency_range(points)
            plot_points(
                files[name],
                points,
                xlabel=plot.xlabel,
                ylabel=plot.ylabel,
                title=title,
                log_x=plot.variable == "pt",
                y_range=y_range,
            )
    files |= _write_resolutions(directory, evaluations, title)
    measured = {finder: times for finder, times in stages.items() if times}
    if measured:
        files["cpu_time"] = directory / "cpu_time.png"
        plot_stages(files["cpu_time"], measured, title=title)
    return files


def _write_resolutions(directory: Path, evaluations: Mapping[str, Evaluation], title: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for parameter, (_, ylabel) in _RESOLUTIONS.items():
        points = {name: resolution_points(e.tracks, parameter, PT_EDGES) for name, e in evaluations.items()}
        points = {name: each for name, each in points.items() if np.isfinite(each.y).any()}
        if points:
            name = f"resolution_{parameter.replace('/', '')}_vs_pt"
            files[name] = directory / f"{name}.png"
            plot_points(
                files[name], points, xlabel=f"true {_PT}", ylabel=ylabel, title=title, log_x=True, log_y=True
            )
    pulls = {name: e.tracks.pull[e.tracks.target] for name, e in evaluations.items()}
    pulls = {name: each for name, each in pulls.items() if np.isfinite(each).any()}
    if pulls:
        files["pulls"] = directory / "pulls.png"
        plot_pulls(files["pulls"], pulls, PARAMETERS, title=title)
    return files
