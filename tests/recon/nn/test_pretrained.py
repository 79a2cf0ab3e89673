"""Weights of others in networks for images: parity with PyTorch in both modes, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from recon.cli import main
from recon.errors import ConfigError, DataError
from recon.io.foreign_weights import read_foreign_arrays
from recon.io.weights import model_arrays
from recon.io.weights_pt import read_state_dict
from recon.nn.backbones import preset, random_backbone
from recon.nn.image_inference import fold_featurizer
from recon.nn.image_weights import CAFFE, IMAGENET, LAYOUTS, layout_of
from recon.nn.pretrained import PACKAGE, load_backbone
from tests.recon.nn.test_backbones import SMALL, random_images

pytestmark = pytest.mark.usefixtures("quick_programs")

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def peers(torch):
    from tests.recon.nn import torch_networks  # noqa: PLC0415

    return torch_networks


def logits_of(network, images, fast=False):
    if not fast:
        return np.asarray(nnx.jit(lambda network, images: network(images))(network, images))
    folded = fold_featurizer(network.featurizer)
    features = jax.jit(folded.features)(folded.weights, images)
    return np.asarray(network.classifier(features))


def torch_logits(torch, module, images):
    with torch.no_grad():
        return module(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()


def check(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


def save(torch, state, path):
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file({name: array.numpy().copy() for name, array in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix != ".pth")
    return path


KINDS = {
    "resnet": ("resnet50", "ResNet"),
    "resnet, two": ("resnet18", "ResNet"),
    "vgg": ("vgg16", "VGG"),
    "vgg, norm": ("vgg16-bn", "VGG"),
    "efficientnet": ("efficientnet-lite0", "EfficientNet"),
}


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, ".safetensors") for kind in KINDS), ("resnet", ".pth"), ("resnet", ".pt")]
)
def test_logits_of_pytorch(torch, peers, tmp_path, kind, suffix):
    """`.pth` is written in the format of PyTorch before 1.6, `.pt` in the one since."""
    (name, family), config = KINDS[kind], SMALL[kind]
    module = peers.randomise(getattr(peers, family)(config))
    path = save(torch, module.state_dict(), tmp_path / f"weights{suffix}")
    # The classes follow from the file.
    network = load_backbone(name, path, config=replace(config, classes=7)).network
    images = random_images(height=64, width=40)
    wanted = torch_logits(torch, module, images)
    check(logits_of(network, images), wanted)
    check(logits_of(network, images, fast=True), wanted)


def test_logits_of_the_whole_resnet50(torch, peers, tmp_path):
    module = peers.randomise(peers.ResNet(preset("resnet50")))
    path = save(torch, module.state_dict(), tmp_path / "resnet50.pth")
    backbone = load_backbone("resnet50", path)
    assert backbone.scale == IMAGENET
    images = random_images(1, 32, 32)
    check(logits_of(backbone.network, images, fast=True), torch_logits(torch, module, images))


def test_names_of_timm(torch, peers, tmp_path):
    images = random_images(2, 64, 64)
    for kind, rename in (
        ("vgg", lambda state: peers.timm_vgg(state, 16)),
        ("efficientnet", lambda state: peers.timm_efficientnet(state, SMALL["efficientnet"])),
    ):
        (name, family), config = KINDS[kind], SMALL[kind]
        module = peers.randomise(getattr(peers, family)(config))
        path = save(torch, rename(module.state_dict()), tmp_path / f"{kind}.safetensors")
        backbone = load_backbone(name, path, config=config)
        assert backbone.provenance["layout"] == "timm"
        check(logits_of(backbone.network, images), torch_logits(torch, module, images))


@pytest.fixture(scope="module")
def keras(torch, peers):
    """A network of Keras: the stride in the first convolution, biases, another epsilon."""
    config = replace(SMALL["resnet, v1"], epsilon=1.001e-5)
    module = peers.randomise(peers.ResNet(config, bias=True))
    images = random_images(2, 64, 64)
    arrays = peers.keras_arrays(module.state_dict(), config.stages)
    return arrays, images, torch_logits(torch, module, images)


def test_names_of_keras(keras, tmp_path):
    arrays, images, wanted = keras
    safetensors.numpy.save_file(arrays, tmp_path / "keras.safetensors")
    plain = replace(SMALL["resnet, v1"], first_stride=False, epsilon=1e-5)
    backbone = load_backbone("resnet50", tmp_path / "keras.safetensors", config=plain)
    assert backbone.scale == CAFFE
    assert backbone.network.config.first_stride
    check(logits_of(backbone.network, images), wanted)
    check(logits_of(backbone.network, images, fast=True), wanted)


def test_files_of_keras(keras, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    arrays, images, wanted = keras
    path = tmp_path / "keras.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            # The last layer as in the file of 2019.
            layer = name.partition("/")[0].replace("predictions", "probs")
            file[f"{layer}/{layer}/{name.partition('/')[2]}:0"] = array
    check(logits_of(load_backbone("resnet50", path, config=SMALL["resnet, v1"]).network, images), wanted)
    with h5py.File(path, "a") as file:
        file["other/conv1_conv/kernel:0"] = np.zeros(1)
    with pytest.raises(DataError, match="two arrays 'conv1_conv/kernel'"):
        load_backbone("resnet50", path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"keras\.h5 cannot be read as an HDF5 file"):
        load_backbone("resnet50", path)


def test_a_training_step_of_pytorch(torch, peers, tmp_path):
    """Logits by the statistics of the batch; the running mean moves alike, the variance by n / (n - 1) more there."""
    module = peers.randomise(peers.ResNet(SMALL["resnet"]))
    path = save(torch, module.state_dict(), tmp_path / "weights.pth")
    network = load_backbone("resnet50", path, config=SMALL["resnet"]).network
    images = random_images(4, 48, 48)
    network.train()
    module.train()
    before = module.bn1.running_var.numpy().copy()
    found = logits_of(network, images)
    check(found, torch_logits(torch, module, images))
    norm, count = network.featurizer.norm, 4 * 24 * 24
    np.testing.assert_allclose(norm.mean[...], module.bn1.running_mean.numpy(), rtol=1e-4, atol=1e-6)
    unbiased = 0.9 * before + (np.asarray(norm.var[...]) - 0.9 * before) * count / (count - 1)
    np.testing.assert_allclose(unbiased, module.bn1.running_var.numpy(), rtol=1e-5)
    last = network.featurizer.blocks[2].norms[2].mean[...]
    np.testing.assert_allclose(last, module.layer2[1].bn3.running_mean.numpy(), rtol=1e-3, atol=1e-4)


def test_state_dictionaries_of_both_formats(torch, tmp_path):
    """Views, several types and scalars come back as PyTorch reads them."""
    base = torch.arange(24.0).reshape(4, 6)
    state = {"whole": base, "view": base[1:, ::2], "turned": base.T, "half": base.half(),
             "count": torch.tensor(7), "none": torch.zeros(0, 3)}  # fmt: skip
    for new in (True, False):
        path = tmp_path / f"{new}.pth"
        torch.save(state, path, _use_new_zipfile_serialization=new)
        arrays = read_state_dict(path)
        assert arrays.keys() == state.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, state[name].numpy(), err_msg=f"{name} {new}")
            assert array.dtype == state[name].numpy().dtype
    whole = (tmp_path / "False.pth").read_bytes()
    for length in (3, 60, 500, len(whole) - 40):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.pth"):
            read_state_dict(tmp_path / "cut.pth")
    # Not even behind the front of an old file may a pickle run code.
    front = whole[: whole.index(b"little_endian")]
    (tmp_path / "bad.pth").write_bytes(front + b"garbage")
    with pytest.raises(DataError, match=r"bad\.pth"):
        read_state_dict(tmp_path / "bad.pth")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """The arrays of a network by torchvision's names, made without PyTorch."""
    config = SMALL["resnet, two"]
    arrays = torchvision_arrays(random_backbone("resnet18", config=config).network)
    return config, arrays, tmp_path_factory.mktemp("weights") / "weights.safetensors"


