"""`recon bench serving` from its command line to its pictures."""

import csv
import json

import pytest

from serving.study_report import bench
from tests.serving import artifacts


def test_everything_is_measured_and_drawn(tmp_path, executables):
    artifacts.mlp(tmp_path / "models")
    output, report = tmp_path / "out", tmp_path / "report.json"
    options = [
        "--models",
        str(tmp_path / "models"),
        "--model",
        "mlp",
        "--output",
        str(output),
        "--calls",
        "5",
    ]
    options += ["--seconds", "0.3", "--clients", "2", "--servers", "1", "--threads", "1", "--delay-ms", "20"]
    assert bench([*options, "--json", str(report)]) == 0
    rows = json.loads(report.read_text())["rows"]
    latency = {row["setting"]: row["p5_ms"] for row in rows if row["what"] == "latency"}
    assert list(latency) == ["local", "on-prem", "remote"]
    # There and back again.
    assert latency["remote"] > 40
    assert latency["local"] < latency["remote"]
    assert [row["rows"] for row in rows if row["what"] == "batch"] == [1, 4, 16]
    assert next(row for row in rows if row["what"] == "throughput")["rate"] > 1
    assert next(row for row in rows if row["what"] == "threads")["memory_mb"] > 50
    with (output / "measurements.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert "this machine, remote" in (output / "table.md").read_text()
    for name in ("latency", "throughput", "threads", "batch"):
        assert (output / f"{name}.png").stat().st_size > 5000


@pytest.mark.parametrize(("model", "text"), [("none", "holds no model"), ("graph", "batches of rows")])
def test_models_that_cannot_be_studied(models, tmp_path, capsys, model, text):
    assert bench(["--models", str(models), "--model", model, "--output", str(tmp_path)]) == 2
    assert text in capsys.readouterr().err
