"""Configurations as trees of plain values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

from recon.errors import ConfigError
from recon.settings import from_tree


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3


@dataclass(frozen=True, kw_only=True)
class Middle:
    inner: Inner = field(default_factory=Inner)
    name: str = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    middle: Middle = field(default_factory=Middle)
    cut: float = 0.5


def test_there_and_back_through_all_levels():
    config = Outer(middle=Middle(inner=Inner(size=9), name="b"), cut=0.1)
    assert from_tree(Outer, dataclasses.asdict(config), "outer") == config


def test_what_is_missing_is_the_default():
    assert from_tree(Outer, {"middle": {"name": "c"}}, "outer") == Outer(middle=Middle(name="c"))


def test_unknown_names_say_where():
    with pytest.raises(
        ConfigError, match="the outer configuration has no setting cat, dog; there are middle, cut"
    ):
        from_tree(Outer, {"dog": 1, "cat": 2}, "outer")
    with pytest.raises(ConfigError, match="the inner configuration has no setting colour; there are size"):
        from_tree(Outer, {"middle": {"inner": {"colour": 1}}}, "outer")


@pytest.mark.parametrize("tree", [3, None, "x"])
def test_what_is_no_tree_is_refused(tree):
    with pytest.raises(ConfigError, match=r"the middle configuration is .*; needed are settings by name"):
        from_tree(Outer, {"middle": tree}, "outer")
