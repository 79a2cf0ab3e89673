"""Curves of measured quantities, several series in one axes, written as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from recon.display.canvas import color_of, figure, finish, marker_of, set_scales, spread_rows
from recon.errors import ConfigError
from recon.metrics import Binned


class Points(NamedTuple):
    """Points with errors in bins; a point with a NaN is not drawn.

    Attributes:
        edges: of the bins.
        y: one value a bin.
        low: lower end of the error bar.
        high: upper end of the error bar.
    """

    edges: Float[np.ndarray, " b1"]
    y: Float[np.ndarray, " b"]
    low: Float[np.ndarray, " b"]
    high: Float[np.ndarray, " b"]


class WorkingPoint(NamedTuple):
    """One setting of a method.

    Attributes:
        label: written beside the point.
        seconds: CPU time an event.
        efficiency: value.
        efficiency_error: of it.
        fake_rate: written beside the point; NaN for unknown.
    """

    label: str
    seconds: float
    efficiency: float
    efficiency_error: float
    fake_rate: float


def binomial_points(binned: Binned) -> Points:
    """Efficiencies with Clopper-Pearson intervals; bins without entries are NaN."""
    low, high = binned.ratio.interval("clopper-pearson")
    return Points(binned.edges, np.asarray(binned.ratio.value), np.asarray(low), np.asarray(high))


def plot_points(
    path: Path,
    series: Mapping[str, Points],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
) -> None:
    """Draw values in bins with error bars, one colour a series.

    Args:
        path: PNG to write.
        series: points by the name for the legend.
        xlabel: with its unit.
        ylabel: with its unit.
        title: above the axes.
        log_x: logarithmic horizontal axis; the first edge must be positive.
        log_y: logarithmic vertical axis.
        y_range: of the vertical axis; chosen by the data if not given.

    Raises:
        ConfigError: a logarithmic axis for edges that are not positive.
    """
    if log_x and any(points.edges[0] <= 0 for points in series.values()):
        raise ConfigError(f"{path.name}: bins on a logarithmic axis must start above 0")
    with figure(path) as grid:
        axes = grid[0]
        set_scales(axes, log_x=log_x, log_y=log_y)
        for row, (name, points) in enumerate(series.items()):
            _draw_points(axes, points, name, row=row, n_series=len(series), log_x=log_x)
        if y_range is not None:
            axes.set_ylim(*y_range)
        finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def _draw_points(axes: Axes, points: Points, name: str, *, row: int, n_series: int, log_x: bool) -> None:
    edges = np.log(points.edges) if log_x else points.edges
    x = edges[:-1] + spread_rows(row, n_series) * np.diff(edges)
    x = np.exp(x) if log_x else x
    axes.errorbar(
        x,
        points.y,
        xerr=np.stack([x - points.edges[:-1], points.edges[1:] - x]),
        yerr=np.stack([points.y - points.low, points.high - points.y]).clip(0),
        fmt=marker_of(row),
        color=color_of(row),
        label=name,
        markersize=5,
        elinewidth=1.2,
    )


def plot_lines(
    path: Path,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw lines, for example losses against the step or ROC curves.

    Args:
        path: PNG to write.
        series: (x, y) by the name for the legend.
        xlabel: with its unit.
        ylabel: with its unit.
        title: above the axes.
        log_x: logarithmic horizontal axis.
        log_y: logarithmic vertical axis.
    """
    with figure(path) as grid:
        axes = grid[0]
        for row, (name, (x, y)) in enumerate(series.items()):
            axes.plot(x, y, color=color_of(row), label=name)
        set_scales(axes, log_x=log_x, log_y=log_y)
        finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def plot_pulls(
    path: Path, pulls: Mapping[str, Float[np.ndarray, "t k"]], names: Sequence[str], *, title: str = ""
) -> None:
    """Draw distributions that should be Gaussians of width one, a panel a parameter.

    Args:
        path: PNG to write.
        pulls: one row a track, by the name for the legend; NaN entries are left out.
        names: of the columns.
        title: above the first panel.
    """
    bins = np.linspace(-5, 5, 51)
    x = np.linspace(-5, 5, 201)
    with figure(path, widths=(1.0,) * len(names), size=(4.2 * len(names), 4.6)) as grid:
        for column, name in enumerate(names):
            axes = grid[column]
            for row, (label, values) in enumerate(pulls.items()):
                _draw_pull(axes, values[:, column], bins, label, row)
            axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), "--", color="0.4", label="unit Gaussian")
            finish(axes, xlabel=f"pull of {name}", ylabel="density" if column == 0 else "", legend=False)
            axes.set_ylim(0, 1.75 * axes.get_ylim()[1])
            axes.legend(fontsize="xx-small", loc="upper left")
        if title:
            grid[0].set_title(title, loc="left", fontsize="small")


def _draw_pull(axes: Axes, values: np.ndarray, bins: np.ndarray, label: str, row: int) -> None:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return
    low, high = np.percentile(finite, [15.8655, 84.1345])
    density = np.histogram(finite, bins)[0] / (finite.size * (bins[1] - bins[0]))
    text = f"{label}: {np.median(finite):+.2f}, width {(high - low) / 2:.2f}"
    axes.stairs(density, bins, color=color_of(row), label=text, linewidth=1.6)


