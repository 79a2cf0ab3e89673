"""Numbers of a training: how well a tagger separates, and what its cuts do to the mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

from recon.errors import ConfigError
from recon.io.jets import read_jet_metadata
from recon.metrics import Ratio, auc, auc_error, rejection, rejection_interval
from recon.report import Rows, finite, format_number, format_ratio, markdown_table, ratio_json
from recon.tagging.calibration import negative_log_likelihood
from recon.tagging.labels import discriminant, members_of, opposed
from recon.tagging.metrics import mass_sculpting
from recon.tagging.performance import EFFICIENCIES, SCULPTING_MISTAG, Rejection
from recon.tagging.report import format_rejection

SIGNALS: dict[str, str | tuple[str, ...]] = {
    "top": "T", "W": "W", "Z": "Z", "H(bb)": "Hbb", "H(cc)": "Hcc", "b": ("b", "bb"),
}  # fmt: skip
"""What is held against QCD, as far as the classes are there: fully merged decays; for b taggers b against the rest."""


class Separation(NamedTuple):
    """One signal against the background.

    Attributes:
        signal: number of jets.
        background: number of jets.
        auc: area under the ROC curve.
        auc_error: of one standard deviation.
        rejections: by efficiency.
        sculpting: Jensen-Shannon divergence of the background's masses, bits; NaN without masses.
    """

    signal: int
    background: int
    auc: float
    auc_error: float
    rejections: dict[float, Rejection]
    sculpting: float


class Quality(NamedTuple):
    """Numbers of a tagger on a sample.

    Attributes:
        signals: by name.
        accuracy: jets whose most probable class is theirs.
        likelihood: mean of -log of the probability of the true class.
        temperature: that the logits were divided by.
    """

    signals: dict[str, Separation]
    accuracy: Ratio
    likelihood: float
    temperature: float = 1.0


def is_background(label: Int[np.ndarray, " j"], labels: Sequence[str]) -> Bool[np.ndarray, " j"]:
    """Jets of quarks and gluons."""
    quarks = members_of(("QCD",))["QCD"]
    flags = [bool(classes & quarks) or name == "udsg" for name, classes in members_of(labels).items()]
    return np.where(label >= 0, np.array(flags)[label], False)


def quality(
    logits: Float[np.ndarray, "j k"],
    label: Int[np.ndarray, " j"],
    mass: Float[np.ndarray, " j"],
    labels: tuple[str, ...],
) -> Quality:
    """Numbers of a tagger.

    Args:
        logits: of the classes.
        label: rows of the classes; jets without one do not count.
        mass: soft-drop mass, GeV.
        labels: of the classes.
    """
    known = label >= 0
    logits, label, mass = logits[known], label[known], mass[known]
    scores = softmax(np.asarray(logits, np.float64), axis=1)
    signals = {}
    for name, signal in SIGNALS.items():
        sides = _sides(labels, signal)
        if sides is None:
            continue
        rows = [np.isin(label, [labels.index(one) for one in side]) for side in sides]
        if rows[0].any() and rows[1].any():
            score = discriminant(scores, sides[0], sides[1], labels)
            signals[name] = _separation(rows[0], rows[1], score, mass)
    hit = Ratio(int((scores.argmax(1) == label).sum()), len(label))
    return Quality(signals, hit, negative_log_likelihood(label, logits))


def _sides(labels: tuple[str, ...], signal: str | tuple[str, ...]) -> tuple[tuple[str, ...], ...] | None:
    if not isinstance(signal, str):
        there = set(signal) <= set(labels)
        return (signal, tuple(name for name in labels if name not in signal)) if there else None
    try:
        return opposed(labels, signal, "QCD", "the tagger")
    except ConfigError:
        return None


def _separation(
    signal: np.ndarray, background: np.ndarray, score: np.ndarray, mass: np.ndarray
) -> Separation:
    valid = signal | background
    arrays = signal, score
    rejections = {
        at: Rejection(rejection(*arrays, at, valid), *rejection_interval(*arrays, at, valid))
        for at in EFFICIENCIES
    }
    # Too few jets say nothing about the cut.
    enough = background & np.isfinite(mass)
    measurable = enough.sum() * SCULPTING_MISTAG >= 1
    sculpted = mass_sculpting(mass, score, enough, SCULPTING_MISTAG).divergence if measurable else np.nan
    return Separation(
        int(signal.sum()),
        int(background.sum()),
        auc(*arrays, valid),
        auc_error(*arrays, valid),
        rejections,
        sculpted,
    )


def table_rows(found: Sequence[Quality]) -> Rows:
    """The table of one or several taggers, one column each."""
    rows: list[tuple[str, list[str]]] = []
    for name in found[0].signals:
        each = [quality.signals.get(name) for quality in found]
        rows.append((f"{name} against QCD: AUC", [_auc_text(one) for one in each]))
        for at in EFFICIENCIES:
            texts = [format_rejection(one.rejections[at]) if one else "-" for one in each]
            rows.append((f"  rejection at {100 * at:g} %", texts))
        label = f"  mass sculpting at {100 * SCULPTING_MISTAG:.0f} % mistag, bits"
        rows.append((label, [format_number(one.sculpting) if one else "-" for one in each]))
    rows.append(("accuracy, all classes", [format_ratio(quality.accuracy) for quality in found]))
    rows.append(("negative log likelihood", [format_number(quality.likelihood, 4) for quality in found]))
    rows.append(("temperature", [format_number(quality.temperature, 4) for quality in found]))
    return rows


def _auc_text(one: Separation | None) -> str:
    return "-" if one is None else f"{one.auc:.4f} ± {one.auc_error:.4f}"


def quality_json(found: Quality) -> dict[str, Any]:
    """The numbers as JSON values."""
    return {
        "signals": {
            name: {
                "signal": one.signal,
                "background": one.background,
                "auc": finite(one.auc),
                "auc_error": finite(one.auc_error),
                "rejections": {
                    str(at): {name: finite(value) for name, value in found._asdict().items()}
                    for at, found in one.rejections.items()
                },
                "sculpting": finite(one.sculpting),
            }
            for name, one in found.signals.items()
        },
        "accuracy": ratio_json(found.accuracy),
        "likelihood": found.likelihood,
        "temperature": found.temperature,
    }


def data_text(files: Sequence[Path]) -> str:
    """What is known of files of jets: how they were simulated, one line each."""
    lines = []
    for path in files:
        known = read_jet_metadata(path).get("simulation", {})
        about = ", ".join(f"{name} {known[name]}" for name in sorted(known) if name != "versions")
        lines.append(f"- `{path.name}`: {about or 'of unknown origin'}")
    return "\n".join(lines)


def card_text(
    title: str,
    network: nnx.Module,
    numbers: tuple[str, Sequence[Quality], Sequence[str]],
    files: Sequence[Path],
    steps: str,
    settings: Mapping[str, Any],
) -> str:
    """The model card: data, seeds, settings, numbers.

    Args:
        title: what was trained.
        network: whose parameters are counted.
        numbers: the sample that they are of, the numbers, and the names of their columns.
        files: trained on.
        steps: how long it was trained.
        settings: of the training.
    """
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    sample, found, names = numbers
    rows = [[label, *texts] for label, texts in table_rows(found)]
    listed = [[name, str(value)] for name, value in sorted(settings.items())]
    return f"""# {title}

{count:,} trained parameters. {steps}

## Data

{data_text(files)}

## Settings

{markdown_table(["setting", "value"], listed)}
## Numbers

On {sample}. Errors are of one standard deviation; the interval of a rejection is that of Clopper and Pearson.

{markdown_table(["", *names], rows)}"""
