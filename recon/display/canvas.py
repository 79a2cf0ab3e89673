"""One look for every picture: style, colours, file output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from recon.errors import ConfigError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Colours that stay apart for colour-blind readers (M. Okabe, K. Ito, 2008)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_STYLE = {
    **mplhep.style.ROOT,
    "figure.figsize": (8.0, 6.0),
    "font.size": 17,
    "axes.linewidth": 1.2,
    "axes.prop_cycle": cycler(color=PALETTE),
    "lines.linewidth": 1.6,
    "xtick.major.size": 8,
    "ytick.major.size": 8,
    "xtick.minor.size": 4,
    "ytick.minor.size": 4,
    "figure.dpi": 120,
    "savefig.dpi": 120,
}


@contextmanager
def figure(
    path: Path, *, widths: tuple[float, ...] = (1.0,), size: tuple[float, float] = (8.0, 6.0)
) -> Iterator[Any]:
    """Yield the axes of a new figure and write it to a file at the end.

    Args:
        path: PNG to write; missing directories are made.
        widths: of the axes beside each other, relative.
        size: of the whole figure, inches.

    Yields:
        An array of axes, one a width.

    Raises:
        ConfigError: the file name does not end in .png.
    """
    with figures(path, rows=1, widths=widths, size=size) as axes:
        yield axes[0]


@contextmanager
def figures(
    path: Path, *, rows: int, widths: tuple[float, ...] = (1.0,), size: tuple[float, float] = (8.0, 6.0)
) -> Iterator[Any]:
    """As `figure`, with several rows of axes; yields an array of them, rows first."""
    if path.suffix != ".png":
        raise ConfigError(f"cannot write {path}: allowed are file names that end in .png")
    with mpl.rc_context(_STYLE):
        # Without pyplot nothing is registered anywhere: the figure is gone with its last reference.
        canvas = FigureCanvasAgg(Figure(figsize=size, layout="constrained"))
        yield canvas.figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.figure.savefig(path)


def color_of(row: int) -> str:
    """Colour of the series at a place in the legend."""
    return PALETTE[row % len(PALETTE)]


def marker_of(row: int) -> str:
    """Marker of the series at a place in the legend."""
    return MARKERS[row % len(MARKERS)]


def set_scales(axes: Axes, *, log_x: bool, log_y: bool) -> None:
    """Make axes logarithmic where wanted, with plain numbers at the ticks."""
    for wanted, scale, axis in ((log_x, axes.set_xscale, axes.xaxis), (log_y, axes.set_yscale, axes.yaxis)):
        if wanted:
            scale("log")
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.2, 0.6)))


def finish(axes: Axes, *, xlabel: str, ylabel: str, title: str = "", legend: bool = True) -> None:
    """Set labels, the title at the top left and the legend, which goes where it hides least."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left", fontsize="small")
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="x-small")


def spread_rows(row: int, n: int) -> float:
    """Place of a series within a bin, as a fraction of its width: error bars shall not hide each other."""
    return 0.5 if n < 2 else float(np.linspace(0.4, 0.6, n)[row])
