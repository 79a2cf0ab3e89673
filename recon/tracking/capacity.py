"""How long the arrays of the compiled program are, and what happens when they were too short.

XLA compiles for shapes, so an event is padded to the next size of a ladder, and every inner array gets a
length from that size. The program reports what it needed: nothing is lost in silence, and `find_tracks`
repeats an event that did not fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from jaxtyping import Int32

from recon.errors import CapacityError, ConfigError
from recon.padding import bucket_size
from recon.tracking.graph import GraphCapacity
from recon.types import Array

MAX_TRIES = 8
"""Each of the eight searches may overflow once, since one that did hides the needs of the next."""


@dataclass(frozen=True, kw_only=True)
class TrackingCapacity:
    """Lengths of the arrays between hits and tracks.

    Attributes:
        graph: of the candidate search.
        tracks: most track candidates.
        track_hits: most hits on a candidate.
    """

    graph: GraphCapacity
    tracks: int
    track_hits: int = 20

    def __post_init__(self) -> None:
        if self.tracks < 1 or self.track_hits < 3:
            raise ConfigError(
                f"TrackingCapacity: tracks = {self.tracks} (1 or more), "
                f"track_hits = {self.track_hits} (3 or more)"
            )


class TrackingSizes(NamedTuple):
    """Sizes that an event needed: those of `GraphSizes`, then candidates and hits on the longest one."""

    queries: Int32[Array, ""]
    rows: Int32[Array, ""]
    chunks: Int32[Array, ""]
    doublets: Int32[Array, ""]
    shaped: Int32[Array, ""]
    triplets: Int32[Array, ""]
    edges: Int32[Array, ""]
    nodes: Int32[Array, ""]
    tracks: Int32[Array, ""]
    track_hits: Int32[Array, ""]


# Needs per hit, and per hit and 100,000 hits: lists of single hits grow with the event, lists of pairs with
# its square. Measured on t tbar events with 40 and 200 pile-up collisions and 1 GeV windows, with a margin of
# 3 to 10 %.
_NEEDS = {
    "queries": (2.15, 0.0),
    "rows": (4.85, 0.0),
    "chunks": (1.95, 2.77),
    "doublets": (0.8, 7.2),
    "shaped": (0.76, 3.35),
    "triplets": (0.2, 6.3),
    "edges": (0.57, 0.145),
    "nodes": (0.345, 0.073),
    "tracks": (0.026, 0.0),
}
_LEAST = 256
_MULTIPLE = 64


def capacity_for(n_hits: int) -> TrackingCapacity:
    """Capacities for an event of a padded size.

    Args:
        n_hits: length of the padded `Hits`.
    """
    lengths = {
        name: _round_up(_LEAST + n_hits * (linear + quadratic * n_hits / 1e5))
        for name, (linear, quadratic) in _NEEDS.items()
    }
    tracks = lengths.pop("tracks")
    return TrackingCapacity(graph=GraphCapacity(**lengths), tracks=tracks)


def _round_up(length: float) -> int:
    return _MULTIPLE * math.ceil(length / _MULTIPLE)


def limits(capacity: TrackingCapacity) -> dict[str, int]:
    """Capacity of every entry of `TrackingSizes`."""
    graph = {item.name: getattr(capacity.graph, item.name) for item in fields(capacity.graph)}
    return graph | {"tracks": capacity.tracks, "track_hits": capacity.track_hits}


def overflows(sizes: TrackingSizes, capacity: TrackingCapacity) -> dict[str, int]:
    """Arrays that were too short, with the length they needed at least."""
    allowed = limits(capacity)
    return {name: int(size) for name, size in sizes._asdict().items() if int(size) > allowed[name]}


def grow(sizes: TrackingSizes, capacity: TrackingCapacity) -> TrackingCapacity:
    """Capacities that hold what an event is known to need."""
    lengths = limits(capacity)
    for name, size in overflows(sizes, capacity).items():
        # A tenth more: the next event of this size should not compile again.
        lengths[name] = size + 2 if name == "track_hits" else bucket_size(size + size // 10)
    tracks, track_hits = lengths.pop("tracks"), lengths.pop("track_hits")
    return TrackingCapacity(graph=GraphCapacity(**lengths), tracks=tracks, track_hits=track_hits)


def check_sizes(sizes: TrackingSizes, capacity: TrackingCapacity) -> None:
    """Refuse a result that is incomplete.

    Raises:
        CapacityError: names the first array that was too short, its capacity and the size needed.
    """
    for name, needed in overflows(sizes, capacity).items():
        raise CapacityError(f"tracking {name}", limits(capacity)[name], needed, f"TrackingCapacity {name}")
