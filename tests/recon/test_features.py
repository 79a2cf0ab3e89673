from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.features import (
    Feature,
    FeatureTable,
    apply_features,
    features_from_json,
    features_to_json,
    fit_features,
)

TABLE = FeatureTable(
    features=(
        Feature(column="r", mean=500.0, scale=250.0),
        Feature(column="z", transform="arcsinh", scale=2.0),
        Feature(column="charge", transform="log1p", mean=1.0, scale=0.5, clip=3.0),
        Feature(column="r", transform="log1p"),
    )
)


def random_columns(n: int = 200) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "r": generator.uniform(30, 1000, n).astype(np.float32),
        "z": generator.normal(0, 800, n).astype(np.float32),
        "charge": generator.exponential(5, n).astype(np.float32),
        "unused": np.zeros(n, np.float32),
    }


def twin(table: FeatureTable, columns: dict[str, np.ndarray]) -> np.ndarray:
    """One value at a time, in float64."""
    functions = {"none": float, "log1p": np.log1p, "arcsinh": np.arcsinh}
    n = len(next(iter(columns.values())))
    rows = np.zeros((n, len(table)))
    for index, feature in enumerate(table.features):
        for row in range(n):
            value = (
                functions[feature.transform](float(columns[feature.column][row])) - feature.mean
            ) / feature.scale
            if feature.clip is not None:
                value = min(max(value, -feature.clip), feature.clip)
            rows[row, index] = value
    return rows


def test_hand_case():
    columns = {
        "r": np.array([500.0, 1000.0, 0.0], np.float32),
        "z": np.array([0.0, np.sinh(4.0), -np.sinh(4.0)], np.float32),
        "charge": np.array([np.e - 1, 1e9, 0.0], np.float32),
    }
    expected = [[0, 0, 0, np.log(501)], [2, 2, 3, np.log(1001)], [-2, -2, -2, 0]]
    np.testing.assert_allclose(apply_features(TABLE, columns), expected, atol=1e-6)


def test_numpy_compiled_and_twin_agree():
    columns = random_columns()
    on_host = apply_features(TABLE, columns)
    assert isinstance(on_host, np.ndarray)
    traces = 0

    @jax.jit
    def compiled(values):
        nonlocal traces
        traces += 1
        return apply_features(TABLE, values)

    on_device = compiled(columns)
    compiled(random_columns())
    assert traces == 1
    assert isinstance(on_device, jax.Array)
    np.testing.assert_allclose(on_host, on_device, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(on_host, twin(TABLE, columns), rtol=1e-5, atol=1e-5)


def test_limits_and_replacement_by_hand():
    table = FeatureTable(
        features=(
            Feature(column="x", limits=(0.0, 1.0)),
            Feature(column="x", mean=1.0, scale=0.5, clip=5.0, replace=-99.0),
            Feature(column="x", replace=2.0),
        )
    )
    columns = {"x": np.array([-1.0, 0.25, 7.0, np.nan, np.inf, -np.inf, 2e32], np.float32)}
    bad = [-5, -5, -5, -5]
    expected = [[-4, -1.5, 5, *bad], [-1, 0.25, 7, 2, 2, 2, 2]]
    for values in (columns, {"x": jnp.asarray(columns["x"])}):
        result = np.asarray(apply_features(table, values))
        np.testing.assert_allclose(result[:3, 0], [0, 0.25, 1])
        np.testing.assert_allclose(result[:, 1:].T, expected)
    assert features_from_json(json.loads(json.dumps(features_to_json(table)))) == table


def test_integers_and_batches_are_taken():
    table = FeatureTable(features=(Feature(column="layer", mean=2.0, scale=4.0),))
    layers = np.array([[2, 6], [10, -2]], np.int32)
    np.testing.assert_allclose(apply_features(table, {"layer": layers})[..., 0], [[0, 1], [2, -1]])
    assert apply_features(table, {"layer": layers[:0]}).shape == (0, 2, 1)


def test_padding_is_zero_whatever_it_holds():
    columns = random_columns(50)
    reference = apply_features(TABLE, columns)
    padded = {name: np.pad(column, (0, 14), constant_values=np.nan) for name, column in columns.items()}
    valid = np.arange(64) < 50
    for values in (padded, {name: jnp.asarray(column) for name, column in padded.items()}):
        result = np.asarray(apply_features(TABLE, values, valid))
        np.testing.assert_allclose(result[:50], reference, rtol=1e-6, atol=1e-6)
        assert (result[50:] == 0).all()

    def total(charge):
        return jnp.sum(apply_features(TABLE, {**padded, "charge": charge}, valid))

    assert np.isfinite(jax.grad(total)(jnp.asarray(padded["charge"]))).all()


def test_permuting_rows_permutes_features():
    columns = random_columns()
    order = np.random.default_rng(1).permutation(200)
    permuted = apply_features(TABLE, {name: column[order] for name, column in columns.items()})
    np.testing.assert_array_equal(permuted, apply_features(TABLE, columns)[order])


def test_fitted_table_standardises_its_sample():
    columns = random_columns()
    valid = np.arange(200) < 150
    columns["z"][150:] = np.nan
    table = fit_features(TABLE.features, columns, valid)
    assert [(feature.column, feature.transform, feature.clip) for feature in table.features] == [
        (feature.column, feature.transform, feature.clip) for feature in TABLE.features
    ]
    unclipped = FeatureTable(
        features=tuple(
            Feature(column=f.column, transform=f.transform, mean=f.mean, scale=f.scale)
            for f in table.features
        )
    )
    result = apply_features(unclipped, columns, valid)[:150]
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=0), 1, atol=1e-5)


