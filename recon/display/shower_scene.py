"""What a display of showers in a calorimeter shows, free of any drawing library."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

NAMED_GROUPS = 16
"""Groups with a colour and a line in the legend of their own; the rest share one."""


class HitGroups(NamedTuple):
    """One way to sort the hits: by what was found, or by what was there.

    Attributes:
        title: "tracksters" or "particles".
        member: group of every hit; -1 for none.
        labels: what is said of every group.
        energy: of every group, GeV: the most energetic have colours of their own.
    """

    title: str
    member: Int32[np.ndarray, " n"]
    labels: tuple[str, ...]
    energy: Float32[np.ndarray, " g"]

    def named(self) -> list[int]:
        """The groups with a colour of their own, the most energetic first."""
        order = np.argsort(-self.energy, kind="stable")
        return [int(row) for row in order[:NAMED_GROUPS]]


class ShowerScene(NamedTuple):
    """One event in a calorimeter.

    Attributes:
        title: says which event this is.
        position: of the hits, mm.
        energy: of the hits, GeV.
        layer: of the hits.
        groups: one or two ways to sort them, drawn beside each other.
    """

    title: str
    position: Float32[np.ndarray, "n 3"]
    energy: Float32[np.ndarray, " n"]
    layer: Int32[np.ndarray, " n"]
    groups: tuple[HitGroups, ...]


def strongest(scene: ShowerScene, limit: int) -> tuple[ShowerScene, str]:
    """The most energetic hits of an event, and a sentence on what is left out.

    Args:
        scene: the event.
        limit: hits to keep at most.

    Returns:
        (scene, ""), or (scene with `limit` hits, "the 100 strongest of 1,000 hits, 98 % of the energy").
    """
    n = len(scene.energy)
    if n <= limit:
        return scene, ""
    rows = np.sort(np.argsort(-scene.energy, kind="stable")[:limit])
    share = float(scene.energy[rows].sum(dtype=np.float64) / scene.energy.sum(dtype=np.float64))
    kept = ShowerScene(
        title=scene.title,
        position=scene.position[rows],
        energy=scene.energy[rows],
        layer=scene.layer[rows],
        groups=tuple(group._replace(member=group.member[rows]) for group in scene.groups),
    )
    return kept, f"the {limit:,} strongest of {n:,} hits, {share:.0%} of the energy"
