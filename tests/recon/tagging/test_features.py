"""Features of jets: against a twin that works on one candidate at a time, and what happens at the edges."""

from __future__ import annotations

import json

import awkward as ak
import jax
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.features import Feature, FeatureTable
from recon.io.jet_columns import jet_columns
from recon.tagging.features import PaddedColumns, fit_inputs, make_jets, padded_jets
from recon.tagging.inputs import (
    DEEPAK8_CANDIDATES,
    DEEPAK8_VERTICES,
    JETCLASS_INPUTS,
    NOT_SIMULATED,
    JetInputs,
    deepak8_features,
    inputs_from_json,
    inputs_to_json,
    replacement,
)
from recon.types import NOISE
from tests.recon.tagging.small_jets import make_table
from tests.reference import jets as twin

N_CANDIDATES, N_VERTICES = 16, 5


def plain_inputs(n_candidates=N_CANDIDATES, n_vertices=N_VERTICES):
    """All features of DeepAK8, neither shifted nor clipped."""
    tables = [
        FeatureTable(features=tuple(Feature(column=name, replace=replacement(name)) for name in names))
        for names in (DEEPAK8_CANDIDATES, DEEPAK8_VERTICES)
    ]
    return JetInputs(
        candidates=tables[0], vertices=tables[1], n_candidates=n_candidates, n_vertices=n_vertices
    )


def record(table, row, prefix, place):
    return {
        name.removeprefix(prefix): float(table[name][row][place])
        for name in table.fields
        if name.startswith(prefix)
    }


def jet_of(table, row):
    return {name: float(table[name][row]) for name in table.fields if table[name].ndim == 1}


def padded(table, n_candidates=N_CANDIDATES, n_vertices=N_VERTICES):
    """The columns of a table in padded arrays; padding is NaN, which must not matter."""

    def pad(prefix, size):
        names = [name for name in table.fields if name.startswith(prefix)]
        filled = {name: ak.fill_none(ak.pad_none(table[name], size, clip=True), np.nan) for name in names}
        valid = np.arange(size) < ak.to_numpy(ak.num(table[names[0]]))[:, None]
        return {name: np.asarray(ak.to_numpy(column), np.float32) for name, column in filled.items()}, valid

    jets = {name: ak.to_numpy(table[name]) for name in table.fields if table[name].ndim == 1}
    del jets["event_number"]
    return PaddedColumns(jets, *pad("part_", n_candidates), *pad("sv_", n_vertices))


def by_significance(table):
    order = ak.argsort(table["sv_dxy"] / table["sv_dxyerr"], ascending=False)
    return ak.Array(
        {name: table[name][order] if name.startswith("sv_") else table[name] for name in table.fields}
    )


def test_names_are_those_of_cms():
    assert len(DEEPAK8_CANDIDATES) == 42
    assert len(DEEPAK8_VERTICES) == 15
    assert set(NOT_SIMULATED) < set(DEEPAK8_CANDIDATES)
    assert len(JETCLASS_INPUTS.candidates) == 17


def test_candidate_features_agree_with_the_twin():
    table = make_table(8, seed=3)
    jets, report = make_jets(jet_columns(table), plain_inputs())
    assert report.missing == NOT_SIMULATED
    for row in range(len(table)):
        vertices = [record(table, row, "sv_", place) for place in range(len(table["sv_px"][row]))]
        for place in range(len(table["part_px"][row])):
            slow = twin.candidate_features(record(table, row, "part_", place), jet_of(table, row), vertices)
            assert {f"pfcand_{name}" for name in slow} == set(DEEPAK8_CANDIDATES) - set(NOT_SIMULATED)
            fast = dict(zip(DEEPAK8_CANDIDATES, jets.candidates[row, place], strict=True))
            for name, value in slow.items():
                np.testing.assert_allclose(fast[f"pfcand_{name}"], value, rtol=2e-3, atol=2e-5, err_msg=name)


