"""`recon export nova`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon.commands import console
from recon.tagging.cvn import DEFAULT, load_model
from recon.tagging.image_export import BATCHES
from recon.tagging.neutrino_remote import export_neutrino_model


def export(
    *,
    model: str = DEFAULT,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    name: str = "nova",
    version: str = "1",
    batches: tuple[int, ...] = BATCHES,
    overwrite: bool = False,
) -> None:
    """Write the classifier of neutrino events as two artefacts, `<name>_featurizer` and `<name>_classifier`.

    Args:
        model: shipped, or the directory of your own.
        output: the model repository.
        name: of the artefacts.
        version: of the artefacts, a whole number.
        batches: padded numbers of events that they are compiled for.
        overwrite: replace what is there.
    """
    with console.status("writing featurizer and classifier"):
        written = export_neutrino_model(
            output, load_model(model), name=name, version=version, batches=batches, overwrite=overwrite
        )
    for folder in written:
        console.print(f"written: {folder}")
