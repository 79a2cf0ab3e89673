"""Settings of the chain from hits to showers, one frozen object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon.errors import ConfigError
from recon.hgcal_clustering.calibration import CalibrationConfig
from recon.hgcal_clustering.clue3d import Clue3dConfig
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig
from recon.hgcal_clustering.clue_hits import HitClueConfig
from recon.hgcal_clustering.clue_layers import LayerClueConfig
from recon.hgcal_clustering.hybrid import HybridConfig
from recon.hgcal_clustering.imaging import ImagingConfig
from recon.hgcal_clustering.layer_clusters import LayerClusterConfig
from recon.settings import from_tree

METHODS = ("clue3d", "hits", "imaging", "clusters", "hybrid")
"""Layer clusters and CLUE3D, CLUE on hits in three dimensions, density peaks along lines of sight, CLUE on layer
clusters in three dimensions, or its seeds and a network."""


@dataclass(frozen=True, kw_only=True)
class HgcalConfig:
    """Everything the chain from hits to showers can be told.

    Attributes:
        method: one of `METHODS`.
        layers: CLUE in the layers.
        layer_clusters: positions of layer clusters.
        clue3d: association of layer clusters.
        hits: CLUE on hits in three dimensions.
        imaging: density peaks in the layers and their association.
        clusters: CLUE on layer clusters in three dimensions.
        hybrid: seeds and a network on layer clusters.
        calibration: regressed energy.
    """

    method: str = "clue3d"
    layers: LayerClueConfig = field(default_factory=LayerClueConfig)
    layer_clusters: LayerClusterConfig = field(default_factory=LayerClusterConfig)
    clue3d: Clue3dConfig = field(default_factory=Clue3dConfig)
    hits: HitClueConfig = field(default_factory=HitClueConfig)
    imaging: ImagingConfig = field(default_factory=ImagingConfig)
    clusters: ClusterClueConfig = field(default_factory=ClusterClueConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"HgcalConfig.method = {self.method!r}; allowed are {', '.join(METHODS)}")

    def to_json(self) -> dict[str, Any]:
        """A tree of plain values, the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> HgcalConfig:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: a setting that does not exist, by name, with those that do, or a value of the wrong type.
        """
        return from_tree(cls, tree, "hgcal")
