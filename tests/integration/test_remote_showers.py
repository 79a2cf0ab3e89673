"""`recon reconstruct hgcal --server`: what a server finds is what this process finds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon.cli import USER_ERROR
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.export import export_chain, export_hits
from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.hgcal_clustering.hybrid_export import export_network
from recon.hgcal_clustering.lookup import build_lookup
from recon.hgcal_clustering.remote import model_name
from recon.hgcal_clustering.shipped import load_model, load_network
from recon.io.root_showers import read_showers
from tests.command_line import run
from tests.integration.served_models import served
from tests.recon.hgcal_clustering.wedge_events import wedge_event, write_wedge

pytestmark = pytest.mark.usefixtures("quick_programs")

WEDGE = EndcapGeometry(phi_min=0.4, phi_max=0.66)


@pytest.fixture(scope="module")
def calorimeter():
    return build_calorimeter(WEDGE)


@pytest.fixture(scope="module")
def hits(calorimeter, tmp_path_factory):
    lookup = build_lookup(WEDGE, calorimeter)
    events = [wedge_event(WEDGE, calorimeter, lookup, number) for number in range(4)]
    return write_wedge(tmp_path_factory.mktemp("hits") / "hits.root", WEDGE, calorimeter, events)


@pytest.fixture(scope="module")
def server(calorimeter, tmp_path_factory, quick_programs):
    root = tmp_path_factory.mktemp("models")
    cells = CellGraph.from_calorimeter(calorimeter, cache=False)
    n_layers, size = len(calorimeter.layer_z), {"buckets": (1024,)}
    export_chain(root, cells, n_layers, **size)
    export_chain(root, cells, n_layers, load_model("tuned").config, name=model_name("tuned"), **size)
    export_hits(root, n_layers, **size)
    hybrid = load_model("hybrid").config
    network = load_network(hybrid.hybrid.weights, hybrid.hybrid.network)
    export_network(root, network, hybrid, buckets=((1024, 64),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        with served(root) as address:
            yield address


@pytest.mark.parametrize("algorithm", ["clue3d", "tuned", "hits", "hybrid"])
def test_remote_equals_local(algorithm, hits, server, tmp_path):
    local, remote, summary = (tmp_path / name for name in ("local.root", "remote.root", "summary.json"))
    words = ["reconstruct", "hgcal", hits, "--algorithm", algorithm]
    assert run(*words, "-o", local) == 0
    assert run(*words, "-o", remote, "--server", server, "--streams", 3, "--json", summary) == 0
    expected, found = list(read_showers(local)), list(read_showers(remote))
    assert [event.number for event in found] == [0, 1, 2, 3]
    assert sum(len(event.tracksters.valid) for event in found) >= 6
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(theirs.hit_trackster, ours.hit_trackster)
        assert (ours.clusters is None) == (theirs.clusters is None) == (algorithm == "hits")
        for one, other in ((ours.clusters, theirs.clusters), (ours.tracksters, theirs.tracksters)):
            if one is None:
                continue
            for name, left, right in zip(one._fields, one, other, strict=True):
                if left.dtype == np.float32:
                    np.testing.assert_allclose(right, left, rtol=1e-5, atol=1e-3, err_msg=name)
                else:
                    np.testing.assert_array_equal(right, left, err_msg=name)
    tree = json.loads(summary.read_text())
    assert (tree["server"], tree["algorithm"]) == (server, algorithm)
    assert len(tree["events"]) == 4


def test_one_endcap_by_a_server(hits, server, tmp_path):
    paths = tmp_path / "local.root", tmp_path / "remote.root"
    words = ["reconstruct", "hgcal", hits, "--endcap", "negative"]
    assert run(*words, "-o", paths[0]) == 0
    assert run(*words, "-o", paths[1], "--server", server) == 0
    for ours, theirs in zip(*map(read_showers, paths), strict=True):
        np.testing.assert_array_equal(theirs.hit_trackster, ours.hit_trackster)


def test_what_cannot_be_is_said_in_one_line(hits, server, calorimeter, tmp_path, capsys):
    events = [wedge_event(WEDGE, calorimeter, build_lookup(WEDGE, calorimeter), 5, n=30, energy=(50.0, 90.0))]
    large = write_wedge(tmp_path / "large.root", WEDGE, calorimeter, events)
    for words, message in (
        ((hits, "--server", "grpc://127.0.0.1:1"), "engine 'grpc://127.0.0.1:1', model 'hgcal'"),
        ((large, "--server", server), "1024"),
        ((hits, "--server", server, "--max-tracksters", 5), "--settings and limits go without --server"),
        ((hits, "--server", server, "--algorithm", "imaging"), "hgcal_imaging"),
    ):
        capsys.readouterr()
        assert run("reconstruct", "hgcal", *words, "-o", tmp_path / "s.root") == USER_ERROR
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert message in lines[-1]
    assert not (tmp_path / "s.root").exists()
