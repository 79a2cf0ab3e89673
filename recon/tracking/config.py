"""Settings of the tracking chain, one frozen object that travels with the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon.errors import ConfigError
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
        parts = {
            "windows": WindowConfig,
            "network": NetworkConfig,
            "building": BuildingConfig,
            "cleaning": CleaningConfig,
            "fit": FitConfig,
        }
        _check_names(tree, cls, "tracking")
        values: dict[str, Any] = {}
        for name, value in tree.items():
            if name in parts:
                _check_names(value, parts[name], name)
                values[name] = _make(parts[name], value, name)
            else:
                values[name] = value
        return cls(**values)


def _make(kind: type, tree: Mapping[str, Any], where: str) -> Any:
    try:
        return kind(**tree)
    except TypeError as error:
        # Nothing is missing and comparable in a file of `to_json`: this one was written by hand.
        raise ConfigError(f"the {where} configuration cannot be used: {error}") from error


def _check_names(tree: Any, kind: type, where: str) -> None:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"the {where} configuration is {tree!r}; needed are settings by name")
    allowed = [item.name for item in dataclasses.fields(kind)]
    unknown = sorted(set(tree) - set(allowed))
    if unknown:
        raise ConfigError(
            f"the {where} configuration has no setting {', '.join(unknown)}; there are {', '.join(allowed)}"
        )
