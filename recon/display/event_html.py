"""Event display in three dimensions: one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from recon.display.page import write_page
from recon.display.scene import Outline, Scene, TrackGroup

_HOVER = (
    "%{fullData.name}<br>pT %{customdata[0]:.2f} GeV<br>eta %{customdata[1]:.2f}"
    "<br>hits %{customdata[2]:.0f}<br>chi2 %{customdata[3]:.1f}<extra></extra>"
)
_ZOOM = 1.5
_CIRCLE_POINTS = 49
_STRAIGHT_LINES = 12


def write_event_html(path: Path, scene: Scene) -> None:
    """Draw all hits, the tracks and the detector in a page to turn, zoom and query.

    Every entry of the legend shows or hides its tracks with their hits. The file contains the drawing library
    and loads nothing else; all hits are drawn.

    Args:
        path: HTML to write; missing directories are made.
        scene: the event.

    Raises:
        ConfigError: the file name does not end in .html.
    """
    write_page(path, event_figure(scene), scene.title)


def event_figure(scene: Scene) -> go.Figure:
    """The display as a plotly figure, for notebooks.

    Args:
        scene: the event.
    """
    traces = [] if scene.outline is None else [_outline_trace(scene.outline)]
    traces.append(_hit_trace(scene.hits, f"hits ({len(scene.hits)})", color="#9a9a9a", size=1.3, opacity=0.6))
    for row, group in enumerate(scene.groups):
        traces += _group_traces(group, f"group{row}")
    return go.Figure(traces, layout=_layout(scene))


def _layout(scene: Scene) -> dict[str, Any]:
    radius = 1.03 * max(float(np.hypot(scene.hits[:, 0], scene.hits[:, 1]).max(initial=0)), 1.0)
    length = 1.03 * max(float(np.abs(scene.hits[:, 2]).max(initial=0)), 1.0)
    mean = (radius**2 * length) ** (1 / 3)
    axis = {"showbackground": False, "gridcolor": "#e6e6e6", "zerolinecolor": "#cccccc"}
    return {
        "title": {"text": scene.title, "x": 0.02, "font": {"size": 17}},
        "paper_bgcolor": "white",
        "margin": {"l": 0, "r": 0, "t": 44, "b": 0},
        "legend": {
            "itemsizing": "constant",
            "font": {"size": 14},
            "x": 0.01,
            "y": 0.98,
            "bgcolor": "rgba(255,255,255,.8)",
        },
        "uirevision": "keep",
        "scene": {
            "xaxis": axis | {"title": {"text": "x [mm]"}, "range": [-radius, radius]},
            "yaxis": axis | {"title": {"text": "y [mm]"}, "range": [-radius, radius]},
            "zaxis": axis | {"title": {"text": "z [mm]"}, "range": [-length, length]},
            "aspectmode": "manual",
            "aspectratio": {
                "x": _ZOOM * radius / mean,
                "y": _ZOOM * radius / mean,
                "z": _ZOOM * length / mean,
            },
            # The beam lies in the picture from left to right, y points up.
            "camera": {
                "up": {"x": 0, "y": 1, "z": 0},
                "eye": {"x": 1.3, "y": 0.5, "z": 0.7},
                "projection": {"type": "orthographic"},
            },
        },
    }


def _hit_trace(
    hits: np.ndarray, name: str, *, color: str, size: float, opacity: float, **options: Any
) -> go.Scatter3d:
    x, y, z = hits.astype(np.float32).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        name=name,
        hoverinfo="skip",
        marker={"size": size, "color": color, "opacity": opacity, "line": {"width": 0}},
        **options,
    )


def _broken(lines: np.ndarray) -> np.ndarray:
    """Points of all lines one after another, with a row of NaN behind each, where the pen is lifted."""
    gap = np.full((len(lines), 1, lines.shape[-1]), np.nan, np.float32)
    return np.concatenate([lines.astype(np.float32), gap], axis=1).reshape(-1, lines.shape[-1])


def _group_traces(group: TrackGroup, identifier: str) -> list[go.Scatter3d]:
    x, y, z = _broken(group.curves).T
    facts = np.stack([group.pt, group.eta, group.n_hits, group.chi2], axis=-1).astype(np.float32)
    lines = go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        name=f"{group.name} ({len(group.curves)})",
        legendgroup=identifier,
        line={"color": group.color, "width": 3.5, "dash": "dash" if group.dashed else "solid"},
        customdata=np.repeat(facts, group.curves.shape[1] + 1, axis=0),
        hovertemplate=_HOVER,
        connectgaps=False,
    )
    hits = _hit_trace(
        group.hits,
        f"hits of {group.name}",
        color=group.color,
        size=2.2,
        opacity=1.0,
        legendgroup=identifier,
        showlegend=False,
    )
    return [lines, hits]


def _outline_trace(outline: Outline) -> go.Scatter3d:
    """Circles at the ends of the cylinders, joined by straight lines, and at the rims of the discs."""
    turn = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS)
    pieces = []
    for radius, low, high in outline.cylinders.tolist():
        pieces += [_circle(radius, z, turn) for z in (low, high)]
        for angle in np.linspace(0, 2 * np.pi, _STRAIGHT_LINES, endpoint=False):
            end = np.array([radius * np.cos(angle), radius * np.sin(angle)])
            pieces.append(np.array([[*end, low], [*end, high]]))
    for z, low, high in outline.discs.tolist():
        pieces += [_circle(radius, z, turn) for radius in (low, high)]
    points = [_broken(piece[None]) for piece in pieces] or [np.zeros((0, 3), np.float32)]
    x, y, z = np.concatenate(points).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        name="detector",
        hoverinfo="skip",
        line={"color": "#a9bfd6", "width": 1},
    )


def _circle(radius: float, z: float, turn: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full_like(turn, z)], axis=-1)