def torchvision_arrays(network):
    placed, layout = model_arrays(network), LAYOUTS[type(network.config)][0]
    turned = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        entry.sources[0]: placed[entry.place].transpose(turned[placed[entry.place].ndim]).copy()
        for entry in layout.entries(network.config)
    }


def load(small_file, changes, **options):
    config, arrays, path = small_file
    changed = {name: array for name, array in (arrays | changes).items() if array is not None}
    safetensors.numpy.save_file(changed, path)
    return load_backbone("resnet18", path, config=config, **options)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layer2.0.bn2.running_var": None}, r"1 of \d+ arrays are missing.*'layer2\.0\.bn2\.running_var'"),
        ({"layer9.weight": np.zeros(2, np.float32)}, r"1 arrays have no place.*'layer9\.weight'"),
        ({"layer1.0.conv2.weight": np.zeros((16, 16, 5, 5), np.float32)},
         r"'layer1\.0\.conv2\.weight' has shape \(5, 5, 16, 16\)"),
        ({"layer1.0.conv2.weight": np.zeros((16, 16), np.float32)}, r"layer1\.0\.conv2\.weight' \[16, 16\]"),
        ({"bn1.bias": np.full(16, np.nan, np.float32)}, "'bn1.bias' has numbers that are not finite"),
        ({"fc.bias": None}, "'fc.bias'"),
        ({"fc.bias": np.zeros(9, np.float32)}, r"'fc\.weight' has shape \(32, 3\)"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_name_the_array(small_file, changes, text):
    with pytest.raises(DataError, match=text) as error:
        load(small_file, changes)
    assert "weights.safetensors" in str(error.value)


def test_what_a_file_may_have_beside_the_arrays(small_file):
    """Counters of batches, and the prefix of parallel training."""
    config, arrays, path = small_file
    others = {"bn1.num_batches_tracked": np.zeros((), np.int64)}
    safetensors.numpy.save_file({f"module.{name}": array for name, array in (arrays | others).items()}, path)
    network = load_backbone("resnet18", path, config=config).network
    np.testing.assert_array_equal(
        network.featurizer.stem.kernel[...], arrays["conv1.weight"].transpose(2, 3, 1, 0)
    )


@pytest.mark.parametrize("changes", [{}, {"fc.weight": None, "fc.bias": None}])
def test_a_new_classifier(small_file, changes):
    """Every class is equally likely at first, whether the file has a classifier or not."""
    network = load(small_file, changes, classes=5).network
    assert network.config.classes == 5
    np.testing.assert_array_equal(logits_of(network, random_images(1)), np.zeros((1, 5)))
    features = network.featurizer(jnp.asarray(random_images(1)))
    assert np.asarray(features).std() > 0


def test_channels_follow_from_the_file(small_file):
    _, arrays, _ = small_file
    grey = load(small_file, {"conv1.weight": arrays["conv1.weight"][:, :1]}).network
    assert grey.config.channels == 1


def test_random_streams_of_a_loaded_network_work(tmp_path):
    """A network is made without its numbers; what training draws from must be there all the same."""
    network = random_backbone("vgg16", config=SMALL["vgg"]).network
    network.train()
    images = random_images(1)
    assert (logits_of(network, images) != logits_of(network, images)).any()


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("resnet51", "a.pth", "there is no preset 'resnet51'; there are resnet18"),
        ("resnet50", "a.onnx", r"a\.onnx: weights are read from files \.safetensors, \.pth"),
        ("resnet50", None, "resnet50 needs a file of weights"),
    ],
)
def test_what_cannot_be_loaded(tmp_path, name, file, text):
    with pytest.raises(ConfigError, match=text):
        load_backbone(name, tmp_path / file if file else None)


