"""One jet: its constituents in the plane of eta and phi, beside what a tagger says, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from recon.display.canvas import color_of, figure, finish

LARGEST_AREA = 1500.0
"""Of the marker of the hardest constituent, square points."""
_SMALLEST_AREA = 4.0


class JetScene(NamedTuple):
    """What is drawn of a jet.

    Attributes:
        title: above the picture.
        position: of the constituents relative to the axis: eta, and phi in rad.
        pt: GeV.
        kind: row of `kinds`.
        kinds: names for the legend.
        vertices: secondary vertices relative to the axis: eta, and phi in rad.
        vertex_notes: one a vertex, such as its mass.
        radius: of the jet.
        classes: what a tagger tells apart; empty without one.
        scores: its probabilities.
    """

    title: str
    position: Float32[np.ndarray, "n 2"]
    pt: Float32[np.ndarray, " n"]
    kind: Int32[np.ndarray, " n"]
    kinds: tuple[str, ...]
    vertices: Float32[np.ndarray, "v 2"]
    vertex_notes: tuple[str, ...]
    radius: float
    classes: tuple[str, ...] = ()
    scores: Sequence[float] = ()


def write_jet_png(path: Path, scene: JetScene) -> None:
    """Draw a jet: areas grow with the transverse momentum, colours are kinds of particles, stars are vertices.

    Args:
        path: PNG to write.
        scene: the jet.

    Raises:
        ConfigError: the file name does not end in .png.
    """
    widths = (2.0, 1.0) if scene.classes else (1.0,)
    with figure(path, widths=widths, size=(12.5 if scene.classes else 8.5, 8.0)) as grid:
        _draw_plane(grid[0], scene)
        if scene.classes:
            _draw_scores(grid[1], scene)


def areas(scene: JetScene) -> Float32[np.ndarray, " n"]:
    """Areas of the markers, square points: proportional to the transverse momentum, none too small to see."""
    hardest = max(float(scene.pt.max(initial=0.0)), 1e-9)
    return np.maximum(LARGEST_AREA * scene.pt / hardest, _SMALLEST_AREA).astype(np.float32)


def _draw_plane(axes: Axes, scene: JetScene) -> None:
    size = areas(scene)
    for row, name in enumerate(scene.kinds):
        mine = scene.kind == row
        if mine.any():
            x, y = scene.position[mine].T
            axes.scatter(
                x, y, s=size[mine], color=color_of(row), alpha=0.55, linewidths=0.6, edgecolors="white"
            )
            # In the legend all markers have one size.
            axes.scatter([], [], s=80, color=color_of(row), alpha=0.8, label=f"{name} ({int(mine.sum())})")
    if len(scene.vertices):
        x, y = scene.vertices.T
        axes.scatter(x, y, s=260, marker="*", color="black", label=f"secondary vertex ({len(x)})", zorder=3)
    for (x, y), note in zip(scene.vertices, scene.vertex_notes, strict=True):
        axes.annotate(note, (x, y), xytext=(10, 8), textcoords="offset points", fontsize="xx-small")
    axes.add_patch(Circle((0, 0), scene.radius, fill=False, color="0.6", linestyle="--"))
    edge = 1.3 * scene.radius
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-edge, edge)
    axes.set_aspect("equal")
    finish(axes, xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$ [rad]", title=scene.title)


def _draw_scores(axes: Axes, scene: JetScene) -> None:
    rows = np.arange(len(scene.classes))
    axes.barh(rows, scene.scores, color=color_of(0))
    axes.set_yticks(rows, list(scene.classes), fontsize="x-small")
    axes.tick_params(axis="y", which="both", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    finish(axes, xlabel="probability", ylabel="", legend=False)
