"""`recon reconstruct --server`: what a server finds is what this process finds."""

import json
from importlib.resources import files

import numpy as np
import pytest

from recon.cli import USER_ERROR
from recon.engines import connect
from recon.errors import DataError
from recon.io.root import read_events, read_tracks, write_events
from recon.pipeline import Job
from recon.tracking.detector import load_detector
from recon.tracking.export import export_chain
from recon.tracking.remote import TrackFinder, pack_hits, unpack_tracks
from recon.tracking.shipped import load_model, save_tracking_model
from recon.types import NOISE, Hits
from tests.command_line import run
from tests.integration.served_models import served
from tests.recon.tracking.small_events import with_quick_fit

pytestmark = pytest.mark.usefixtures("quick_programs")


def part_of(event, seed):
    """The hits of some hard particles of a real event, in another order: they fit into the smallest program."""
    particles = event.particles
    hard = np.flatnonzero(np.hypot(particles.momentum[:, 0], particles.momentum[:, 1]) > 1.5)
    chosen = np.random.default_rng(seed).permutation(hard)[:18]
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(particles.hit_particle, chosen)))[
        :512
    ]
    return event._replace(
        number=10 + seed,
        hits=Hits(*(np.ascontiguousarray(column[rows]) for column in event.hits)),
        particles=None,
        truth=None,
        hit_id=event.hit_id[rows],
        particle_id=event.particle_id[:0],
    )


@pytest.fixture(scope="module")
def events():
    event = next(read_events(files("recon") / "data" / "ttbar_pu40.root"))
    return [part_of(event, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def finder():
    """The shipped model with a quick fit: fewer linearisations compile faster."""
    return with_quick_fit(load_model())


@pytest.fixture(scope="module")
def models(finder, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    export_chain(root, finder, buckets=(1024,))
    return root


@pytest.fixture(scope="module")
def server(models, tmp_path_factory, quick_programs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        with served(models) as address:
            yield address


@pytest.fixture(scope="module")
def hits(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("hits") / "hits.root"
    write_events(path, events)
    return path


def test_remote_equals_local(hits, server, finder, tmp_path):
    save_tracking_model(tmp_path / "model", finder)
    local, remote, summary = tmp_path / "local.root", tmp_path / "remote.root", tmp_path / "summary.json"
    assert run("reconstruct", "tracking", hits, "-o", local, "--model", tmp_path / "model") == 0
    words = ["reconstruct", "tracking", hits, "-o", remote, "--server", server, "--streams", 3]
    assert run(*words, "--json", summary) == 0
    expected, found = list(read_tracks(local)), list(read_tracks(remote))
    assert [event.number for event in found] == [10, 11, 12, 13]
    assert sum(len(event.chi2) for event in found) > 40
    for ours, theirs in zip(expected, found, strict=True):
        assert ours.number == theirs.number
        for name in ("n_hits", "first_hit", "hit_id"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=name)
        np.testing.assert_allclose(theirs.parameters, ours.parameters, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(theirs.chi2, ours.chi2, rtol=1e-6, atol=1e-6)
    tree = json.loads(summary.read_text())
    assert tree["server"] == server
    assert tree["events"] == 4


def test_padding_in_an_event_changes_nothing(events, server):
    hits = events[0].hits
    rows = np.insert(np.arange(len(hits.layer)), 3, 0)
    padded = type(hits)(*(np.ascontiguousarray(column[rows]) for column in hits))
    padded.valid[3] = False
    with_hole = events[0]._replace(hits=padded)
    engine = connect(server, model="tracking")
    job = Job([events[0], with_hole], {"tracks": TrackFinder(engine, load_detector())})
    plain, found = (results["tracks"] for _, results in job.results())
    engine.close()
    assert found.hit_track[3] == NOISE
    np.testing.assert_array_equal(np.delete(found.hit_track, 3), plain.hit_track)
    np.testing.assert_array_equal(found.parameters, plain.parameters)


def test_bad_hits_are_refused_here(events, server, tmp_path, capsys):
    broken = events[1].hits._replace(position=events[1].hits.position.copy())
    broken.position[2, 0] = np.nan
    with pytest.raises(DataError, match=r"hits\.position is not finite in row 2"):
        pack_hits(broken, load_detector())
    outputs = {
        "hit_track": np.zeros(3, np.int32), "parameters": np.zeros((1, 5), np.float32),
        "covariance": np.zeros((1, 5, 5), np.float32), "chi2": np.zeros(1, np.float32),
        "n_hits": np.zeros(1, np.int32),
    }  # fmt: skip
    with pytest.raises(DataError, match="output 'hit_track' of the engine has shape"):
        unpack_tracks(events[1].hits, outputs)


def test_what_cannot_be_is_said_in_one_line(hits, server, tmp_path, capsys):
    words = ["reconstruct", "tracking", hits, "-o", tmp_path / "tracks.root"]
    for extra, message in (
        (["--server", "pigeon://host"], "no engine 'pigeon'"),
        (["--server", "grpc://127.0.0.1:1"], "engine 'grpc://127.0.0.1:1', model 'tracking'"),
        (["--server", server, "--fallback", f"local:{tmp_path}"], "has no version '1' of model 'tracking'"),
        (["--server", server, "--model", "mine"], "--model mine goes without --server"),
        (["--fallback", "local:models"], "go with --server"),
    ):
        capsys.readouterr()
        assert run(*words, *extra) == USER_ERROR
        lines = capsys.readouterr().err.strip().splitlines()
        assert message in lines[-1]
        assert lines[-1].startswith("error: ")
    assert not (tmp_path / "tracks.root").exists()