@pytest.mark.parametrize("file", ["a.safetensors", "a.pth"])
def test_files_that_are_no_weights(tmp_path, file):
    with pytest.raises(DataError, match=file):
        read_foreign_arrays(tmp_path / file)
    (tmp_path / file).write_bytes(b"no weights")
    with pytest.raises(DataError, match=file):
        read_foreign_arrays(tmp_path / file)


@pytest.fixture(scope="module")
def imagenet():
    pytest.importorskip(PACKAGE, reason=f"{PACKAGE} is not installed")
    return load_backbone()


def test_the_backbone_of_the_package(imagenet):
    assert imagenet.network.config == preset("efficientnet-lite0")
    assert imagenet.provenance["layout"] == "EfficientNet-PyTorch"
    assert imagenet.scale.deviation[0] == pytest.approx(128 / 255)


def test_the_backbone_of_the_package_against_pytorch(torch, peers, imagenet):
    module = peers.EfficientNet(preset("efficientnet-lite0")).eval()
    path = load_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    images = np.asarray(imagenet.scale(jnp.asarray(np.random.default_rng(0).uniform(size=(1, 96, 96, 3)))))
    images = images.astype(np.float32)
    check(logits_of(imagenet.network, images, fast=True), torch_logits(torch, module, images))


def load_path():
    from recon.nn.pretrained import default_weights  # noqa: PLC0415

    return default_weights("efficientnet-lite0")


def test_layouts_are_told_apart():
    config = preset("resnet50")
    for layout in LAYOUTS[type(config)]:
        names = {name: None for entry in layout.entries(config) for name in entry.sources}
        assert layout_of(names, config) == layout


def test_export_with_weights(small_file, tmp_path, capsys):
    """A file of another network ends the command with its first missing array, not a traceback."""
    load(small_file, {})
    options = ["export", "backbone", "--network", "resnet18", "--weights", str(small_file[2])]
    assert main([*options, "-o", str(tmp_path / "models")]) == 2
    assert "are missing by the names of torchvision" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