def test_vertex_features_agree_with_the_twin():
    table = by_significance(make_table(8, seed=4))
    jets, _ = make_jets(jet_columns(table), plain_inputs())
    for row in range(len(table)):
        for place in range(len(table["sv_px"][row])):
            slow = twin.vertex_features(record(table, row, "sv_", place), jet_of(table, row))
            expected = [slow[name.removeprefix("sv_")] for name in DEEPAK8_VERTICES]
            np.testing.assert_allclose(jets.vertices[row, place], expected, rtol=1e-4, atol=1e-5)


def test_hand_case_of_jetclass():
    columns = {
        "part_px": [3.0], "part_py": [4.0], "part_energy": [10.0], "part_deta": [0.3], "part_dphi": [-0.4],
        "part_d0val": [0.5], "part_d0err": [2.0], "part_dzval": [-0.5], "part_dzerr": [0.25], "part_charge": [1.0],
        "part_isChargedHadron": [True], "part_isNeutralHadron": [False], "part_isPhoton": [False],
        "part_isElectron": [False], "part_isMuon": [False],
    }  # fmt: skip
    jet = {"jet_pt": np.float32([500.0]), "jet_energy": np.float32([1000.0])}
    table = ak.Array({name: ak.Array([values]) for name, values in columns.items()} | jet)
    jets, report = make_jets(jet_columns(table), JETCLASS_INPUTS)
    expected = [
        (np.log(5) - 1.7) * 0.7, (np.log(10) - 2) * 0.7, (np.log(0.01) + 4.7) * 0.7, (np.log(0.01) + 4.7) * 0.7,
        (0.5 - 0.2) * 4, 1, 1, 0, 0, 0, 0, np.tanh(0.5), 1, np.tanh(-0.5), 0.25, 0.3, -0.4,
    ]  # fmt: skip
    np.testing.assert_allclose(jets.candidates[0, 0], expected, atol=1e-5)
    assert jets.candidates.shape == (1, 128, 17)
    assert jets.vertices.shape == (1, 7, 0)
    assert not jets.vertex_valid.any()
    assert jets.label.tolist() == [NOISE]
    assert report.missing == ()


def test_compiled_numpy_and_flat_agree():
    table = by_significance(make_table(8, seed=5))
    inputs = fit_inputs(jet_columns(table), n_candidates=N_CANDIDATES, n_vertices=N_VERTICES)
    flat, _ = make_jets(jet_columns(table), inputs)
    traces = 0

    @jax.jit
    def compiled(columns):
        nonlocal traces
        traces += 1
        return padded_jets(columns, inputs)

    with np.errstate(all="ignore"):
        on_host = padded_jets(padded(table), inputs)
    on_device = compiled(padded(table))
    compiled(padded(by_significance(make_table(8, seed=6))))
    assert traces == 1
    for one in (on_host, on_device):
        for name in flat._fields:
            np.testing.assert_allclose(
                np.asarray(getattr(one, name)), getattr(flat, name), rtol=1e-3, atol=2e-3, err_msg=name
            )
    assert isinstance(on_host.candidates, np.ndarray)


def test_order_of_candidates_and_vertices_changes_nothing():
    table = make_table(8, seed=7)
    rng = np.random.default_rng(0)
    shuffled = {}
    orders = {
        kind: ak.argsort(ak.unflatten(rng.random(int(ak.sum(ak.num(table[first])))), ak.num(table[first])))
        for kind, first in (("part_", "part_px"), ("sv_", "sv_px"))
    }
    for name in table.fields:
        kind = next((kind for kind in orders if name.startswith(kind)), None)
        shuffled[name] = table[name] if kind is None else table[name][orders[kind]]
    one, _ = make_jets(jet_columns(table), plain_inputs())
    other, _ = make_jets(jet_columns(ak.Array(shuffled)), plain_inputs())
    for name in one._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_rotation_about_the_beam_changes_nothing():
    table = make_table(6, seed=8)
    turned = {name: table[name] for name in table.fields}
    cosine, sine = np.cos(1.0), np.sin(1.0)
    for prefix in ("part_", "sv_"):
        x, y = table[f"{prefix}px"], table[f"{prefix}py"]
        turned[f"{prefix}px"], turned[f"{prefix}py"] = x * cosine - y * sine, x * sine + y * cosine
    for name in ("jet_phi", "subjet1_phi", "subjet2_phi"):
        turned[name] = table[name] + 1.0
    one, _ = make_jets(jet_columns(table), plain_inputs())
    other, _ = make_jets(jet_columns(ak.Array(turned)), plain_inputs())
    np.testing.assert_allclose(one.candidates, other.candidates, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-3, rtol=1e-3)