def test_constant_column_keeps_its_scale():
    table = fit_features([Feature(column="x", scale=7.0)], {"x": np.full(5, 3.0, np.float32)})
    assert table.features[0] == Feature(column="x", mean=3.0, scale=1.0)


def test_json_round_trip():
    data = json.loads(json.dumps(features_to_json(TABLE)))
    assert features_from_json(data) == TABLE
    assert TABLE.columns == ("r", "z", "charge", "r")
    assert len(TABLE) == 4


@pytest.mark.parametrize("entry", [{"transform": "none"}, {"column": "x", "sigma": 1.0}])
def test_foreign_json_is_refused(entry):
    with pytest.raises(ConfigError, match="not a feature table"):
        features_from_json([entry])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.0}, "'x': mean 0.0, scale 0.0"),
        ({"mean": float("nan")}, "mean nan"),
        ({"clip": 0.0}, "clip 0.0"),
        ({"limits": (1.0, 1.0)}, r"limits \(1.0, 1.0\), clip None; the lower limit must come first"),
        ({"limits": (0.0, 1.0), "clip": 5.0}, "there can be limits or a clip, not both"),
    ],
)
def test_bad_feature_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Feature(column="x", **settings)


def test_unknown_transform_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)transform.*sqrt.*'none', 'log1p', 'arcsinh'"):
        features_from_json([{"column": "x", "transform": "sqrt"}])


def test_empty_table_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        FeatureTable(features=())


@pytest.mark.parametrize(
    "function", [lambda c: apply_features(TABLE, c), lambda c: fit_features(TABLE.features, c)]
)
def test_missing_column_is_named(function):
    columns = random_columns()
    del columns["z"]
    with pytest.raises(DataError, match=r"needs the columns \['z'\]; given are \['charge', 'r', 'unused'\]"):
        function(columns)


def test_sample_that_cannot_be_fitted_names_column_and_row():
    with pytest.raises(
        DataError, match=r"column 'charge', row 2: -1\.0 is not finite after transform 'log1p'; 1 such"
    ):
        fit_features([TABLE.features[2]], {"charge": np.array([0, 3, -1], np.float32)})
    with pytest.raises(DataError, match="column 'r' has no valid row"):
        fit_features([TABLE.features[0]], {"r": np.ones(2, np.float32)}, np.zeros(2, bool))
