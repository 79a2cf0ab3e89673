"""`recon display jets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recon.commands import console, progress_bars
from recon.display.jet import write_jet_png
from recon.display.jet_html import write_jet_html
from recon.errors import DataError
from recon.tagging.commands.options import ModelName, load
from recon.tagging.labels import LABELS
from recon.tagging.pipeline import TaggedJets, open_jets, read_tables, tag_jets
from recon.tagging.scene import describe, jet_scene
from recon.tagging.shipped import DEFAULT


def display(
    file: Positional[Path],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/display-jet"),
    jet: int = 0,
    model: ModelName = DEFAULT,
) -> None:
    """Tag one jet and draw it as PNG and as a page: constituents in the plane of eta and phi, vertices, scores.

    Args:
        file: jets as ROOT or parquet: ours, JetClass's, or CMS's PFNano.
        output: path of the pictures without their endings.
        jet: place of the jet in the file, from 0.
        model: the tagger.
    """
    tagger, source = load(model), open_jets(file)
    before = 0
    with progress_bars() as report:
        for table in read_tables(source):
            if 0 <= jet - before < len(table):
                tagged = tag_jets(table[jet - before : jet - before + 1], tagger)
                report("pictures", 0, 1)
                written = draw(tagged, 0, tagger.labels, output)
                report("pictures", 1, 1)
                break
            before += len(table)
        else:
            raise DataError(f"{file} has no jet {jet}; it has {before}, counted from 0")
    for path in written:
        console.print(f"wrote {path}")


def draw(tagged: TaggedJets, jet: int, labels: tuple[str, ...], output: Path) -> tuple[Path, Path]:
    """Draw one of some jets with its scores; returns the two files."""
    title = describe(tagged.columns, jet, LABELS)
    scene = jet_scene(tagged.columns, jet, title=title, labels=labels, scores=tagged.scores[jet])
    png, html = (output.with_name(output.name + ending) for ending in (".png", ".html"))
    write_jet_png(png, scene)
    write_jet_html(html, scene)
    return png, html
