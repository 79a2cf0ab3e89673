"""One report for several taggers on the same jets: console table, Markdown, JSON and pictures.

JSON layout (schema `recon.tagging.report/1`; what was not measured is null, never NaN):

```
{"schema", "title", "signal": [...], "background": [...], "jets": {"signal", "background"},
 "taggers": [{
    "name", "auc", "auc_error",
    "rejections": {"0.3": {value, low, high}, "0.5": {...}},        # 1 / mistag; one sigma, binomial; null is infinite
    "working_points": [{name, threshold, "mistag": {passed, total, value, low, high}, "efficiency": {...}}],
    "bins": {"pt": {"medium": {"efficiency": {edges, passed, total, outside}, "mistag": {...}}, ...}, "pileup": {}},
    "sculpting": {divergence, by_chance, mistag, edges, passed, failed, outside},
    "calibration": {temperature, error_before, error_after},        # expected calibration error
    "accuracy": {passed, total, value, low, high}, "confusion": {"labels", "counts"}, "unknown_class": count,
    "inputs": {jets, empty, candidates, candidates_dropped, jets_over_capacity, vertices_dropped, replaced},
    "missing": {feature: branch}, "cpu_seconds": number,
    "roc": {efficiency, mistag, low, high}}]}
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from recon.report import (
    console_table,
    curve_json,
    finite,
    format_number,
    format_ratio,
    markdown_table,
    ratio_json,
)
from recon.tagging.evaluation import Question, TaggerResult
from recon.tagging.metrics import MISTAG_RATES
from recon.tagging.performance import (
    EFFICIENCIES,
    SCULPTING_MISTAG,
    Performance,
    Rejection,
    accuracy,
    measure,
    sculpting_by_chance,
)
from recon.tagging.report_plots import write_plots

SCHEMA = "recon.tagging.report/1"

_DEFINITIONS = """\
Score of a tagger: p(signal) / (p(signal) + p(background)), with the sums over its classes of each side.
Rejection: 1 / fraction of the background that passes at this efficiency of the signal, with its binomial interval of
68.3 %. Working points: loosest cuts with at most 10 % (loose), 1 % (medium) and 0.1 % (tight) of the background; errors
are Clopper-Pearson intervals of 68.3 %, those of the area are DeLong's.
Sculpting: Jensen-Shannon divergence, in bits, between the soft-drop masses of the background that passes and that
fails at a mistag rate of {sculpting:g} %; by chance: what a cut at random would show with as many jets.
Calibration error: mean distance between the probability of signal and the fraction that is signal, in a sample of as
many jets of either; calibrated: with logits divided by the temperature, which is fitted on the other half.
Accuracy: jets whose likeliest class is the true one. Jets count once each, without weights. CPU time: features and
network, a jet, on the cores in use.
"""


def write_report(
    directory: Path, results: Sequence[TaggerResult], *, question: Question, title: str
) -> tuple[list[Performance], dict[str, Path]]:
    """Write `report.md`, `report.json` and the pictures of some taggers.

    Args:
        directory: to write into; made if missing.
        results: one a tagger, of the same jets.
        question: that they were evaluated with.
        title: of the report and above the pictures.

    Returns:
        The numbers, and the files by their name without suffix: "report" (Markdown), "json", and every picture.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = [measure(result, question) for result in results]
    plots = write_plots(directory, results, found, question, title)
    json_file, markdown_file = directory / "report.json", directory / "report.md"
    content = to_json(results, found, question=question, title=title)
    json_file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    images = "".join(f"\n![{name.replace('_', ' ')}]({path.name})\n" for name, path in plots.items())
    markdown_file.write_text(to_markdown(results, found, title=title) + images, "utf-8")
    return found, {"report": markdown_file, "json": json_file, **plots}


def format_rejection(found: Rejection) -> str:
    """A rejection with its interval; a bound where no background passes, "-" where nothing was measured."""
    if math.isnan(found.value):
        return "-"
    if math.isinf(found.value):
        return f"> {found.low:,.0f}"
    return f"{found.value:,.0f} (+{found.high - found.value:,.0f} -{found.value - found.low:,.0f})"


def _point(found: Performance, name: str, show: Callable[[Any], str]) -> str:
    return next((show(point) for point in found.working_points if point.name == name), "-")


def summary_rows(
    results: Sequence[TaggerResult], found: Sequence[Performance]
) -> list[tuple[str, list[str]]]:
    """Rows of the summary table: what is measured, and one text a tagger; rows nobody measured are left out."""
    signal = results[0].sample.signal
    counts = f"{int(signal.sum()):,} / {int((~signal).sum()):,}"
    rows = [("signal / background", [counts] * len(found))]
    rows.append(("AUC", [f"{one.auc:.4f} ± {one.auc_error:.4f}" for one in found]))
    for efficiency in EFFICIENCIES:
        texts = [format_rejection(one.rejections[efficiency]) for one in found]
        rows.append((f"rejection at {100 * efficiency:g} %", texts))
    for name, rate in MISTAG_RATES.items():
        texts = [_point(one, name, lambda point: format_ratio(point.efficiency)) for one in found]
        rows.append((f"{name}, {100 * rate:g} % mistag", texts))
        rows.append(
            (f"cut, {name}", [_point(one, name, lambda point: f"{point.threshold:.5g}") for one in found])
        )
    rows.append(("accuracy", [format_ratio(accuracy(one)) for one in found]))
    sculpting = [one.sculpting.divergence if one.sculpting is not None else math.nan for one in found]
    rows.append(("mass sculpting [bit]", [format_number(value) for value in sculpting]))
    rows.append(("  by chance", [format_number(sculpting_by_chance(one.sculpting)) for one in found]))
    rows += _calibration_rows(found)
    rows.append(("CPU time per jet [ms]", [format_number(1e3 * result.cpu_seconds) for result in results]))
    rows += _input_rows(results)
    return [(label, texts) for label, texts in rows if set(texts) != {"-"}]


