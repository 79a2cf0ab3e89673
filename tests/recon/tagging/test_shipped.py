"""Models by name: shipped ones, directories, weights of others with what their networks read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.jet_columns import jet_columns
from recon.tagging.commands.options import load
from recon.tagging.export import export_deepak8, export_particle_net
from recon.tagging.features import make_jets
from recon.tagging.inputs import JETCLASS_INPUTS, jetclass_inputs
from recon.tagging.labels import JETCLASS_LABELS, LABELS
from recon.tagging.models import TaggingModel, save_tagging_model
from recon.tagging.particle_net import ParticleNet
from recon.tagging.particle_transformer import ParticleTransformer
from recon.tagging.pipeline import tag_jets
from recon.tagging.preprocess import read_preprocess
from recon.tagging.remote import pack_jets
from recon.tagging.shipped import (
    CHECKPOINTS,
    WEIGHT_FILES,
    described,
    inputs_of,
    load_model,
    model_names,
    read_columns,
)
from serving.artifact import Artifact
from tests.recon.tagging.conftest import N_CANDIDATES, N_VERTICES, SIMULATED, SMALL
from tests.recon.tagging.small_jets import make_table
from tests.recon.tagging.test_networks import make
from tests.serving.contract import check_artifact

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_are_small_have_a_card_and_tag_simulated_jets(name):
    size = sum(path.stat().st_size for path in (CHECKPOINTS / name).iterdir())
    assert size < 5_000_000
    tagger = load_model(name)
    assert tagger.name == name
    assert tagger.model.card.startswith("# ")
    _, report = make_jets(jet_columns(make_table(3, seed=1)), tagger.inputs)
    assert report.missing == ()


@pytest.mark.parametrize("name", [*model_names(), *(f"small {kind}" for kind in SMALL)])
def test_models_as_artefacts_answer_from_features(name, small_models, tmp_path, monkeypatch):
    """What goes over the wire from a file of jets is answered as in this process, without the model's source."""
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "executables"))
    tagger = load_model(small_models[name.split()[1]] if name.startswith("small ") else name)
    writer = export_particle_net if isinstance(tagger.model.network, ParticleNet) else export_deepak8
    folder = writer(tmp_path, tagger.model, batches=(1, 4))
    tables = {n: make_table(n, seed=n, candidates=(1, 12)) for n in (1, 2)}
    requests = [pack_jets(make_jets(jet_columns(t), tagger.inputs)[0], tagger) for t in tables.values()]

    def local(request):
        return {"scores": tag_jets(tables[len(request["candidates"])], tagger).scores}

    check_artifact(folder, requests, local, rtol=1e-3, atol=1e-5)
    described_inputs = Artifact(folder).manifest.features
    assert [table["tensor"] for table in described_inputs] == ["candidates", "vertices"]


def test_directory_of_the_user(small_models):
    tagger = load_model(small_models["deepak8"])
    assert tagger.name == "deepak8"
    assert tagger.labels == LABELS
    assert tagger.inputs.candidates.columns == SIMULATED
    assert (tagger.inputs.n_candidates, tagger.inputs.n_vertices) == (N_CANDIDATES, N_VERTICES)
    assert tagger.scorer is tagger.scorer


def test_inputs_come_back_as_they_were(taggers):
    tagger = taggers["deepak8"]
    assert inputs_of(tagger.model, "here") == tagger.inputs
    text = json.loads(json.dumps(described(tagger.inputs)))
    assert inputs_of(replace(tagger.model, features=text), "here") == tagger.inputs


def test_models_that_do_not_say_what_they_read(taggers, tmp_path):
    model = taggers["deepak8"].model
    save_tagging_model(tmp_path / "silent", replace(model, features={}))
    with pytest.raises(DataError, match="silent does not say what its network reads"):
        load_model(tmp_path / "silent")
    fewer = {"candidates": model.features["candidates"][:-1], "vertices": model.features["vertices"]}
    with pytest.raises(
        DataError, match=r"31 features of candidates and 15 of vertices; the network reads 32 and 15"
    ):
        inputs_of(replace(model, features=fewer), "here")


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/at/all"])
def test_unknown_names(name):
    with pytest.raises(
        ConfigError, match=f"there is no model '{name}': it is neither a directory nor one of"
    ):
        load_model(name)


def test_names_on_the_command_line(small_models, tmp_path):
    directory = small_models["deepak8"]
    assert load(str(directory)).name == "deepak8"
    assert load(f"mine={directory}").name == "mine"
    with pytest.raises(ConfigError, match=r"knows its own inputs; x\.json goes with a file of weights"):
        load(f"{directory},x.json")
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no file of weights; those end in \.onnx, \.pt"):
        load(str(tmp_path / "weights.h5"))
    with pytest.raises(ConfigError, match="neither a directory nor a file"):
        load(str(tmp_path / "absent.onnx"))


