"""Fast forms, scoring, models in directories, artefacts, ONNX: all give the probabilities of the network."""

import json

import jax
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.tagging.commands.export import export as export_command
from recon.tagging.export import export_deepak8, export_particle_net
from recon.tagging.export_onnx import write_onnx
from recon.tagging.folded import fold
from recon.tagging.importing import load_pretrained
from recon.tagging.models import (
    KINDS,
    TaggingModel,
    load_tagging_model,
    make_network,
    save_tagging_model,
)
from recon.tagging.pfn import PFNConfig
from recon.tagging.scoring import Scorer
from tests.recon.tagging.conftest import on_device, random_jets
from tests.recon.tagging.test_networks import CONFIGS, evaluate, make, program
from tests.serving.contract import check_artifact, check_without_source

pytestmark = pytest.mark.usefixtures("quick_programs")

FOLDED = ("deepak8", "deepak8-md", "particlenet", "particlenet, vertices")
CAPACITIES = (12, 3)


@pytest.fixture(autouse=True)
def executables(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "executables"))


def tagging_model(name):
    kind = name.partition(",")[0]
    network = make(name)
    labels = tuple(f"class{number}" for number in range(network.config.classes))
    return TaggingModel(kind, network, labels, CAPACITIES, {"candidates": [{"column": "pt"}]}, "A card.")


def probabilities(name, jets):
    return np.asarray(jax.nn.softmax(evaluate(name)(on_device(jets))))


@pytest.mark.parametrize("name", FOLDED)
def test_folded_networks_give_the_same(name):
    jets = random_jets()
    folded = fold(make(name))
    found = jax.jit(folded.logits)(folded.weights, on_device(jets))
    wanted = np.asarray(evaluate(name)(on_device(jets)))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-5 * np.abs(wanted).max())


def test_networks_without_a_fast_form_are_named():
    with pytest.raises(ConfigError, match="PFN has no form for inference"):
        fold(make("pfn"))


@pytest.mark.parametrize("name", ["deepak8", "pfn"])
def test_scores_of_any_number_of_jets_in_few_programs(name):
    jets = random_jets(n=21)
    scorer = Scorer(make(name), batch=16)
    found = scorer(jets)
    np.testing.assert_allclose(found, probabilities(name, jets), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert scorer.programs == 2
    for count in (21, 16, 7, 5, 3):
        part = jax.tree.map(lambda array, n=count: array[:n], jets)
        np.testing.assert_allclose(scorer(part), found[:count], rtol=1e-4, atol=1e-6)
    assert scorer.programs == 2
    assert scorer(jax.tree.map(lambda array: array[:0], jets)).shape == (0, found.shape[1])


def test_scoring_names_a_feature_that_is_not_finite():
    jets = random_jets(n=3)
    scorer = Scorer(make("pfn"))
    jets.candidates[1, 0, 4] = np.inf
    with pytest.raises(DataError, match="jet 1, candidate 0, column 4 is inf; 1 such"):
        scorer(jets)
    # In padding it is nobody's.
    jets.candidates[1, 0, 4] = 0
    jets.candidates[0] = np.nan
    assert np.isfinite(scorer(jets)).all()
    with pytest.raises(ConfigError, match="batch is 0"):
        Scorer(make("pfn"), batch=0)


@pytest.mark.parametrize("name", ["deepcsv", "particlenet", "pfn"])
def test_models_come_back_from_their_directory(tmp_path, name):
    model = tagging_model(name)
    save_tagging_model(tmp_path / "model", model)
    back = load_tagging_model(tmp_path / "model")
    assert back.network.config == model.network.config == CONFIGS[name]
    assert (back.kind, back.labels, back.capacities) == (model.kind, model.labels, model.capacities)
    assert back.features == model.features
    jets = on_device(random_jets())
    np.testing.assert_array_equal(program(back.network)(jets), evaluate(name)(jets))


def test_directories_of_other_models_are_refused(tmp_path):
    save_tagging_model(tmp_path, tagging_model("pfn"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"kind": "deepak9"}))
    with pytest.raises(DataError, match="not the configuration"):
        load_tagging_model(tmp_path)


