"""Colours of groups of hits: a colour each for the most energetic, one for the rest, one for hits in none."""

from __future__ import annotations

from matplotlib import colormaps
from matplotlib.colors import to_hex

from recon.display.canvas import PALETTE
from recon.display.shower_scene import HitGroups

GREY, UNGROUPED = "#9a9a9a", "#d9d9d9"


def colors_of(groups: HitGroups) -> list[str]:
    """A colour for every group, and at the end, where index -1 finds it, that of hits in no group."""
    colors = [GREY] * len(groups.labels) + [UNGROUPED]
    strong = [color for color in PALETTE if color != "#000000"]
    more = [to_hex(colormaps["tab20b"](number)) for number in range(20)]
    for row, color in zip(groups.named(), strong + more, strict=False):
        colors[row] = color
    return colors
