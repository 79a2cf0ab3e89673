"""One report for several networks on the same neutrino events: console table, Markdown, JSON and pictures.

JSON layout (schema `recon.neutrino.report/1`; what was not measured is null, never NaN):

```
{"schema", "title", "labels", "networks": [{
    "name", "events", "accuracy": {passed, total, value, low, high}, "beam_accuracy": {...}, "cpu_seconds": number,
    "classes": {label: {"efficiency": {...}, "purity": {...}, "auc", "auc_error",
                        "best": {threshold, "efficiency": {...}, "purity": {...}},
                        "energy_efficiency": {edges, passed, total, outside}, "energy_purity": {...}}},
    "confusion": counts}]}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from recon.commands import write_json
from recon.display.classifier import plot_confusion, plot_roc
from recon.display.curves import binomial_points, plot_points
from recon.metrics import roc_band
from recon.report import console_table, curve_json, finite, format_ratio, markdown_table, ratio_json
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_performance import (
    BEAM_ENERGIES,
    TAU,
    Judged,
    NeutrinoPerformance,
    measure_neutrinos,
)

SCHEMA = "recon.neutrino.report/1"

_DEFINITIONS = """\
Accuracy: events whose likeliest class is the true one. At {low:g} to {high:g} GeV: the same of events with neutrinos of
these energies, among the four classes without tau neutrinos, which have no charged currents below 3.5 GeV: their energy
gives them away. Efficiency: events of a class for which it is the likeliest; purity: events for which a class is the
likeliest that are of it, in a sample with as many events of every class as the file has.
Best cut: on the probability of one class, with the largest signal / sqrt(signal + background), tau neutrinos aside.
Errors are Clopper-Pearson intervals of 68.3 %. CPU time: drawing and network, an event, on the cores in use.
"""


class NetworkResult(NamedTuple):
    """What one network made of the events.

    Attributes:
        judged: events with scores.
        cpu_seconds: of an event.
    """

    judged: Judged
    cpu_seconds: float


def write_neutrino_report(
    directory: Path, results: Mapping[str, NetworkResult], *, title: str
) -> tuple[dict[str, NeutrinoPerformance], dict[str, Path]]:
    """Write `report.md`, `report.json` and the pictures of some networks.

    Args:
        directory: to write into; made if missing.
        results: of the same events, by the name of the network.
        title: of the report and above the pictures.

    Returns:
        The numbers, and the files by their name without suffix: "report" (Markdown), "json", and every picture.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = {name: measure_neutrinos(result.judged) for name, result in results.items()}
    pictures = _pictures(directory, results, found, title)
    files = {"report": directory / "report.md", "json": directory / "report.json", **pictures}
    write_json(files["json"], report_json(results, found, title))
    files["report"].write_text(_markdown(results, found, pictures, title))
    return found, files


def rows_of(
    results: Mapping[str, NetworkResult], found: Mapping[str, NeutrinoPerformance]
) -> list[tuple[str, list[str]]]:
    """What is measured, and one text a network."""
    low, high = BEAM_ENERGIES
    each = list(found.values())
    rows = [
        ("events", [f"{one.events:,}" for one in each]),
        ("accuracy, five classes", [format_ratio(one.accuracy) for one in each]),
        (
            f"accuracy, four classes, {low:g} to {high:g} GeV",
            [format_ratio(one.beam_accuracy) for one in each],
        ),
    ]
    for k, label in enumerate(NEUTRINO_LABELS):
        rows.append((f"{label}: efficiency", [format_ratio(one.efficiency[k]) for one in each]))
        rows.append((f"{label}: purity", [format_ratio(one.purity[k]) for one in each]))
        rows.append((f"{label}: AUC", [f"{one.area[k][0]:.4f} ± {one.area[k][1]:.4f}" for one in each]))
    electron = NEUTRINO_LABELS.index("nue CC")
    for name in ("efficiency", "purity"):
        values = [format_ratio(getattr(one.best[electron], name)) for one in each]
        rows.append((f"nue CC at its best cut: {name}", values))
    rows.append(("CPU time an event", [f"{1e3 * result.cpu_seconds:.2f} ms" for result in results.values()]))
    return rows


