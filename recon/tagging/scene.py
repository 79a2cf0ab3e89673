"""From a jet in a file to what the pictures draw of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from recon.display.jet import JetScene
from recon.io.jet_columns import JetColumns
from recon.types import NOISE

RADIUS = 0.8
KINDS = {
    "ChargedHadron": "charged hadron",
    "NeutralHadron": "neutral hadron",
    "Photon": "photon",
    "Electron": "electron",
    "Muon": "muon",
}
OTHER = "other"


def jet_scene(
    columns: JetColumns,
    jet: int,
    *,
    title: str,
    labels: tuple[str, ...] = (),
    scores: Float32[np.ndarray, " k"] | None = None,
) -> JetScene:
    """What is drawn of one of some jets.

    Args:
        columns: the jets.
        jet: row among them.
        title: above the picture.
        labels: classes of a tagger.
        scores: what it says of this jet.
    """
    mine = _rows(columns.candidate_count, jet)
    candidates = {name: np.asarray(column)[mine] for name, column in columns.candidates.items()}
    vertices = {
        name: np.asarray(column)[_rows(columns.vertex_count, jet)]
        for name, column in columns.vertices.items()
    }
    n = int(columns.candidate_count[jet])
    kind = np.full(n, len(KINDS), np.int32)
    for row, name in enumerate(KINDS):
        kind[candidates.get(f"part_is{name}", np.zeros(n)) != 0] = row
    places = [np.stack([one[f"{prefix}_deta"], one[f"{prefix}_dphi"]], axis=-1).astype(np.float32)
              if f"{prefix}_deta" in one else np.zeros((0, 2), np.float32)
              for prefix, one in (("part", candidates), ("sv", vertices))]  # fmt: skip
    return JetScene(
        title=title,
        position=places[0],
        pt=np.hypot(candidates["part_px"], candidates["part_py"]).astype(np.float32),
        kind=kind,
        kinds=(*KINDS.values(), OTHER),
        vertices=places[1],
        vertex_notes=tuple(_note(vertices, row) for row in range(len(places[1]))),
        radius=RADIUS,
        classes=labels if scores is not None else (),
        scores=() if scores is None else scores.tolist(),
    )


def describe(columns: JetColumns, jet: int, labels: tuple[str, ...]) -> str:
    """A jet in a line: momentum, mass and true class, as far as the file says.

    Args:
        columns: the jets.
        jet: row among them.
        labels: classes of the column `jet_label`; a number that is none of them is not told.
    """
    parts = [f"jet with pT {columns.jets['jet_pt'][jet]:.0f} GeV"]
    if "jet_sdmass" in columns.jets:
        parts.append(f"soft-drop mass {columns.jets['jet_sdmass'][jet]:.0f} GeV")
    label = int(columns.jets.get("jet_label", np.full(jet + 1, NOISE))[jet])
    return ", ".join(parts) + (f": {labels[label]}" if 0 <= label < len(labels) else "")


def _rows(counts: np.ndarray, jet: int) -> slice:
    first = int(counts[:jet].sum())
    return slice(first, first + int(counts[jet]))


def _note(vertices: dict[str, np.ndarray], row: int) -> str:
    if not {"sv_mass", "sv_ntracks"} <= set(vertices):
        return ""
    return f"{vertices['sv_mass'][row]:.1f} GeV, {int(vertices['sv_ntracks'][row])} tracks"
