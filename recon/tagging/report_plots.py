"""The pictures of the report on taggers: which quantity, with which labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.display.axis_ranges import rate_range
from recon.display.classifier import Diagram, Marked, plot_confusion, plot_reliability, plot_roc, plot_shapes
from recon.display.curves import Points, binomial_points, plot_points
from recon.metrics import Binned
from recon.tagging.calibration import Reliability
from recon.tagging.evaluation import Question, TaggerResult
from recon.tagging.performance import SCULPTING_MISTAG, Performance

_LABELS = {"pt": "jet pT [GeV]", "pileup": "pile-up collisions"}
_SHOWN = ("medium", "loose")
"""Working point that is drawn in bins: the first that there is background for."""


def write_plots(
    directory: Path,
    results: Sequence[TaggerResult],
    found: Sequence[Performance],
    question: Question,
    title: str,
) -> dict[str, Path]:
    """Draw the pictures of a report; those for which nothing was measured are left out.

    Args:
        directory: to write into.
        results: of the taggers.
        found: their numbers, in the same order.
        question: signal and background.
        title: above every picture.

    Returns:
        The files by the name of the picture.
    """
    files = {"roc": directory / "roc.png"}
    marked = {
        one.name: [
            Marked(point.name, float(point.efficiency.value), float(point.mistag.value))
            for point in one.working_points
        ]
        for one in found
    }
    plot_roc(
        files["roc"],
        {one.name: one.curve for one in found},
        marked=marked,
        xlabel=f"efficiency of {' + '.join(question.signal)}",
        ylabel=f"mistag rate of {' + '.join(question.background)}",
        title=title,
    )
    files |= _binned(directory, found, title)
    files |= _mass(directory, found, question)
    files |= _reliability(directory, found, question)
    for number, (result, one) in enumerate(zip(results, found, strict=True)):
        if one.confusion.sum():
            name = f"confusion_{number + 1}"
            files[name] = directory / f"{name}.png"
            plot_confusion(
                files[name], one.confusion, result.labels, title=f"{one.name}, % of the true class"
            )
    return files


def _binned(directory: Path, found: Sequence[Performance], title: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for variable, xlabel in _LABELS.items():
        curves: dict[str, tuple[Binned, Binned]] = {}
        shown = ""
        for one in found:
            bins = one.by_bin[variable]
            shown = next((point for point in _SHOWN if point in bins), shown)
            if shown in bins:
                curves[one.name] = bins[shown]
        for side, name in enumerate(("efficiency", "mistag rate") if curves else ()):
            points = {tagger: binomial_points(pair[side]) for tagger, pair in curves.items()}
            key = f"{name.replace(' ', '_')}_vs_{variable}"
            files[key] = directory / f"{key}.png"
            plot_points(
                files[key],
                points,
                xlabel=xlabel,
                ylabel=f"{name}, {shown} working point",
                title=title,
                y_range=_range(points, name),
            )
    return files


def _range(points: dict[str, Points], name: str) -> tuple[float, float]:
    # Taggers differ by any factor in efficiency; their mistag rate is the same by construction.
    return (0.0, 1.1) if name == "efficiency" else rate_range(points)


def _mass(directory: Path, found: Sequence[Performance], question: Question) -> dict[str, Path]:
    shapes = {
        f"{one.name}, JSD {one.sculpting.divergence:.3f}": one.sculpting
        for one in found
        if one.sculpting is not None
    }
    if not shapes:
        return {}
    first = next(iter(shapes.values()))
    path = directory / "mass_sculpting.png"
    background = " + ".join(question.background)
    plot_shapes(
        path,
        {name: shape.passed for name, shape in shapes.items()},
        first.edges,
        reference=(f"all {background} jets", first.passed + first.failed),
        xlabel="soft-drop mass [GeV]",
        title=f"{background} jets that pass at a mistag rate of {100 * SCULPTING_MISTAG:g} %",
    )
    return {"mass_sculpting": path}


def _reliability(directory: Path, found: Sequence[Performance], question: Question) -> dict[str, Path]:
    panels: dict[str, dict[str, Diagram]] = {"as the network says": {}, "at the fitted temperature": {}}
    before, after = panels.values()
    for one in found:
        if one.calibration is not None:
            before[one.name] = diagram(one.calibration.before)
            if one.calibration.after is not None:
                after[f"{one.name}, T = {one.calibration.temperature:.2f}"] = diagram(one.calibration.after)
    drawn = {title: lines for title, lines in panels.items() if lines}
    if not drawn:
        return {}
    path = directory / "reliability.png"
    names = " + ".join(question.signal)
    plot_reliability(path, drawn, xlabel=f"probability of {names}", ylabel=f"fraction that is {names}")
    return {"reliability": path}


def diagram(measured: Reliability) -> Diagram:
    """What is drawn of a reliability diagram: bins with jets."""
    filled = np.asarray(measured.observed.total) > 0
    low, high = measured.observed.interval()
    columns = (measured.predicted, measured.observed.value, low, high)
    return Diagram(*(np.asarray(column)[filled] for column in columns))
