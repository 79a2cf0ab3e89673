"""CMS's `preprocess.json`, which lies beside its networks: names, order and standardisation of their inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.errors import ConfigError, DataError
from recon.features import Feature, FeatureTable
from recon.tagging.inputs import JetInputs

_CANDIDATES = ("pfcand", "pf_features", "cpf")
_VERTICES = ("sv", "sv_features")
_POINTS = {"pf_features": "pf_points", "sv_features": "sv_points"}
"""Coordinates of ParticleNet, which our networks read behind the features."""
_NO_LIMIT = 1e30


def read_preprocess(path: str | Path) -> JetInputs:
    """Read the inputs of a network from CMS's `preprocess.json` (as `btagbtvdeep::PreprocessParams` reads it).

    Args:
        path: the file.

    Returns:
        The inputs: `(x - median) * norm_factor`, clipped, after NaN and infinity were replaced. The coordinates of a
        ParticleNet come behind its features.

    Raises:
        DataError: not such a file; names what is missing or out of range.
    """
    path = Path(path)
    try:
        tree = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise DataError(f"{path}: cannot be read as JSON: {problem}") from problem
    if not isinstance(tree, dict) or not isinstance(tree.get("input_names"), list):
        raise DataError(f"{path}: no list 'input_names'; expected a preprocess.json of CMS")
    blocks = {
        name: _block(tree, name, path) for name in tree["input_names"] if isinstance(tree.get(name), dict)
    }
    for name, points in _POINTS.items():
        if name in blocks and points in blocks:
            features, length = blocks[name]
            blocks[name] = FeatureTable(features=features.features + blocks[points][0].features), length
    candidates = next((blocks[name] for name in _CANDIDATES if name in blocks), None)
    if candidates is None:
        raise DataError(f"{path}: inputs are {list(blocks)}; one of {list(_CANDIDATES)} is needed")
    vertices = next((blocks[name] for name in _VERTICES if name in blocks), None)
    return JetInputs(
        candidates=candidates[0],
        n_candidates=candidates[1],
        vertices=vertices[0] if vertices else None,
        n_vertices=vertices[1] if vertices else 1,
    )


def _block(tree: Mapping[str, Any], name: str, path: Path) -> tuple[FeatureTable, int]:
    block = tree[name]
    try:
        features = tuple(_feature(column, block["var_infos"][column]) for column in block["var_names"])
        length = int(block.get("var_length") or block["max_length"])
        if length < 1:
            raise ConfigError(f"a length of {length}; allowed: 1 or more")
        return FeatureTable(features=features), length
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path}: input {name!r} is incomplete: {problem!r}") from problem
    except (ConfigError, ValueError) as problem:
        raise DataError(f"{path}: input {name!r} has {problem}") from problem


def _feature(column: str, info: Mapping[str, Any]) -> Feature:
    low, high = float(info.get("lower_bound", -5)), float(info.get("upper_bound", 5))
    factor = float(info["norm_factor"])
    if not factor > 0:
        raise ConfigError(f"norm_factor {factor} of {column!r}; allowed: above 0")
    unlimited = low < -_NO_LIMIT and high > _NO_LIMIT
    symmetric = not unlimited and low == -high
    return Feature(
        column=column,
        mean=float(info["median"]),
        scale=1.0 / factor,
        clip=high if symmetric else None,
        limits=None if unlimited or symmetric else (low, high),
        replace=float(info.get("replace_inf_value", 0.0)),
    )
