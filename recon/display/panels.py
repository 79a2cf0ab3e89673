"""Several small axes beside each other: what was computed as lines, what is known as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.display.canvas import color_of, figures, finish, marker_of, set_scales
from recon.errors import ConfigError

Curve = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        title: above them.
        xlabel: with its unit.
        ylabel: with its unit.
        lines: x and y by the name in the legend.
        points: the same; a name that is among the lines has the line's colour and no entry of its own.
        log_x: logarithmic horizontal axis.
        log_y: logarithmic vertical axis.
    """

    title: str
    xlabel: str
    ylabel: str
    lines: Mapping[str, Curve]
    points: Mapping[str, Curve]
    log_x: bool = False
    log_y: bool = False


def plot_panels(path: Path, panels: Sequence[Panel], *, columns: int = 3) -> None:
    """Draw panels in rows.

    Args:
        path: PNG to write.
        panels: at least one; left to right, then down.
        columns: panels in a row.

    Raises:
        ConfigError: no panel, or a file name that does not end in .png.
    """
    if not panels:
        raise ConfigError(f"{path.name}: there is no panel to draw")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with figures(path, rows=rows, widths=(1.0,) * columns, size=(8.0 * columns, 6.0 * rows)) as grid:
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            names = [*panel.lines, *(name for name in panel.points if name not in panel.lines)]
            for name, (x, y) in panel.lines.items():
                axes.plot(x, y, "-", color=color_of(names.index(name)), label=name)
            for name, (x, y) in panel.points.items():
                row = names.index(name)
                label = None if name in panel.lines else name
                axes.plot(x, y, marker_of(row), color=color_of(row), label=label, markersize=9)
            set_scales(axes, log_x=panel.log_x, log_y=panel.log_y)
            finish(axes, xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title)
