"""Data configurations of weaver (YAML), read as they are; `recon.io.weaver_inputs` applies them to jets."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from recon.errors import ConfigError, DataError
from recon.io.weaver_expressions import variables

_KEYS = {
    *(
        "treename",
        "branch_magic",
        "file_magic",
        "selection",
        "test_time_selection",
        "preprocess",
        "new_variables",
    ),
    *("inputs", "labels", "observers", "monitor_variables", "weights", "bucketing"),
}
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One row of an input.

    Attributes:
        name: of a branch or a new variable.
        center: subtracted; `None` for no standardisation at all, "auto" until `standardise` has set it.
        scale: multiplies the difference.
        low: lowest result.
        high: highest result.
        pad_value: what padding holds, with constant padding.
    """

    name: str
    center: float | Literal["auto"] | None = None
    scale: float = 1.0
    low: float = -5.0
    high: float = 5.0
    pad_value: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a network.

    Attributes:
        name: of the input.
        length: values a variable has after padding.
        pad_mode: "constant", or "wrap" to repeat what is there.
        variables: the rows.
    """

    name: str
    length: int
    pad_mode: Literal["constant", "wrap"]
    variables: tuple[Variable, ...]


@dataclass(frozen=True, kw_only=True)
class WeaverConfig:
    """A data configuration.

    Attributes:
        path: where it was read, for messages.
        tree: name of the table in ROOT files; `None` for the only one.
        selection: formula of the jets that count in training; `None` for all.
        test_selection: the same for evaluation.
        new_variables: formulas by name.
        inputs: in their order.
        labels: names of 0-1 columns ("simple"), or formulas by name ("custom").
        observers: columns that are handed through.
        weights: the section of that name as it is; reweighting belongs to the training.
    """

    path: str
    tree: str | None = None
    selection: str | None = None
    test_selection: str | None = None
    new_variables: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    labels: tuple[str, ...] | Mapping[str, str] = ()
    observers: tuple[str, ...] = ()
    weights: Mapping[str, Any] | None = None

    def columns(self, *, test: bool = False) -> list[str]:
        """Branches that the configuration reads, in alphabetical order.

        Args:
            test: for evaluation: with the observers, and the selection made for it.
        """
        selection = self.test_selection if test else self.selection
        wanted = {variable.name for one in self.inputs for variable in one.variables}
        wanted |= self.label_columns() | (set(self.observers) if test else set())
        if selection:
            wanted |= variables(selection, self.path)
        known: set[str] = set()
        # New variables may be made of new variables.
        while new := (wanted & set(self.new_variables)) - known:
            known |= new
            for name in new:
                wanted |= variables(self.new_variables[name], f"{self.path}, {name}") - {name}
        return sorted(wanted - set(self.new_variables))

    def label_columns(self) -> set[str]:
        """Columns that the labels are made of, new variables included."""
        if isinstance(self.labels, Mapping):
            return set().union(*(variables(text, self.path) for text in self.labels.values()))
        return set(self.labels)


def read_weaver(path: str | Path) -> WeaverConfig:
    """Read a data configuration.

    Raises:
        DataError: no such file, or not YAML.
        ConfigError: an unknown section (named, with near spellings), a section, an input, a variable or a label that
            cannot be understood, a formula that is more than arithmetic.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise DataError(f"{path}: cannot be read as YAML: {problem}") from problem
    if not isinstance(tree, dict):
        raise DataError(
            f"{path}: expected sections such as 'inputs' and 'labels', found {type(tree).__name__}"
        )
    for key in sorted(set(tree) - _KEYS):
        near = difflib.get_close_matches(str(key), _KEYS, n=1)
        raise ConfigError(
            f"{path}: unknown section {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    sections = ("preprocess", "new_variables", "inputs", "labels")
    preprocess, variables_made, inputs, labels = (_section(tree, key, str(path)) for key in sections)
    automatic = str(preprocess.get("method", "manual")).lower().startswith(AUTO)
    new = {str(name): str(text) for name, text in variables_made.items()}
    selection = _formula(tree, "selection", str(path))
    observers = tree.get("observers") or tree.get("monitor_variables") or ()
    if not isinstance(observers, list | tuple):
        raise ConfigError(f"{path}: observers {observers!r}; a list of names is needed")
    config = WeaverConfig(
        path=str(path),
        tree=tree.get("treename"),
        selection=selection,
        test_selection=_formula(tree, "test_time_selection", str(path)) or selection,
        # A variable that is itself is a branch.
        new_variables={name: text for name, text in new.items() if name != text},
        inputs=tuple(_inputs(inputs, _section(preprocess, "params", str(path)), automatic, str(path))),
        labels=_labels(labels, str(path)),
        observers=tuple(map(str, observers)),
        weights=tree.get("weights"),
    )
    for test in (False, True):
        config.columns(test=test)  # parses all formulas
    return config


def _section(tree: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """A part of a file that is a map; an empty one where the file does not have it."""
    section = tree.get(key) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: {key!r} is {section!r}; a map is needed")
    return section


def _formula(tree: Mapping[str, Any], key: str, where: str) -> str | None:
    text = tree.get(key)
    if not isinstance(text, str | None):
        raise ConfigError(f"{where}: {key!r} is {text!r}; a formula is needed")
    return text


def _inputs(
    section: Mapping[str, Any], params: Mapping[str, Any], automatic: bool, where: str
) -> Iterator[Input]:
    for name, entry in ((str(name), entry) for name, entry in section.items()):
        try:
            if not isinstance(entry["vars"], list):
                raise TypeError(f"vars are {entry['vars']!r}, not a list")
            rows = [row if isinstance(row, list) else [row] for row in entry["vars"]]
            length, mode = int(entry["length"]), str(entry.get("pad_mode", "constant")).lower()
        except (KeyError, TypeError, ValueError) as problem:
            raise ConfigError(f"{where}: input {name!r} needs 'length' and 'vars': {problem!r}") from problem
        if length < 1:
            raise ConfigError(f"{where}: input {name!r}: length {length}; allowed: 1 or more")
        if mode not in ("constant", "wrap"):
            raise ConfigError(
                f"{where}: input {name!r}: pad_mode {mode!r}; allowed are 'constant' and 'wrap'"
            )
        if name.endswith("_mask") and mode != "constant":
            raise ConfigError(f"{where}: input {name!r}: a mask must have pad_mode 'constant'")
        own = f"{where}: input {name!r}"
        made = tuple(_variable(row, params, automatic and not name.endswith("_mask"), own) for row in rows)
        yield Input(name=name, length=length, pad_mode=mode, variables=made)  # type: ignore[arg-type]


def _variable(row: list[Any], params: Mapping[str, Any], automatic: bool, where: str) -> Variable:
    try:
        return _standardisation(row, params, automatic)
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        shape = "[name, center, scale, low, high, pad value] is needed, or 'params' with center, scale, min and max"
        raise ConfigError(f"{where}: variable {row!r}: {problem!r}; {shape}") from problem


def _standardisation(row: list[Any], params: Mapping[str, Any], automatic: bool) -> Variable:
    """From `[name, center, scale, low, high, pad value]`, all but the name optional; stored parameters win."""
    name = str(row[0])
    if name in params:
        stored = params[name]
        return Variable(
            name=name,
            center=stored["center"],
            scale=float(stored["scale"]),
            low=float(stored["min"]),
            high=float(stored["max"]),
            pad_value=float(stored.get("pad_value", 0)),
        )
    defaults = (AUTO if automatic else None, 1.0, -5.0, 5.0, 0.0)
    values = [*row[1:6], *defaults[len(row) - 1 :]]
    center = values[0] if values[0] in (None, AUTO) else float(values[0])
    scale, low, high, pad = (float(value) for value in values[1:])
    return Variable(name=name, center=center, scale=scale, low=low, high=high, pad_value=pad)


def _labels(section: Mapping[str, Any], where: str) -> tuple[str, ...] | Mapping[str, str]:
    if not section:
        return ()
    kind, value = section.get("type"), section.get("value")
    if kind == "simple" and isinstance(value, list):
        return tuple(str(name) for name in value)
    if kind == "custom" and isinstance(value, dict):
        return {str(name): str(text) for name, text in value.items()}
    raise ConfigError(
        f"{where}: labels of type {kind!r} with {value!r}; allowed are 'simple' with a list and 'custom' with a map"
    )
