"""Pictures of one jet, and of classifiers: what is in them, and files that look like what they are."""

from __future__ import annotations

import numpy as np
import pytest

from recon.display.classifier import (
    Diagram,
    Marked,
    plot_confusion,
    plot_reliability,
    plot_roc,
    plot_shapes,
)
from recon.display.jet import LARGEST_AREA, JetScene, areas, write_jet_png
from recon.display.jet_html import jet_figure, write_jet_html
from recon.errors import ConfigError
from recon.metrics import roc_band

PNG = b"\x89PNG"


def scene(n=5, vertices=1, classes=("QCD", "T")):
    rng = np.random.default_rng(0)
    return JetScene(
        title="a jet",
        position=rng.normal(0, 0.2, (n, 2)).astype(np.float32),
        pt=np.arange(n, 0, -1).astype(np.float32) * 10,
        kind=(np.arange(n) % 2).astype(np.int32),
        kinds=("charged hadron", "photon", "muon"),
        vertices=np.full((vertices, 2), 0.1, np.float32),
        vertex_notes=("2.0 GeV, 3 tracks",) * vertices,
        radius=0.8,
        classes=classes,
        scores=(0.25, 0.75)[: len(classes)],
    )


def test_areas_are_proportional_to_momentum():
    size = areas(scene(4)._replace(pt=np.array([100, 50, 0.001, 0], np.float32)))
    assert size[0] == LARGEST_AREA
    assert size[1] == LARGEST_AREA / 2
    # Soft particles are still seen.
    assert size[2] == size[3] > 1
    assert areas(scene(0)).shape == (0,)


@pytest.mark.parametrize(
    ("n", "vertices", "classes"), [(5, 2, ("QCD", "T")), (1, 0, ()), (0, 0, ("QCD", "T"))]
)
def test_png_of_any_jet(tmp_path, n, vertices, classes):
    path = tmp_path / "new" / "jet.png"
    write_jet_png(path, scene(n, vertices, classes))
    assert path.read_bytes()[:4] == PNG


def test_page_holds_every_particle():
    drawn = jet_figure(scene(5, 2))
    names = [trace.name for trace in drawn.data]
    assert names[:3] == ["charged hadron (3)", "photon (2)", "secondary vertex (2)"]
    assert sum(len(trace.x) for trace in drawn.data[:2]) == 5
    np.testing.assert_allclose(drawn.data[0].customdata, [50, 30, 10])
    np.testing.assert_allclose(drawn.data[0].marker.size, np.sqrt(areas(scene(5)))[::2])
    bars = drawn.data[-1]
    assert (list(bars.y), list(bars.x)) == (["QCD", "T"], [0.25, 0.75])
    # Neither vertices nor scores.
    assert len(jet_figure(scene(5, 0, ())).data) == 2


def test_page_is_one_file(tmp_path):
    write_jet_html(tmp_path / "jet.html", scene())
    text = (tmp_path / "jet.html").read_text()
    assert "<title>a jet</title>" in text
    assert 'src="http' not in text
    with pytest.raises(ConfigError, match=r"end in \.html"):
        write_jet_html(tmp_path / "jet.txt", scene())


def test_roc_curves(tmp_path):
    rng = np.random.default_rng(1)
    label = np.arange(2000) % 2 == 0
    curves = {
        "good": roc_band(label, label + rng.normal(0, 0.5, 2000)),
        # No background passes anywhere: nothing to draw, and no error.
        "perfect": roc_band(label, label.astype(float)),
        "coin": roc_band(label, rng.random(2000)),
    }
    marked = {"good": [Marked("loose", 0.9, 0.1), Marked("tight", 0.4, 0.0)]}
    plot_roc(tmp_path / "roc.png", curves, marked=marked, title="curves")
    assert (tmp_path / "roc.png").read_bytes()[:4] == PNG


def test_other_pictures_of_classifiers(tmp_path):
    line = Diagram(*(np.array(values) for values in ([0.1, 0.9], [0.2, 0.8], [0.1, 0.7], [0.3, 0.9])))
    plot_reliability(
        tmp_path / "reliability.png", {"one": {"mine": line}, "two": {"mine": line}}, xlabel="p", ylabel="f"
    )
    plot_confusion(tmp_path / "confusion.png", np.array([[9, 1, 0], [0, 0, 0], [5, 0, 5]]), ("a", "b", "c"))
    edges = np.linspace(0, 100, 5)
    counts = np.array([1.0, 2.0, 3.0, 0.0])
    plot_shapes(
        tmp_path / "shapes.png", {"passed": counts, "none": 0 * counts}, edges,
        reference=("all", 2 * counts), xlabel="mass [GeV]",
    )  # fmt: skip
    for path in tmp_path.iterdir():
        assert path.read_bytes()[:4] == PNG, path
    assert len(list(tmp_path.iterdir())) == 3
