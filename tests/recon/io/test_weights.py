from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file
from recon.io.weights import (
    flatten_state,
    load_model,
    load_weights,
    model_arrays,
    save_model,
    save_weights,
    set_model_arrays,
    unflatten_state,
)


class Network(nnx.Module):
    def __init__(self, hidden: int, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(3, hidden, rngs=rngs), nnx.Linear(hidden, 1, rngs=rngs)])
        self.norm = nnx.BatchNorm(hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(self.norm(self.layers[0](x))))


ARRAYS = {
    "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array(7, np.int32),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "half": np.array([1.5, -2.0], np.float16),
}


def test_round_trip_of_values_shapes_and_types(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(
        path, {**ARRAYS, "jax": jnp.ones(3), "transposed": ARRAYS["kernel"].T}, {"seed": 3, "list": [1, 2]}
    )
    arrays, metadata = load_weights(path)
    assert metadata == {"seed": 3, "list": [1, 2]}
    expected = {**ARRAYS, "jax": np.ones(3, np.float32), "transposed": ARRAYS["kernel"].T}
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_bfloat16_survives(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"x": jnp.array([1.5, 3e38], jnp.bfloat16)}, {})
    arrays, _ = load_weights(path)
    assert arrays["x"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        arrays["x"].astype(np.float32), np.array(jnp.array([1.5, 3e38], jnp.bfloat16), np.float32)
    )


def test_same_content_same_bytes(tmp_path):
    save_weights(tmp_path / "a", ARRAYS, {"b": 1, "a": 2})
    save_weights(tmp_path / "b", dict(reversed(ARRAYS.items())), {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("position", [-1, -9, -30, -60, -120, -200, 20, 3])
def test_one_flipped_bit_is_found(tmp_path, position):
    path = tmp_path / "weights.safetensors"
    save_weights(path, ARRAYS, {})
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.safetensors (is damaged|cannot be read)"):
        load_weights(path)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", None])
def test_foreign_and_absent_files_are_named(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read"):
        load_weights(path)


def test_truncated_file_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, ARRAYS, {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read"):
        load_weights(path)


def test_safetensors_of_another_program_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"x": np.ones(2)}, path)
    with pytest.raises(
        DataError, match=r"of another program: its metadata has \[\], needed is 'recon-weights-1'"
    ):
        load_weights(path)


def test_type_that_cannot_be_stored(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(DataError, match=r"types \['<U1'\] cannot be stored"):
        save_weights(path, {"x": np.array(["a"])}, {})
    assert list(tmp_path.iterdir()) == []


def test_flattened_state_has_plain_paths():
    model = Network(4, seed=0)
    flat = flatten_state(nnx.state(model, nnx.Param))
    assert sorted(flat) == [
        "layers/0/bias",
        "layers/0/kernel",
        "layers/1/bias",
        "layers/1/kernel",
        "norm/bias",
        "norm/scale",
    ]
    np.testing.assert_array_equal(flat["layers/0/kernel"], model.layers[0].kernel)


def test_unflattened_state_is_the_state():
    state = nnx.as_pure(nnx.state(Network(4, seed=0)))
    other = nnx.as_pure(nnx.state(Network(4, seed=1)))
    restored = unflatten_state(other, flatten_state(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for name, array in flatten_state(state).items():
        np.testing.assert_array_equal(flatten_state(restored)[name], array, err_msg=name)
    key = restored["dropout"]["rngs"]["key"]
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert jax.random.uniform(key) == jax.random.uniform(state["dropout"]["rngs"]["key"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda flat: flat.pop("a"),
            r"1 of 2 arrays do not fit, first 'a': given nothing, needed float32\[2\]",
        ),
        (lambda flat: flat.update(c=np.ones(1)), r"1 of 3 .* 'c': given float64\[1\], needed nothing"),
        (lambda flat: flat.update(a=np.ones(3, np.float32)), r"given float32\[3\], needed float32\[2\]"),
        (lambda flat: flat.update(a=np.ones(2, np.int32)), r"given int32\[2\], needed float32\[2\]"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message):
    like = {"a": jnp.ones(2), "b": jnp.ones(())}
    flat = flatten_state(like)
    change(flat)
    with pytest.raises(ConfigError, match=message):
        unflatten_state(like, flat)


def test_shipped_model_computes_the_same(tmp_path):
    model, x = Network(4, seed=0), np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    model(x)  # moves the batch statistics
    model.eval()
    config = {"hidden": 4, "features": [{"column": "r", "scale": 2.5}]}
    save_model(tmp_path / "small", model_arrays(model), config, "# Small\n\nTrained on nothing.")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "CARD.md",
        "config.json",
        "weights.safetensors",
    ]
    shipped = load_model(tmp_path / "small")
    assert shipped.config == config
    assert shipped.card == "# Small\n\nTrained on nothing.\n"
    other = Network(shipped.config["hidden"], seed=5)
    other.eval()
    assert not np.array_equal(other(x), model(x))
    np.testing.assert_array_equal(set_model_arrays(other, shipped.arrays)(x), model(x))


def test_weights_do_not_fit_another_network(tmp_path):
    with pytest.raises(ConfigError, match=r"'layers/0/bias': given float32\[4\], needed float32\[5\]"):
        set_model_arrays(Network(5, seed=0), model_arrays(Network(4, seed=0)))


@pytest.mark.parametrize("missing", ["CARD.md", "config.json", "weights.safetensors"])
def test_incomplete_model_is_refused(tmp_path, missing):
    save_model(tmp_path, ARRAYS, {"a": 1}, "card")
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=missing.replace(".", r"\.")):
        load_model(tmp_path)


def test_mixed_up_config_is_found(tmp_path):
    save_model(tmp_path, ARRAYS, {"hidden": 4}, "card")
    (tmp_path / "config.json").write_text(json.dumps({"hidden": 8}))
    with pytest.raises(
        DataError, match=r"config\.json is not the configuration that weights\.safetensors was saved"
    ):
        load_model(tmp_path)


def test_model_without_a_card_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"card of .* is empty"):
        save_model(tmp_path / "m", ARRAYS, {}, "  \n")
    assert not (tmp_path / "m").exists()


def test_failed_replacement_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    replace_file(path, b"old")
    with pytest.raises(TypeError):
        replace_file(path, ["not bytes"])
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"new"
