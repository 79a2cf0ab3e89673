"""The track finder as artefacts: they answer like the functions that they were made of."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from recon.cli import main
from recon.tracking.capacity import capacity_for
from recon.tracking.export import export_chain, export_network, tracks_first
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.pipeline import find_tracks
from recon.tracking.scoring import network_state, network_with, score_edges
from recon.tracking.shipped import load_model, save_tracking_model
from recon.types import NOISE, EdgeList, Hits, Tracks
from serving.artifact import Artifact
from serving.errors import InputTooLarge, InvalidInput
from serving.runner import Runner
from tests.recon.tracking.small_events import with_quick_fit
from tests.serving.contract import check_artifact

pytestmark = pytest.mark.usefixtures("quick_programs")

BUCKET = 512
OUTPUTS = ("hit_track", "parameters", "covariance", "chi2", "n_hits")


@pytest.fixture(scope="module", autouse=True)
def executables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        yield


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture(scope="module")
def model(shipped):
    """The shipped model with a fit that compiles fast, and a cut that leaves rows between the tracks unused."""
    return with_quick_fit(shipped, pt_min=2.0)


@pytest.fixture(scope="module")
def chain(model, tmp_path_factory, quick_programs):
    return Runner(Artifact(export_chain(tmp_path_factory.mktemp("models"), model, buckets=(BUCKET,))))


def answer(runner, hits):
    """What the artefact says about hits that are not padded."""
    inputs = {spec.name: np.ascontiguousarray(getattr(hits, spec.name)) for spec in runner.manifest.inputs}
    return runner.run([inputs], [runner.check(inputs)]).outputs[0]


def rows(hits, chosen):
    return Hits(*(column[chosen] for column in hits))


def test_the_chain_finds_the_tracks_that_are_found_here(chain, model, small_event):
    hits = small_event.hits
    found = answer(chain, hits)
    wanted = find_tracks(hits, model, capacity=capacity_for(BUCKET, model.pairs))
    assert len(wanted.valid) >= 8
    np.testing.assert_array_equal(found["hit_track"], wanted.hit_track)
    np.testing.assert_array_equal(found["n_hits"], wanted.n_hits)
    for name in ("parameters", "covariance", "chi2"):
        np.testing.assert_allclose(found[name], getattr(wanted, name), rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_chain_takes_an_event_without_hits(chain, small_event):
    found = answer(chain, rows(small_event.hits, slice(0)))
    assert {name: len(found[name]) for name in OUTPUTS} == dict.fromkeys(OUTPUTS, 0)


def test_what_does_not_fit_inside_is_refused(chain, small_event):
    """Sixty-four hits eight times each: few enough hits, but far too many segments between them."""
    crowd = rows(small_event.hits, np.repeat(np.arange(64), BUCKET // 64))
    with pytest.raises(InputTooLarge, match="needs larger inner arrays"):
        answer(chain, crowd)


@pytest.mark.parametrize(("name", "value"), [("layer", -1), ("layer", 10_000), ("module", -2)])
def test_hits_on_sensors_that_are_not_there_are_refused(chain, small_event, name, value):
    column = getattr(small_event.hits, name).copy()
    column[3] = value
    with pytest.raises(InvalidInput, match=f"'{name}' holds values"):
        answer(chain, small_event.hits._replace(**{name: column}))


def test_tracks_come_first_and_are_numbered_anew():
    rows_of = np.arange(4, dtype=np.float32)
    tracks = Tracks(
        hit_track=jnp.asarray([3, NOISE, 1, 1, 3], jnp.int32),
        parameters=jnp.asarray(np.outer(rows_of, np.ones(5, np.float32))),
        covariance=jnp.asarray(np.tile(rows_of[:, None, None], (1, 5, 5))),
        chi2=jnp.asarray(rows_of),
        n_hits=jnp.asarray([0, 2, 0, 2], jnp.int32),
        valid=jnp.asarray([False, True, False, True]),
    )
    moved = {name: np.asarray(array) for name, array in tracks_first(tracks).items()}
    assert moved["n_tracks"] == 2
    assert moved["hit_track"].tolist() == [1, NOISE, 0, 0, 1]
    assert moved["n_hits"].tolist() == [2, 2, 0, 0]
    assert moved["chi2"][:2].tolist() == [1, 3]
    assert moved["parameters"][:2, 0].tolist() == [1, 3]
    assert moved["covariance"][:2, 4, 2].tolist() == [1, 3]


def random_graph(shape, seed, n, e):
    rng = np.random.default_rng(seed)
    return {
        "node_features": rng.normal(size=(n, shape.node_features)).astype(np.float32),
        "edge_features": rng.normal(size=(e, shape.edge_features)).astype(np.float32),
        "senders": rng.integers(0, n, e).astype(np.int32),
        "receivers": np.sort(rng.integers(0, n, e)).astype(np.int32),
    }


def test_the_network_answers_as_it_does_here(tmp_path, shipped):
    shape = shipped.config.network
    folder = export_network(tmp_path, shipped, buckets=(64, 256))
    state = network_state(network_with(shape, shipped.weights))

    def local(inputs):
        graph = {name: jnp.asarray(array) for name, array in inputs.items()}
        valid = jnp.ones(len(graph["senders"]), bool)
        edges = EdgeList(graph["senders"], graph["receivers"], valid, jnp.asarray(False))
        nodes = graph["node_features"]
        scores = score_edges(state, shape, nodes, graph["edge_features"], edges, jnp.ones(len(nodes), bool))
        return {"scores": np.asarray(scores)}

    graphs = [random_graph(shape, seed, n, e) for seed, n, e in ((0, 9, 20), (1, 30, 64), (2, 5, 1))]
    check_artifact(folder, graphs, local)
    table = Artifact(folder).manifest.features
    assert [entry["quantity"] for entry in table] == [*NODE_FEATURES, *EDGE_FEATURES]


def test_the_command_writes_chain_and_network(tmp_path, model, capsys):
    save_tracking_model(tmp_path / "model", model)
    output = tmp_path / "models [1]"
    words = ["export", "tracking", "-o", output, "--model", tmp_path / "model", "--name", "finder"]
    words += ["--version", 3, "--hits", 256, "--edges", 64, 128]
    assert main([str(word) for word in words]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["finder", "finder_network"]
    printed = capsys.readouterr().out
    assert f"written: {output / 'finder' / '3'}" in printed
    assert Artifact(output / "finder" / "3").manifest.provenance["card"] == model.card
    manifest = json.loads((output / "finder_network" / "3" / "manifest.json").read_text())
    assert [bucket["sizes"] for bucket in manifest["buckets"]] == [{"n": 32, "e": 64}, {"n": 64, "e": 128}]
    assert main([str(word) for word in words]) == 2
    assert "exists" in capsys.readouterr().err
