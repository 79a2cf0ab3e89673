"""Networks for images: published sizes, both modes, and the form for inference beside the plain one."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.io.weights import model_arrays, set_model_arrays
from recon.nn.backbones import ImageScale, abstract_network, preset, random_backbone
from recon.nn.convolutions import DepthwiseConv
from recon.nn.counts import count_multiply_adds, count_parameters
from recon.nn.efficientnet import EfficientNetConfig, Stage
from recon.nn.image_inference import fold_featurizer, on_accelerator, on_cpu
from recon.nn.resnet import ResNetConfig
from recon.nn.vgg import VGGConfig

pytestmark = pytest.mark.usefixtures("quick_programs")

SMALL = {
    "resnet": ResNetConfig(stages=(1, 2), width=16, classes=3),
    "resnet, v1": ResNetConfig(stages=(1, 1), width=16, classes=3, first_stride=True, epsilon=1e-3),
    "resnet, two": ResNetConfig(stages=(1, 1), width=16, classes=3, bottleneck=False),
    "vgg": VGGConfig(stages=(1, 2), widths=(8, 16), dense=24, classes=3),
    "vgg, norm": VGGConfig(stages=(1, 1), widths=(8, 16), dense=24, classes=3, norm=True),
    "efficientnet": EfficientNetConfig(
        stages=(Stage(1, 3, 1, 1, 8), Stage(2, 3, 2, 2, 16)), stem=8, head=32, classes=3
    ),
}


def lively(config, seed=0):
    """A network whose normalisation does something."""
    network, rng = random_backbone("resnet18", config=config, seed=seed).network, np.random.default_rng(seed)
    arrays = {
        name: array * rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        + (0 if name.endswith(("kernel", "var")) else rng.normal(0, 0.1, array.shape).astype(np.float32))
        for name, array in model_arrays(network).items()
    }
    return set_model_arrays(network, arrays)


def random_images(count=3, height=36, width=33, seed=1):
    return np.random.default_rng(seed).normal(size=(count, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=SMALL)
def both_forms(request):
    """The plain featurizer and the folded one, compiled."""
    network = lively(SMALL[request.param])
    definition, state = nnx.split(network.featurizer)
    folded = fold_featurizer(network.featurizer)
    plain = jax.jit(nnx.merge(definition, state))
    return plain, folded, jax.jit(folded.features)


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("resnet18", 11_689_512, 1.814e9),
        ("resnet34", 21_797_672, 3.664e9),
        ("resnet50", 25_557_032, 4.089e9),
        ("vgg16", 138_357_544, 15.470e9),
        ("vgg16-bn", 138_365_992, 15.470e9),
        ("efficientnet-lite0", 4_652_008, 0.385e9),
    ],
)
def test_published_sizes(name, parameters, multiply_adds):
    """The tables of torchvision and timm."""
    network = abstract_network(preset(name))
    assert count_parameters(network) == parameters
    network.eval()
    definition, state = nnx.split(network)
    count = count_multiply_adds(
        lambda state, images: nnx.merge(definition, state)(images),
        state,
        jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32),
    )
    assert count == pytest.approx(multiply_adds, rel=1e-3)


def test_the_form_for_inference_is_the_network(both_forms):
    plain, folded, features = both_forms
    images = random_images()
    wanted = np.asarray(plain(images))
    assert wanted.std() > 0.01
    found = np.asarray(features(folded.weights, images))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_images_do_not_see_each_other(both_forms):
    _, folded, features = both_forms
    images = random_images()
    together = np.asarray(features(folded.weights, images))
    np.testing.assert_allclose(features(folded.weights, images[1:2]), together[1:2], rtol=1e-5, atol=1e-6)


def test_a_second_call_compiles_nothing(both_forms):
    _, folded, features = both_forms
    features(folded.weights, random_images())
    before = features._cache_size()
    features(folded.weights, random_images(seed=2))
    assert features._cache_size() == before


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.bfloat16, 0.03)])
def test_what_accelerators_run(dtype, tolerance):
    """The code of accelerators on this CPU: float32 as exact as here, bfloat16 to its three digits."""
    folded = fold_featurizer(lively(SMALL["resnet"]).featurizer)
    part, images = folded.features.args[0], random_images()
    here = np.asarray(jax.jit(partial(on_cpu, part))(folded.weights, images))
    there = np.asarray(jax.jit(partial(on_accelerator, part, dtype=dtype))(folded.weights, images))
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, here, rtol=0, atol=tolerance * np.abs(here).max())
    assert (there != here).any()


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_here(name):
    """Three digits of the features, half the room, and no bfloat16 where none was asked for."""
    network, images = lively(SMALL[name]).featurizer, random_images()
    exact, short = (fold_featurizer(network, bfloat16=choice) for choice in (False, True))
    wanted = np.asarray(jax.jit(exact.features)(exact.weights, images))
    found = np.asarray(jax.jit(short.features)(short.weights, images))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.03 * np.abs(wanted).max())
    assert (found != wanted).any()
    kernels, others = [], []
    for path, array in jax.tree.leaves_with_path(short.weights):
        (kernels if array.ndim == 4 else others).append(array.dtype)
        assert path[-1].key in ("kernel", "winograd", "bias")
    assert set(kernels) == {jnp.dtype(jnp.bfloat16)}
    assert set(others) == {np.dtype(np.float32)}
    for folded, has_it in ((short, True), (exact, False)):
        for platform in ("cpu", "cuda"):
            traced = jax.jit(folded.features).trace(folded.weights, images)
            assert ("bf16" in traced.lower(lowering_platforms=(platform,)).as_text()) == has_it


def test_training_and_evaluation():
    """Evaluation changes nothing and is the same twice; training normalises by the batch and moves the statistics."""
    network = lively(SMALL["efficientnet"])
    network.eval()
    images, before = jnp.asarray(random_images()), model_arrays(network)
    run = nnx.jit(lambda network, images: network(images))
    first = np.asarray(run(network, images))
    np.testing.assert_array_equal(run(network, images), first)
    np.testing.assert_array_equal(model_arrays(network)["featurizer/stem_norm/mean"],
                                  before["featurizer/stem_norm/mean"])  # fmt: skip
    network.train()
    trained = np.asarray(run(network, images))
    after = model_arrays(network)
    moved = [name for name in before if (before[name] != after[name]).any()]
    assert moved
    assert all(name.endswith(("/mean", "/var")) for name in moved)
    assert np.abs(trained - first).max() > 1e-3
    # Dropout draws anew.
    assert (np.asarray(run(network, images)) != trained).any()


def test_running_statistics_by_hand():
    """A tenth of the batch's mean and variance enters the running ones."""
    network = lively(SMALL["resnet"])
    stem, norm, images = network.featurizer.stem, network.featurizer.norm, jnp.asarray(random_images())
    before = np.asarray(norm.mean[...]), np.asarray(norm.var[...])
    outputs = np.asarray(stem(images), np.float64).reshape(-1, 16)
    network.train()
    nnx.jit(lambda network, images: network(images))(network, images)
    np.testing.assert_allclose(norm.mean[...], 0.9 * before[0] + 0.1 * outputs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.var[...], 0.9 * before[1] + 0.1 * outputs.var(0), rtol=1e-4)