def test_kinds_refuse():
    with pytest.raises(ConfigError, match="no network 'deepak9'; there are deepak8, "):
        make_network("deepak9")
    with pytest.raises(ConfigError, match="pfn needs a PFNConfig; given is DeepAK8Config"):
        make_network("pfn", KINDS["deepak8"].config)
    assert make_network("pfn", PFNConfig(particle=(4,), jet=(4,)), seed=1).config.jet == (4,)


def request(jets, name):
    tensors = {"candidates": jets.candidates, "vertices": jets.vertices}
    if name.startswith("deepak8"):
        valid = {"candidates": jets.candidate_valid, "vertices": jets.vertex_valid}
        return {
            key: np.where(valid[key][..., None], array, 0).astype(np.float32)
            for key, array in tensors.items()
        }
    masks = {"candidate_valid": jets.candidate_valid, "vertex_valid": jets.vertex_valid}
    given = tensors | masks
    return given if "vertices" in name else {key: given[key] for key in ("candidates", "candidate_valid")}


@pytest.mark.parametrize("name", ["deepak8", "particlenet, vertices"])
def test_artefacts_answer_like_the_network(tmp_path, name):
    writer = export_deepak8 if name == "deepak8" else export_particle_net
    folder = writer(tmp_path, tagging_model(name), batches=(1, 8))
    jets = {n: random_jets(n=n, seed=n) for n in (1, 2, 5)}
    requests = [request(jets[n], name) for n in jets]
    answers = {n: probabilities(name, jets[n]) for n in jets}
    check_artifact(
        folder, requests, lambda given: {"scores": answers[len(given["candidates"])]}, rtol=1e-3, atol=1e-5
    )
    if name == "deepak8":
        check_without_source(folder, requests)


def test_artefacts_of_another_network_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="was given a ParticleNet"):
        export_deepak8(tmp_path, tagging_model("particlenet"))
    with pytest.raises(ConfigError, match="was given a DeepAK8"):
        export_particle_net(tmp_path, tagging_model("deepak8"))


@pytest.mark.parametrize("name", FOLDED)
def test_onnx_files_answer_like_the_network(tmp_path, name):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    write_onnx(tmp_path / "tagger.onnx", tagging_model(name))
    session = runtime.InferenceSession(tmp_path / "tagger.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        jets = random_jets(n=count, seed=count)
        (found,) = session.run(["scores"], request(jets, name))
        np.testing.assert_allclose(found, probabilities(name, jets), rtol=1e-3, atol=1e-5)


def test_command_writes_onnx_that_can_be_read_again(tmp_path, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed")
    save_tagging_model(tmp_path / "model", tagging_model("deepak8"))
    export_command(model=str(tmp_path / "model"), output=tmp_path / "out", name="mine", format="onnx")
    assert "mine.onnx" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="exists; choose another name"):
        export_command(model=str(tmp_path / "model"), output=tmp_path / "out", name="mine", format="onnx")
    # It is a network, but not one of CMS's.
    with pytest.raises(DataError, match="has no array 'pfcand_bn_data_gamma'"):
        load_pretrained(tmp_path / "out" / "mine.onnx", "deepak8")


def test_command_refuses(tmp_path):
    with pytest.raises(ConfigError, match="neither a directory nor a file"):
        export_command(model=str(tmp_path / "absent.pt"), kind="particlenet")
    with pytest.raises(ConfigError, match="neither a directory nor one of"):
        export_command(model=str(tmp_path / "absent"))
    (tmp_path / "file.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the networks that are read from \.pt: no particlenet"):
        export_command(model=str(tmp_path / "file.pt"))
    (tmp_path / "file.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no importer of pfn from \.onnx; there are deepak8 from"):
        export_command(model=str(tmp_path / "file.onnx"), kind="pfn")
    with pytest.raises(ConfigError, match="has no ONNX form"):
        write_onnx(tmp_path / "x.onnx", tagging_model("pfn"))
