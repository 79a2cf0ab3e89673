"""Padding: a ladder of sizes, so that a compiled program serves many events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from recon.errors import CapacityError, ConfigError, DataError
from recon.types import NOISE

STEPS_PER_OCTAVE = 4
"""The ladder grows by 2^(1/4): 9 % of the work is padding on average, and a factor of ten takes 14 programs."""

FILL: Mapping[str, Any] = {
    "layer": -1,
    "module": -1,
    "hit_particle": NOISE,
    "hit_track": NOISE,
    "cell": -1,
    # Padded measurements are weighted by one over the variance.
    "variance": 1,
}
"""What padding holds, by field; 0 and false elsewhere. `receivers` repeats its last value: the list stays sorted."""

EventT = TypeVar("EventT", bound=tuple[Any, ...])
"""One of the NamedTuples of `recon.types`."""


def bucket_size(n: int, smallest: int = 8, steps_per_octave: int = STEPS_PER_OCTAVE) -> int:
    """Smallest size of the ladder that holds `n` items.

    Args:
        n: number of items.
        smallest: first size of the ladder.
        steps_per_octave: sizes of the ladder between a number and its double.

    Raises:
        ConfigError: a negative number of items, or a ladder that does not begin at 1 or more or has no steps.
    """
    if n < 0 or smallest < 1 or steps_per_octave < 1:
        raise ConfigError(
            f"bucket_size(n={n}, smallest={smallest}, steps_per_octave={steps_per_octave}): "
            "allowed are n >= 0 and 1 or more for the others"
        )
    if n <= smallest:
        return smallest
    # Sizes are rounded up to a multiple of 8: the one before may hold n already.
    step = max(math.ceil(steps_per_octave * math.log2(n / smallest)) - 1, 1)
    while (size := 8 * math.ceil(smallest * 2 ** (step / steps_per_octave) / 8)) < n:
        step += 1
    return size


def pad_event(event: EventT, capacity: Mapping[str, int]) -> EventT:
    """Pads the arrays of one event on the host; the type's shape annotations say which axes are meant.

    Args:
        event: `Hits`, `Particles`, `EdgeList` or another NamedTuple of host arrays annotated like them.
        capacity: new length by the name of the axis in the annotation, e.g. `{"n": 1024}` for `Hits`;
            axes that are not named keep their length.

    Raises:
        CapacityError: more items than the capacity.
        ConfigError: an axis that no field has.
    """
    axes = _axes(type(event))
    known = {name for names in axes.values() for name in names}
    if unknown := sorted(set(capacity) - known):
        raise ConfigError(
            f"pad_event: {type(event).__name__} has no axis {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    columns = zip(axes, event, strict=True)
    return type(event)(*(_pad(name, np.asarray(column), axes[name], capacity) for name, column in columns))


def stack_events(events: Sequence[EventT]) -> EventT:
    """Stacks padded events along a new leading axis.

    Args:
        events: at least one; all padded to the same capacities.

    Raises:
        DataError: no event, or shapes that differ; names the field.
    """
    if not events:
        raise DataError("stack_events was given no event; at least one is needed")
    kind = type(events[0])
    for name, column in zip(_axes(kind), zip(*events, strict=True), strict=True):
        if len(shapes := {np.shape(array) for array in column}) > 1:
            raise DataError(
                f"stack_events: {name} has the shapes {sorted(shapes)}; pad all events to the same capacity first"
            )
    return kind(*(np.stack(column) for column in zip(*events, strict=True)))


@cache
def _axes(kind: type) -> dict[str, tuple[str, ...]]:
    """Names of the axes of every field, batch axes left out."""
    hints = get_type_hints(kind)
    return {
        # Host and device arrays make a union of two annotations of the same shape.
        name: tuple(axis for axis in (*get_args(hint), hint)[0].dim_str.split() if not axis.startswith("*"))
        for name, hint in hints.items()
    }


def _pad(name: str, column: np.ndarray, axes: tuple[str, ...], capacity: Mapping[str, int]) -> np.ndarray:
    widths = []
    for axis, length in zip(axes, column.shape, strict=True):
        target = capacity.get(axis, length)
        if target < length:
            raise CapacityError(f"rows of {name}", target, length, f"the capacity of axis {axis}")
        widths.append((0, target - length))
    if not widths:
        return column
    if name == "receivers" and column.size:
        return np.pad(column, widths, mode="edge")
    return np.pad(column, widths, constant_values=FILL.get(name, 0))