def neutrino_table(
    results: Mapping[str, NetworkResult], found: Mapping[str, NeutrinoPerformance], title: str
) -> Table:
    """The numbers for the terminal."""
    return console_table(list(found), rows_of(results, found), title)


def _markdown(
    results: Mapping[str, NetworkResult],
    found: Mapping[str, NeutrinoPerformance],
    pictures: Mapping[str, Path],
    title: str,
) -> str:
    rows = [[name, *values] for name, values in rows_of(results, found)]
    low, high = BEAM_ENERGIES
    images = "\n".join(f"![{name}]({path.name})" for name, path in pictures.items())
    table = markdown_table(["", *found], rows)
    return f"# {title}\n\n{table}\n\n{_DEFINITIONS.format(low=low, high=high)}\n{images}\n"


def report_json(
    results: Mapping[str, NetworkResult], found: Mapping[str, NeutrinoPerformance], title: str
) -> dict[str, Any]:
    """The report as JSON-serialisable data."""
    networks = [
        {
            "name": name,
            "events": one.events,
            "accuracy": ratio_json(one.accuracy),
            "beam_accuracy": ratio_json(one.beam_accuracy),
            "cpu_seconds": results[name].cpu_seconds,
            "classes": {label: _class_json(one, k) for k, label in enumerate(NEUTRINO_LABELS)},
            "confusion": one.confusion.tolist(),
        }
        for name, one in found.items()
    ]
    return {"schema": SCHEMA, "title": title, "labels": list(NEUTRINO_LABELS), "networks": networks}


def _class_json(found: NeutrinoPerformance, k: int) -> dict[str, Any]:
    return {
        "efficiency": ratio_json(found.efficiency[k]),
        "purity": ratio_json(found.purity[k]),
        "auc": finite(found.area[k][0]),
        "auc_error": finite(found.area[k][1]),
        "best": {
            "threshold": finite(found.best[k].threshold),
            "efficiency": ratio_json(found.best[k].efficiency),
            "purity": ratio_json(found.best[k].purity),
        },
        "energy_efficiency": curve_json(found.energy_efficiency[k]),
        "energy_purity": curve_json(found.energy_purity[k]),
    }


def _pictures(
    directory: Path,
    results: Mapping[str, NetworkResult],
    found: Mapping[str, NeutrinoPerformance],
    title: str,
) -> dict[str, Path]:
    written = {}
    for number, (name, one) in enumerate(found.items()):
        path = directory / f"confusion_{number}.png"
        plot_confusion(path, one.confusion, NEUTRINO_LABELS, title=name)
        written[path.stem] = path
    first = next(iter(found))
    for kind, curves in (("efficiency", "energy_efficiency"), ("purity", "energy_purity")):
        path = directory / f"{kind}_energy.png"
        series = {
            label: binomial_points(getattr(found[first], curves)[k])
            for k, label in enumerate(NEUTRINO_LABELS)
        }
        plot_points(
            path,
            series,
            xlabel="energy of the neutrino or cosmic ray [GeV]",
            ylabel=kind,
            title=f"{first}: {title}",
            log_x=True,
            y_range=(0.0, 1.05),
        )
        written[path.stem] = path
    written["roc"] = directory / "roc.png"
    plot_roc(
        written["roc"],
        _roc_curves(results),
        ylabel="mistag rate of all others, tau neutrinos aside",
        title=title,
    )
    return written


def _roc_curves(results: Mapping[str, NetworkResult]) -> dict[str, Any]:
    """Of the classes that analyses select, as far as there are such events; every network."""
    curves = {}
    for name, result in results.items():
        label, scores = result.judged.label, result.judged.scores
        for wanted in ("nue CC", "numu CC", "cosmic"):
            k = NEUTRINO_LABELS.index(wanted)
            if not 0 < (label == k).sum() < (label != TAU).sum():
                continue  # of a few events there may be none of a class
            text = wanted if len(results) == 1 else f"{wanted}, {name}"
            curves[text] = roc_band(label == k, scores[:, k], valid=label != TAU)
    return curves
