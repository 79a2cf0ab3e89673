"""Panels of curves beside points."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from recon.display.panels import Panel, plot_panels
from recon.errors import ConfigError

X = np.linspace(1.0, 5.0, 20)


def panel(**changes):
    settings = {"lines": {"theory": (X, X**2)}, "points": {"theory": (X[::5], X[::5] ** 2)}, **changes}
    return Panel("title", "x [mm]", "y", **settings)


@pytest.mark.parametrize(("n", "columns"), [(1, 3), (2, 2), (3, 2), (4, 3)])
def test_pictures_have_room_for_all_panels(tmp_path, n, columns):
    path = tmp_path / "new" / "panels.png"
    plot_panels(path, [panel() for _ in range(n)], columns=columns)
    image = imread(path)
    columns = min(n, columns)
    assert image.shape[0] / image.shape[1] == pytest.approx(0.75 * -(-n // columns) / columns, rel=0.05)
    assert (image[..., :3].min(axis=-1) < 0.5).mean() > 1e-3


def test_points_without_a_line_and_logarithms(tmp_path):
    plain, other = tmp_path / "plain.png", tmp_path / "other.png"
    plot_panels(plain, [panel()])
    plot_panels(other, [panel(points={"data": (X, X)}, log_x=True, log_y=True)])
    assert not np.array_equal(imread(plain), imread(other))


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ConfigError, match=r"panels\.png: there is no panel to draw"):
        plot_panels(tmp_path / "panels.png", [])
    with pytest.raises(ConfigError, match=r"allowed are file names that end in \.png"):
        plot_panels(tmp_path / "panels.pdf", [panel()])
