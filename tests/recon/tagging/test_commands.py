"""`recon reconstruct jets` and `recon evaluate tagging` as a user types them; CMS's own file scored again."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import ConfigError
from recon.io.jet_columns import with_columns
from recon.io.jets import jet_file_columns, read_jet_metadata, read_jets, write_jets
from recon.io.root_pfnano import read_pfnano
from recon.tagging import LABELS, discriminant, load_model, tag_jets
from recon.tagging.commands.evaluate import compare
from recon.tagging.evaluation import Question
from recon.tagging.labels import JETCLASS_LABELS
from tests.command_line import error_of, run
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def table():
    return make_table(60, seed=20, candidates=(0, 14), vertices=(0, 5))


@pytest.fixture(scope="module")
def jets(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "jets.root"
    write_jets(path, [table], metadata={"simulation": {"seed": 7}})
    return path


@pytest.mark.parametrize(("ending", "layout"), [("root", "ttree"), ("root", "rntuple"), ("parquet", "ttree")])
def test_reconstruct(jets, table, small_models, taggers, tmp_path, capsys, ending, layout):
    output, summary = tmp_path / "new folder" / f"tagged.{ending}", tmp_path / "summary.json"
    words = ["reconstruct", "jets", jets, "-o", output, "--model", f"my-model={small_models['deepak8']}"]
    assert run(*words, "--layout", layout, "--json", summary) == 0
    found = ak.concatenate(list(read_jets(output)))
    wanted = tag_jets(table, taggers["deepak8"])
    for row, label in enumerate(LABELS):
        np.testing.assert_allclose(found[f"my_model_{label}"], wanted.scores[:, row], rtol=1e-6)
    for name in table.fields:
        assert ak.array_equal(found[name], table[name]), name
    metadata = read_jet_metadata(output)
    assert metadata["simulation"] == {"seed": 7}
    assert metadata["tagging"]["input"] == str(jets)
    tree = json.loads(summary.read_text())
    report = wanted.report._asdict()
    assert {name: tree[name] for name in report if name != "missing"} == {
        name: count for name, count in report.items() if name != "missing"
    }
    assert tree["missing"] == {}
    printed = capsys.readouterr().out
    assert f"my-model: {report['empty']} of 60 jets have no candidates" in printed
    assert (
        f"my-model: {report['candidates_dropped']} of {report['candidates']} candidates left out" in printed
    )
    assert f"60 jets of {jets} tagged by my-model and written to {output}" in printed


def test_files_of_jetclass(table, small_models, tmp_path, capsys):
    """Their branches and flags, no metadata, no PUPPI, no vertices: tagged, and what lacks is said."""
    path, output = tmp_path / "jetclass.root", tmp_path / "out.root"
    names = [
        name
        for name in table.fields
        if not name.startswith(("sv_", "subjet")) and name != "part_puppi_weight"
    ]
    flags = {f"label_{name}": np.arange(60) % 10 == row for row, name in enumerate(JETCLASS_LABELS)}
    kept = with_columns(ak.Array({name: table[name] for name in names if name != "jet_label"}), flags)
    with uproot.recreate(path) as file:
        parts = [name for name in kept.fields if name.startswith("part_")]
        types = {name: kept[name].type.content for name in kept.fields}
        file.mktree("tree", types, counter_name=lambda _: "nparticles")
        counts = {"nparticles": np.asarray(ak.num(kept[parts[0]]), np.int32)}
        file["tree"].extend({name: kept[name] for name in kept.fields} | counts)
    model = small_models["particlenet"]
    assert run("reconstruct", "jets", path, "-o", output, "--model", model) == 0
    printed = capsys.readouterr().out
    assert "pfcand_puppiw: no branch part_puppi_weight" in printed
    assert "pfcand_drsubjet1: no branch subjet1_eta" in printed
    assert {"particlenet_Tbqq", "label_Tbqq"} <= set(jet_file_columns(output))
    report = tmp_path / "report.json"
    words = ["evaluate", "tagging", output, "--stored", "particlenet", "--signal", "Tbqq", "--json", report]
    assert run(*words, "-o", tmp_path / "report") == 0
    assert json.loads(report.read_text())["jets"] == {"signal": 6, "background": 6}


def test_tagging_twice_needs_another_name(jets, small_models, tmp_path, capsys):
    once = tmp_path / "once.root"
    model = small_models["deepak8"]
    assert run("reconstruct", "jets", jets, "-o", once, "--model", model) == 0
    message = error_of(capsys, "reconstruct", "jets", once, "-o", tmp_path / "x.root", "--model", model)
    assert "have a column 'deepak8_Tbcq' already" in message
    assert run("reconstruct", "jets", once, "-o", tmp_path / "x.root", "--model", f"again={model}") == 0


def test_evaluate(jets, small_models, tmp_path, capsys):
    report = tmp_path / "copy.json"
    models = [word for kind, path in small_models.items() for word in ("--model", f"{kind}-small={path}")]
    words = ["evaluate", "tagging", jets, *models, "--signal", "Tbqq", "Tbcq", "--background", "QCD"]
    assert run(*words, "-o", tmp_path / "out", "--json", report) == 0
    printed = capsys.readouterr().out
    assert "Tbqq + Tbcq against QCD" in printed
    assert "deepak8-small" in printed
    tree = json.loads(report.read_text())
    assert tree == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["name"] for one in tree["taggers"]] == ["deepak8-small", "particlenet-small"]
    assert 0 <= tree["taggers"][0]["auc"] <= 1
    assert tree["taggers"][0]["inputs"]["jets"] == 60
    assert (tmp_path / "out" / "roc.png").stat().st_size > 1000


def test_evaluate_some_jets_of_each_file(jets, small_models, tmp_path):
    report = tmp_path / "copy.json"
    words = [
        "evaluate",
        "tagging",
        jets,
        jets,
        "--jets",
        30,
        "--model",
        small_models["deepak8"],
        "--json",
        report,
    ]
    assert run(*words, "-o", tmp_path / "out") == 0
    assert json.loads(report.read_text())["taggers"][0]["inputs"]["jets"] == 60


def test_what_the_user_reads_when_something_is_wrong(jets, table, small_models, tmp_path, capsys):
    model, out = small_models["deepak8"], tmp_path / "out.root"
    renamed = ak.Array({{"part_energy": "part_enrgy"}.get(name, name): table[name] for name in table.fields})
    write_jets(tmp_path / "renamed.root", [renamed])
    cut = tmp_path / "cut.root"
    cut.write_bytes(jets.read_bytes()[:-500])
    for words, message in (
        (("reconstruct", "jets", tmp_path / "absent.root", "-o", out, "--model", model), "no such file"),
        (("reconstruct", "jets", cut, "-o", out, "--model", model), "truncated"),
        (
            ("reconstruct", "jets", tmp_path / "renamed.root", "-o", out, "--model", model),
            "no branch 'part_energy' (near: 'part_enrgy'",
        ),
        (("reconstruct", "jets", jets, "-o", out, "--model", "no-such"), "there is no model 'no-such'"),
        (("reconstruct", "jets", jets, "-o", out, "--model", model, "--served", "x"), "goes with --server"),
        (
            ("reconstruct", "jets", jets, "-o", out, "--model", model, "--fallback", "local:x"),
            "go with --server",
        ),
        (("reconstruct", "jets", jets, "-o", out, "--model", model, "--keep", "jets"), "goes with PFNano"),
        (("evaluate", "tagging", jets, "--model", model, "--signal", "tops"), "there is no class 'tops'"),
        (("evaluate", "tagging", jets, "--stored", "x"), "there are no scores 'x'"),
    ):
        assert message in error_of(capsys, *words), message
    assert not out.exists()


@pytest.fixture(scope="module")
def pfnano(reference_file):
    return reference_file("jets/pfnano.root")


def correlations(scores, stored):
    """Of the logarithms, by group of classes against QCD, with the scores that CMS stored."""

    def logarithm(values):
        return np.log10(np.clip(np.asarray(values, np.float64), 1e-7, 1))

    return {
        group: np.corrcoef(logarithm(discriminant(scores, group)), logarithm(stored[f"{group}vsQCD"]))[0, 1]
        for group in "TWZ"
    }


def test_scores_of_cms_again(pfnano, reference_file, tmp_path, capsys):
    """DeepAK8 with CMS's weights on CMS's file, beside what CMS stored; and the file with our scores in it."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    weights = reference_file("jets/deepak8_v02_full.onnx")
    output, summary = tmp_path / "nano.root", tmp_path / "summary.json"
    words = ["reconstruct", "jets", pfnano, "-o", output, "--model", f"ours={weights}", "--keep", "jets"]
    assert run(*words, "--json", summary) == 0
    names = ("dptdpt", "detadeta", "dphidphi", "dxydz", "dphidxy", "dlambdadz")
    assert set(json.loads(summary.read_text())["missing"]) == {f"pfcand_{name}" for name in names}
    printed = capsys.readouterr().out
    assert "6 of 57 inputs are not in the file" in printed
    assert "pfcand_dptdpt" in printed
    with uproot.open(pfnano) as old, uproot.open(output) as new:
        before, after = old["Events"], new["Events"]
        for name in ("event", "FatJet_pt", "FatJet_jetId", "FatJet_particleNet_TvsQCD"):
            assert ak.array_equal(after[name].array(), before[name].array(), equal_nan=True), name
        columns = [ak.flatten(after[f"FatJet_ours_{label}"].array()) for label in LABELS]
        scores = np.stack([np.asarray(column) for column in columns], axis=1)
        stored = {
            f"{group}vsQCD": ak.flatten(before[f"FatJet_deepTag_{group}vsQCD"].array()) for group in "TWZ"
        }
    found = correlations(scores, stored)
    assert found["T"] > 0.99
    assert found["W"] > 0.97
    assert found["Z"] > 0.98


