"""`recon reconstruct nova --server`: featurizer and classifier on a server give the scores of this process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import uproot

from recon.cli import USER_ERROR
from recon.io.root_pixel_maps import read_neutrino_events, write_neutrino_events
from recon.tagging.commands.reconstruct_neutrino import branch_names
from recon.tagging.cvn import save_model
from recon.tagging.neutrino_evaluation import score_events
from recon.tagging.neutrino_remote import export_neutrino_model
from recon.tagging.pixel_maps import images_of
from tests.command_line import run
from tests.integration.served_models import served
from tests.recon.io.neutrino_events import assert_same
from tests.recon.tagging.small_neutrinos import labelled_events, small_model
from tests.serving.contract import check_artifact, check_without_source

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module", autouse=True)
def executables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "mine"
    save_model(directory, small_model())
    return directory


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "events.root"
    write_neutrino_events(path, [labelled_events(90, seed=4)])
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory, quick_programs):
    root = tmp_path_factory.mktemp("models")
    export_neutrino_model(root, small_model(), batches=(4, 64))
    return root


@pytest.fixture(scope="module")
def server(repository):
    with served(repository) as address:
        yield address


def scores_in(path):
    with uproot.open(path) as file:
        return np.stack([file["events"][name].array(library="np") for name in branch_names()], axis=1)


def test_remote_equals_local(events, model, server, tmp_path, capsys):
    local, remote, summary = (tmp_path / name for name in ("local.root", "remote.root", "summary.json"))
    assert run("reconstruct", "nova", events, "-o", local, "--model", model) == 0
    words = ["reconstruct", "nova", events, "-o", remote, "--server", server, "--streams", 3]
    assert run(*words, "--json", summary) == 0
    assert "events have an empty view" in capsys.readouterr().out
    np.testing.assert_allclose(scores_in(remote), scores_in(local), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores_in(local).sum(1), 1, rtol=1e-5)
    (before,), (after,) = list(read_neutrino_events(events)), list(read_neutrino_events(remote))
    assert_same(before, after)
    np.testing.assert_allclose(scores_in(local), score_events(before, small_model()), rtol=1e-5, atol=1e-6)
    assert run("reconstruct", "nova", events, "-o", local, "--model", model, "--reflections") == 0
    both = score_events(before, small_model(), reflections=True)
    np.testing.assert_allclose(scores_in(local), both, rtol=1e-5, atol=1e-6)
    tree = json.loads(summary.read_text())
    assert (tree["server"], tree["events"]) == (server, 90)
    assert tree["hits_outside"] == int(before.outside.sum())


def test_both_parts_keep_the_contract(repository, events):
    (table,) = list(read_neutrino_events(events))
    scorer = small_model().scorer
    requests = [{"image": images_of(table, np.array(rows))} for rows in ([0], [1, 2, 3])]
    featurizer, classifier = (repository / f"nova_{part}" / "1" for part in ("featurizer", "classifier"))
    check_artifact(
        featurizer,
        requests,
        lambda given: {"features": scorer(given["image"]).features},
        rtol=1e-4,
        atol=1e-5,
    )
    check_without_source(featurizer, requests)
    features = scorer(images_of(table, np.arange(5)))
    check_artifact(
        classifier,
        [{"features": features.features}],
        lambda given: {"scores": features.scores},
        rtol=1e-4,
        atol=1e-5,
    )


def test_events_that_cannot_be_sent(events, server, tmp_path, capsys):
    words = ["reconstruct", "nova", events, "-o", tmp_path / "out.root", "--server", server]
    assert run(*words, "--served", "nowhere") == USER_ERROR
    assert "nowhere_featurizer" in capsys.readouterr().err
    assert run(*words, "--reflections") == USER_ERROR
    assert "--reflections is for a network in this process" in capsys.readouterr().err
    assert not (tmp_path / "out.root").exists()


def test_evaluation_and_gallery(events, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recon.tagging.commands.evaluate_neutrino.CONFIDENT", 0.0)
    output = tmp_path / "report"
    words = ["evaluate", "nova", events, "--model", model, "-o", output, "--json", tmp_path / "report.json"]
    assert run(*words, "--reflections") == 0
    printed = capsys.readouterr().out
    assert "accuracy, four classes, 1 to 4 GeV" in printed
    tree = json.loads((tmp_path / "report.json").read_text())
    (network,) = tree["networks"]
    assert network["events"] == np.sum(network["confusion"]) == 90
    text = (output / "report.md").read_text()
    for name in ("confusion_0", "efficiency_energy", "purity_energy", "roc"):
        assert f"]({name}.png)" in text
        assert (output / f"{name}.png").stat().st_size > 5000
    assert (output / "gallery.png").is_file()
    assert "Plotly.newPlot" in (output / "gallery.html").read_text()


def test_files_that_cannot_be_evaluated(model, tmp_path, capsys):
    path = tmp_path / "data.root"
    write_neutrino_events(path, [labelled_events(5)._replace(truth=None)])
    assert run("evaluate", "nova", path, "--model", model, "-o", tmp_path / "out") == USER_ERROR
    assert "without labels or truth" in capsys.readouterr().err
