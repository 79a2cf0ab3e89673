"""Weights that others trained, put into our networks: CMS's ONNX files and weaver's state dictionaries.

The shape of the network follows from the file. Every array has its place by name (or, where the export of ParticleNet
lost the names, by order) and must have the shape of that place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recon.errors import ConfigError
from recon.tagging import import_cms, import_particle_net, import_weaver


def load_pretrained(path: Path, kind: str, **options: Any) -> Any:
    """A network with the weights of a file that others made.

    Args:
        path: ".onnx" or ".pt".
        kind: "deepak8", "deepak8-md", "deepdoubleb" (both ONNX), "particlenet" or "particletransformer".
        options: of the importer, `coordinates` and `k` of ParticleNet for example.

    Raises:
        ConfigError: there is no importer for such a file.
        DataError: the file cannot be read or its weights do not fit.
    """
    importers = {
        ("deepak8", ".onnx"): import_cms.load_deepak8,
        ("deepak8-md", ".onnx"): import_cms.load_deepak8,
        ("deepdoubleb", ".onnx"): import_cms.load_deepdoubleb,
        ("particlenet", ".onnx"): import_particle_net.load_particle_net,
        ("particlenet", ".pt"): import_weaver.load_particle_net,
        ("particlenet-lite", ".pt"): import_weaver.load_particle_net,
        ("particletransformer", ".pt"): import_weaver.load_particle_transformer,
    }
    key = (kind, Path(path).suffix)
    if key not in importers:
        known = ", ".join(f"{name} from {suffix}" for name, suffix in importers)
        raise ConfigError(
            f"{path}: no importer of {kind} from {key[1] or 'a file without a suffix'}; there are {known}"
        )
    return importers[key](Path(path), **options)
