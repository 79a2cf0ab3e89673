"""Neutrino events in both views: galleries as PNG and as a page, with what a network says of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float32
from matplotlib.colors import LogNorm
from plotly.subplots import make_subplots

from recon.display.canvas import figures
from recon.display.page import write_page
from recon.errors import ConfigError

PLANE_M, CELL_M = 0.1322, 0.0397
"""Two planes of the detector, and a cell, m: one pixel."""
FAINTEST = 1 / 255
_VIEWS = ("x", "y")
_MARGIN = 4
_ROW_PIXELS = 330


class Picture(NamedTuple):
    """One event.

    Attributes:
        title: above it.
        views: xz and yz, grey values from 0 to 1 by plane and cell.
        probabilities: of the classes; none are drawn if empty.
    """

    title: str
    views: Float32[np.ndarray, "planes cells 2"]
    probabilities: Float32[np.ndarray, " k"] = np.zeros(0, np.float32)


def plot_events(path: Path, events: Sequence[Picture], labels: Sequence[str] = ()) -> None:
    """Draw events, a row each: both views, and the probabilities of the classes beside them.

    Args:
        path: PNG to write.
        events: at least one.
        labels: of the classes.

    Raises:
        ConfigError: no event.
    """
    if not events:
        raise ConfigError(f"{path.name}: there is no event to draw")
    bars = bool(labels)
    widths = (1.0, 1.0, 0.55) if bars else (1.0, 1.0)
    with figures(path, rows=len(events), widths=widths, size=(6.2 * sum(widths), 3.1 * len(events))) as grid:
        for axes, event in zip(grid, events, strict=True):
            for view in range(2):
                _draw_view(axes[view], event, view, last=event is events[-1])
            axes[0].set_title(event.title, loc="left", fontsize="x-small")
            if bars:
                _draw_bars(axes[2], event, labels)


def _draw_view(axes: Any, event: Picture, view: int, *, last: bool) -> None:
    image = event.views[..., view].T
    planes, cells = window_of(event.views)
    shown = np.ma.masked_less_equal(image, 0)
    axes.pcolormesh(
        np.arange(image.shape[1] + 1) * PLANE_M,
        (np.arange(image.shape[0] + 1) - image.shape[0] / 2) * CELL_M,
        shown,
        norm=LogNorm(FAINTEST, 1),
        cmap="viridis_r",
    )
    axes.set_xlim(planes[0] * PLANE_M, planes[1] * PLANE_M)
    half = image.shape[0] / 2
    axes.set_ylim((cells[0] - half) * CELL_M, (cells[1] - half) * CELL_M)
    axes.set_ylabel(f"{_VIEWS[view]} [m]", fontsize="x-small")
    axes.tick_params(labelsize="x-small")
    if last:
        axes.set_xlabel("z [m]", fontsize="x-small")


def window_of(views: Float32[np.ndarray, "planes cells 2"]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Planes and cells to show: those with anything in either view, and some more."""
    spans = []
    for axes in ((1, 2), (0, 2)):
        lit = np.flatnonzero((views > 0).any(axis=axes))
        size = views.shape[0 if axes[0] else 1]
        low, high = (int(lit[0]), int(lit[-1]) + 1) if len(lit) else (0, size)
        spans.append((max(low - _MARGIN, 0), min(high + _MARGIN, size)))
    return spans[0], spans[1]


def _draw_bars(axes: Any, event: Picture, labels: Sequence[str]) -> None:
    rows = np.arange(len(labels))
    axes.barh(rows, event.probabilities, color="#0072B2")
    axes.set_yticks(rows, labels, fontsize="x-small")
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize="x-small")
    axes.invert_yaxis()
    for row, probability in enumerate(event.probabilities):
        inside = probability > 0.75
        axes.text(
            probability,
            row,
            f" {probability:.2f} ",
            va="center",
            ha="right" if inside else "left",
            fontsize=11,
            color="white" if inside else "black",
        )


def write_events_page(path: Path, events: Sequence[Picture], labels: Sequence[str], title: str) -> None:
    """Write events as one page that can be zoomed; the energy of a cell appears under the pointer.

    Args:
        path: HTML to write.
        events: at least one.
        labels: of the classes.
        title: of the page.

    Raises:
        ConfigError: no event.
    """
    if not events:
        raise ConfigError(f"{path.name}: there is no event to draw")
    titles = [text for event in events for text in (event.title, _said(event, labels))]
    figure = make_subplots(
        rows=len(events), cols=2, subplot_titles=titles, vertical_spacing=0.3 / len(events)
    )
    for row, event in enumerate(events, start=1):
        for view in range(2):
            figure.add_trace(_heatmap(event.views[..., view]), row=row, col=view + 1)
            planes, cells = window_of(event.views)
            figure.update_xaxes(range=planes, title_text="plane", row=row, col=view + 1)
            figure.update_yaxes(range=cells, title_text=f"cell in {_VIEWS[view]}", row=row, col=view + 1)
    figure.update_layout(title_text=title, showlegend=False, template="plotly_white")
    write_page(path, figure, title, height=_ROW_PIXELS * len(events) + 100)


def _said(event: Picture, labels: Sequence[str]) -> str:
    return ", ".join(f"{name} {p:.2f}" for name, p in zip(labels, event.probabilities, strict=False))


def _heatmap(view: np.ndarray) -> go.Heatmap:
    shown = np.where(view > 0, np.log10(np.maximum(view, FAINTEST)), np.nan).T
    return go.Heatmap(z=shown, zmin=np.log10(FAINTEST), zmax=0, colorscale="Viridis_r", showscale=False)
