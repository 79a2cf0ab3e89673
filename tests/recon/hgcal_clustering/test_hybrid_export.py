"""The network of the hybrid clustering as an artefact, and the rest of it around a server's answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import HgcalConfig, find_showers
from recon.hgcal_clustering.hybrid import probabilities, showers_of
from recon.hgcal_clustering.hybrid_export import export_network
from recon.hgcal_clustering.hybrid_remote import HybridFinder, pack_graph, unpack_probability
from recon.hgcal_clustering.model import CondensationConfig, CondensationNetwork
from recon.hgcal_clustering.shipped import HgcalModel, load_model, load_network, save_model
from recon.hgcal_clustering.shower_graph import ShowerGraph, pad_graph, shower_graph
from recon.io.weights import model_arrays
from serving.artifact import Artifact
from serving.runner import Runner
from tests.recon.hgcal_clustering.condensing import two_showers
from tests.reference.toy_showers import take_hits, toy_event, with_times
from tests.serving.contract import check_artifact, check_without_source

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def config():
    return load_model("hybrid").config


@pytest.fixture(scope="module")
def network(config):
    return load_network(config.hybrid.weights, config.hybrid.network)


@pytest.fixture(scope="module")
def folder(network, config, tmp_path_factory, quick_programs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        yield export_network(
            tmp_path_factory.mktemp("models"), network, config, buckets=((512, 64), (1024, 64))
        )


@pytest.fixture(scope="module")
def graphs(config):
    made = [two_showers(pileup=pileup, seed=pileup) for pileup in (100, 600)]
    return [shower_graph(event.clusters, config.hybrid.graph)[0] for event in made]


class Here:
    """An engine that answers at once with an artefact."""

    def __init__(self, folder):
        self.runner, self.calls, self.cancelled = Runner(Artifact(folder)), 0, 0

    def acquire(self, inputs):
        self.calls += 1
        return Answer(self, self.runner.run([inputs], [self.runner.check(inputs)]).outputs[0])

    def produce(self, handle):
        return handle.outputs

    def close(self):
        pass


class Answer:
    def __init__(self, engine, outputs):
        self.engine, self.outputs = engine, outputs

    def cancel(self):
        self.engine.cancelled += 1
        return True


def test_artefact_answers_as_the_network(folder, network, graphs):
    requests = [pack_graph(graph) for graph in graphs]
    assert all(len(graph.seed) > 1 for graph in graphs)

    def local(request):
        found = probabilities(network, pad_graph(ShowerGraph(**request)))
        return {"probability": np.asarray(found)[: len(request["row"])]}

    check_artifact(folder, requests, local, rtol=1e-4, atol=1e-5)
    check_without_source(folder, requests[:1])


def test_labels_are_those_of_the_network_here(folder, network, config, graphs):
    engine = Here(folder)
    for graph in graphs:
        served = unpack_probability(graph, engine.produce(engine.acquire(pack_graph(graph))))
        local = np.asarray(probabilities(network, pad_graph(graph)), np.float64)[: len(graph.row)]
        n = int(graph.row.max()) + 1
        one, other = (showers_of(graph, found, config.hybrid, n) for found in (served, local))
        assert one.n_clusters >= 2
        np.testing.assert_array_equal(one.ids, other.ids)
    with pytest.raises(DataError, match="output 'probability' of the engine has shape"):
        unpack_probability(graphs[0], {"probability": served})


@pytest.mark.parametrize("both_ends", [False, True])
def test_finder_finds_what_find_showers_finds(folder, config, both_ends):
    engine = Here(folder)
    finder = HybridFinder(engine, config)
    event = toy_event(seed=4, showers=5, n_layers=20, both_ends=both_ends)
    wanted = find_showers(event, config)
    state = finder.acquire(event)
    found = finder.produce(event, state)
    # One call for every endcap with layer clusters.
    assert engine.calls == 1 + both_ends
    assert len(wanted.tracksters.valid) >= 1
    np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
    np.testing.assert_allclose(
        found.tracksters.regressed_energy, wanted.tracksters.regressed_energy, rtol=1e-5
    )
    finder.cancel(state)
    assert engine.cancelled == engine.calls


def test_without_hits_nobody_is_asked(folder, config):
    engine = Here(folder)
    finder = HybridFinder(engine, config)
    event = toy_event(seed=4, showers=5, n_layers=20)
    empty = event._replace(hits=take_hits(event.hits, np.arange(0)), truth=None)
    found = finder.produce(empty, finder.acquire(empty))
    assert engine.calls == len(found.hit_trackster) == len(found.tracksters.valid) == 0


def test_settings_of_another_method(network, tmp_path):
    with pytest.raises(ConfigError, match="settings of the method 'clue3d'; the network belongs to 'hybrid'"):
        export_network(tmp_path, network, HgcalConfig())


def test_a_network_that_sees_times(config, tmp_path, monkeypatch):
    """Its artefact takes them with the graph, and answers as the network does here."""
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "executables"))
    shape = CondensationConfig(hidden=8, rounds=2, timing=True)
    hybrid = replace(config.hybrid, network=shape, weights=str(tmp_path / "timed"))
    timed = replace(config, hybrid=hybrid)
    network = CondensationNetwork(shape, rngs=nnx.Rngs(2))
    save_model(tmp_path / "timed", HgcalModel(timed, "a card", model_arrays(network)))
    folder = export_network(tmp_path / "models", network, timed, name="timed", buckets=((1024, 64),))
    engine = Here(folder)
    event = with_times(toy_event(seed=4, showers=5, n_layers=20))
    finder = HybridFinder(engine, timed)
    found, wanted = finder.produce(event, finder.acquire(event)), find_showers(event, timed)
    assert engine.calls == 1
    np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
    with pytest.raises(DataError, match="no times"):
        finder.acquire(event._replace(times=None))
