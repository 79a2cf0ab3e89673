"""Displays of showers: every hit is there, in the colour of its group, or the title says what is missing."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from recon.display.shower import write_shower_png
from recon.display.shower_colors import GREY, UNGROUPED, colors_of
from recon.display.shower_html import shower_figure, write_shower_html
from recon.display.shower_scene import NAMED_GROUPS, HitGroups, ShowerScene, strongest
from recon.errors import ConfigError


def toy_scene(n_groups=3, n_hits=200, seed=0):
    """Showers along straight lines from the interaction point, and hits in none."""
    rng = np.random.default_rng(seed)
    eta, angle = rng.uniform(1.7, 2.7, n_groups + 1), rng.uniform(-3, 3, n_groups + 1)
    member = rng.integers(-1, n_groups, n_hits).astype(np.int32)
    layer = rng.integers(0, 50, n_hits).astype(np.int32)
    z = 3200.0 + 30.0 * layer
    r = z / np.sinh(eta[member])
    position = np.stack([r * np.cos(angle[member]), r * np.sin(angle[member]), z], axis=-1)
    energy = rng.exponential(0.1, n_hits).astype(np.float32)
    found = HitGroups(
        "tracksters", member, tuple(f"trackster {row}" for row in range(n_groups)),
        np.arange(1, n_groups + 1, dtype=np.float32),
    )  # fmt: skip
    true = HitGroups("particles", member[::-1].copy(), found.labels[:n_groups], found.energy)
    smeared = position + rng.normal(size=position.shape) * 10
    return ShowerScene("event 7", smeared.astype(np.float32), energy, layer, (found, true))


def pixels(path, color):
    image = imread(path)[..., :3]
    return int((np.abs(image - np.array(to_rgb(color))).max(axis=-1) < 0.02).sum())


def test_the_most_energetic_groups_have_a_colour_of_their_own():
    groups = toy_scene(n_groups=NAMED_GROUPS + 4).groups[0]
    colors = colors_of(groups)
    assert groups.named()[0] == NAMED_GROUPS + 3
    assert colors[:4] == [GREY] * 4
    assert colors[-1] == UNGROUPED
    own = colors[4:-1]
    assert len(set(own)) == len(own) == NAMED_GROUPS
    assert not {GREY, UNGROUPED} & set(own)


def test_a_picture_has_a_row_for_every_way_to_sort(tmp_path):
    scene = toy_scene()
    write_shower_png(tmp_path / "both.png", scene)
    write_shower_png(tmp_path / "made" / "one.png", scene._replace(groups=scene.groups[:1]))
    both, one = imread(tmp_path / "both.png"), imread(tmp_path / "made" / "one.png")
    assert both.shape[0] == 2 * one.shape[0]
    for color in colors_of(scene.groups[0])[:-1]:
        assert pixels(tmp_path / "made" / "one.png", color) > 50
        assert pixels(tmp_path / "both.png", color) > pixels(tmp_path / "made" / "one.png", color)


def test_every_hit_is_in_the_page_once_for_every_way_to_sort(tmp_path):
    scene = toy_scene()
    drawn = shower_figure(scene)
    shown = [trace for trace in drawn.data if trace.visible]
    hidden = [trace for trace in drawn.data if not trace.visible]
    for traces, groups in ((shown, scene.groups[0]), (hidden, scene.groups[1])):
        assert sum(len(trace.x) for trace in traces) == len(scene.energy)
        for row, trace in zip(groups.named(), traces, strict=False):
            assert len(trace.x) == (groups.member == row).sum()
            np.testing.assert_array_equal(trace.x, scene.position[groups.member == row, 2])
            assert set(trace.text) == {groups.labels[row]}
    write_shower_html(tmp_path / "event.html", scene)
    page = (tmp_path / "event.html").read_text()
    assert "<title>event 7</title>" in page
    assert "trackster 1" in page
    assert 'src="http' not in page


def test_what_is_left_out_is_said():
    scene = toy_scene(n_hits=500)
    kept, words = strongest(scene, 100)
    assert words.startswith("the 100 strongest of 500 hits")
    assert len(kept.energy) == len(kept.groups[1].member) == 100
    assert kept.energy.min() >= np.sort(scene.energy)[-100]
    assert strongest(scene, 500) == (scene, "")
    assert "the 100 strongest of 500 hits" in shower_figure(scene, most_hits=100).layout.title.text


def test_an_event_without_hits_is_drawn(tmp_path):
    scene = toy_scene(n_hits=0)
    write_shower_png(tmp_path / "empty.png", scene)
    write_shower_html(tmp_path / "empty.html", scene)
    assert imread(tmp_path / "empty.png").size


@pytest.mark.parametrize("name", ["event.jpg", "event"])
def test_other_files_are_refused(tmp_path, name):
    for write, allowed in ((write_shower_png, ".png"), (write_shower_html, ".html")):
        with pytest.raises(ConfigError, match=f"end in {allowed}"):
            write(tmp_path / name, toy_scene())
