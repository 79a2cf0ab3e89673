"""Artefacts: what is written, and that it answers like the model it came from."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.export import Signature, Tensor, export_model
from recon.nn.export import export_resnet, module_program
from recon.nn.resnet import PRESETS, ResNet, ResNetConfig
from recon.tracking.capacity import capacity_for
from recon.tracking.export import export_chain, export_network
from recon.tracking.pipeline import find_tracks
from recon.tracking.scoring import network_state, network_with, score_edges
from recon.tracking.shipped import load_model
from recon.types import EdgeList
from serving.artifact import Artifact
from serving.runner import Runner
from tests.reference.toy_tracks import helix_event
from tests.serving.contract import check_artifact

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(autouse=True)
def executables(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "executables"))


@pytest.fixture(scope="module")
def tracking():
    return load_model()


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
        "manifest.json", "program.stablehlo", "weights.safetensors",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    requests = [{"x": rng.normal(size=(n, 5)).astype(np.float32)} for n in (1, 2, 4)]
    check_artifact(folder, requests, lambda inputs: {"y": np.asarray(network(jnp.asarray(inputs["x"])))})
    manifest = Artifact(folder).manifest
    assert manifest.max_batch_size == 8
    assert manifest.versions["recon-hep"]


def test_artefacts_are_written_the_same_twice(tmp_path):
    first, second = (export_mlp(tmp_path / name)[1] for name in ("a", "b"))
    texts = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    assert texts[0]["files"] == texts[1]["files"]


def test_an_artefact_is_not_overwritten_by_accident(tmp_path):
    export_mlp(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        export_mlp(tmp_path)
    export_mlp(tmp_path, overwrite=True)
    export_mlp(tmp_path, version="2")
    assert sorted(path.name for path in (tmp_path / "mlp").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("version", ["", "0", "one", "-1", "1.5"])
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
    ],
)
def test_signatures_that_cannot_work_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        mlp_signature(**changes)


def test_resnet_has_the_published_size():
    count = {}
    for name, config in PRESETS.items():
        shapes = nnx.eval_shape(lambda shape=config: ResNet(shape, rngs=nnx.Rngs(0)))
        count[name] = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes, nnx.Param)))
    assert count == {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


def test_resnet_is_exported_in_two_parts(tmp_path):
    config = ResNetConfig(stages=(1, 1), width=4, classes=3)
    folders = export_resnet(tmp_path, image=32, config=config, batches=(1, 4), seed=2)
    network = ResNet(config, rngs=nnx.Rngs(2))
    network.eval()
    rng = np.random.default_rng(0)
    images = [{"image": rng.normal(size=(n, 32, 32, 3)).astype(np.float32)} for n in (1, 2)]
    check_artifact(
        folders[0],
        images,
        lambda x: {"features": np.asarray(network.featurizer(jnp.asarray(x["image"])))},
        rtol=1e-5,
        atol=1e-5,
    )
    features = [{"features": rng.normal(size=(n, config.features)).astype(np.float32)} for n in (1, 3)]
    check_artifact(
        folders[1], features, lambda x: {"logits": np.asarray(network.classifier(jnp.asarray(x["features"])))}
    )
    image = jnp.asarray(images[0]["image"])
    whole = network(image)
    assert whole.shape == (1, 3)
    np.testing.assert_allclose(network.classifier(network.featurizer(image)), whole, rtol=1e-5)


def random_graph(shape, seed, n, e):
    rng = np.random.default_rng(seed)
    return {
        "node_features": rng.normal(size=(n, shape.node_features)).astype(np.float32),
        "edge_features": rng.normal(size=(e, shape.edge_features)).astype(np.float32),
        "senders": rng.integers(0, n, e).astype(np.int32),
        "receivers": np.sort(rng.integers(0, n, e)).astype(np.int32),
    }


def test_the_network_answers_as_it_does_here(tmp_path, tracking):
    shape = tracking.config.network
    folder = export_network(tmp_path, tracking, buckets=(64, 256))
    state = network_state(network_with(shape, tracking.weights))

    def local(inputs):
        edges = EdgeList(
            jnp.asarray(inputs["senders"]), jnp.asarray(inputs["receivers"]),
            jnp.ones(len(inputs["senders"]), bool), jnp.asarray(False),
        )  # fmt: skip
        nodes = jnp.asarray(inputs["node_features"])
        features = jnp.asarray(inputs["edge_features"])
        return {
            "scores": np.asarray(
                score_edges(state, shape, nodes, features, edges, jnp.ones(len(nodes), bool))
            )
        }

    graphs = [random_graph(shape, seed, n, e) for seed, n, e in ((0, 9, 20), (1, 30, 64), (2, 5, 1))]
    check_artifact(folder, graphs, local, rtol=1e-5, atol=1e-6)


def test_the_chain_finds_the_tracks_that_are_found_here(tmp_path, tracking):
    event = helix_event(np.random.default_rng(4), n_particles=12, n_noise=20)
    hits = event.hits._replace(features=np.zeros((len(event.hits.layer), 3), np.float32))
    folder = export_chain(tmp_path, tracking, buckets=(512,))
    artifact = Artifact(folder)
    runner = Runner(artifact)
    inputs = {spec.name: np.ascontiguousarray(getattr(hits, spec.name)) for spec in artifact.manifest.inputs}
    found = runner.run([inputs], [runner.check(inputs)]).outputs[0]
    wanted = find_tracks(hits, tracking, capacity=capacity_for(512, tracking.pairs))
    assert len(wanted.valid) == len(found["n_hits"])
    np.testing.assert_array_equal(found["hit_track"], wanted.hit_track)
    np.testing.assert_array_equal(found["n_hits"], wanted.n_hits)
    np.testing.assert_allclose(found["parameters"], wanted.parameters, rtol=1e-4, atol=1e-5)
