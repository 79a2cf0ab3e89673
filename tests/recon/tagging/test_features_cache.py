"""Features that are computed once: what makes them new, what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.tagging.features_cache import CHUNK, image_features, kept_features


@dataclass(frozen=True)
class Shape:
    gain: float = 1.0
    hidden: int = 3
    dropout: float = 0.0
    weights: str = "here.pth"


class Sums(nnx.Module):
    """Sums of the rows of images."""

    def __init__(self, gain):
        self.factor = nnx.Param(jnp.full(4, gain))

    def __call__(self, images):
        return self.factor[...] * images.sum((2, 3))


class Network(nnx.Module):
    def __init__(self, config):
        self.config = config
        self.featurizer = Sums(config.gain)
        self.classifier = nnx.Linear(4, config.hidden, rngs=nnx.Rngs(0))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    return tmp_path / "features"


def made(network, images, told):
    def draw(rows):
        return images[rows]

    return image_features(network, (images,), len(images), draw, lambda *args: told.append(args))


def test_values_are_computed_once_a_key(cache):
    calls = []

    def compute():
        calls.append(len(calls))
        return np.full((2, 3), len(calls), np.float16)

    first = kept_features("one", compute)
    again = kept_features("one", compute)
    np.testing.assert_array_equal(first, again)
    assert again.dtype == np.float16
    assert calls == [0]
    assert kept_features("other", compute)[0, 0] == 2
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_file_is_made_anew(cache):
    kept_features("one", lambda: np.zeros((1, 2)))
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    assert kept_features("one", lambda: np.ones((1, 2))).sum() == 2
    assert kept_features("one", lambda: np.zeros((1, 2))).sum() == 2


def test_features_of_images_are_those_of_the_featurizer():
    images = np.random.default_rng(0).random((CHUNK + 7, 4, 5, 1), np.float32)
    told = []
    found = made(Network(Shape(gain=2.0)), images, told)
    np.testing.assert_allclose(found, 2 * images.sum((2, 3)), rtol=1e-5)
    assert told == [("features", CHUNK, CHUNK + 7), ("features", CHUNK + 7, CHUNK + 7)]


@pytest.mark.parametrize(
    ("change", "anew"),
    [({"hidden": 5}, 0), ({"dropout": 0.5}, 0), ({"weights": "there.pth"}, 0), ({"gain": 3.0}, 1)],
)
def test_the_classifier_does_not_matter(change, anew):
    images = np.random.default_rng(0).random((3, 4, 5, 1), np.float32)
    told = []
    first = made(Network(Shape()), images, told)
    second = made(Network(replace(Shape(), **change)), images, told)
    assert len(told) == 1 + anew
    assert np.array_equal(first, second) == (not anew)


def test_other_images_are_other_features():
    images = np.random.default_rng(0).random((3, 4, 5, 1), np.float32)
    told = []
    made(Network(Shape()), images, told)
    changed = images.copy()
    changed[2, 1, 1] += 1
    assert made(Network(Shape()), changed, told)[2, 1] > images[2, 1].sum()
    assert len(told) == 2
