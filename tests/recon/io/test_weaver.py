"""Data configurations of weaver: what they mean, against a twin and by hand, and what is refused."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.weaver import read_weaver
from recon.io.weaver_expressions import evaluate, variables
from recon.io.weaver_inputs import load_inputs, select_jets, standardise, weaver_jets
from recon.types import NOISE
from tests.recon.tagging.small_jets import make_table

TEXT = """
treename: tree
selection: (jet_pt > 450) & (jet_sdmass < 190)
test_time_selection: jet_pt > 450
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_logptrel: np.log(part_pt/jet_pt)
   part_d0: np.tanh(part_d0val)
   jet_isLow: jet_sdmass < 100
   jet_isHigh: 1-jet_isLow
   jet_eta: jet_eta
inputs:
   pf_features:
      length: 8
      pad_mode: wrap
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_logptrel, -4.7, 0.7, -1, 2]
         - [part_d0, null]
         - part_charge
   pf_mask:
      length: 8
      vars:
         - [part_mask, null]
   sv_features:
      length: 3
      vars:
         - [sv_mass, 1.0, 2.0, -5, 5, -7]
   jet_features:
      length: 1
      vars:
         - [jet_sdmass, null]
labels:
   type: simple
   value: [jet_isLow, jet_isHigh]
observers: [jet_pt, event_number]
weights:
"""


@pytest.fixture
def read(tmp_path):
    def from_text(text=TEXT):
        path = tmp_path / "data.yaml"
        path.write_text(text)
        return read_weaver(path)

    return from_text


def standard(value, center, scale, low=-5.0, high=5.0):
    return min(max((value - center) * scale, low), high)


def slow_inputs(table, row):
    """What the network gets of one jet: lists of rows, from the definitions."""
    jet = {name: table[name][row] for name in table.fields}
    pt = [float(np.hypot(x, y)) for x, y in zip(jet["part_px"], jet["part_py"], strict=True)]
    rows = [
        [standard(np.log(value), 1.7, 0.7) for value in pt],
        [standard(np.log(value / jet["jet_pt"]), -4.7, 0.7, -1, 2) for value in pt],
        [float(np.tanh(value)) for value in jet["part_d0val"]],
        [float(value) for value in jet["part_charge"]],
    ]
    wrapped = [[values[k % len(values)] if values else 0.0 for k in range(8)] for values in rows]
    mask = [1.0 if k < len(pt) else 0.0 for k in range(8)]
    masses = [standard(float(value), 1, 2) for value in jet["sv_mass"]]
    masses = [masses[k] if k < len(masses) else -7.0 for k in range(3)]
    return {
        "pf_features": wrapped,
        "pf_mask": [mask],
        "sv_features": [masses],
        "jet_features": [[float(jet["jet_sdmass"])]],
    }


def test_inputs_agree_with_the_twin(read):
    config, table = read(), make_table(40, seed=1)
    selected = select_jets(config, table)
    keep = np.asarray((table["jet_pt"] > 450) & (table["jet_sdmass"] < 190))
    assert 0 < keep.sum() < len(table)
    batch = load_inputs(config, selected)
    kept = table[keep]
    assert len(batch.label) == keep.sum()
    for row in range(len(kept)):
        for name, expected in slow_inputs(kept, row).items():
            np.testing.assert_allclose(batch.inputs[name][row], expected, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(batch.label, np.where(np.asarray(kept["jet_sdmass"]) < 100, 0, 1))
    counts = ak.to_numpy(ak.num(kept["part_px"]))
    assert batch.truncated["pf_features"] == (counts > 8).sum() > 0
    assert batch.truncated["pf_mask"] == batch.truncated["pf_features"]
    assert batch.replaced == 0
    assert batch.observers == {}


def test_evaluation_has_its_own_selection_and_observers(read):
    config, table = read(), make_table(40, seed=2)
    selected = select_jets(config, table, test=True)
    batch = load_inputs(config, selected, test=True)
    assert len(batch.label) == (np.asarray(table["jet_pt"]) > 450).sum()
    np.testing.assert_array_equal(batch.observers["event_number"], selected["event_number"])
    assert config.tree == "tree"


def test_columns_are_those_of_the_file(read):
    config = read()
    training = [
        "jet_pt",
        "jet_sdmass",
        "part_charge",
        "part_d0val",
        "part_energy",
        "part_px",
        "part_py",
        "sv_mass",
    ]
    assert config.columns() == training
    assert config.columns(test=True) == sorted([*training, "event_number"])


def test_a_missing_branch_is_named(read):
    table = make_table(4)
    lacking = table[[name for name in table.fields if name not in ("part_px", "jet_sdmass")]]
    with pytest.raises(DataError, match=r"no branch 'jet_sdmass'.*'part_px' \(near: 'part_p[yz]'"):
        select_jets(read(), lacking)


def test_automatic_standardisation(read):
    text = TEXT.replace("new_variables:", "preprocess: {method: auto}\nnew_variables:", 1)
    config, table = read(text), make_table(200, seed=3)
    selected = select_jets(config, table)
    with pytest.raises(ConfigError, match=r"part_charge is to be standardised automatically"):
        load_inputs(config, selected)
    fitted = standardise(config, selected)
    charge = next(v for one in fitted.inputs for v in one.variables if v.name == "part_charge")
    low, middle, high = np.percentile(ak.to_numpy(ak.flatten(selected["part_charge"])), [16, 50, 84])
    assert charge.center == middle
    assert charge.scale == pytest.approx(1 / max(high - middle, middle - low))
    mask = next(v for one in fitted.inputs for v in one.variables if v.name == "part_mask")
    assert mask.center is None
    assert load_inputs(fitted, selected).inputs["pf_features"].shape[1:] == (4, 8)


def test_stored_parameters_win(read):
    stored = (
        "{part_charge: {length: 8, pad_mode: wrap, center: 0.5, scale: 2, min: -1, max: 1, pad_value: 0}}"
    )
    config = read(
        TEXT.replace("new_variables:", f"preprocess: {{method: auto, params: {stored}}}\nnew_variables:", 1)
    )
    charge = next(v for one in config.inputs for v in one.variables if v.name == "part_charge")
    assert (charge.center, charge.scale, charge.low, charge.high) == (0.5, 2.0, -1.0, 1.0)


def test_custom_labels_and_jets_without_a_label(read):
    custom = TEXT.replace(
        "type: simple\n   value: [jet_isLow, jet_isHigh]", "type: custom\n   value: {truth: jet_label + 1}"
    )
    table = make_table(30, seed=4)
    config = read(custom)
    selected = select_jets(config, table)
    np.testing.assert_array_equal(load_inputs(config, selected).label, np.asarray(selected["jet_label"]) + 1)
    config = read(TEXT.replace("[jet_isLow, jet_isHigh]", "[jet_isLow]"))
    selected = select_jets(config, table)
    expected = np.where(np.asarray(selected["jet_sdmass"]) < 100, 0, NOISE)
    np.testing.assert_array_equal(load_inputs(config, selected).label, expected)


def test_two_labels_are_refused(read):
    config = read(TEXT.replace("1-jet_isLow", "jet_sdmass > 0"))
    selected = select_jets(config, make_table(30, seed=5))
    with pytest.raises(DataError, match=r"jet \d+ has 2 labels: jet_isLow, jet_isHigh"):
        load_inputs(config, selected)


def test_what_is_no_number_becomes_zero_and_is_counted(read):
    config, table = read(), make_table(20, seed=6, candidates=(2, 5))
    broken = {name: table[name] for name in table.fields}
    first = ak.local_index(table["part_px"]) == 0
    broken["part_d0val"] = ak.where(first, np.nan, table["part_d0val"])
    broken["part_charge"] = ak.where(first, np.inf, table["part_charge"])
    selected = select_jets(config, ak.Array(broken))
    batch = load_inputs(config, selected)
    filled = ak.to_numpy(ak.num(selected["part_px"])) > 0
    assert batch.replaced == 2 * filled.sum()
    assert (batch.inputs["pf_features"][filled, 2:, 0] == 0).all()
    assert all(np.isfinite(values).all() for values in batch.inputs.values())


def test_as_jets_of_our_own_networks(read):
    text = TEXT.replace(
        "   jet_features:", "   sv_mask:\n      length: 3\n      vars: [[sv_there, null]]\n   jet_features:"
    )
    config = read(text.replace("new_variables:", "new_variables:\n   sv_there: ak.ones_like(sv_mass)", 1))
    selected = select_jets(config, make_table(30, seed=7))
    batch = load_inputs(config, selected)
    jets = weaver_jets(batch)
    counts = ak.to_numpy(ak.num(selected["part_px"]))
    np.testing.assert_array_equal(jets.candidate_valid.sum(axis=1), np.minimum(counts, 8))
    # Repeated values are padding, and padding is 0.
    assert (jets.candidates[~jets.candidate_valid] == 0).all()
    np.testing.assert_array_equal(jets.candidates[0 : len(counts), 0], batch.inputs["pf_features"][:, :, 0])
    np.testing.assert_array_equal(jets.vertex_valid.sum(axis=1), np.minimum(ak.num(selected["sv_mass"]), 3))
    assert weaver_jets(batch, vertices=None).vertices.shape[-1] == 0
    with pytest.raises(ConfigError, match=r"no input \['points'\]; it has \['pf_features'"):
        weaver_jets(batch, candidates="points")


def test_no_jet_at_all(read):
    config = read()
    batch = load_inputs(config, select_jets(config, make_table(0)))
    assert batch.inputs["pf_features"].shape == (0, 4, 8)
    assert weaver_jets(batch, vertices=None).candidates.shape == (0, 8, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("observers:", "observer:", "unknown section 'observer'; did you mean 'observers'"),
        ("pad_mode: wrap", "pad_mode: mirror", "input 'pf_features': pad_mode 'mirror'; allowed are"),
        ("length: 1\n", "size: 1\n", "input 'jet_features' needs 'length' and 'vars'"),
        ("type: simple", "type: easy", "labels of type 'easy'"),
        ("np.tanh(part_d0val)", "np.tanh(part_d0val", "part_d0: 'np.tanh.part_d0val' is no expression"),
        ("np.tanh(part_d0val)", "np.load(part_d0val)", "uses 'load' of np, which is not allowed"),
        (
            "length: 8\n      vars",
            "length: 8\n      pad_mode: wrap\n      vars",
            "a mask must have pad_mode 'constant'",
        ),
    ],
)
def test_bad_configurations(read, old, new, message):
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        read(TEXT.replace(old, new))


def test_circles_are_named(read):
    text = TEXT.replace("np.hypot(part_px, part_py)", "np.exp(part_pt_log)")
    with pytest.raises(ConfigError, match=r"depend on each other: .*part_pt -> part_pt_log -> part_pt"):
        select_jets(read(text), make_table(3))


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "data.yaml"
    with pytest.raises(DataError, match="cannot be read as YAML"):
        read_weaver(path)
    path.write_text("inputs: [a: {")
    with pytest.raises(DataError, match="cannot be read as YAML"):
        read_weaver(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(DataError, match="expected sections"):
        read_weaver(path)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "().__class__",
        "np.save('x', a)",
        "ak.from_parquet('x')",
        "a.tofile('x')",
        "(lambda: a)()",
        "[b for b in a]",
        "open('x')",
        "np.add.__class__",
        "f'{a}'",
    ],
)
def test_formulas_are_arithmetic_only(formula):
    with pytest.raises(ConfigError, match=r"not allowed|allowed is arithmetic|calls something else"):
        evaluate(formula, {"a": np.ones(2)}, "here")


def test_formulas():
    columns = {"a": ak.Array([[1.0, -4.0], []]), "b": np.array([2.0, 3.0])}
    assert variables("np.where(a > b, a, math.pi) + _clip(a, 0, 1)", "here") == {"a", "b"}
    assert evaluate("ak.sum(a, axis=1) * b", columns, "here").tolist() == [-6.0, 0.0]
    assert evaluate("_clip(a, -1, 0.5)", columns, "here").to_list() == [[0.5, -1.0], []]
    assert evaluate("(b == 2) | ~(b < 4)", columns, "here").tolist() == [True, False]
    with pytest.raises(DataError, match=r"here: 'a \+ c' fails: NameError"):
        evaluate("a + c", columns, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs: [1]", r"'inputs' is \[1\]; a map is needed"),
        ("new_variables: [a]", "'new_variables' is"),
        ("preprocess: 5", "'preprocess' is 5"),
        ("preprocess: {params: [1]}", r"'params' is \[1\]"),
        ("labels: [a]", "'labels' is"),
        ("observers: 3", "observers 3; a list of names"),
        ("selection: 5", "'selection' is 5; a formula"),
        ("test_time_selection: [a]", "'test_time_selection' is"),
        ("inputs: {a: {length: 0, vars: [pt]}}", "input 'a': length 0; allowed: 1 or more"),
        # A text is a list of letters to Python.
        ("inputs: {a: {length: 3, vars: pt}}", "input 'a' needs 'length' and 'vars': .*vars are 'pt'"),
        ("inputs: {a: {length: 3, vars: [[pt, x]]}}", r"input 'a': variable \['pt', 'x'\]: .*'x'"),
        ("inputs: {a: {length: 3, vars: [[pt, 1, null]]}}", "input 'a': variable"),
        ("inputs: {a: {length: 3, vars: [[]]}}", r"input 'a': variable \[\]"),
        (
            "{preprocess: {params: {pt: {center: 1}}}, inputs: {a: {length: 3, vars: [pt]}}}",
            "input 'a': variable .*'scale'.*; .*'params' with center, scale, min and max",
        ),
    ],
)
def test_malformed_sections_are_named(tmp_path, text, message):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"data\.yaml: {message}"):
        read_weaver(path)


def test_what_cannot_be_standardised_is_named(tmp_path):
    path = tmp_path / "auto.yaml"
    path.write_text("preprocess: {method: auto}\ninputs: {a: {length: 3, vars: [part_px]}}\n")
    config, table = read_weaver(path), make_table(4, seed=2, candidates=(2, 3))
    with pytest.raises(DataError, match=r"auto\.yaml: part_px cannot be standardised: its 0 values"):
        standardise(config, select_jets(config, make_table(0)))
    table["part_px"] = ak.where(ak.local_index(table["part_px"]) == 0, np.inf, table["part_px"])
    with pytest.raises(DataError, match="part_px cannot be standardised"):
        standardise(config, select_jets(config, table))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selection: part_px > 0", "selection 'part_px > 0': one number a jet is needed; it has lists"),
        ("selection: '1'", r"selection '1': one number a jet is needed; it has the shape \(1,\) for 4 jets"),
        (
            "labels: {type: custom, value: {y: '1'}}",
            r"label y: one number a jet is needed; it has the shape \(1,\)",
        ),
        ("labels: {type: custom, value: {y: part_px}}", "label y: one number a jet is needed; it has lists"),
    ],
)
def test_formulas_of_jets_give_one_number_each(tmp_path, text, message):
    path = tmp_path / "one.yaml"
    path.write_text(f"{text}\ninputs: {{a: {{length: 3, vars: [part_px]}}}}\n")
    config = read_weaver(path)
    with pytest.raises(DataError, match=rf"one\.yaml, {message}"):
        load_inputs(config, select_jets(config, make_table(4, seed=3, candidates=(1, 3))))
