"""What the commands of the task share: models by name, and what became of the jets."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon.commands import console
from recon.errors import ConfigError
from recon.io.jet_columns import JetColumns
from recon.tagging.features import InputReport, missing_columns
from recon.tagging.shipped import WEIGHT_FILES, Tagger, load_model

MODEL_HELP = (
    "a shipped model, the directory of your own, or a file of weights (.onnx of CMS, .pt of weaver), MODEL,INPUTS with "
    "the preprocess.json of CMS that goes with it; NAME=MODEL to call it so"
)
ModelName = Annotated[str, arg(help=MODEL_HELP)]


def load(text: str) -> Tagger:
    """Load a model as the command line names it.

    Args:
        text: `[NAME=]MODEL[,INPUTS]`.

    Raises:
        ConfigError: there is no such model.
        DataError: it is incomplete or damaged.
    """
    label, separator, rest = text.partition("=")
    if not separator:
        label, rest = "", text
    model, _, inputs = rest.partition(",")
    if Path(model).is_file() and Path(model).suffix not in WEIGHT_FILES:
        raise ConfigError(f"{model} is no file of weights; those end in {', '.join(WEIGHT_FILES)}")
    tagger = load_model(model, inputs=Path(inputs) if inputs else None)
    return replace(tagger, name=label) if label else tagger


def losses(report: InputReport, tagger: Tagger) -> list[str]:
    """What did not come through as it was, one line each.

    Args:
        report: of all jets.
        tagger: whose capacities they met.
    """
    candidates, vertices = tagger.inputs.n_candidates, tagger.inputs.n_vertices
    lines = {
        f"{report.empty:,} of {report.jets:,} jets have no candidates": report.empty,
        f"{report.candidates_dropped:,} of {report.candidates:,} candidates left out, the softest of "
        f"{report.jets_over_capacity:,} jets with more than {candidates}": report.candidates_dropped,
        f"{report.vertices_dropped:,} vertices left out, the least significant of jets with more than {vertices}": (
            report.vertices_dropped
        ),
        f"{report.replaced:,} values that were NaN or infinite replaced by CMS's rules": report.replaced,
    }
    return [f"{tagger.name}: {line}" for line, count in lines.items() if count]


def missing_inputs(columns: JetColumns, tagger: Tagger) -> dict[str, str]:
    """Features that the file cannot give, with the branch that each lacks and what is spelled nearly the same.

    Args:
        columns: some jets of the file.
        tagger: whose inputs are wanted.
    """
    held = [*columns.jets, *columns.candidates, *columns.vertices]
    found = {}
    for feature, branch in missing_columns(columns, tagger.inputs).items():
        near = difflib.get_close_matches(branch, held, n=2, cutoff=0.85)
        found[feature] = branch + (f" (near: {', '.join(near)})" if near else "")
    return found


def tell_inputs(report: InputReport, missing: dict[str, str], tagger: Tagger) -> None:
    """Print what was lost and what is missing."""
    for line in losses(report, tagger):
        console.print(line)
    if missing:
        total = len(tagger.inputs.candidates) + len(tagger.inputs.vertices or ())
        console.print(
            f"{tagger.name}: {len(missing)} of {total} inputs are not in the file and stand at their median: "
            + ", ".join(f"{feature}: no branch {branch}" for feature, branch in missing.items())
        )
