"""`recon display jet-images`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from recon.commands import console
from recon.display.jet_images import plot_jet_images
from recon.errors import DataError
from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets
from recon.tagging.features import make_jets
from recon.tagging.jet_image_samples import COLUMNS
from recon.tagging.jet_images import IMAGE_INPUTS, JetImageConfig, average_image
from recon.tagging.labels import GROUPS, LABELS
from recon.types import Jets

PARTON = "aux_genpart_pid"
"""Particle that a jet comes from: tells quarks from gluons."""
GLUON = 21
TITLES = {"T": "top", "W": "W", "Z": "Z", "H": "H"}


def display(
    files: Positional[tuple[Path, ...]],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/jet-images.png"),
    jets: int = 1000,
    pixels: int = 56,
    align: bool = False,
) -> None:
    """Draw the mean image of jets of every kind: top, W, Z and Higgs, quarks and gluons.

    Args:
        files: simulated jets.
        output: PNG to write.
        jets: of every kind, the first ones.
        pixels: of every side, over +-1 in eta and phi.
        align: rotate every jet to its principal axis and flip it before.
    """
    config = JetImageConfig(pixels=pixels, align=align, channels=1)
    chosen: dict[str, list[Jets]] = {}
    for kind, some in _kinds(files):
        had = sum(len(part.label) for part in chosen.get(kind, []))
        if had < jets:
            chosen.setdefault(kind, []).append(Jets(*(column[: jets - had] for column in some)))
    images = {}
    for kind in (*TITLES.values(), "quark", "gluon"):
        if kind in chosen:
            joined = Jets(*(np.concatenate(columns) for columns in zip(*chosen[kind], strict=True)))
            images[f"{kind}, mean of {len(joined.label)}"] = np.asarray(
                average_image(joined.candidates, joined.candidate_valid, config)
            )
    if not images:
        raise DataError(f"there are no jets of these kinds in {', '.join(map(str, files))}")
    plot_jet_images(output, images, half_width=config.half_width, label=r"mean of $p_T$ / $p_T$(jet) a pixel")
    console.print(f"wrote {output}")


def _kinds(files: tuple[Path, ...]) -> Iterator[tuple[str, Jets]]:
    """Jets of one kind each, some at a time."""
    for file in files:
        for table in read_jets(file, (*COLUMNS, PARTON)):
            columns = jet_columns(table)
            made, _ = make_jets(columns, IMAGE_INPUTS)
            rows = {TITLES[name]: _of(made.label, name) for name in TITLES}
            gluon = np.asarray(columns.jets[PARTON]) == GLUON
            qcd = _of(made.label, "QCD")
            rows |= {"quark": qcd & ~gluon, "gluon": qcd & gluon}
            for kind, chosen in rows.items():
                if chosen.any():
                    yield kind, Jets(*(column[chosen] for column in made))


def _of(label: np.ndarray, group: str) -> np.ndarray:
    return np.isin(label, [LABELS.index(name) for name in GROUPS[group]])
