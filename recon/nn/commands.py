"""`recon export resnet50`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from recon.nn.export import BATCHES, export_resnet


def export(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    name: str = "resnet50",
    image: int = 224,
    batches: tuple[int, ...] = BATCHES,
    seed: int = 0,
    version: str = "1",
    overwrite: bool = False,
) -> None:
    """Write ResNet-50 with random weights: `<name>_featurizer` and `<name>_classifier`.

    Args:
        output: the model repository.
        name: of the artefacts.
        image: height and width, pixels.
        batches: padded numbers of images that they are compiled for.
        seed: of the weights.
        version: of the artefacts, a whole number.
        overwrite: replace artefacts of this version.
    """
    # Brackets in a path are no markup.
    console = Console(soft_wrap=True, markup=False, highlight=False)
    with console.status("writing ResNet-50"):
        written = export_resnet(
            output,
            name=name,
            image=image,
            batches=batches,
            seed=seed,
            version=version,
            overwrite=overwrite,
        )
    for folder in written:
        console.print(f"written: {folder}")
