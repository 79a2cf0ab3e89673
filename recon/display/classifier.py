"""Pictures of classifiers: ROC curves, reliability, confusion, and the shape of what passes a cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes

from recon.display.canvas import color_of, figure, finish, marker_of
from recon.metrics import RocBand

_LOWEST_EFFICIENCY = 0.1
"""Below, a handful of jets decides."""


class Marked(NamedTuple):
    """A working point on a curve.

    Attributes:
        label: written beside it, for the first curve.
        efficiency: of the signal.
        mistag: fraction of the background that passes.
    """

    label: str
    efficiency: float
    mistag: float


def plot_roc(
    path: Path,
    curves: Mapping[str, RocBand],
    *,
    marked: Mapping[str, Sequence[Marked]] | None = None,
    xlabel: str = "signal efficiency",
    ylabel: str = "mistag rate",
    title: str = "",
) -> None:
    """Draw ROC curves with bands of one sigma, as mistag rate against efficiency: better is down and to the right.

    Args:
        path: PNG to write.
        curves: by the name for the legend; where no background passes nothing is drawn.
        marked: working points by the name of the curve.
        xlabel: of the efficiency.
        ylabel: of the mistag rate.
        title: above the axes.
    """
    with figure(path, size=(9.0, 7.0)) as grid:
        axes = grid[0]
        lowest = 1.0
        for row, (name, curve) in enumerate(curves.items()):
            shown = curve.mistag > 0
            x, y = curve.efficiency[shown], curve.mistag[shown]
            axes.plot(x, y, color=color_of(row), label=name)
            axes.fill_between(x, curve.low[shown], curve.high[shown], color=color_of(row), alpha=0.2, lw=0)
            lowest = min(lowest, *y[x >= _LOWEST_EFFICIENCY], 1.0)
            _mark(axes, (marked or {}).get(name, ()), row)
        axes.set_yscale("log")
        axes.set_xlim(0, 1)
        axes.set_ylim(lowest / 3, 1)
        axes.grid(which="major", color="0.9")
        _better(axes)
        finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def _mark(axes: Axes, points: Sequence[Marked], row: int) -> None:
    for point in points:
        if point.mistag > 0:
            axes.plot(point.efficiency, point.mistag, marker_of(row), color=color_of(row), markersize=8)
        if point.mistag > 0 and row == 0:
            axes.annotate(
                point.label,
                (point.efficiency, point.mistag),
                xytext=(-8, 6),
                textcoords="offset points",
                ha="right",
                fontsize="x-small",
                color="0.3",
            )


def _better(axes: Axes) -> None:
    """An arrow towards the corner."""
    axes.annotate(
        "better",
        xy=(0.97, 0.06),
        xytext=(0.72, 0.22),
        xycoords="axes fraction",
        fontsize="small",
        color="0.45",
        arrowprops={"arrowstyle": "simple", "color": "0.75", "mutation_scale": 18},
        va="center",
    )


class Diagram(NamedTuple):
    """One line of a reliability diagram.

    Attributes:
        predicted: mean probability of the jets of every bin.
        observed: fraction of them that is signal.
        low: end of its interval.
        high: other end.
    """

    predicted: Float[np.ndarray, " b"]
    observed: Float[np.ndarray, " b"]
    low: Float[np.ndarray, " b"]
    high: Float[np.ndarray, " b"]


def plot_reliability(
    path: Path, panels: Mapping[str, Mapping[str, Diagram]], *, xlabel: str, ylabel: str
) -> None:
    """Draw reliability diagrams, one panel for every way to calibrate.

    Args:
        path: PNG to write.
        panels: lines by the name for the legend, by the title of the panel.
        xlabel: of all panels.
        ylabel: of all panels.
    """
    with figure(path, widths=(1.0,) * len(panels), size=(7.5 * len(panels), 6.8)) as grid:
        for axes, (title, lines) in zip(grid, panels.items(), strict=True):
            axes.plot([0, 1], [0, 1], "--", color="0.6")
            for row, (name, line) in enumerate(lines.items()):
                error = np.stack([line.observed - line.low, line.high - line.observed]).clip(0)
                axes.errorbar(
                    line.predicted,
                    line.observed,
                    yerr=error,
                    fmt=marker_of(row) + "-",
                    color=color_of(row),
                    label=name,
                    markersize=6,
                )
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def plot_confusion(
    path: Path, counts: Int64[np.ndarray, "k k"], labels: Sequence[str], *, title: str = ""
) -> None:
    """Draw a confusion matrix: of the jets of a true class (a row), per cent by the likeliest class.

    Args:
        path: PNG to write.
        counts: jets by true and by likeliest class; classes without jets are left out of the rows.
        labels: of the classes.
        title: above the axes.
    """
    rows = np.flatnonzero(counts.sum(axis=1))
    shares = 100 * counts[rows] / counts[rows].sum(axis=1, keepdims=True)
    side = 2.5 + 0.62 * len(labels)
    with figure(path, size=(side, 2.6 + 0.62 * len(rows))) as grid:
        axes = grid[0]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, column in np.argwhere(shares >= 0.5):
            dark = shares[row, column] > 55
            axes.text(
                column,
                row,
                f"{shares[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=12,
                color="white" if dark else "black",
            )
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=12)
        axes.set_yticks(range(len(rows)), [labels[int(row)] for row in rows], fontsize=12)
        axes.tick_params(which="both", length=0)
        finish(axes, xlabel="likeliest class", ylabel="true class", title=title, legend=False)


def plot_shapes(
    path: Path,
    shapes: Mapping[str, Float[np.ndarray, " b"]],
    edges: Float[np.ndarray, " b1"],
    *,
    reference: tuple[str, Float[np.ndarray, " b"]],
    xlabel: str,
    title: str = "",
) -> None:
    """Draw histograms of area one, several beside a filled reference.

    Args:
        path: PNG to write.
        shapes: counts a bin, by the name for the legend.
        edges: of the bins.
        reference: name and counts of what is filled.
        xlabel: with its unit.
        title: above the axes.
    """
    with figure(path) as grid:
        axes = grid[0]
        name, counts = reference
        axes.stairs(_area_one(counts, edges), edges, fill=True, color="0.85", label=name)
        for row, (label, values) in enumerate(shapes.items()):
            axes.stairs(_area_one(values, edges), edges, color=color_of(row), label=label, linewidth=1.8)
        axes.set_xlim(edges[0], edges[-1])
        finish(axes, xlabel=xlabel, ylabel="density", title=title)


def _area_one(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.asarray(counts / (max(counts.sum(), 1e-30) * np.diff(edges)))
