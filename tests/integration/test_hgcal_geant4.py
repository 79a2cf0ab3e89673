"""The script behind the picture of showers beside Geant4, on small samples."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from recon.display.showers import ShowerCurves, plot_showers
from recon.errors import ConfigError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "data" / "hgcal" / "geant4_reference.json.gz"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("hgcal_geant4", ROOT / "benchmarks" / "hgcal_geant4.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_and_plot(script, tmp_path, capsys):
    if not REFERENCE.is_file():
        pytest.skip(f"no reference data at {REFERENCE}")
    plot, summary = tmp_path / "plots" / "showers.png", tmp_path / "ratios.json"
    script.main(REFERENCE, plot=plot, json=summary, scale=0.02)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].count("|") == 6
    assert any(line.startswith("| resolution | ") for line in lines)
    ratios = json.loads(summary.read_text())
    assert set(ratios) == set(script.NAMES)
    assert 0.9 < ratios["Photon_E50"]["response"] < 1.1
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert plot.stat().st_size > 20_000


def test_plot_of_made_up_showers(tmp_path):
    layers, rings = np.exp(-np.arange(10.0)), np.exp(-np.arange(5.0))
    curves = ShowerCurves((layers, layers), (10.0 * layers, layers), (rings, rings[:3]))
    plot_showers(tmp_path / "a.png", {"one": curves, "two": curves}, ours="line", reference="points")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"allowed are file names that end in \.png"):
        plot_showers(tmp_path / "a.pdf", {"one": curves}, ours="line", reference="points")
