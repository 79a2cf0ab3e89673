"""CMS's preprocess.json: a small one by hand, and the real one where it is on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recon.errors import DataError
from recon.features import Feature
from recon.tagging.inputs import DEEPAK8_CANDIDATES, DEEPAK8_VERTICES, replacement
from recon.tagging.preprocess import read_preprocess

SHARED = Path(__file__).parents[4] / "shared" / "data" / "jets"

INFO = {"median": 1.5, "norm_factor": 0.5, "replace_inf_value": -99, "lower_bound": -5, "upper_bound": 5}
SMALL = {
    "input_names": ["pf_features", "sv"],
    "pf_features": {
        "var_length": 64,
        "var_names": ["a", "b", "c"],
        "var_infos": {
            "a": INFO,
            "b": {**INFO, "lower_bound": 0, "upper_bound": 1},
            "c": {**INFO, "lower_bound": -1e32, "upper_bound": 1e32},
        },
    },
    "sv": {"var_length": 7, "var_names": ["m"], "var_infos": {"m": INFO}},
}


def written(tmp_path, tree):
    path = tmp_path / "preprocess.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return path


def test_small_file(tmp_path):
    inputs = read_preprocess(written(tmp_path, SMALL))
    shared = {"mean": 1.5, "scale": 2.0, "replace": -99.0}
    assert inputs.candidates.features == (
        Feature(column="a", clip=5.0, **shared),
        Feature(column="b", limits=(0.0, 1.0), **shared),
        Feature(column="c", **shared),
    )
    assert (inputs.n_candidates, inputs.n_vertices) == (64, 7)
    assert inputs.vertices is not None
    assert inputs.vertices.columns == ("m",)


def test_network_without_vertices(tmp_path):
    tree = {**SMALL, "input_names": ["pf_features"]}
    assert read_preprocess(written(tmp_path, tree)).vertices is None


def test_the_file_of_deepak8():
    path = SHARED / "deepak8_v02_preprocess.json"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    inputs = read_preprocess(path)
    assert inputs.candidates.columns == DEEPAK8_CANDIDATES
    assert inputs.vertices is not None
    assert inputs.vertices.columns == DEEPAK8_VERTICES
    assert (inputs.n_candidates, inputs.n_vertices) == (100, 7)
    for feature in (*inputs.candidates.features, *inputs.vertices.features):
        assert feature.replace == replacement(feature.column)
        assert feature.clip == 5.0


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("{", "cannot be read as JSON"),
        ({}, "no list 'input_names'"),
        ({"input_names": ["x"], "x": SMALL["sv"]}, r"inputs are \['x'\]; one of \['pfcand'"),
        (
            {
                "input_names": ["sv", "pfcand"],
                "sv": SMALL["sv"],
                "pfcand": {"var_names": ["q"], "var_infos": {}},
            },
            "'q'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, tree, message):
    with pytest.raises(DataError, match=message):
        read_preprocess(written(tmp_path, tree))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        read_preprocess(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"var_infos": {"m": {**INFO, "norm_factor": 0}}}, r"norm_factor 0\.0 of 'm'; allowed: above 0"),
        ({"var_infos": {"m": {**INFO, "norm_factor": -2}}}, r"norm_factor -2\.0 of 'm'"),
        ({"var_infos": {"m": {**INFO, "median": "x"}}}, "could not convert string to float: 'x'"),
        ({"var_infos": {"m": {**INFO, "median": float("nan")}}}, "feature 'm': mean nan"),
        ({"var_infos": {"m": {**INFO, "lower_bound": 5, "upper_bound": -6}}}, r"limits \(5\.0, -6\.0\)"),
        ({"var_infos": {"m": [1, 2]}}, "is incomplete"),
        ({"var_names": []}, "at least one feature"),
        ({"var_length": "many"}, "'many'"),
        ({"var_length": -3}, "a length of -3; allowed: 1 or more"),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path, change, message):
    path = written(tmp_path, {**SMALL, "sv": {**SMALL["sv"], **change}})
    with pytest.raises(DataError, match=rf"preprocess\.json: input 'sv' .*{message}"):
        read_preprocess(path)
