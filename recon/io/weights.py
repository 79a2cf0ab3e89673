"""Weights as safetensors files with a checksum, and the directory format of shipped models.

A shipped model is `weights.safetensors`, `config.json` and `CARD.md`: parameters never travel without the
settings that build their network and the card that says where they come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file

FORMAT = "recon-weights-1"
SEPARATOR = "/"

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "CARD.md"

Tree = TypeVar("Tree")
Module = TypeVar("Module", bound=nnx.Module)


class ShippedModel(NamedTuple):
    """A model as it lies in a directory.

    Attributes:
        arrays: flat dict of path strings, see `flatten_state`.
        config: whatever builds the network and its inputs.
        card: Markdown: data, seeds, command, numbers, licence.
    """

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    card: str


def model_names(checkpoints: Path) -> tuple[str, ...]:
    """Names of the models in a directory of models."""
    return tuple(sorted(path.parent.name for path in checkpoints.glob("*/config.json")))


def model_directory(name: str | Path, checkpoints: Path) -> Path:
    """Directory of a model.

    Args:
        name: of one of the shipped models, or the directory of one of the user's.
        checkpoints: where the shipped models are.

    Raises:
        ConfigError: there is no such model; names those that are.
    """
    names = model_names(checkpoints)
    directory = checkpoints / name if str(name) in names else Path(name)
    if not directory.is_dir():
        raise ConfigError(
            f"there is no model {str(name)!r}: it is neither a directory nor one of {', '.join(names)}"
        )
    return directory


def flatten_state(state: Any) -> dict[str, np.ndarray]:
    """Host copies of the leaves of an `nnx.State` or any other tree, under paths such as "layers/0/kernel".

    Random keys become their key data.
    """
    flat: dict[str, np.ndarray] = {}
    for path, leaf in _named_leaves(state):
        flat[path] = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return flat


def unflatten_state(like: Tree, flat: Mapping[str, np.ndarray]) -> Tree:
    """Put arrays into the structure of `like`.

    Args:
        like: gives structure, shapes and types; its values are not used.
        flat: from `flatten_state` of a tree of the same structure.

    Raises:
        ConfigError: when an array is missing, left over or of another shape or type; names them.
    """
    expected = {name: _describe(leaf) for name, leaf in _named_leaves(like)}
    given = {name: _describe(array) for name, array in flat.items()}
    differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{len(differing)} of {len(expected | given)} arrays do not fit, first {name!r}: "
            f"given {given.get(name, 'nothing')}, needed {expected.get(name, 'nothing')}"
        )

    def place(leaf: Any, array: np.ndarray) -> jax.Array:
        placed = jnp.array(array)
        return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else placed

    names = [name for name, _ in _named_leaves(like)]
    leaves, structure = jax.tree.flatten(_pure(like))
    placed = jax.tree.unflatten(
        structure, [place(leaf, flat[name]) for name, leaf in zip(names, leaves, strict=True)]
    )
    result: Tree = placed
    return result


def _pure(tree: Any) -> Any:
    """Arrays in place of NNX variables, whose ".value" would otherwise end every path."""
    return nnx.as_pure(tree) if isinstance(tree, nnx.State) else tree


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(_pure(tree))
    return [(jax.tree_util.keystr(path, simple=True, separator=SEPARATOR), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _describe(leaf: Any) -> str:
    array = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def model_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """Flat dict of a module's parameters and statistics, without its random streams."""
    return flatten_state(nnx.state(model, nnx.Not(nnx.RngState)))


def array_shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of `model_arrays`; the module may be abstract (`nnx.eval_shape`)."""
    leaves = _named_leaves(nnx.state(model, nnx.Not(nnx.RngState)))
    return {name: tuple(leaf.shape) for name, leaf in leaves}


def set_model_arrays(model: Module, arrays: Mapping[str, np.ndarray]) -> Module:
    """Put arrays into a module in place and return it.

    Raises:
        ConfigError: when they are not those of `model_arrays` of such a module.
    """
    nnx.update(model, unflatten_state(nnx.state(model, nnx.Not(nnx.RngState)), arrays))
    return model


def save_weights(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON metadata to a safetensors file, whole or not at all.

    Args:
        path: of the file; its directory must exist.
        arrays: by name; JAX arrays are copied to the host.
        metadata: JSON-serialisable.

    Raises:
        DataError: when an array is of a type that safetensors does not know.
    """
    host = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {"sha256": arrays_digest(host), "metadata": dict(metadata)}
    try:
        # One key only: safetensors writes several in an order that changes from run to run.
        content = safetensors.numpy.save(host, {FORMAT: json.dumps(header, sort_keys=True)})
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        types = sorted({str(array.dtype) for array in host.values()})
        raise DataError(
            f"{path}: arrays of types {types} cannot be stored as safetensors: {error}"
        ) from error
    replace_file(Path(path), content)


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file of `save_weights`.

    Returns:
        arrays by name, metadata.

    Raises:
        DataError: when the file is absent, damaged or was not written by `save_weights`; names the file.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            stored = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as a safetensors file: {error}") from error
    if FORMAT not in stored:
        raise DataError(
            f"{path} is of another program: its metadata has {sorted(stored)}, needed is {FORMAT!r}"
        )
    try:
        header = json.loads(stored[FORMAT])
        checksum, metadata = str(header["sha256"]), dict(header["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: its metadata cannot be read ({error}); fetch it again"
        ) from error
    if checksum != arrays_digest(arrays):
        raise DataError(
            f"{path} is damaged: the arrays do not have the checksum stored beside them; fetch it again"
        )
    return arrays, metadata


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {_describe(arrays[name])}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def save_model(directory: Path, arrays: Mapping[str, Any], config: Mapping[str, Any], card: str) -> None:
    """Write a model to be shipped.

    Args:
        directory: made if absent.
        arrays: of `model_arrays`.
        config: JSON-serialisable; kept in the weights file as well, so that the two cannot be mixed up.
        card: Markdown.

    Raises:
        ConfigError: when the card is empty.
    """
    if not card.strip():
        raise ConfigError(
            f"the card of {directory} is empty; it must say data, seeds, command, numbers and licence"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(directory / WEIGHTS_FILE, arrays, {"config": dict(config)})
    replace_file(
        directory / CONFIG_FILE, (json.dumps(dict(config), indent=2, sort_keys=True) + "\n").encode()
    )
    replace_file(directory / CARD_FILE, (card.rstrip() + "\n").encode())


def load_model(directory: Path) -> ShippedModel:
    """Read a directory of `save_model`.

    Raises:
        DataError: when a file is absent or damaged, or weights and configuration are of different models.
    """
    directory = Path(directory)
    arrays, metadata = load_weights(directory / WEIGHTS_FILE)
    try:
        config: dict[str, Any] = json.loads((directory / CONFIG_FILE).read_text())
        card = (directory / CARD_FILE).read_text()
    except (OSError, ValueError) as error:
        raise DataError(f"{directory} is no complete model: {error}") from error
    if metadata.get("config") != config:
        raise DataError(
            f"{directory}: {CONFIG_FILE} is not the configuration that {WEIGHTS_FILE} was saved with"
        )
    return ShippedModel(arrays, config, card)
