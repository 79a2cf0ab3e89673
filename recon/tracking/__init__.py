"""Track finding with a graph network: `load_model`, then `find_tracks`.

The names are loaded on first use: the sensor tables alone (which the simulation needs) must not cost an import of JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.tracking.config import TrackingConfig
    from recon.tracking.detector import load_detector
    from recon.tracking.pipeline import find_tracks
    from recon.tracking.shipped import TrackingModel, load_model

_HOMES = {
    "TrackingConfig": "config",
    "TrackingModel": "shipped",
    "find_tracks": "pipeline",
    "load_detector": "detector",
    "load_model": "shipped",
}

__all__ = ["TrackingConfig", "TrackingModel", "find_tracks", "load_detector", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
