"""Layouts of others' files without their programs: every place once, published names, what is turned how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from recon.io.weights import array_shapes, model_arrays
from recon.nn.backbones import abstract_network, preset
from recon.nn.image_weights import CAFFE, KERAS_EPSILON, LAYOUTS, layout_of
from recon.nn.pretrained import load_backbone
from recon.nn.vgg import POOLED, VGGConfig
from tests.recon.nn.test_backbones import SMALL

PAIRS = [
    (kind, number)
    for kind in ("resnet", "resnet, two", "vgg", "vgg, norm", "efficientnet")
    for number in range(len(LAYOUTS[type(SMALL[kind])]))
]


@pytest.mark.parametrize(("kind", "number"), PAIRS)
def test_every_place_is_filled_once_and_every_array_goes_to_one(kind, number):
    config = SMALL[kind]
    entries = list(LAYOUTS[type(config)][number].entries(config))
    assert Counter(entry.place for entry in entries) == Counter(list(array_shapes(abstract_network(config))))
    assert max(Counter(name for entry in entries for name in entry.sources).values()) == 1


@pytest.mark.parametrize(
    ("name", "number", "arrays", "some"),
    [
        # Numbers of arrays in the published files, counters of batches left out; 49 convolutions of Lite0 make 247.
        ("resnet18", 0, 102, ("layer4.1.bn2.running_var", "layer2.0.downsample.0.weight", "fc.weight")),
        ("resnet50", 0, 267, ("layer4.2.bn3.running_var", "layer1.0.downsample.1.bias", "conv1.weight")),
        (
            "resnet50",
            1,
            320,
            ("conv5_block3_3_bn/moving_variance", "conv2_block1_0_conv/bias", "predictions/kernel"),
        ),
        ("resnet50", 2, 320, ("conv1_conv/kernel", "conv4_block6_2_bn/gamma", "probs/bias")),
        ("vgg16", 0, 32, ("features.0.weight", "features.28.bias", "classifier.6.weight")),
        ("vgg16-bn", 0, 84, ("features.40.weight", "features.41.running_mean", "classifier.0.bias")),
        ("vgg16", 1, 32, ("features.28.weight", "pre_logits.fc1.weight", "head.fc.bias")),
        (
            "efficientnet-lite0",
            0,
            247,
            ("_blocks.0._depthwise_conv.weight", "_blocks.15._bn2.bias", "_fc.weight"),
        ),
        (
            "efficientnet-lite0",
            1,
            247,
            ("blocks.0.0.conv_pw.weight", "blocks.6.0.bn3.bias", "bn2.running_mean"),
        ),
    ],
)
def test_names_and_numbers_of_published_files(name, number, arrays, some):
    config = preset(name)
    sources = {source for entry in LAYOUTS[type(config)][number].entries(config) for source in entry.sources}
    assert len(sources) == arrays
    assert set(some) <= sources


@pytest.mark.parametrize("kind", ["resnet", "vgg", "efficientnet"])
def test_layouts_are_told_apart_even_where_some_arrays_are_missing(kind):
    config = SMALL[kind]
    for layout in LAYOUTS[type(config)]:
        names = [name for entry in layout.entries(config) for name in entry.sources]
        assert layout_of(dict.fromkeys(names), config) == layout
        # The last names alone are the classifier's, by which the two of Keras differ.
        assert layout_of(dict.fromkeys(names[len(names) // 2 :]), config) == layout


def slow_pixels_last(array, channels):
    """The matrix behind an image, from (output, channel, row, column) to (row, column, channel) and outputs last."""
    found = np.empty((array.shape[1], array.shape[0]), array.dtype)
    for output in range(array.shape[0]):
        for channel in range(channels):
            for row in range(POOLED):
                for column in range(POOLED):
                    place = (row * POOLED + column) * channels + channel
                    found[place, output] = array[output, (channel * POOLED + row) * POOLED + column]
    return found


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_matrix_of_vgg_sees_pixels_in_another_order(number):
    config = VGGConfig(stages=(1,), widths=(3,), dense=5, classes=2)
    entries = {entry.place: entry for entry in LAYOUTS[VGGConfig][number].entries(config)}
    flat = np.arange(5 * 3 * POOLED**2, dtype=np.float32).reshape(5, -1)
    given = flat if number == 0 else flat.reshape(5, 3, POOLED, POOLED)
    np.testing.assert_array_equal(entries["featurizer/dense/0/kernel"].make(given), slow_pixels_last(flat, 3))
    square = np.arange(25, dtype=np.float32).reshape(5, 5)
    given = square if number == 0 else square.reshape(5, 5, 1, 1)
    np.testing.assert_array_equal(entries["featurizer/dense/1/kernel"].make(given), square.T)


def test_kernels_of_pytorch_are_turned():
    config = SMALL["resnet, two"]
    entries = {entry.place: entry for entry in LAYOUTS[type(config)][0].entries(config)}
    kernel = np.random.default_rng(0).normal(size=(4, 3, 7, 5)).astype(np.float32)
    turned = entries["featurizer/stem/kernel"].make(kernel)
    for place in np.ndindex(4, 3, 7, 5):
        output, channel, row, column = place
        assert turned[row, column, channel, output] == kernel[place]


@pytest.mark.parametrize("ending", [".safetensors", ".h5"])
def test_a_file_of_keras(tmp_path, ending):
    """Biases of convolutions move into the means of the normalisation behind them; the stride stands elsewhere."""
    plain = replace(SMALL["resnet, v1"], first_stride=False, epsilon=1e-5)
    rng = np.random.default_rng(1)
    shapes = array_shapes(abstract_network(plain))
    keras = LAYOUTS[type(plain)][1]
    arrays = {
        name: np.abs(rng.normal(size=shapes[entry.place])).astype(np.float32) + 0.1
        for entry in keras.entries(plain)
        for name in entry.sources
    }
    path = tmp_path / f"keras{ending}"
    if ending == ".h5":
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                layer, _, part = name.partition("/")
                file[f"{layer}/{layer}/{part}:0"] = array
    else:
        safetensors.numpy.save_file(arrays, path)
    backbone = load_backbone("resnet50", path, config=plain)
    config, found = backbone.network.config, model_arrays(backbone.network)
    assert (config.first_stride, config.epsilon, config.classes) == (True, KERAS_EPSILON, plain.classes)
    assert backbone.scale == CAFFE
    assert backbone.provenance["layout"] == "Keras"
    bn, bias = "conv2_block1_3_bn", arrays["conv2_block1_3_conv/bias"]
    place = "featurizer/blocks/0/norms/2"
    np.testing.assert_allclose(found[f"{place}/mean"], arrays[f"{bn}/moving_mean"] - bias, rtol=1e-6)
    for ours, theirs in (("scale", "gamma"), ("bias", "beta"), ("var", "moving_variance")):
        np.testing.assert_array_equal(found[f"{place}/{ours}"], arrays[f"{bn}/{theirs}"])
    np.testing.assert_array_equal(found["featurizer/stem/kernel"], arrays["conv1_conv/kernel"])
    np.testing.assert_array_equal(found["classifier/kernel"], arrays["predictions/kernel"])