def test_weights_of_cms_find_their_inputs(reference_file, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    weights, table = (
        reference_file(f"jets/{name}") for name in ("deepak8_v02_full.onnx", "deepak8_v02_preprocess.json")
    )
    beside = load_model(weights)
    assert (beside.name, beside.model.kind, beside.labels) == ("deepak8_v02_full", "deepak8", LABELS)
    assert beside.inputs == read_preprocess(table)
    alone = shutil.copy(weights, tmp_path / "alone.onnx")
    with pytest.raises(ConfigError, match=r"does not say what its network reads.*MODEL,INPUTS"):
        load_model(alone)
    named = load(f"cms={alone},{table}")
    assert (named.name, named.inputs) == ("cms", beside.inputs)


def test_inputs_of_another_network(reference_file, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    table = json.loads(reference_file("jets/deepak8_v02_preprocess.json").read_text())
    table["pfcand"]["var_names"] = table["pfcand"]["var_names"][:-1]
    (tmp_path / "short.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"41 features of candidates .* the network reads 42 and 15"):
        load_model(reference_file("jets/deepak8_v02_full.onnx"), inputs=tmp_path / "short.json")


@pytest.mark.parametrize(("kind", "features"), [("kin", 7), ("full", 17)])
def test_weights_of_jetclass(reference_file, kind, features):
    tagger = load_model(reference_file(f"jets/ParticleNet_{kind}.pt"))
    assert (tagger.model.kind, tagger.labels) == ("particlenet", JETCLASS_LABELS)
    assert len(tagger.inputs.candidates) == features
    assert tagger.inputs.candidates.columns[-2:] == ("part_deta", "part_dphi")


def test_a_file_that_holds_no_network_we_know(tmp_path):
    (tmp_path / "other.pt").write_bytes(b"not a state dictionary")
    with pytest.raises(DataError, match=r"no particlenet \(.*no particletransformer \("):
        load_model(tmp_path / "other.pt")
    assert set(WEIGHT_FILES) == {".onnx", ".pt"}


def test_inputs_of_jetclass_by_their_number():
    assert jetclass_inputs(17) == JETCLASS_INPUTS
    assert jetclass_inputs(13).candidates.columns[5] == "part_charge"
    columns = jetclass_inputs(7, vectors=True).candidates.columns
    assert columns[-4:] == ("part_px", "part_py", "part_pz", "part_energy")
    with pytest.raises(ConfigError, match=r"read \[7, 13, 17\] features; this one reads 5"):
        jetclass_inputs(5)


def test_columns_that_networks_read():
    assert read_columns(make("deepak8")) == (7, 4)
    assert read_columns(make("particlenet")) == (7, 0)
    assert read_columns(make("particlenet, vertices")) == (7, 4)
    assert read_columns(make("particletransformer")) == (7, 0)
    assert isinstance(make("particletransformer"), ParticleTransformer)
    assert read_columns(make("pfn")) is None


def test_coordinates_of_cms_particle_net_come_behind_its_features(tmp_path):
    info = {"median": 0.5, "norm_factor": 2.0}
    points = {"median": 0.0, "norm_factor": 1.0, "lower_bound": -1e32, "upper_bound": 1e32}

    def block(names, values):
        return {"var_names": names, "var_infos": dict.fromkeys(names, values), "var_length": 5}

    tree = {
        "input_names": ["pf_points", "pf_features", "pf_mask", "sv_points", "sv_features", "sv_mask"],
        "pf_points": block(["pfcand_etarel", "pfcand_phirel"], points),
        "pf_features": block(["pfcand_pt_log_nopuppi", "pfcand_e_log_nopuppi"], info),
        "pf_mask": block(["pfcand_mask"], points),
        "sv_points": block(["sv_etarel", "sv_phirel"], points),
        "sv_features": block(["sv_mass"], info),
        "sv_mask": block(["sv_mask"], points),
    }
    (tmp_path / "preprocess.json").write_text(json.dumps(tree))
    inputs = read_preprocess(tmp_path / "preprocess.json")
    assert inputs.candidates.columns == (*tree["pf_features"]["var_names"], "pfcand_etarel", "pfcand_phirel")
    assert inputs.vertices.columns == ("sv_mass", "sv_etarel", "sv_phirel")
    table = make_table(4, seed=3, candidates=(2, 5), vertices=(1, 3))
    made, report = make_jets(jet_columns(table), inputs)
    assert report.missing == ()
    first = [np.asarray(table[f"part_{name}"][1])[0] for name in ("px", "py", "puppi_weight")]
    wanted = 2 * (np.log(np.hypot(*first[:2]) / first[2]) - 0.5)
    np.testing.assert_allclose(made.candidates[1, 0, 0], np.clip(wanted, -5, 5), rtol=1e-5)
    assert set(np.abs(made.vertices[1, : len(table["sv_px"][1]), 2])) <= set(
        np.abs(np.asarray(table["sv_dphi"][1]))
    )


def test_cards_travel(taggers, tmp_path):
    model = taggers["particlenet"].model
    save_tagging_model(tmp_path, TaggingModel(**vars(model)))
    assert load_model(tmp_path).model.card == model.card