def test_random_networks_are_the_same_for_the_same_seed():
    first, second, other = (
        model_arrays(random_backbone("resnet18", config=SMALL["resnet"], seed=seed).network)
        for seed in (1, 1, 2)
    )
    assert all((first[name] == second[name]).all() for name in first)
    assert (first["featurizer/stem/kernel"] != other["featurizer/stem/kernel"]).any()
    stem = first["featurizer/stem/kernel"]
    assert stem.std() == pytest.approx(np.sqrt(2 / (49 * 16)), rel=0.05)


def test_windows_of_one_channel_start_as_wide_as_others():
    """By the host's initial weights, and by those of Flax."""
    config = EfficientNetConfig(stages=(Stage(1, 5, 1, 1, 8),), stem=400, head=8, classes=2)
    place = "featurizer/blocks/0/convolutions/0/kernel"
    host = model_arrays(random_backbone("efficientnet-lite0", config=config).network)[place]
    assert host.shape == (5, 5, 1, 400)
    flax = DepthwiseConv(400, 5, 1, rngs=nnx.Rngs(0)).kernel[...]
    for kernel in (host, flax):
        assert kernel.std() == pytest.approx(np.sqrt(2 / 25), rel=0.05)


def test_scales_of_images():
    image = jnp.asarray(np.array([0.2, 0.4, 0.6]).reshape(1, 1, 1, 3))
    np.testing.assert_array_equal(ImageScale()(image), image)
    scale = ImageScale((0.1, 0.2, 0.3), (0.5, 0.5, 0.1), reverse=True)
    np.testing.assert_allclose(scale(image).ravel(), [1.0, 0.4, -1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 64, 64), "channels in front"),
        ((64, 64, 3), "allowed is"),
        ((1, 64, 64, 1), "allowed is"),
        ((1, 64, 31, 3), "32 or more"),
    ],
)
def test_images_of_another_shape_are_refused(shape, text):
    network = random_backbone("resnet18", config=SMALL["resnet"]).network
    folded, images = fold_featurizer(network.featurizer), jnp.zeros(shape)
    if len(shape) == 4:
        with pytest.raises(ConfigError, match=text):
            network(images)
        with pytest.raises(ConfigError, match=text):
            folded.features(folded.weights, images)


@pytest.mark.parametrize(
    "config",
    [
        lambda: ResNetConfig(stages=()),
        lambda: replace(SMALL["vgg"], widths=(8,)),
        lambda: replace(SMALL["vgg"], dense=0),
        lambda: replace(SMALL["efficientnet"], classes=0),
    ],
)
def test_shapes_that_are_none(config):
    with pytest.raises(ConfigError, match="1 or more"):
        config()


def test_what_has_no_form_for_inference():
    with pytest.raises(ConfigError, match="resnet, vgg, efficientnet"):
        fold_featurizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ConfigError, match="vgg16-bn"):
        preset("vgg11")


@pytest.mark.parametrize("kind", ["resnet, two", "efficientnet"])
def test_gradients_reach_every_parameter(kind):
    """Nothing is cut off from training."""
    network = random_backbone("resnet18", config=SMALL[kind]).network
    network.train()
    definition, parameters, rest = nnx.split(network, nnx.Param, ...)
    images = jnp.asarray(random_images(2))

    def loss(parameters):
        logits = nnx.merge(definition, parameters, rest, copy=True)(images)
        return jnp.square(logits - jnp.arange(3)).sum()

    slopes = jax.jit(jax.grad(loss))(parameters)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
