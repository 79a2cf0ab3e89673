"""Clustering in a high-granularity calorimeter: CLUE and its relatives in two and three dimensions.

The names are loaded on first use: importing this package costs no import of JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.hgcal_clustering.config import HgcalConfig
    from recon.hgcal_clustering.distances import Kernel, Metric
    from recon.hgcal_clustering.estimator import CLUE
    from recon.hgcal_clustering.pipeline import Showers, find_showers, load_cells

_HOMES = {
    "CLUE": "estimator",
    "HgcalConfig": "config",
    "Kernel": "distances",
    "Metric": "distances",
    "Showers": "pipeline",
    "find_showers": "pipeline",
    "load_cells": "pipeline",
}

__all__ = ["CLUE", "HgcalConfig", "Kernel", "Metric", "Showers", "find_showers", "load_cells"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
