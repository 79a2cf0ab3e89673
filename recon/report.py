"""What the reports of all tasks are written with: numbers as text, tables, JSON without NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from recon.metrics import Binned, Ratio

Rows = Sequence[tuple[str, Sequence[str]]]
"""What is measured, and one text a column."""


def format_ratio(ratio: Ratio) -> str:
    """A ratio in percent with the larger side of its error; "-" where nothing was measured."""
    value = float(ratio.value)
    if math.isnan(value):
        return "-"
    low, high = ratio.interval("clopper-pearson")
    error = 100 * max(value - float(low), float(high) - value)
    return f"{100 * value:.2f} ± {error:.2f} %"


def format_number(value: float, digits: int = 3) -> str:
    """A number with so many digits; "-" where nothing was measured."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def console_table(names: Sequence[str], rows: Rows, title: str) -> Table:
    """A table for the console, one column a name."""
    table = Table(title=Text(title))
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right")
    for label, texts in rows:
        # As plain text: the console would take a unit in brackets for a style.
        table.add_row(Text(label), *map(Text, texts))
    return table


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left and the others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def finite(value: float | int) -> float | int | None:
    """The number for JSON, which has no NaN and no infinities."""
    return value if math.isfinite(value) else None


def ratio_json(ratio: Ratio) -> dict[str, Any]:
    """A ratio as counts, value and Clopper-Pearson interval of one sigma."""
    low, high = ratio.interval("clopper-pearson")
    numbers = {"value": finite(float(ratio.value)), "low": finite(float(low)), "high": finite(float(high))}
    return {"passed": int(ratio.passed), "total": int(ratio.total), **numbers}


def curve_json(binned: Binned) -> dict[str, Any]:
    """A ratio in bins as edges and counts."""
    passed, total = np.asarray(binned.ratio.passed), np.asarray(binned.ratio.total)
    return {
        "edges": binned.edges.tolist(),
        "passed": passed.tolist(),
        "total": total.tolist(),
        "outside": binned.outside,
    }
