"""`recon export tagging`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import arg

from recon.errors import ConfigError
from recon.io.weights import model_directory
from recon.tagging.export import BATCHES, export_deepak8, export_particle_net
from recon.tagging.export_onnx import write_onnx
from recon.tagging.image_export import export_jet_images
from recon.tagging.importing import load_pretrained
from recon.tagging.jet_image_network import JetImageNetwork
from recon.tagging.models import TaggingModel, kind_of, load_tagging_model
from recon.tagging.particle_net import ParticleNet
from recon.tagging.shipped import CHECKPOINTS, DEFAULT, WEIGHT_FILES, load_model


def export(
    *,
    model: str = DEFAULT,
    kind: str | None = None,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    name: str | None = None,
    format: Literal["artefact", "onnx"] = "artefact",
    version: str = "1",
    batches: tuple[int, ...] = BATCHES,
    overwrite: bool = False,
) -> None:
    """Write a tagger as artefact `<name>`, or as the file `<name>.onnx`.

    DeepAK8 and ParticleNet are one artefact; networks for images are two, `<name>_featurizer` and `<name>_classifier`.

    Args:
        model: a shipped model, the directory of your own, or a file of CMS (.onnx) or weaver (.pt).
        kind: of the network in such a file: deepak8, deepak8-md, particlenet; found out if not given, together with
            what it reads, from CMS's preprocess.json beside it or by the rules of JetClass.
        output: the model repository, or the folder of the file.
        name: of the artefact or the file; the kind by default.
        format: what to write.
        version: of the artefact, a whole number.
        batches: padded numbers of jets that the artefact is compiled for.
        overwrite: replace what is there.
    """
    tagger = _load(model, kind)
    name = name or tagger.kind
    if format == "onnx":
        targets = [output / f"{name}.onnx"]
        if targets[0].exists() and not overwrite:
            raise ConfigError(f"{targets[0]} exists; choose another name, or say that it may be overwritten")
        output.mkdir(parents=True, exist_ok=True)
        write_onnx(targets[0], tagger)
    else:
        settings: dict[str, Any] = {"version": version, "batches": batches, "overwrite": overwrite}
        targets = _write(output, tagger, name, settings)
    # Brackets in a path are no markup.
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for target in targets:
        console.print(f"written: {target}")


def _write(output: Path, tagger: TaggingModel, name: str, settings: dict[str, Any]) -> list[Path]:
    if isinstance(tagger.network, JetImageNetwork):
        return export_jet_images(output, tagger, name=name, **settings)
    writer = export_particle_net if isinstance(tagger.network, ParticleNet) else export_deepak8
    return [writer(output, tagger, name=name, **settings)]


def _load(name: str, kind: str | None) -> TaggingModel:
    path = Path(name)
    if path.suffix not in WEIGHT_FILES or path.is_dir():
        return load_tagging_model(model_directory(name, CHECKPOINTS))
    if kind is None:
        return load_model(path).model
    if not path.is_file():
        raise ConfigError(f"there is no model {path}: it is neither a directory nor a file")
    known = kind_of(kind)
    network = load_pretrained(path, kind)
    labels = known.labels if len(known.labels) == network.config.classes else ()
    card = f"Weights of {path.name}, which others trained; their licence holds."
    return TaggingModel(kind, network, labels, (known.candidates, known.vertices), {}, card)
