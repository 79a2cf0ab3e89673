"""`recon export tracking`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon.tracking.commands.options import ModelName, console, progress_bars
from recon.tracking.export import EDGE_BUCKETS, HIT_BUCKETS, export_chain, export_network
from recon.tracking.shipped import DEFAULT, load_model


def export(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    name: str = "tracking",
    model: ModelName = DEFAULT,
    version: str = "1",
    hits: tuple[int, ...] = HIT_BUCKETS,
    edges: tuple[int, ...] = EDGE_BUCKETS,
    overwrite: bool = False,
) -> None:
    """Write the chain, hits to tracks, as artefact `<name>` and its network as `<name>_network`.

    Args:
        output: the model repository.
        name: of the artefact of the chain.
        model: a shipped model or the directory of your own.
        version: of the artefacts, a whole number.
        hits: padded numbers of hits that the chain is compiled for.
        edges: padded numbers of edges that the network is compiled for.
        overwrite: replace artefacts of this version.
    """
    finder = load_model(model)
    with progress_bars() as report:
        written = [
            export_chain(
                output,
                finder,
                name=name,
                version=version,
                buckets=hits,
                overwrite=overwrite,
                report=lambda done, total: report("chain", done, total),
            ),
            export_network(
                output,
                finder,
                name=f"{name}_network",
                version=version,
                buckets=edges,
                overwrite=overwrite,
                report=lambda done, total: report("network", done, total),
            ),
        ]
    for folder in written:
        console.print(f"written: {folder}")
