"""CLUE and CLUE3D as artefacts: they answer like the functions that they were made of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon.cli import main
from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import export as module
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.pipeline import find_showers
from recon.hgcal_clustering.remote import (
    CLUSTERS,
    TRACKSTERS,
    model_name,
    pack_hits,
    pack_points,
    unpack_hit_showers,
    unpack_showers,
)
from recon.hgcal_clustering.shipped import load_model
from recon.types import NOISE
from serving.artifact import Artifact
from serving.errors import InputTooLarge, InvalidInput
from serving.runner import Runner
from tests.recon.hgcal_clustering.wedge_events import wedge_event
from tests.reference.toy_showers import take_hits
from tests.serving.contract import check_artifact, check_without_source

pytestmark = pytest.mark.usefixtures("quick_programs")

BUCKET = 1024
N_LAYERS = 47


@pytest.fixture(scope="module", autouse=True)
def executables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        yield


@pytest.fixture(scope="module")
def cells(calorimeter):
    return CellGraph.from_calorimeter(calorimeter, cache=False)


@pytest.fixture(scope="module")
def events(wedge, calorimeter, lookup):
    return [wedge_event(wedge, calorimeter, lookup, number) for number in range(3)]


@pytest.fixture(scope="module")
def folders(cells, tmp_path_factory, quick_programs):
    root = tmp_path_factory.mktemp("models")
    return {
        kind: export(root, cells, N_LAYERS, buckets=(BUCKET,))
        for kind, export in (("chain", module.export_chain), ("layers", module.export_layers))
    }


@pytest.fixture(scope="module")
def runner(folders):
    return Runner(Artifact(folders["chain"]))


def answer(runner, request):
    return runner.run([request], [runner.check(request)]).outputs[0]


def as_outputs(showers, names):
    """Host results under the names of the artefact."""
    kinds = {"cluster": showers.clusters, "trackster": showers.tracksters}
    found = {"hit_cluster": showers.clusters.member_cluster}
    for name in names:
        kind, _, field = name.partition("_")
        found[name] = getattr(kinds[kind], field)
    return found


def test_artefacts_answer_as_the_functions_here(folders, cells, events):
    by_cell = {event.hits.cell.tobytes(): event for event in events}

    def showers(request):
        return find_showers(by_cell[request["cell"].tobytes()], cells=cells)

    def chain(request):
        found = showers(request)
        outputs = as_outputs(found, [*CLUSTERS, *TRACKSTERS])
        return outputs | {"cluster_trackster": found.tracksters.member_trackster}

    requests = [pack_hits(event.hits) for event in events]
    # Ids are compared to the last one; positions are sums of lengths of metres in single precision.
    check_artifact(folders["chain"], requests, chain, rtol=1e-5, atol=1e-3)
    check_artifact(
        folders["layers"], requests, lambda r: as_outputs(showers(r), CLUSTERS), rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize("algorithm", ["tuned", "imaging"])
def test_other_chains_answer_as_the_functions_here(algorithm, cells, events, tmp_path):
    config = load_model("tuned").config if algorithm == "tuned" else HgcalConfig(method=algorithm)
    folder = module.export_chain(
        tmp_path, cells, N_LAYERS, config, name=model_name(algorithm), buckets=(BUCKET,)
    )
    by_cell = {event.hits.cell.tobytes(): event for event in events}

    def local(request):
        found = find_showers(by_cell[request["cell"].tobytes()], config, cells=cells)
        assert len(found.tracksters.valid) > 0
        outputs = as_outputs(found, [*CLUSTERS, *TRACKSTERS])
        return outputs | {"cluster_trackster": found.tracksters.member_trackster}

    check_artifact(folder, [pack_hits(event.hits) for event in events], local, rtol=1e-4, atol=1e-3)
    assert json.loads((folder / "manifest.json").read_text())["name"] == f"hgcal_{algorithm}"


def test_clue_on_hits_needs_no_cells(events, tmp_path):
    folder = module.export_hits(tmp_path, N_LAYERS, buckets=(BUCKET,))
    assert not (folder / "weights.safetensors").exists()
    config = HgcalConfig(method="hits")
    by_energy = {event.hits.energy.tobytes(): event for event in events}

    def local(request):
        found = find_showers(by_energy[request["energy"].tobytes()], config)
        outputs = {name: getattr(found.tracksters, name.removeprefix("trackster_")) for name in TRACKSTERS}
        return outputs | {"hit_trackster": found.hit_trackster}

    check_artifact(folder, [pack_points(event.hits) for event in events], local, rtol=1e-4, atol=1e-3)
    runner, hits = Runner(Artifact(folder)), events[0].hits
    masked = hits._replace(valid=np.arange(len(hits.energy)) % 4 > 0)
    wanted, found = (
        find_showers(masked, config),
        unpack_hit_showers(masked, answer(runner, pack_points(masked))),
    )
    np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
    np.testing.assert_array_equal(found.tracksters.seed, wanted.tracksters.seed)
    assert found.clusters is None
    with pytest.raises(DataError, match="output 'hit_trackster' of the engine has shape"):
        unpack_hit_showers(events[1].hits, answer(runner, pack_points(masked)))


def test_a_method_that_is_no_chain(cells, tmp_path):
    with pytest.raises(ConfigError, match="method 'hybrid' is no single program"):
        module.export_chain(tmp_path, cells, N_LAYERS, HgcalConfig(method="hybrid"), buckets=(BUCKET,))
    assert not list(tmp_path.rglob("manifest.json"))


def test_no_source_is_needed(folders, events):
    check_without_source(folders["chain"], [pack_hits(event.hits) for event in events[:1]])


def test_the_table_travels_once_as_weights(folders, cells):
    for folder in folders.values():
        weights = folder / "weights.safetensors"
        assert cells.n_bytes <= weights.stat().st_size < cells.n_bytes + 4096
        assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".stablehlo"}
        programs = [path for path in folder.iterdir() if path.suffix == ".stablehlo"]
        assert sum(path.stat().st_size for path in programs) < 2_000_000
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["config"]["method"] == "clue3d"


def test_one_table_for_all_sizes(cells, events, tmp_path):
    """Buckets are programs; the weights of a model are on the device once."""
    runner = Runner(Artifact(module.export_layers(tmp_path, cells, N_LAYERS, buckets=(256, BUCKET))))
    before = {name: array.unsafe_buffer_pointer() for name, array in runner._weights.items()}
    for n in (100, len(events[0].hits.energy)):
        request = pack_hits(take_hits(events[0].hits, np.arange(n)))
        assert len(answer(runner, request)["hit_cluster"]) == n
    assert {name: array.unsafe_buffer_pointer() for name, array in runner._weights.items()} == before


def test_showers_come_back_as_they_are_found_here(runner, cells, events):
    hits = events[1].hits
    off = np.arange(len(hits.energy)) % 5 == 0
    masked = hits._replace(valid=~off)
    wanted = find_showers(masked, cells=cells)
    found = unpack_showers(masked, answer(runner, pack_hits(masked)))
    np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
    assert (found.hit_trackster[off] == NOISE).all()
    for name in ("member_cluster", "seed", "size", "layer"):
        np.testing.assert_array_equal(
            getattr(found.clusters, name), getattr(wanted.clusters, name), err_msg=name
        )
    for name in ("member_trackster", "seed", "size"):
        np.testing.assert_array_equal(
            getattr(found.tracksters, name), getattr(wanted.tracksters, name), err_msg=name
        )
    np.testing.assert_allclose(found.tracksters.energy, wanted.tracksters.energy, rtol=1e-5)


def test_an_event_without_hits(runner, events):
    hits = take_hits(events[0].hits, np.arange(0))
    showers = unpack_showers(hits, answer(runner, pack_hits(hits)))
    assert len(showers.hit_trackster) == len(showers.tracksters.valid) == len(showers.clusters.valid) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("cell", -1), ("cell", 10**7), ("layer", 47), ("energy", np.nan), ("position", np.inf)],
)
def test_the_server_refuses_what_is_not_there(runner, events, name, value):
    request = pack_hits(events[0].hits)
    request[name] = request[name].copy()
    request[name][3] = value
    with pytest.raises(InvalidInput, match=name):
        answer(runner, request)


def test_the_server_refuses_two_hits_in_a_cell(runner, events):
    request = pack_hits(events[0].hits)
    twice = {name: np.concatenate([column, column[:1]]) for name, column in request.items()}
    with pytest.raises(InputTooLarge):
        answer(runner, twice)


def test_the_caller_names_what_cannot_be_sent(events):
    hits = events[0].hits
    unknown = hits._replace(cell=np.where(np.arange(len(hits.cell)) == 4, -1, hits.cell).astype(np.int32))
    with pytest.raises(DataError, match=r"hits.cell is -1 in row 4; allowed are cells of the calorimeter"):
        pack_hits(unknown)
    twice = take_hits(hits, np.r_[np.arange(5), 0])
    with pytest.raises(DataError, match=f"cell {hits.cell[0]} has 2 hits: allowed is one"):
        pack_hits(twice)


def test_the_caller_refuses_outputs_of_another_event(runner, events):
    outputs = answer(runner, pack_hits(events[0].hits))
    with pytest.raises(DataError, match="output 'hit_cluster' of the engine has shape"):
        unpack_showers(events[1].hits, outputs)
    with pytest.raises(DataError, match="output 'trackster_axes' of the engine has shape"):
        unpack_showers(events[0].hits, outputs | {"trackster_axes": np.zeros((1, 3), np.float32)})


def test_settings_that_cannot_be_read_are_named(tmp_path, capsys):
    """Before any detector is made; the export of a whole one is a slow test."""
    settings = tmp_path / "settings.json"
    settings.write_text("{")
    words = ["export", "hgcal", "--settings", str(settings), "--output", str(tmp_path / "models")]
    assert main(words) == 2
    assert f"error: {settings} is no JSON" in capsys.readouterr().err
