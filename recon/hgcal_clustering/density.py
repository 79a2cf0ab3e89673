"""Density and nearest higher point of points with windows: the two searches of CLUE, for any metric and kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Float32, Int32

from recon.hgcal_clustering.distances import full_distance, kernel_factor, reduced_distance, reduced_radius
from recon.hgcal_clustering.windows import Windows, nearest_over, sum_over
from recon.types import Array


class SortedPoints(NamedTuple):
    """Points in the order of their tiles.

    Attributes:
        axes: coordinates, an array an axis.
        weight: what a point adds to its own density.
        rank: unique numbers; of two points of equal density the one of higher rank counts as denser, of two at
            equal distance the one of lower rank as nearer.
    """

    axes: tuple[Float32[Array, " n"], ...]
    weight: Float32[Array, " n"]
    rank: Int32[Array, " n"]


class Measure(NamedTuple):
    """The numbers of a metric and a kernel; their names are static arguments.

    Attributes:
        values: `Metric.on_axes`.
        parameters: `Kernel.parameters`.
    """

    values: Float[Array, " d"]
    parameters: Float[Array, " p"]


def densities(
    points: SortedPoints, windows: Windows, d_c: Array, measure: Measure, *, metric: str, kernel: str
) -> Float32[Array, " q"]:
    """Local density of every query: its weight, and those of all points within `d_c` times the kernel."""
    limit = reduced_radius(metric, d_c)
    fields = {"axes": points.axes, "weight": points.weight, "rank": points.rank}

    def contribution(here: Mapping, there: Mapping) -> Array:
        apart = reduced_distance(metric, measure.values, here["axes"], there["axes"])
        counts = (apart <= limit) & (there["rank"] != here["rank"])
        factor = kernel_factor(kernel, measure.parameters, metric, apart)
        return jnp.where(counts, factor * there["weight"], 0)

    # A point's own weight comes last: neighbours of equal weights then give equal sums in any order.
    return points.weight[windows.query] + sum_over(windows, fields, contribution)


def nearest_higher(
    points: SortedPoints,
    rho: Float32[Array, " n"],
    windows: Windows,
    reach: Float32[Array, " n"],
    measure: Measure,
    *,
    metric: str,
    ties_at_zero: bool = True,
) -> tuple[Int32[Array, " q"], Float32[Array, " q"]]:
    """Nearest point of higher density within the reach of every query, and how far it is; -1 and infinity for none.

    Args:
        points: in the order of their tiles.
        rho: their densities.
        windows: of the queries, wide enough for their reach.
        reach: of every point.
        measure: numbers of the metric.
        metric: its name.
        ties_at_zero: whether the rank decides between points of density 0, too.
    """
    fields = {
        "axes": points.axes,
        "rho": rho,
        "rank": points.rank,
        "limit": reduced_radius(metric, reach),
    }

    def distance(here: Mapping, there: Mapping) -> Array:
        apart = reduced_distance(metric, measure.values, here["axes"], there["axes"])
        tied = (there["rho"] == here["rho"]) & (there["rank"] > here["rank"])
        if not ties_at_zero:
            tied &= there["rho"] > 0
        counts = ((there["rho"] > here["rho"]) | tied) & (apart <= here["limit"])
        return jnp.where(counts, apart, jnp.inf)

    row, apart = nearest_over(windows, fields, distance, points.rank)
    return row, full_distance(metric, apart)
