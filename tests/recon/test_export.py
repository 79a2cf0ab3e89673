"""Artefacts: what is written, and that it answers like the model it came from."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from recon.errors import ConfigError
from recon.export import SOURCE_LINES, Signature, Tensor, export_model
from recon.nn.backbones import random_backbone
from recon.nn.export import export_backbone, module_program
from recon.nn.image_inference import fold_featurizer
from recon.nn.resnet import ResNetConfig
from serving.artifact import Artifact
from tests.serving.contract import check_artifact, check_without_source

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(autouse=True)
def executables(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "executables"))


def mlp_signature(**changes):
    settings = {
        "inputs": (Tensor(name="x", datatype="FP32", shape=("batch", 5)),),
        "outputs": (Tensor(name="y", datatype="FP32", shape=("batch", 2)),),
        "buckets": ({"batch": 2}, {"batch": 8}),
        "batched": True,
    }
    return Signature(**{**settings, **changes})


def export_mlp(folder, **options):
    rngs = nnx.Rngs(3)
    network = nnx.Sequential(nnx.Linear(5, 7, rngs=rngs), jnp.tanh, nnx.Linear(7, 2, rngs=rngs))
    weights, program = module_program(network, "x", "y")
    return network, export_model(folder, program, weights, mlp_signature(), name="mlp", **options)


def test_a_symbolic_program_serves_every_bucket(tmp_path):
    network, folder = export_mlp(tmp_path)
    assert folder == tmp_path / "mlp" / "1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "program.cpu.stablehlo", "program.cuda.stablehlo", "program.tpu.stablehlo",
        "weights.safetensors",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    requests = [{"x": rng.normal(size=(n, 5)).astype(np.float32)} for n in (1, 2, 4)]
    check_artifact(folder, requests, lambda inputs: {"y": np.asarray(network(jnp.asarray(inputs["x"])))})
    check_without_source(folder, requests)
    manifest = Artifact(folder).manifest
    assert manifest.max_batch_size == 8
    assert manifest.versions["recon-hep"]


def test_artefacts_are_written_the_same_twice(tmp_path):
    first, second = (export_mlp(tmp_path / name)[1] for name in ("a", "b"))
    texts = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    assert texts[0]["files"] == texts[1]["files"]


def test_programs_do_not_say_where_they_were_made(tmp_path):
    """The same model has the same checksum on every machine."""
    before = getattr(jax.config, SOURCE_LINES)
    program = (export_mlp(tmp_path)[1] / "program.cpu.stablehlo").read_bytes()
    assert b".py" not in program
    assert getattr(jax.config, SOURCE_LINES) == before


def test_an_artefact_is_not_overwritten_by_accident(tmp_path):
    export_mlp(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        export_mlp(tmp_path)
    export_mlp(tmp_path, overwrite=True)
    export_mlp(tmp_path, version="2")
    assert sorted(path.name for path in (tmp_path / "mlp").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("version", ["", "0", "01", "one", "-1", "1.5", "٣"])
def test_versions_are_whole_numbers(tmp_path, version):
    with pytest.raises(ConfigError, match="whole number"):
        export_mlp(tmp_path, version=version)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"buckets": ()}, "at least one size"),
        ({"buckets": ({"other": 2},)}, "each of"),
        ({"outputs": (Tensor(name="y", datatype="FP32", shape=()),)}, "first axis is free"),
        ({"inputs": (Tensor(name="x", datatype="FP32", shape=("batch", "width")),)}, "each of"),
        ({"masks": {"batch": "x"}}, "x is named twice"),
        ({"masks": {"rows": "valid"}}, "masks of the axes"),
        ({"outputs": (Tensor(name="y", datatype="FP32", shape=("rows", 2)),)}, "'y' has the axes"),
    ],
)
def test_signatures_that_cannot_work_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        mlp_signature(**changes)


@pytest.mark.parametrize("name", ["", "../mlp", "a/b", ".mlp", "-mlp", "mlp model"])
def test_names_are_names_of_folders_that_servers_read(tmp_path, name):
    with pytest.raises(ConfigError, match="letters, digits"):
        export_model(tmp_path, lambda weights, inputs: {}, {}, mlp_signature(), name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (lambda x: {"z": x[:, :2]}, "returns ['z']"),
        (lambda x: {"y": x[:, :2], "z": x}, "returns ['y', 'z']"),
        (lambda x: {"y": x}, "'y' of the program is float32[batch, 5]; the signature says FP32[batch, 2]"),
        (lambda x: {"y": x[:1, :2]}, "'y' of the program is float32[1, 2]"),
        (lambda x: {"y": x[:, 0]}, "'y' of the program is float32[batch]"),
        (lambda x: {"y": x[:, :2] > 0}, "'y' of the program is bool[batch, 2]"),
    ],
)
def test_a_program_that_does_not_do_what_its_signature_says(tmp_path, outputs, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        export_model(tmp_path, lambda weights, inputs: outputs(inputs["x"]), {}, mlp_signature(), name="mlp")
    assert list((tmp_path / "mlp").iterdir()) == []


def test_counts_and_overflow_are_scalars(tmp_path):
    signature = mlp_signature(
        outputs=(Tensor(name="y", datatype="FP32", shape=("found", 5)),),
        batched=False, counts={"found": "n"}, overflow="full",
    )  # fmt: skip

    def write(n, full):
        def program(weights, inputs):
            return {"y": inputs["x"], "n": n, "full": full}

        return export_model(tmp_path, program, {}, signature, name="mlp")

    with pytest.raises(ConfigError, match=r"'n' of the program is float32\[\]; the signature says INT32"):
        write(jnp.float32(1), jnp.asarray(False))
    with pytest.raises(ConfigError, match=r"'full' of the program is bool\[2\]; the signature says BOOL"):
        write(jnp.int32(1), jnp.zeros(2, bool))
    assert write(jnp.int32(1), jnp.asarray(False)).is_dir()


def test_what_stands_there_stays_if_the_new_one_fails(tmp_path):
    folder = export_mlp(tmp_path)[1]
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="returns"):
        export_model(
            tmp_path, lambda weights, inputs: {}, {}, mlp_signature(), name="mlp", overwrite=True
        )  # fmt: skip
    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "mlp").iterdir()] == ["1"]


def test_a_backbone_is_exported_in_two_parts(tmp_path):
    config = ResNetConfig(stages=(1, 1), width=16, classes=3)
    backbone = random_backbone("resnet50", config=config, seed=2)
    network = backbone.network
    folders = export_backbone(tmp_path, backbone, image=32, batches=(1, 4))
    assert [folder.parent.name for folder in folders] == ["resnet50_featurizer", "resnet50_classifier"]
    rng = np.random.default_rng(0)
    images = [{"image": rng.normal(size=(n, 32, 32, 3)).astype(np.float32)} for n in (1, 2)]
    plain = nnx.jit(lambda network, images: network(images))
    check_artifact(
        folders[0],
        images,
        lambda x: {"features": np.asarray(plain(network.featurizer, jnp.asarray(x["image"])))},
    )
    check_without_source(folders[0], images)
    features = [{"features": rng.normal(size=(n, config.features)).astype(np.float32)} for n in (1, 3)]
    check_artifact(
        folders[1], features, lambda x: {"logits": np.asarray(network.classifier(jnp.asarray(x["features"])))}
    )
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    assert manifest["provenance"] == {"weights": "random", "seed": 2}
    assert manifest["config"]["network"] == "resnet50"


def test_a_backbone_in_bfloat16(tmp_path):
    """Artefacts keep the short kernels, and answer what the compiled form answers here."""
    backbone = random_backbone("resnet50", config=ResNetConfig(stages=(1, 1), width=16, classes=3))
    folder, _ = export_backbone(tmp_path, backbone, image=32, batches=(1, 4), bfloat16=True)
    images = [
        {"image": np.random.default_rng(n).normal(size=(n, 32, 32, 3)).astype(np.float32)} for n in (1, 2)
    ]
    folded = fold_featurizer(backbone.network.featurizer, bfloat16=True)
    features = jax.jit(folded.features)
    check_artifact(folder, images, lambda x: {"features": np.asarray(features(folded.weights, x["image"]))})
    stored = load_file(folder / "weights.safetensors")
    assert {name.rpartition("/")[2]: array.dtype.name for name, array in stored.items()} == {
        "kernel": "bfloat16", "winograd": "bfloat16", "bias": "float32",
    }  # fmt: skip


def test_a_backbone_of_images_that_are_too_small(tmp_path):
    with pytest.raises(ConfigError, match="32 or more"):
        export_backbone(tmp_path, random_backbone("resnet18"), image=31)
    assert list(tmp_path.iterdir()) == []
