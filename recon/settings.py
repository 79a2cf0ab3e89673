"""Settings as trees of plain values, there and back: for configurations made of frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from recon.errors import ConfigError

ConfigT = TypeVar("ConfigT")
"""A frozen dataclass of plain values and of further dataclasses."""


def from_tree(kind: type[ConfigT], tree: Any, where: str) -> ConfigT:
    """Read what `dataclasses.asdict` wrote; settings that are not named are the defaults.

    Args:
        kind: the dataclass.
        tree: settings by name; those that are dataclasses themselves are trees again.
        where: what the settings are called in messages.

    Raises:
        ConfigError: a setting that does not exist, by name, with those that do, or a value of the wrong type.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Cuts:
        ...     energy: float = 1.0
        >>> from_tree(Cuts, {"energy": 2.0}, "cuts")
        Cuts(energy=2.0)
    """
    _check_names(tree, kind, where)
    hints = get_type_hints(kind)
    values = {
        name: from_tree(hints[name], value, name) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in tree.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        # Nothing is missing and comparable in a file of `asdict`: this one was written by hand.
        raise ConfigError(f"the {where} configuration cannot be used: {error}") from error


def listed(value: Any) -> Any:
    """Plain values as JSON gives them back: tuples, however deep, as lists."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def tupled(value: Any) -> Any:
    """Lists, however deep, as the tuples that `listed` made them from."""
    return tuple(tupled(item) for item in value) if isinstance(value, list) else value


def _check_names(tree: Any, kind: Any, where: str) -> None:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"the {where} configuration is {tree!r}; needed are settings by name")
    allowed = [item.name for item in dataclasses.fields(kind)]
    unknown = sorted(set(tree) - set(allowed))
    if unknown:
        raise ConfigError(
            f"the {where} configuration has no setting {', '.join(unknown)}; there are {', '.join(allowed)}"
        )
