"""Jets that might have been: turned about their axis and reflected, since no direction around a jet is special."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recon.features import FeatureTable
from recon.tagging.inputs import JetInputs
from recon.types import Jets

_PLANES = (("pfcand_etarel", "pfcand_phirel"), ("part_deta", "part_dphi"), ("sv_etarel", "sv_phirel"))
"""Pairs of features that are a position in the plane across a jet's axis."""

_SIGNED = ("pfcand_dxy", "pfcand_dxysig", "part_d0")
"""Features that a reflection turns round: which side of the primary vertex a track passes on."""


class _Plane(NamedTuple):
    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    signed: np.ndarray
    twice: np.ndarray


def _plane(table: FeatureTable | None) -> _Plane | None:
    """Where in a table the positions and the signed features are; `None` where there are no positions."""
    names = [] if table is None else list(table.columns)
    pair = next((pair for pair in _PLANES if set(pair) <= set(names)), None)
    if table is None or pair is None:
        return None
    columns = np.array([names.index(name) for name in pair])
    features = [table.features[column] for column in columns]
    signed = np.array([names.index(name) for name in _SIGNED if name in names], int)
    # A standardised number z is turned round by -z - 2 mean / scale.
    twice = np.array([2 * table.features[k].mean / table.features[k].scale for k in signed], np.float32)
    mean, scale = (np.array([getattr(f, name) for f in features], np.float32) for name in ("mean", "scale"))
    return _Plane(columns, mean, scale, signed, twice)


class Turning:
    """Turns and reflects jets by chance.

    Candidates and vertices of one jet turn together; the features that do not change are left as they are. So are the
    momenta along the beam, which a large turn would change a little: the jets are narrow.

    Args:
        inputs: say which columns are positions.
    """

    def __init__(self, inputs: JetInputs) -> None:
        self._candidates, self._vertices = _plane(inputs.candidates), _plane(inputs.vertices)

    def __call__(self, jets: Jets, generator: np.random.Generator) -> Jets:
        """New jets in single precision; padding stays 0."""
        count = len(jets.label)
        angle = generator.uniform(0, 2 * np.pi, count).astype(np.float32)
        mirror = generator.choice(np.array([-1, 1], np.float32), count)
        # A reflection in the azimuth, then a turn.
        turn = np.stack(
            [np.cos(angle), -np.sin(angle) * mirror, np.sin(angle), np.cos(angle) * mirror], -1
        ).reshape(-1, 2, 2)
        return jets._replace(
            candidates=_turned(self._candidates, jets.candidates, jets.candidate_valid, turn, mirror),
            vertices=_turned(self._vertices, jets.vertices, jets.vertex_valid, turn, mirror),
        )


def _turned(
    plane: _Plane | None, features: np.ndarray, valid: np.ndarray, turn: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    result = np.array(features, np.float32)
    if plane is None:
        return result
    position = result[..., plane.columns] * plane.scale + plane.mean
    result[..., plane.columns] = (np.einsum("jab,jnb->jna", turn, position) - plane.mean) / plane.scale
    if len(plane.signed):
        side = result[..., plane.signed]
        result[..., plane.signed] = np.where(mirror[:, None, None] < 0, -side - plane.twice, side)
    result[~valid] = 0
    return result