def test_what_does_not_fit_is_counted_and_the_hardest_stay():
    table = make_table(6, seed=9, candidates=(3, 12), vertices=(2, 4))
    jets, report = make_jets(jet_columns(table), plain_inputs(n_candidates=4, n_vertices=1))
    counts, n_vertices = (ak.to_numpy(ak.num(table[name])) for name in ("part_px", "sv_px"))
    assert report.candidates == counts.sum()
    assert report.candidates_dropped == np.maximum(counts - 4, 0).sum() > 0
    assert report.jets_over_capacity == (counts > 4).sum()
    assert report.vertices_dropped == np.maximum(n_vertices - 1, 0).sum() > 0
    whole, _ = make_jets(jet_columns(table), plain_inputs())
    np.testing.assert_array_equal(jets.candidates, whole.candidates[:, :4])
    np.testing.assert_array_equal(jets.vertices, whole.vertices[:, :1])


def test_jets_without_anything_are_zeros():
    table = make_table(5, candidates=(0, 0), vertices=(0, 0))
    jets, report = make_jets(jet_columns(table), plain_inputs())
    assert jets.candidates.shape == (5, N_CANDIDATES, 42)
    assert not jets.candidates.any()
    assert not jets.candidate_valid.any()
    assert report == (5, 5, 0, 0, 0, 0, 0, ())
    none, report = make_jets(jet_columns(make_table(0)), plain_inputs())
    assert none.candidates.shape == (0, N_CANDIDATES, 42)
    assert report.jets == 0


def test_nan_and_infinity_are_replaced_by_the_rules_of_cms():
    table = make_table(6, seed=10, candidates=(3, 6), vertices=(0, 0))
    broken = {name: table[name] for name in table.fields}
    # A candidate without momentum has a logarithm of minus infinity; a NaN of the reader stays one.
    first = ak.local_index(table["part_px"]) == 0
    for name in ("part_px", "part_py"):
        broken[name] = ak.where(first, 0.0, table[name])
    broken["part_d0val"] = ak.where(first, np.nan, table["part_d0val"])
    jets, report = make_jets(jet_columns(ak.Array(broken)), plain_inputs())
    assert np.isfinite(jets.candidates).all()
    # Without momentum a candidate is the softest.
    last = ak.to_numpy(ak.num(table["part_px"]))[1:] - 1
    softest = jets.candidates[np.arange(1, 6), last]
    assert (softest[:, DEEPAK8_CANDIDATES.index("pfcand_pt_log")] == -99).all()
    assert (softest[:, DEEPAK8_CANDIDATES.index("pfcand_dxy")] == 0).all()
    near = jets.candidates[..., DEEPAK8_CANDIDATES.index("pfcand_drminsv")]
    assert (near[jets.candidate_valid] == -1).all()
    # Two logarithms of every first candidate at least; vertices that are infinitely far away are no bad numbers.
    assert report.replaced >= 2 * 5
    assert make_jets(jet_columns(table), plain_inputs())[1].replaced == 0


