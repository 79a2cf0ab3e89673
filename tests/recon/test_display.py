"""Curves and event displays: the files show what they should and need nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from recon.display.canvas import color_of
from recon.display.curves import (
    Points,
    WorkingPoint,
    binomial_points,
    plot_cost,
    plot_lines,
    plot_points,
    plot_pulls,
    plot_stages,
    plot_working_points,
)
from recon.display.event import write_event_png
from recon.display.event_html import event_figure, write_event_html
from recon.display.scene import Outline, Scene, TrackGroup, detector_outline
from recon.errors import ConfigError, DataError
from recon.geometry import helix_position
from recon.metrics import binned_efficiency
from recon.tracking.detector import load_detector
from recon.tracking.resolution import truth_parameters
from recon.tracking.scene import CURVE_POINTS, track_scene
from tests.reference import toy_tracks as toy


def pixels(path, color):
    """How many pixels of a picture have a colour."""
    image = imread(path)[..., :3]
    return int((np.abs(image - np.array(to_rgb(color))).max(axis=-1) < 0.02).sum())


def points(level):
    y = np.array([level, level, np.nan])
    return Points(np.array([1.0, 2.0, 4.0, 8.0]), y, y - 0.05, y + 0.05)


@pytest.mark.parametrize("log", [False, True])
def test_points_of_every_series_are_drawn(tmp_path, log):
    path = tmp_path / "made" / "points.png"
    series = {
        "one": points(0.5),
        "two": points(0.9),
        "empty": Points(points(0).edges, *[np.full(3, np.nan)] * 3),
    }
    plot_points(
        path, series, xlabel="pT [GeV]", ylabel="efficiency", log_x=log, log_y=log, y_range=(0.1, 1.1)
    )
    drawn = [pixels(path, color_of(row)) for row in range(4)]
    # The third is in the legend only, a fourth does not exist.
    assert min(drawn[:2]) > 300
    assert 0 < drawn[2] < drawn[0] / 3
    assert drawn[3] == 0


def test_points_outside_the_range_are_not_drawn(tmp_path):
    inside, outside = tmp_path / "inside.png", tmp_path / "outside.png"
    for path, y_range in ((inside, (0.0, 1.0)), (outside, (0.0, 0.2))):
        plot_points(path, {"one": points(0.5)}, xlabel="x", ylabel="y", y_range=y_range)
    assert pixels(outside, color_of(0)) < pixels(inside, color_of(0)) / 2


def test_binomial_points_are_nan_where_nothing_was_measured():
    binned = binned_efficiency(np.array([0.5, 0.5]), np.array([True, False]), np.array([0.0, 1.0, 2.0]))
    result = binomial_points(binned)
    assert result.y[0] == 0.5
    assert result.low[0] < 0.5 < result.high[0]
    assert np.isnan([result.y[1], result.low[1], result.high[1]]).all()


def test_curves_refuse_what_they_cannot_draw(tmp_path):
    with pytest.raises(ConfigError, match=r"\.png"):
        plot_points(tmp_path / "x.pdf", {"one": points(0.5)}, xlabel="x", ylabel="y")
    below = points(0.5)._replace(edges=np.array([0.0, 1.0, 2.0, 3.0]))
    with pytest.raises(ConfigError, match="above 0"):
        plot_points(tmp_path / "x.png", {"one": below}, xlabel="x", ylabel="y", log_x=True)
    assert list(tmp_path.iterdir()) == []


def test_lines(tmp_path):
    x = np.arange(1.0, 50)
    plot_lines(
        tmp_path / "l.png",
        {"train": (x, 1 / x), "test": (x, 2 / x)},
        xlabel="step",
        ylabel="loss",
        log_y=True,
    )
    assert min(pixels(tmp_path / "l.png", color_of(row)) for row in range(2)) > 300


def test_pulls(tmp_path):
    rng = np.random.default_rng(0)
    pulls = {"a": rng.normal(size=(500, 2)), "none": np.full((5, 2), np.nan)}
    plot_pulls(tmp_path / "p.png", pulls, ("d0", "z0"))
    assert pixels(tmp_path / "p.png", color_of(0)) > 300
    assert pixels(tmp_path / "p.png", color_of(1)) == 0


def test_stages_are_as_long_as_their_time(tmp_path):
    plot_stages(tmp_path / "s.png", {"a": {"graph": 1.0, "fit": 3.0}, "b": {"fit": 1.0}})
    graph, fit = pixels(tmp_path / "s.png", color_of(0)), pixels(tmp_path / "s.png", color_of(1))
    assert 3.4 < fit / graph < 4.4


def test_stages_without_time(tmp_path):
    plot_stages(tmp_path / "s.png", {"a": {"graph": 0.0}})
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_cost_and_working_points(tmp_path):
    hits = np.array([1e3, 1e4, 1e5])
    plot_cost(tmp_path / "c.png", {"net": (hits, hits * 1e-6), "ckf": (hits, hits**1.4 * 1e-6)})
    one = [WorkingPoint("small", 0.1, 0.95, 0.01, 0.02), WorkingPoint("large", 0.5, 0.99, 0.01, float("nan"))]
    plot_working_points(tmp_path / "w.png", {"net": one, "ckf": one[:1]})
    for name in ("c.png", "w.png"):
        assert min(pixels(tmp_path / name, color_of(row)) for row in range(2)) > 50


def scene(n_hits=300):
    rng = np.random.default_rng(1)
    group = TrackGroup(
        name="found",
        color="#0072B2",
        dashed=False,
        curves=np.linspace([[0, 0, 0], [1, 0, 0]], [[500, 500, 900], [-700, 300, -900]], 8, axis=1).astype(
            np.float32
        ),
        hits=rng.uniform(-500, 500, (20, 3)).astype(np.float32),
        pt=np.array([1.5, 12], np.float32),
        eta=np.array([0.5, -1.0], np.float32),
        n_hits=np.array([10, 11], np.int32),
        chi2=np.array([9, np.nan], np.float32),
    )
    lost = group._replace(name="missed", color="#D55E00", dashed=True, curves=-group.curves)
    outline = Outline(np.array([[900, -800, 800]], np.float32), np.array([[950, 100, 900]], np.float32))
    hits = rng.uniform(-900, 900, (n_hits, 3)).astype(np.float32)
    return Scene("event <7> & co", hits, (group, lost), outline)


def test_event_png_by_status_and_by_momentum(tmp_path):
    status, momentum = tmp_path / "status.png", tmp_path / "pt.png"
    write_event_png(status, scene())
    write_event_png(momentum, scene(), color_by="pt")
    assert pixels(status, "#0072B2") > 500
    assert pixels(status, "#D55E00") > 200
    # By momentum only what is not reconstructed keeps its colour.
    assert pixels(momentum, "#0072B2") < 50
    assert pixels(momentum, "#D55E00") > 200
    with pytest.raises(ConfigError, match="status, pt"):
        write_event_png(status, scene(), color_by="charge")


def test_event_png_of_nothing(tmp_path):
    empty = Scene("nothing", np.zeros((0, 3), np.float32), (), None)
    write_event_png(tmp_path / "empty.png", empty)
    write_event_html(tmp_path / "empty.html", empty)
    assert (tmp_path / "empty.png").stat().st_size > 1000


class Resources(HTMLParser):
    """What a page would fetch: attributes that name a resource, and the text of inline styles."""

    def __init__(self):
        super().__init__()
        self.fetched, self.titles, self._in_title = [], [], False

    def handle_starttag(self, tag, attributes):
        self.fetched += [
            value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")
        ]
        self._in_title = tag == "title"

    def handle_data(self, data):
        if self._in_title:
            self.titles.append(data)
            self._in_title = False


def test_html_needs_no_network(tmp_path):
    path = tmp_path / "event.html"
    write_event_html(path, scene(28_000))
    text = path.read_text("utf-8")
    page = Resources()
    page.feed(text)
    assert page.fetched == []
    assert page.titles[0] == "event <7> & co"
    assert "@import" not in text[:2000]
    # 28,000 hits, as many as 40 pile-up interactions leave, beside the library.
    assert 4e6 < path.stat().st_size < 6e6
    with pytest.raises(ConfigError, match=r"\.html"):
        write_event_html(tmp_path / "event.png", scene())


def test_html_draws_every_hit_and_links_tracks_with_their_hits():
    shown = scene()
    figure = event_figure(shown)
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(np.stack([by_name["hits (300)"][axis] for axis in "xyz"], 1), shown.hits)
    lines, hits = by_name["found (2)"], by_name["hits of found"]
    assert lines.legendgroup == hits.legendgroup != by_name["missed (2)"].legendgroup
    assert by_name["missed (2)"].line.dash == "dash"
    # Eight points and a gap a track, and the facts of its own track at every point.
    assert np.isnan(lines.x).tolist() == ([False] * 8 + [True]) * 2
    np.testing.assert_array_equal(
        lines.customdata[[0, 8, 9]], [[1.5, 0.5, 10, 9]] * 2 + [[12, -1, 11, np.nan]]
    )
    for word in ("pT", "eta", "hits", "chi2"):
        assert word in lines.hovertemplate


def test_outline_of_the_shipped_detector():
    outline = detector_outline(load_detector("generic"))
    assert len(outline.cylinders) == 10
    assert len(outline.discs) == 38
    np.testing.assert_allclose(np.sort(outline.cylinders[:, 0])[[0, -1]], [32, 1020], rtol=0.02)
    assert (outline.discs[:, 1] < outline.discs[:, 2]).all()
    np.testing.assert_allclose(np.sort(outline.discs[:, 0]), -np.sort(-outline.discs[:, 0])[::-1])


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(2)
    event = toy.helix_event(rng, n_particles=12, n_noise=20)
    return event, *toy.perfect_finder(event, rng, smear=0.0)


def test_scene_curves_run_from_the_perigee_through_the_hits(found):
    event, tracks, fit, _ = found
    shown = track_scene(event, tracks, fit, chi2=np.arange(12.0))
    curves = np.concatenate([group.curves for group in shown.groups])
    assert curves.shape == (12, CURVE_POINTS, 3)
    start = helix_position(fit, np.zeros(12), 2.0)
    for curve in curves:
        row = np.argmin(np.linalg.norm(start - curve[0], axis=1))
        last = event.hits.position[event.particles.hit_particle == row]
        last = last[np.argmax(np.linalg.norm(last - curve[0], axis=1))]
        np.testing.assert_allclose(curve[-1], last, atol=2)
    assert shown.hits.shape == (140, 3)
    assert sum(len(group.hits) for group in shown.groups) == 120


def test_scene_groups(found):
    event, tracks, fit, _ = found
    # Track 0 loses all but three hits to nobody, track 1 becomes noise.
    noise = np.flatnonzero(event.particles.hit_particle < 0)
    lists = [tracks.hits[a:b] for a, b in zip(tracks.offsets, tracks.offsets[1:], strict=False)]
    broken = toy.track_hits(lists[0][:3], noise[:8], *lists[2:], [])
    shown = track_scene(event, broken, np.append(fit, fit[:1], axis=0), title="broken")
    groups = {group.name: group for group in shown.groups}
    truth = event.particles
    pt = np.hypot(truth.momentum[:, 0], truth.momentum[:, 1])
    target = truth.primary & (pt > 1)
    assert len(groups["fake"].curves) == 2
    assert len(groups["target found"].curves) == target[2:].sum()
    assert len(groups["other particle"].curves) == (~target[2:]).sum()
    assert len(groups["missed target"].curves) == target[:2].sum()
    np.testing.assert_allclose(np.sort(groups["target found"].pt), np.sort(pt[2:][target[2:]]), rtol=1e-4)
    assert shown.title == "broken"


def test_scene_without_fit_or_truth(found):
    event, tracks, fit, _ = found
    lost = fit.copy()
    lost[3] = np.nan
    shown = track_scene(event._replace(particles=None), tracks, lost)
    (group,) = shown.groups
    assert np.isfinite(group.curves).all()
    # Without a fit the line goes from hit to hit, so its ends are hits.
    ends = group.curves[3][[0, -1]]
    assert np.abs(event.hits.position[:, None] - ends).max(axis=-1).min(axis=0).max() < 1e-3
    assert np.isnan(group.pt[3])
    with pytest.raises(DataError, match="12 tracks, but parameters of 11"):
        track_scene(event, tracks, fit[1:])


def test_truth_of_neutral_particles_has_no_helix():
    truth = toy.particles(np.zeros(3, np.int32), charge=0)
    assert np.isnan(truth_parameters(truth)).all()
