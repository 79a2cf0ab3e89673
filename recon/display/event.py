"""Event display in two views, across and along the beam, written as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from recon.display.canvas import figure
from recon.display.scene import Outline, Scene, TrackGroup
from recon.errors import ConfigError

COLORINGS = ("status", "pt")
"""What the colour of a track can mean."""

PT_RANGE = (0.5, 20.0)
"""GeV; ends of the colour scale for momentum."""


def write_event_png(path: Path, scene: Scene, *, color_by: str = "status") -> None:
    """Draw the hits and tracks of one event in the x-y and in the r-z view.

    Args:
        path: PNG to write.
        scene: the event.
        color_by: "status" for the colour of the group, "pt" for the transverse momentum.

    Raises:
        ConfigError: unknown `color_by`, or a file name that does not end in .png.
    """
    if color_by not in COLORINGS:
        raise ConfigError(f"color_by is {color_by!r}; allowed: {', '.join(COLORINGS)}")
    with figure(path, widths=(1.0, 1.75), size=(17.5, 7.4)) as axes:
        for panel, view in zip(axes, ("xy", "rz"), strict=True):
            _draw_view(panel, scene, view, color_by)
        _frame(axes, scene)
        if color_by == "pt":
            _pt_scale(axes)
        axes[0].figure.suptitle(scene.title, x=0.01, ha="left", fontsize="medium")
        axes[0].figure.legend(
            handles=_legend(scene, color_by), loc="outside lower center", ncols=6, fontsize="small"
        )


def _project(points: np.ndarray, view: str) -> np.ndarray:
    if view == "xy":
        return points[..., :2]
    return np.stack([points[..., 2], np.hypot(points[..., 0], points[..., 1])], axis=-1)


def _draw_view(axes: Axes, scene: Scene, view: str, color_by: str) -> None:
    if scene.outline is not None:
        axes.add_collection(
            LineCollection(_outline_lines(scene.outline, view), colors="0.85", linewidths=1.0)
        )
    hits = _project(scene.hits, view)
    axes.plot(hits[:, 0], hits[:, 1], ".", markersize=1.6, markeredgewidth=0, color="0.62", zorder=1)
    for group in scene.groups:
        _draw_group(axes, group, view, color_by)


def _draw_group(axes: Axes, group: TrackGroup, view: str, color_by: str) -> None:
    style: dict[str, Any] = {"linewidths": 0.9, "linestyles": "--" if group.dashed else "-", "zorder": 2}
    by_pt = color_by == "pt" and not group.dashed
    if by_pt:
        style |= {
            "array": np.nan_to_num(group.pt, nan=PT_RANGE[0]),
            "cmap": "viridis",
            "norm": LogNorm(*PT_RANGE),
        }
    else:
        style |= {"colors": group.color}
    axes.add_collection(LineCollection(list(_project(group.curves, view)), **style))
    hits = _project(group.hits, view)
    axes.plot(hits[:, 0], hits[:, 1], ".", markersize=2.2, color="0.25" if by_pt else group.color, zorder=3)


def _outline_lines(outline: Outline, view: str) -> list[np.ndarray]:
    if view == "xy":
        turn = np.linspace(0, 2 * np.pi, 181)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        return [radius * circle for radius in outline.cylinders[:, 0]]
    cylinders = [np.array([[low, radius], [high, radius]]) for radius, low, high in outline.cylinders]
    return cylinders + [np.array([[z, low], [z, high]]) for z, low, high in outline.discs]


def _frame(axes: Any, scene: Scene) -> None:
    radius = max(float(np.hypot(scene.hits[:, 0], scene.hits[:, 1]).max(initial=0)), 1.0)
    length = max(float(np.abs(scene.hits[:, 2]).max(initial=0)), 1.0)
    axes[0].set(xlim=(-1.05 * radius, 1.05 * radius), ylim=(-1.05 * radius, 1.05 * radius), aspect="equal")
    axes[1].set(xlim=(-1.05 * length, 1.05 * length), ylim=(0, 1.05 * radius))
    axes[0].set(xlabel="x [mm]", ylabel="y [mm]")
    axes[1].set(xlabel="z [mm]", ylabel="r [mm]")


def _pt_scale(axes: Any) -> None:
    scale = ScalarMappable(LogNorm(*PT_RANGE), "viridis")
    axes[1].figure.colorbar(scale, ax=axes[1], label="transverse momentum [GeV]", pad=0.01, extend="both")


def _legend(scene: Scene, color_by: str) -> list[Line2D]:
    entries = [
        Line2D([], [], ls="", marker="o", markersize=5, color="0.62", label=f"hits ({len(scene.hits)})")
    ]
    if color_by == "pt":
        n_tracks = sum(len(group.curves) for group in scene.groups if not group.dashed)
        entries.append(Line2D([], [], color="0.25", label=f"tracks ({n_tracks})"))
    for group in scene.groups:
        if color_by == "status" or group.dashed:
            style = "--" if group.dashed else "-"
            entries.append(
                Line2D([], [], ls=style, color=group.color, label=f"{group.name} ({len(group.curves)})")
            )
    return entries
