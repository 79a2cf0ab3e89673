"""`recon reconstruct jets --server`: the scores of a server are those of this process."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest

from recon.cli import USER_ERROR
from recon.io.jets import read_jets, write_jets
from recon.tagging import LABELS
from tests.command_line import run
from tests.integration.served_models import served
from tests.recon.tagging.conftest import SMALL, save_small_model
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")

BATCHES = ("16", "256")
N_JETS = 300


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: save_small_model(root / kind, kind) for kind in SMALL}


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "jets.root"
    write_jets(path, [make_table(N_JETS, seed=30, candidates=(0, 14), vertices=(0, 5))])
    return path


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for path in models.values():
        assert run("export", "tagging", "--model", path, "-o", root, "--batches", *BATCHES) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        with served(root) as address:
            yield address


def scores_of(path, name):
    table = ak.concatenate(list(read_jets(path)))
    return np.stack([np.asarray(table[f"{name}_{label}"]) for label in LABELS], axis=1), table


@pytest.mark.parametrize("kind", SMALL)
def test_remote_equals_local(jets, models, server, tmp_path, kind):
    local, remote, summary = (tmp_path / name for name in ("local.root", "remote.root", "summary.json"))
    words = ["reconstruct", "jets", jets, "--model", models[kind]]
    assert run(*words, "-o", local) == 0
    assert run(*words, "-o", remote, "--server", server, "--streams", 3, "--json", summary) == 0
    (ours, before), (theirs, after) = scores_of(local, kind), scores_of(remote, kind)
    assert len(theirs) == N_JETS
    assert np.ptp(ours, axis=0).max() > 0.1
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(after["event_number"], before["event_number"])
    tree = json.loads(summary.read_text())
    assert tree["server"] == server
    # What is lost on the way is counted on this side of the wire.
    assert tree["jets"] == N_JETS
    assert tree["candidates_dropped"] > 0


def test_what_cannot_be_is_said_in_one_line(jets, models, server, tmp_path, capsys):
    output = tmp_path / "x.root"
    words = ["reconstruct", "jets", jets, "--model", models["deepak8"], "-o", output]
    for more, message in (
        (("--server", "grpc://127.0.0.1:1"), "engine 'grpc://127.0.0.1:1', model 'deepak8'"),
        (("--server", server, "--served", "other"), "model 'other'"),
        # Another network than the one whose inputs are computed here.
        (("--server", server, "--served", "particlenet"), "candidate_valid"),
    ):
        capsys.readouterr()
        assert run(*words, *more) == USER_ERROR
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert message in lines[-1]
    assert not output.exists()
