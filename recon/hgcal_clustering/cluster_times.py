"""Times of layer clusters: the mean of their hits' times, weighted by how well each is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

from recon.errors import DataError
from recon.types import NOISE, HitTimes

TIME_FEATURES = 3
"""Of a layer cluster; see `time_features`."""
TIME_UNIT = 0.1
"""ns, of the time among the features."""


class ClusterTimes(NamedTuple):
    """When layer clusters were made, as `HitTimes`.

    Attributes:
        time: ns; 0 where no hit has a time.
        error: ns; infinite where no hit has a time.
    """

    time: Float64[np.ndarray, " c"]
    error: Float64[np.ndarray, " c"]

    def at(self, rows: Int[np.ndarray, " k"]) -> ClusterTimes:
        """Those of some layer clusters."""
        return ClusterTimes(self.time[rows], self.error[rows])


def cluster_times(
    times: HitTimes | None, member_cluster: Int32[np.ndarray, " n"], n_clusters: int
) -> ClusterTimes:
    """Times of the layer clusters of one event.

    Args:
        times: of the hits.
        member_cluster: for every hit the row of its layer cluster; -1 for none.
        n_clusters: number of layer clusters.

    Raises:
        DataError: the hits have no times, or not one each.
    """
    if times is None:
        raise DataError(
            "the hits of the event have no times (branches hit_time, hit_time_error), which this model needs; "
            "without them take --algorithm hybrid"
        )
    if not len(times.time) == len(times.error) == len(member_cluster):
        raise DataError(
            f"there are {len(times.time)} times and {len(times.error)} errors of hits; the event has "
            f"{len(member_cluster)} hits"
        )
    used = np.flatnonzero((member_cluster != NOISE) & np.isfinite(times.time) & (times.error > 0))
    weight = 1 / times.error[used].astype(np.float64) ** 2
    cluster = member_cluster[used]
    total = np.bincount(cluster, weights=weight, minlength=n_clusters)
    moment = np.bincount(cluster, weights=weight * times.time[used], minlength=n_clusters)
    there = total > 0
    known = np.where(there, total, 1)
    return ClusterTimes(np.where(there, moment / known, 0.0), np.where(there, 1 / np.sqrt(known), np.inf))


def time_features(times: ClusterTimes) -> Float32[np.ndarray, "c f"]:
    """Whether there is a time, the logarithm of its error (ns) and the time in units of `TIME_UNIT`; 0 without."""
    there = np.isfinite(times.error)
    error = np.where(there, times.error, 1.0)
    return np.stack([there, np.log(error), np.where(there, times.time, 0) / TIME_UNIT], 1).astype(np.float32)