def _calibration_rows(found: Sequence[Performance]) -> list[tuple[str, list[str]]]:
    each = [one.calibration for one in found]
    return [
        ("calibration error", ["-" if one is None else format_number(one.before.error) for one in each]),
        (
            "calibrated error",
            ["-" if one is None or one.after is None else format_number(one.after.error) for one in each],
        ),
        ("temperature", ["-" if one is None else format_number(one.temperature) for one in each]),
    ]


def _input_rows(results: Sequence[TaggerResult]) -> list[tuple[str, list[str]]]:
    reports = [result.report for result in results]
    return [
        (
            "candidates left out",
            [
                "-" if one is None or not one.candidates_dropped else f"{one.candidates_dropped:,}"
                for one in reports
            ],
        ),
        (
            "values replaced",
            ["-" if one is None or not one.replaced else f"{one.replaced:,}" for one in reports],
        ),
        ("inputs missing", ["-" if not result.missing else str(len(result.missing)) for result in results]),
    ]


def summary_table(results: Sequence[TaggerResult], found: Sequence[Performance], title: str) -> Table:
    """Summary for the console, one column a tagger."""
    return console_table([one.name for one in found], summary_rows(results, found), title)


def to_markdown(results: Sequence[TaggerResult], found: Sequence[Performance], *, title: str) -> str:
    """Report as Markdown, without images."""
    rows = [[label, *texts] for label, texts in summary_rows(results, found)]
    table = markdown_table(["", *(one.name for one in found)], rows)
    text = f"# {title}\n\n{table}\n{_DEFINITIONS.format(sculpting=100 * SCULPTING_MISTAG)}"
    for result in results:
        if result.missing:
            listed = ", ".join(
                f"{feature} (no branch {branch})" for feature, branch in result.missing.items()
            )
            text += f"\n{result.name}: inputs that are not in the files, at their median: {listed}.\n"
    return text


def to_json(
    results: Sequence[TaggerResult], found: Sequence[Performance], *, question: Question, title: str
) -> dict[str, Any]:
    """Report as a tree of plain values in the layout at the top of this module."""
    signal = results[0].sample.signal
    return {
        "schema": SCHEMA,
        "title": title,
        "signal": list(question.signal),
        "background": list(question.background),
        "jets": {"signal": int(signal.sum()), "background": int((~signal).sum())},
        "taggers": [_tagger_json(result, one) for result, one in zip(results, found, strict=True)],
    }


def _tagger_json(result: TaggerResult, found: Performance) -> dict[str, Any]:
    inputs = {} if result.report is None else result.report._asdict()
    inputs.pop("missing", None)
    return {
        "name": found.name,
        "auc": finite(found.auc),
        "auc_error": finite(found.auc_error),
        "rejections": {
            f"{efficiency:g}": {name: finite(value) for name, value in one._asdict().items()}
            for efficiency, one in found.rejections.items()
        },
        "working_points": [
            {
                "name": point.name,
                "threshold": point.threshold,
                "mistag": ratio_json(point.mistag),
                "efficiency": ratio_json(point.efficiency),
            }
            for point in found.working_points
        ],
        "bins": {
            variable: {
                name: {"efficiency": curve_json(pair[0]), "mistag": curve_json(pair[1])}
                for name, pair in bins.items()
            }
            for variable, bins in found.by_bin.items()
        },
        "sculpting": _sculpting_json(found),
        "calibration": _calibration_json(found),
        "accuracy": ratio_json(accuracy(found)),
        "confusion": {"labels": list(result.labels), "counts": found.confusion.tolist()},
        "unknown_class": found.unknown,
        "inputs": inputs,
        "missing": result.missing,
        "cpu_seconds": finite(result.cpu_seconds),
        "roc": {name: column.tolist() for name, column in found.curve._asdict().items()},
    }


def _sculpting_json(found: Performance) -> dict[str, Any] | None:
    if found.sculpting is None:
        return None
    edges, passed, failed = (
        getattr(found.sculpting, name).tolist() for name in ("edges", "passed", "failed")
    )
    return {
        "divergence": finite(found.sculpting.divergence),
        "by_chance": finite(sculpting_by_chance(found.sculpting)),
        "mistag": SCULPTING_MISTAG,
        "edges": edges,
        "passed": passed,
        "failed": failed,
        "outside": found.sculpting.outside,
    }


def _calibration_json(found: Performance) -> dict[str, Any] | None:
    if found.calibration is None:
        return None
    after = found.calibration.after
    return {
        "temperature": finite(found.calibration.temperature),
        "error_before": finite(found.calibration.before.error),
        "error_after": None if after is None else finite(after.error),
    }
