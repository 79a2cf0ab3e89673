"""Showers in three dimensions: one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from recon.display.page import write_page
from recon.display.shower_colors import GREY, UNGROUPED, colors_of
from recon.display.shower_scene import HitGroups, ShowerScene, strongest

MOST_HITS = 60_000
"""A browser turns as many points without stutter; the rest is left out, the weakest first, and the title says so."""
SMALLEST, LARGEST = 1.5, 9.0
"""Diameters of the markers, pixels."""
_HOVER = "%{text}<br>hit %{customdata[0]:.4g} GeV<br>layer %{customdata[1]:.0f}<extra></extra>"


def write_shower_html(path: Path, scene: ShowerScene, *, most_hits: int = MOST_HITS) -> None:
    """Draw the hits in a page to turn, zoom and query; buttons change between the ways to sort them.

    Every entry of the legend shows or hides its hits. The file contains the drawing library and loads nothing else.

    Args:
        path: HTML to write; missing directories are made.
        scene: the event.
        most_hits: weaker hits beyond this number are left out; the title says how many, and how much energy is shown.

    Raises:
        ConfigError: the file name does not end in .html.
    """
    write_page(path, shower_figure(scene, most_hits=most_hits), scene.title)


def shower_figure(scene: ShowerScene, *, most_hits: int = MOST_HITS) -> go.Figure:
    """The display as a plotly figure, for notebooks.

    Args:
        scene: the event.
        most_hits: weaker hits beyond this number are left out.
    """
    drawn, left_out = strongest(scene, most_hits)
    title = f"{scene.title}: {left_out}" if left_out else scene.title
    traces, owner = [], []
    for number, groups in enumerate(drawn.groups):
        own = _traces(drawn, groups, shown=number == 0)
        traces += own
        owner += [number] * len(own)
    return go.Figure(traces, layout=_layout(drawn, title, owner))


def _traces(scene: ShowerScene, groups: HitGroups, *, shown: bool) -> list[go.Scatter3d]:
    """One trace a named group, one for the others and one for hits in none."""
    named = groups.named()
    rank = np.full(len(groups.labels) + 1, len(named), np.int32)
    rank[named] = np.arange(len(named))
    rank[-1] = len(named) + 1
    kind = rank[groups.member]
    colors = [*(colors_of(groups)[row] for row in named), GREY, UNGROUPED]
    names = [*(groups.labels[row] for row in named), f"other {groups.title}", f"in no {groups.title[:-1]}"]
    return [
        _points(scene, groups, np.flatnonzero(kind == number), name, color, shown=shown)
        for number, (name, color) in enumerate(zip(names, colors, strict=True))
    ]


def _points(
    scene: ShowerScene, groups: HitGroups, rows: np.ndarray, name: str, color: str, *, shown: bool
) -> go.Scatter3d:
    x, y, z = scene.position[rows].T
    labels = (*groups.labels, name)
    return go.Scatter3d(
        # The beam lies in the picture from left to right.
        x=z,
        y=x,
        z=y,
        mode="markers",
        name=f"{name} ({len(rows):,})",
        visible=shown,
        marker={"size": _diameters(scene, rows), "color": color, "opacity": 0.85, "line": {"width": 0}},
        customdata=np.stack([scene.energy[rows], scene.layer[rows].astype(np.float32)], axis=-1),
        text=[labels[member] for member in groups.member[rows].tolist()],
        hovertemplate=_HOVER,
    )


def _diameters(scene: ShowerScene, rows: np.ndarray) -> np.ndarray:
    """Marker diameters: the volume grows with the energy, between two bounds."""
    if not len(rows):
        return np.zeros(0, np.float32)
    reference = max(float(np.quantile(scene.energy, 0.999)), 1e-9)
    return np.clip(LARGEST * np.cbrt(scene.energy[rows] / reference), SMALLEST, LARGEST).astype(np.float32)


def _layout(scene: ShowerScene, title: str, owner: list[int]) -> dict[str, Any]:
    axis = {"showbackground": False, "gridcolor": "#e6e6e6", "zerolinecolor": "#cccccc"}
    buttons = [
        {
            "label": groups.title,
            "method": "update",
            "args": [{"visible": [number == mine for mine in owner]}],
        }
        for number, groups in enumerate(scene.groups)
    ]
    return {
        "title": {"text": title, "x": 0.02, "font": {"size": 17}},
        "paper_bgcolor": "white",
        "margin": {"l": 0, "r": 0, "t": 44, "b": 0},
        "legend": {"itemsizing": "constant", "font": {"size": 13}, "bgcolor": "rgba(255,255,255,.8)"},
        "uirevision": "keep",
        "updatemenus": [
            {
                "type": "buttons",
                "direction": "right",
                "x": 0.01,
                "xanchor": "left",
                "y": 0.99,
                "buttons": buttons,
            }
        ],
        "scene": {
            "xaxis": axis | {"title": {"text": "z [mm]"}},
            "yaxis": axis | {"title": {"text": "x [mm]"}},
            "zaxis": axis | {"title": {"text": "y [mm]"}},
            "aspectmode": "data",
            "camera": {"eye": {"x": -1.3, "y": -1.1, "z": 0.6}},
        },
    }
