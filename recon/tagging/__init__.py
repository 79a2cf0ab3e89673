"""Tagging of AK8 jets: `load_model`, then `tag_jets`.

The names are loaded on first use: importing this package costs no import of JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.tagging.labels import LABELS, discriminant
    from recon.tagging.pipeline import TaggedJets, tag_jets
    from recon.tagging.shipped import Tagger, load_model

_HOMES = {
    "LABELS": "labels",
    "TaggedJets": "pipeline",
    "Tagger": "shipped",
    "discriminant": "labels",
    "load_model": "shipped",
    "tag_jets": "pipeline",
}

__all__ = ["LABELS", "TaggedJets", "Tagger", "discriminant", "load_model", "tag_jets"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
