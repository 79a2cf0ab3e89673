"""Settings of the tracking chain, one frozen object that travels with the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon.settings import from_tree
from recon.tracking.building import BuildingConfig
from recon.tracking.cleaning import CleaningConfig
from recon.tracking.fit_setup import FitConfig
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.model import NetworkConfig
from recon.tracking.windows import WindowConfig


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Everything the chain from hits to fitted tracks can be told.

    Attributes:
        detector: name of the sensor table (`recon.tracking.detector.detector_names`).
        windows: how the layer-pair map was learned.
        network: shape of the edge classifier.
        building: cuts of the walk through the graph.
        cleaning: cuts on outliers and on tracks.
        fit: settings of the Kalman refit.
    """

    detector: str = "generic"
    windows: WindowConfig = field(default_factory=WindowConfig)
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(
            node_features=len(NODE_FEATURES), edge_features=len(EDGE_FEATURES)
        )
    )
    building: BuildingConfig = field(default_factory=BuildingConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    # Candidates with a wrong hit move far in their last step: the cleaning judges them, not the fit.
    fit: FitConfig = field(default_factory=lambda: FitConfig(iterations=2, max_step=1e6))

    def to_json(self) -> dict[str, Any]:
        """A tree of plain values, the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> TrackingConfig:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: a setting that does not exist, by name, with those that do, or a value of the wrong type.
        """
        return from_tree(cls, tree, "tracking")
