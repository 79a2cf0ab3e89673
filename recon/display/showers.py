"""Mean showers beside a reference: along the shower, across it, and how many cells it hits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from recon.display.canvas import color_of, figure, finish, set_scales


class ShowerCurves(NamedTuple):
    """What is drawn of one kind of shower, ours and the reference's.

    Attributes:
        profile: fraction of the energy in every layer.
        hits: mean number of hits in every layer.
        rings: fraction of the energy in every ring of cells.
    """

    profile: tuple[Float[np.ndarray, " l"], Float[np.ndarray, " l"]]
    hits: tuple[Float[np.ndarray, " l"], Float[np.ndarray, " l"]]
    rings: tuple[Float[np.ndarray, " r"], Float[np.ndarray, " s"]]


def plot_showers(path: Path, showers: Mapping[str, ShowerCurves], *, ours: str, reference: str) -> None:
    """Draw lines for ours over points for the reference, one colour a kind of shower.

    Args:
        path: PNG to write.
        showers: what to draw, by name.
        ours: what the lines are.
        reference: what the points are.

    Raises:
        ConfigError: the file name does not end in .png.
    """
    with figure(path, widths=(1.0, 1.0, 1.0), size=(24.0, 7.0)) as axes:
        for row, (name, curves) in enumerate(showers.items()):
            for where, pair in zip(axes, curves, strict=True):
                _draw_pair(where, pair, name, row)
        axes[0].plot([], [], "-", color="gray", label=ours)
        axes[0].plot([], [], "o", color="gray", label=reference)
        finish(axes[0], xlabel="layer", ylabel="fraction of the energy")
        set_scales(axes[1], log_x=False, log_y=True)
        axes[1].set_ylim(bottom=3e-3)
        finish(axes[1], xlabel="layer", ylabel="hits", legend=False)
        set_scales(axes[2], log_x=False, log_y=True)
        axes[2].set_xlim(-1.0, 45.0)
        axes[2].set_ylim(bottom=1e-4)
        finish(axes[2], xlabel="ring of cells", ylabel="fraction of the energy", legend=False)


def _draw_pair(axes: Axes, pair: tuple[np.ndarray, np.ndarray], name: str, row: int) -> None:
    ours, reference = pair
    axes.plot(np.arange(len(ours)), ours, "-", color=color_of(row), label=name)
    axes.plot(np.arange(len(reference)), reference, "o", color=color_of(row), markersize=5)