def test_standardised_features_are_centred_and_clipped():
    table = make_table(60, seed=11, candidates=(5, 12), vertices=(1, 4))
    inputs = fit_inputs(jet_columns(table), n_candidates=N_CANDIDATES)
    jets, _ = make_jets(jet_columns(table), inputs)
    given = [name not in NOT_SIMULATED for name in DEEPAK8_CANDIDATES]
    values = jets.candidates[jets.candidate_valid]
    assert np.abs(values).max() <= 5
    assert np.abs(np.median(values, axis=0)).max() < 0.05
    assert (values[:, ~np.array(given)] == 0).all()
    low, high = np.percentile(values[:, DEEPAK8_CANDIDATES.index("pfcand_pt_log")], [16, 84])
    assert max(-low, high) == pytest.approx(1.0, abs=0.02)


def test_inputs_travel_as_json():
    inputs = fit_inputs(jet_columns(make_table(20, seed=12)))
    for one in (inputs, JETCLASS_INPUTS):
        assert inputs_from_json(json.loads(json.dumps(inputs_to_json(one)))) == one
    with pytest.raises(ConfigError, match="not the inputs of a jet network"):
        inputs_from_json({"candidates": []})


def test_errors_name_what_is_wrong():
    table = make_table(4, seed=13, candidates=(1, 3))
    only = ak.Array({name: table[name] for name in table.fields if name != "part_px"})
    inputs = JetInputs(candidates=FeatureTable(features=deepak8_features(["pfcand_pt_log"])))
    with pytest.raises(DataError, match=r"no column 'part_px'; given are \[.*'part_py'"):
        make_jets(jet_columns(only), inputs)
    with pytest.raises(ConfigError, match="n_candidates 0"):
        JetInputs(candidates=inputs.candidates, n_candidates=0)
    with pytest.raises(DataError, match="hold 16 candidates; the capacity of the inputs is 8"):
        padded_jets(padded(table), plain_inputs(n_candidates=8))


@pytest.mark.parametrize("name", ["part_dphi", "part_deta", "sv_dphi", "sv_deta"])
def test_a_file_without_positions_lacks_the_distance_to_vertices(name):
    table = make_table(6, seed=14, candidates=(1, 4), vertices=(1, 2))
    jets, report = make_jets(
        jet_columns(table[[field for field in table.fields if field != name]]), plain_inputs()
    )
    assert "pfcand_drminsv" in report.missing
    assert {
        "part_dphi": "pfcand_phirel",
        "part_deta": "pfcand_etarel",
        "sv_dphi": "sv_phirel",
        "sv_deta": "sv_etarel",
    }[name] in report.missing
    assert not jets.candidates[..., DEEPAK8_CANDIDATES.index("pfcand_drminsv")].any()


def test_padded_jets_without_any_feature_are_refused():
    columns = padded(make_table(4, seed=15, candidates=(1, 3)))
    inputs = JetInputs(candidates=FeatureTable(features=deepak8_features(["pfcand_pt_log"])), n_candidates=16)
    columns = columns._replace(candidates={k: v for k, v in columns.candidates.items() if k != "part_px"})
    with pytest.raises(DataError, match="no column 'part_px'"):
        padded_jets(columns, inputs)


def test_a_mirrored_jet_has_the_same_features_but_for_signs():
    """Reflected across the plane of the beam and the axis: what `Turning` turns round, and nothing else, changes."""
    table = make_table(8, seed=16)
    mirrored = {name: table[name] for name in table.fields}
    turned = (
        "part_dphi",
        "part_py",
        "part_d0val",
        "sv_dphi",
        "sv_py",
        "jet_phi",
        "subjet1_phi",
        "subjet2_phi",
    )
    mirrored |= {name: -table[name] for name in turned}
    one, _ = make_jets(jet_columns(table), plain_inputs())
    other, _ = make_jets(jet_columns(ak.Array(mirrored)), plain_inputs())
    for names, signed, before, after in (
        (
            DEEPAK8_CANDIDATES,
            {"pfcand_phirel", "pfcand_dxy", "pfcand_dxysig"},
            one.candidates,
            other.candidates,
        ),
        (DEEPAK8_VERTICES, {"sv_phirel"}, one.vertices, other.vertices),
    ):
        sign = np.array([-1 if name in signed else 1 for name in names])
        np.testing.assert_allclose(after, sign * before, rtol=2e-3, atol=2e-4)
