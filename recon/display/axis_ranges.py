"""Which part of an axis a plot of rates shows."""

from __future__ import annotations

from collections.abc import Mapping

from recon.display.curves import Points

_WELL_MEASURED = 0.1
"""Error bars shorter than this decide; the others may stick out."""


def efficiency_range(points: Mapping[str, Points]) -> tuple[float, float]:
    """From a little below the lowest point that is well measured up to a little above one."""
    well = [p.y[(p.high - p.low) < _WELL_MEASURED] for p in points.values()]
    lowest = min((float(y.min()) for y in well if y.size), default=0.0)
    return max(0.0, lowest - 0.25 * (1 - lowest) - 0.05), 1.0 + 0.12 * (1.05 - lowest)


def rate_range(points: Mapping[str, Points]) -> tuple[float, float]:
    """From zero to above the highest point that is well measured, with room for the legend."""
    well = [p.high[(p.high - p.low) < _WELL_MEASURED] for p in points.values()]
    return 0.0, max(0.01, 1.3 * max((float(y.max()) for y in well if y.size), default=0.77))
