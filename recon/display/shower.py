"""Showers in a calorimeter in two views, from the interaction point and from the side, written as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recon.display.canvas import figures
from recon.display.shower_colors import GREY, UNGROUPED, colors_of
from recon.display.shower_scene import HitGroups, ShowerScene
from recon.geometry import eta as pseudorapidity

LEGEND_LINES = 8
SMALLEST, LARGEST = 0.4, 40.0
"""Areas of the markers, points squared."""


def write_shower_png(path: Path, scene: ShowerScene) -> None:
    """Draw the hits in eta and phi, and in z and eta; a row for every way to sort them.

    The area of a marker grows with the energy of its hit. All hits are drawn.

    Args:
        path: PNG to write.
        scene: the event.

    Raises:
        ConfigError: a file name that does not end in .png.
    """
    rows = len(scene.groups)
    with figures(path, rows=rows, widths=(1.0, 1.25), size=(17.0, 7.0 * rows)) as axes:
        for panels, groups in zip(axes, scene.groups, strict=True):
            _draw_row(panels, scene, groups)
        axes[0][0].figure.suptitle(scene.title, x=0.01, ha="left", fontsize="medium")


def _draw_row(panels: Any, scene: ShowerScene, groups: HitGroups) -> None:
    x, y, z = scene.position.T
    angle, eta = np.arctan2(y, x), np.abs(pseudorapidity(scene.position))
    # Weak hits first: the strong ones lie on top.
    order = np.argsort(scene.energy, kind="stable")
    area = _areas(scene.energy[order])
    color = np.asarray(colors_of(groups), object)[groups.member[order]] if len(order) else []
    for axes, across, up in ((panels[0], angle, eta), (panels[1], np.abs(z), eta)):
        axes.scatter(across[order], up[order], s=area, c=list(color), linewidths=0)
        axes.set(ylabel="|eta|")
    panels[0].set(xlabel="phi [rad]", xlim=(-np.pi, np.pi))
    panels[1].set(xlabel="|z| [mm]")
    panels[0].set_title(f"{groups.title} ({len(groups.labels):,})", loc="left", fontsize="small")
    _legend(panels[1], groups)


def _areas(energy: np.ndarray) -> np.ndarray:
    """Marker areas: proportional to the energy between two bounds."""
    if not len(energy):
        return np.zeros(0)
    reference = max(float(np.quantile(energy, 0.999)), 1e-9)
    return np.clip(LARGEST * energy / reference, SMALLEST, LARGEST)


def _legend(axes: Axes, groups: HitGroups) -> None:
    colors = colors_of(groups)
    for row in groups.named()[:LEGEND_LINES]:
        axes.scatter([], [], s=30, color=colors[row], label=groups.labels[row])
    axes.scatter([], [], s=30, color=GREY, label="others")
    axes.scatter([], [], s=30, color=UNGROUPED, label="none")
    axes.legend(fontsize="xx-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
