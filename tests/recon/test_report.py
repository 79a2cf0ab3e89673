"""Numbers, tables and JSON of the reports of all tasks."""

from __future__ import annotations

import json

import numpy as np
from rich.console import Console

from recon.display.axis_ranges import efficiency_range, rate_range
from recon.display.curves import Points
from recon.metrics import Binned, Ratio, integer_edges
from recon.report import (
    console_table,
    curve_json,
    finite,
    format_number,
    format_ratio,
    markdown_table,
    ratio_json,
)


def test_format_ratio():
    assert format_ratio(Ratio(0, 0)) == "-"
    assert format_ratio(Ratio(500, 1000)) == "50.00 ± 1.63 %"


def test_format_number():
    assert format_number(float("nan")) == "-"
    assert format_number(0.123456) == "0.123"
    assert format_number(1234.5, 5) == "1234.5"


def test_console_table_takes_brackets_for_text():
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(console_table(["ours", "peer [x]"], [("time [s]", ["1", "2"])], "event [3]"))
    assert all(word in captured.get() for word in ("event [3]", "peer [x]", "time [s]"))


def test_markdown_table_escapes_bars():
    lines = markdown_table(["", "a|b"], [["x", "1"]]).splitlines()
    assert lines == ["|  | a\\|b |", "| --- | ---: |", "| x | 1 |"]


def test_json_has_no_nan():
    empty = ratio_json(Ratio(0, 0))
    assert empty == {"passed": 0, "total": 0, "value": None, "low": None, "high": None}
    assert ratio_json(Ratio(3, 4))["value"] == 0.75
    curve = curve_json(Binned(np.array([0.0, 1.0]), Ratio(np.array([1]), np.array([2])), 3))
    assert curve == {"edges": [0.0, 1.0], "passed": [1], "total": [2], "outside": 3}
    json.dumps([empty, curve, finite(float("inf")), finite(2.0)], allow_nan=False)


def test_integers_lie_inside_bins():
    assert integer_edges([np.array([10.0, 13.0])], 8).tolist() == [9.5, 10.5, 11.5, 12.5, 13.5]
    assert len(integer_edges([np.array([0.0]), np.array([200.0])], 8)) == 9
    assert integer_edges([np.zeros(0)], 8).tolist() == [-0.5, 0.5]


def test_ranges_follow_what_is_well_measured():
    edges = np.array([0.0, 1.0, 2.0])
    points = Points(edges, np.array([0.2, 0.9]), np.array([0.0, 0.88]), np.array([0.7, 0.92]))
    low, high = efficiency_range({"a": points})
    assert 0.8 < low < 0.9
    assert 1.0 < high < 1.1
    assert rate_range({"a": points}) == (0.0, 1.3 * 0.92)
    assert rate_range({}) == (0.0, 1.3 * 0.77)
