"""Padding: a ladder of sizes, so that a compiled program serves many events."""

from __future__ import annotations

import math

STEPS_PER_OCTAVE = 4
"""The ladder grows by 2^(1/4): 9 % of the work is padding on average, and a factor of ten takes 14 programs."""


def bucket_size(n: int, smallest: int = 8) -> int:
    """Smallest size of the ladder that holds `n` items.

    Args:
        n: number of items.
        smallest: first size of the ladder.
    """
    if n <= smallest:
        return smallest
    step = math.ceil(STEPS_PER_OCTAVE * math.log2(n / smallest) - 1e-9)
    return 8 * math.ceil(smallest * 2 ** (step / STEPS_PER_OCTAVE) / 8)
