"""One jet as a page: the plane of eta and phi to zoom and query, beside what a tagger says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from recon.display.canvas import color_of
from recon.display.jet import JetScene, areas
from recon.display.page import write_page

_HOVER = "%{customdata:.3g} GeV<br>eta %{x:.3f}, phi %{y:.3f}"
_PLANE, _BARS = (0.0, 0.62), (0.74, 1.0)
"""Parts of the width."""


def write_jet_html(path: Path, scene: JetScene) -> None:
    """Draw a jet in a page; every entry of the legend shows or hides its particles. The file loads nothing else.

    Args:
        path: HTML to write; missing directories are made.
        scene: the jet.

    Raises:
        ConfigError: the file name does not end in .html.
    """
    write_page(path, jet_figure(scene), scene.title)


def jet_figure(scene: JetScene) -> go.Figure:
    """The display as a plotly figure, for notebooks."""
    # The diameter that a marker of this area has.
    size = np.sqrt(areas(scene))
    traces: list[go.Scatter | go.Bar] = []
    for row, name in enumerate(scene.kinds):
        mine = scene.kind == row
        if mine.any():
            traces.append(_markers(scene, mine, size, name, color_of(row)))
    if len(scene.vertices):
        x, y = scene.vertices.T
        traces.append(
            go.Scatter(
                x=x,
                y=y,
                mode="markers",
                name=f"secondary vertex ({len(x)})",
                text=list(scene.vertex_notes),
                hovertemplate="%{text}<br>eta %{x:.3f}, phi %{y:.3f}<extra></extra>",
                marker={"symbol": "star", "size": 17, "color": "black"},
            )
        )
    if scene.classes:
        traces.append(
            go.Bar(
                x=list(scene.scores),
                y=list(scene.classes),
                orientation="h",
                xaxis="x2",
                yaxis="y2",
                showlegend=False,
                hovertemplate="%{y} %{x:.4f}<extra></extra>",
                marker={"color": color_of(0)},
            )
        )
    return go.Figure(traces, layout=_layout(scene))


def _markers(scene: JetScene, mine: np.ndarray, size: np.ndarray, name: str, color: str) -> go.Scatter:
    x, y = scene.position[mine].T
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        name=f"{name} ({int(mine.sum())})",
        customdata=scene.pt[mine],
        hovertemplate=f"{name} {_HOVER}<extra></extra>",
        marker={"size": size[mine], "color": color, "opacity": 0.6},
    )


def _layout(scene: JetScene) -> dict[str, object]:
    edge = 1.3 * scene.radius
    axis = {"range": [-edge, edge], "zeroline": False, "gridcolor": "#eeeeee"}
    plane = _PLANE if scene.classes else (0.0, 1.0)
    layout: dict[str, object] = {
        "title": {"text": scene.title, "x": 0.02, "font": {"size": 17}},
        "plot_bgcolor": "white",
        "legend": {"itemsizing": "constant", "x": plane[1], "xanchor": "right", "y": 1},
        "xaxis": axis | {"title": {"text": "Δη"}, "domain": plane, "constrain": "domain"},
        "yaxis": axis | {"title": {"text": "Δφ [rad]"}, "scaleanchor": "x"},
        "shapes": [
            {
                "type": "circle",
                "x0": -scene.radius,
                "x1": scene.radius,
                "y0": -scene.radius,
                "y1": scene.radius,
                "line": {"color": "#999999", "dash": "dash"},
            }
        ],
    }
    if scene.classes:
        layout["xaxis2"] = {
            "domain": _BARS,
            "range": [0, 1],
            "title": {"text": "probability"},
            "anchor": "y2",
        }
        layout["yaxis2"] = {"autorange": "reversed", "anchor": "x2"}
    return layout
