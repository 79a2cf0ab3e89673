"""Images of jets, several beside each other, on a logarithmic scale of colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.colors import LogNorm

from recon.display.canvas import figure
from recon.errors import ConfigError

FAINTEST, BRIGHTEST = 1e-6, 1e-1


def plot_jet_images(
    path: Path, images: Mapping[str, Float32[np.ndarray, "n n"]], *, half_width: float, label: str
) -> None:
    """Draw images of jets.

    Args:
        path: PNG to write.
        images: rows by rising eta, columns by rising phi; by the title above each.
        half_width: of the window, in eta and in phi.
        label: of the scale of colours.

    Raises:
        ConfigError: no image.
    """
    if not images:
        raise ConfigError(f"{path.name}: there is no image to draw")
    widths = (1.0,) * len(images)
    with figure(path, widths=widths, size=(4.1 * len(images) + 1.0, 4.6)) as grid:
        edges = np.linspace(-half_width, half_width, len(next(iter(images.values()))) + 1)
        for axes, (title, image) in zip(grid, images.items(), strict=True):
            shown = np.ma.masked_less_equal(image.T, 0)
            mesh = axes.pcolormesh(
                edges, edges, shown, norm=LogNorm(FAINTEST, BRIGHTEST, clip=True), cmap="viridis"
            )
            axes.set_aspect("equal")
            axes.set_title(title, loc="left", fontsize="small")
            axes.set_xlabel(r"$\Delta\eta$")
            axes.tick_params(labelsize="x-small")
        grid[0].set_ylabel(r"$\Delta\phi$")
        grid[0].figure.colorbar(mesh, ax=list(grid), shrink=0.85, pad=0.01).set_label(label, fontsize="small")
