"""Pictures of jets and of neutrino events."""

from __future__ import annotations

import numpy as np
import pytest

from recon.display.jet_images import plot_jet_images
from recon.display.page import write_page
from recon.display.pixel_maps import Picture, plot_events, window_of, write_events_page
from recon.errors import ConfigError

LABELS = ("one", "other")


def picture(seed=0):
    rng = np.random.default_rng(seed)
    views = np.zeros((100, 80, 2), np.float32)
    views[30 + np.arange(12), 40 + np.arange(12) // 2, seed % 2] = rng.uniform(0.1, 1, 12)
    return Picture(f"event {seed}", views, np.array([0.25, 0.75], np.float32))


def test_events_as_png_and_page(tmp_path):
    pictures = [picture(0), picture(1)]
    plot_events(tmp_path / "events.png", pictures, LABELS)
    plot_events(tmp_path / "bare.png", pictures)
    assert (tmp_path / "events.png").stat().st_size > (tmp_path / "bare.png").stat().st_size > 3000
    write_events_page(tmp_path / "events.html", pictures, LABELS, "Two <events>")
    text = (tmp_path / "events.html").read_text()
    assert "one 0.25, other 0.75" in text
    assert "Two &lt;events&gt;" in text
    # A page with several events can be scrolled.
    assert "overflow: auto" in text


def test_the_window_is_where_something_is():
    views = picture().views
    assert window_of(views) == ((26, 46), (36, 50))
    assert window_of(np.zeros((100, 80, 2), np.float32)) == ((0, 100), (0, 80))


def test_mean_images(tmp_path):
    images = {"top": np.full((8, 8), 1e-3, np.float32), "quark": np.zeros((8, 8), np.float32)}
    plot_jet_images(tmp_path / "jets.png", images, half_width=1.0, label="share")
    assert (tmp_path / "jets.png").stat().st_size > 5000


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ConfigError, match="no event"):
        plot_events(tmp_path / "a.png", [])
    with pytest.raises(ConfigError, match="no event"):
        write_events_page(tmp_path / "a.html", [], (), "")
    with pytest.raises(ConfigError, match="no image"):
        plot_jet_images(tmp_path / "a.png", {}, half_width=1.0, label="")
    with pytest.raises(ConfigError, match=r"\.html"):
        write_page(tmp_path / "a.txt", None, "")