def test_particle_net_on_the_file_of_cms(pfnano, reference_file):
    """Trained elsewhere and in other classes, but of the same jets: it ranks them as CMS's ParticleNet did."""
    (table,) = read_pfnano(pfnano)
    tagger = load_model(reference_file("jets/ParticleNet_full.pt"))
    tagged = tag_jets(table, tagger)
    assert tagged.report.missing == ()
    assert tagged.report.vertices_dropped == 0
    assert (tagged.scores.argmax(1) == JETCLASS_LABELS.index("QCD")).all()
    ours = np.log10(discriminant(tagged.scores, "Tbqq", "QCD", JETCLASS_LABELS))
    theirs = np.log10(np.maximum(np.asarray(table["FatJet_particleNet_TvsQCD"]), 1e-7))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.3


def test_copies_of_pfnano_are_ttrees(pfnano, small_models, tmp_path, capsys):
    words = ["reconstruct", "jets", pfnano, "--model", small_models["deepak8"], "-o"]
    assert "is PFNano" in error_of(capsys, *words, tmp_path / "x.parquet")
    assert "is PFNano" in error_of(capsys, *words, tmp_path / "x.root", "--layout", "rntuple")


@pytest.mark.parametrize("jets", [0, -3])
def test_no_jets_to_compare_on(tmp_path, jets):
    with pytest.raises(ConfigError, match=f"--jets {jets}; allowed: 1 or more"):
        compare((tmp_path / "none.root",), ["x"], Question(("T",), ("QCD",)), jets=jets)