def plot_stages(
    path: Path,
    stages: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str = "CPU time per event [s]",
    title: str = "",
) -> None:
    """Draw the CPU time of every stage as stacked bars, a bar a method.

    Args:
        path: PNG to write.
        stages: seconds by the name of the stage, by the name of the method.
        xlabel: with its unit.
        title: above the axes.
    """
    names = list(dict.fromkeys(stage for times in stages.values() for stage in times))
    height = 2.0 + 0.7 * len(stages) + 0.1 * len(names)
    with figure(path, size=(9.0, height)) as grid:
        axes = grid[0]
        rows = np.arange(len(stages))
        left = np.zeros(len(stages))
        for index, name in enumerate(names):
            width = np.array([times.get(name, 0.0) for times in stages.values()])
            hatch = "" if index < 8 else "//"
            axes.barh(rows, width, left=left, height=0.6, color=color_of(index), hatch=hatch, label=name)
            left += width
        for row, total in zip(rows, left, strict=True):
            axes.text(total, row, f"  {total:.3g} s", va="center", fontsize="small")
        axes.set_xlim(0, 1.18 * left.max() if left.size and left.max() > 0 else 1)
        axes.set_yticks(rows, list(stages))
        axes.tick_params(axis="y", which="both", length=0)
        axes.invert_yaxis()
        finish(axes, xlabel=xlabel, ylabel="", title=title, legend=False)
        axes.figure.legend(fontsize="x-small", loc="outside lower center", ncols=4)


def plot_cost(
    path: Path,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str = "hits per event",
    ylabel: str = "CPU time per event [s]",
    title: str = "",
) -> None:
    """Draw cost against the number of hits on logarithmic axes; the legend has the exponent of a power law.

    Args:
        path: PNG to write.
        series: (hits, seconds), a point an event or a sample, by the name for the legend; all positive.
        xlabel: with its unit.
        ylabel: with its unit.
        title: above the axes.
    """
    with figure(path) as grid:
        axes = grid[0]
        for row, (name, (hits, seconds)) in enumerate(series.items()):
            label = name
            if len(np.unique(hits)) > 1:
                label += f"  (slope {np.polyfit(np.log(hits), np.log(seconds), 1)[0]:.2f})"
            order = np.argsort(hits)
            x, y = np.asarray(hits)[order], np.asarray(seconds)[order]
            axes.plot(x, y, marker_of(row) + "-", color=color_of(row), label=label)
        set_scales(axes, log_x=True, log_y=True)
        _linear_guide(axes, series)
        finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def _linear_guide(axes: Axes, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """A line of slope one through the first point of the first series, for the eye."""
    hits, seconds = (
        np.asarray(column, np.float64) for column in next(iter(series.values()), (np.zeros(0),) * 2)
    )
    if hits.size < 2:
        return
    first = np.argmin(hits)
    ends = np.array([hits.min(), hits.max()])
    axes.plot(ends, ends * seconds[first] / hits[first], ":", color="0.5", label="linear")


def plot_working_points(
    path: Path,
    series: Mapping[str, Sequence[WorkingPoint]],
    *,
    xlabel: str = "CPU time per event [s]",
    ylabel: str = "track finding efficiency",
    title: str = "",
) -> None:
    """Draw efficiency against CPU time, several working points a method; better is up and left.

    Args:
        path: PNG to write.
        series: working points by the name for the legend; drawn in the order of their CPU time.
        xlabel: with its unit.
        ylabel: of the efficiency.
        title: above the axes.
    """
    with figure(path, size=(9.0, 6.5)) as grid:
        axes = grid[0]
        set_scales(axes, log_x=True, log_y=False)
        for row, (name, points) in enumerate(series.items()):
            ordered = sorted(points, key=lambda point: point.seconds)
            seconds, efficiency = [p.seconds for p in ordered], [p.efficiency for p in ordered]
            error = [p.efficiency_error for p in ordered]
            axes.errorbar(
                seconds,
                efficiency,
                yerr=error,
                fmt=marker_of(row) + "-",
                color=color_of(row),
                label=name,
                capsize=3,
            )
            _annotate_all(axes, ordered, color_of(row))
        axes.margins(x=0.2, y=0.12)
        low, high = axes.get_xlim()
        # Room for what is written beside the last point.
        axes.set_xlim(low, high * (high / low) ** 0.1)
        finish(axes, xlabel=xlabel, ylabel=ylabel, title=title)


def _annotate_all(axes: Axes, points: Sequence[WorkingPoint], color: str) -> None:
    """Write beside every point; under each other where points are close."""
    below, last = 0, None
    for point in points:
        close = last is not None and abs(np.log(point.seconds / last.seconds)) < 0.3
        close = close and last is not None and abs(point.efficiency - last.efficiency) < 0.02
        below, last = (below + 1 if close else 0), point
        _annotate(axes, point, color, below)


def _annotate(axes: Axes, point: WorkingPoint, color: str, below: int) -> None:
    ending = "" if np.isnan(point.fake_rate) else f"fakes {100 * point.fake_rate:.1f} %"
    # Lines rise to the right, so the place below and to the right of a point is free.
    axes.annotate(
        ", ".join(filter(None, (point.label, ending))),
        (point.seconds, point.efficiency),
        xytext=(10, -5 - 15 * below),
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize="xx-small",
        color=color,
    )
