"""How long the arrays of the compiled program are, and what happens when they were too short.

XLA compiles for shapes, so an event is padded to the next size of a ladder, and every inner array gets a
length from that size and from the windows of the layer-pair map. The program reports what it needed: nothing
is lost in silence, and `find_tracks` repeats an event that did not fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from jaxtyping import Int32

from recon.errors import CapacityError, ConfigError
from recon.padding import bucket_size
from recon.tracking.density import SearchDensity, search_density
from recon.tracking.graph import GraphCapacity
from recon.tracking.windows import LayerPairs
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
# its square. Measured on t tbar events with 40 and 200 pile-up collisions and the windows of the shipped model
# (1 GeV, all layers), with a margin of 3 to 30 %.
_NEEDS = {
    "queries": (2.25, 0.0),
    "rows": (4.6, 0.0),
    "chunks": (1.95, 2.77),
    "doublets": (0.8, 7.2),
    "shaped": (0.76, 3.35),
    "triplets": (0.2, 6.3),
    "edges": (0.57, 0.145),
    "nodes": (0.345, 0.073),
    "tracks": (0.026, 0.0),
}
_MEASURED_WITH = SearchDensity(queries=1.934, doublets=10.22)
"""Density of the layer-pair map that the needs were measured with."""
_LEAST = 256
_MULTIPLE = 64


def capacity_for(n_hits: int, pairs: LayerPairs) -> TrackingCapacity:
    """Capacities for an event of a padded size.

    Args:
        n_hits: length of the padded `Hits`.
        pairs: the layer-pair map, in host arrays.
    """
    factors = _factors(search_density(pairs))
    lengths = {}
    for name, (linear, quadratic) in _NEEDS.items():
        single, paired = factors[name]
        lengths[name] = _round_up(_LEAST + n_hits * (linear * single + quadratic * paired * n_hits / 1e5))
    tracks = lengths.pop("tracks")
    return TrackingCapacity(graph=GraphCapacity(**lengths), tracks=tracks)


def _factors(density: SearchDensity) -> dict[str, tuple[float, float]]:
    """Factors on both needs of every array, for a map of another density than that of the measurement.

    Checked with windows for 1 and 0.5 GeV, in all layers and in the pixel layers alone.
    """
    queries = density.queries / _MEASURED_WITH.queries
    doublets = density.doublets / _MEASURED_WITH.doublets
    # Wider windows let softer particles in; narrower ones lose false segments before they lose true ones.
    true_segments = max(doublets, math.sqrt(doublets))
    return {
        "queries": (queries, 0.0),
        "rows": (queries, 0.0),
        "chunks": (queries, doublets),
        "doublets": (doublets, doublets),
        "shaped": (doublets, doublets),
        # False triplets are two doublets by chance, and a false edge needs a chain of three.
        "triplets": (doublets, doublets**2),
        "edges": (true_segments, doublets**3),
        "nodes": (true_segments, doublets**2),
        # Every particle that leaves the beam line crosses the pixels: fewer layers find as many tracks.
        "tracks": (max(1.0, doublets / queries), 0.0),
    }


def capacity_in_use(known: dict[int, TrackingCapacity], n_hits: int, pairs: LayerPairs) -> TrackingCapacity:
    """The capacities that events of a padded size have now; the first one gets those of `capacity_for`.

    Args:
        known: capacities by padded number of hits; updated.
        n_hits: length of the padded `Hits`.
        pairs: the layer-pair map, in host arrays.
    """
    if n_hits not in known:
        known[n_hits] = capacity_for(n_hits, pairs)
    return known[n_hits]


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
