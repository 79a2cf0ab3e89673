"""How sensors measure: pitches, thicknesses, and the digitisation settings that ACTS reads."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim import import_extra
from recon.types import Detector

Digitisation = Literal["geometric", "smeared"]
"""`geometric`: cells along the path of the particle, clustered. `smeared`: a Gaussian of pitch / sqrt(12)."""


class Readout(NamedTuple):
    """Readout of one class of sensors, the values of the TrackML detector.

    Attributes:
        pitch: cell size along u and v, mm.
        thickness: of the silicon, mm.
    """

    pitch: tuple[float, float]
    thickness: float


READOUT = {
    7: Readout((0.05, 0.05625), 0.15),
    8: Readout((0.05, 0.05625), 0.15),
    9: Readout((0.05, 0.05625), 0.15),
    12: Readout((0.08, 1.2), 0.25),
    13: Readout((0.08, 1.2), 0.25),
    14: Readout((0.08, 1.2), 0.25),
    16: Readout((0.12, 10.4), 0.35),
    17: Readout((0.12, 10.8), 0.35),
    18: Readout((0.12, 10.4), 0.35),
}
"""By volume. Strips are measured in both directions: there is no stereo pairing to do."""

CHARGE_NOISE = 0.01
"""Standard deviation of the charge that a cell reports, in units of the path length in silicon, mm."""


def nominal_pitch(detector: Detector) -> Float64[np.ndarray, "m 2"]:
    """Look up the pitch of every sensor along u and v, mm."""
    volumes = np.array(list(READOUT))
    pitches = np.array([readout.pitch for readout in READOUT.values()])
    return pitches[np.searchsorted(volumes, detector.volume_id)]


def cell_counts(detector: Detector) -> Int64[np.ndarray, "m 2"]:
    """Count the cells of every sensor along u (at its wide edge) and v; at least one each."""
    return np.maximum(np.rint(2.0 * _half_widths(detector) / nominal_pitch(detector)), 1).astype(np.int64)


def cell_sizes(detector: Detector) -> Float64[np.ndarray, "m 2"]:
    """Size of the cells of every sensor along u and v, mm: the pitch, adjusted to divide the sensor."""
    return 2.0 * _half_widths(detector) / cell_counts(detector)


def digitisation_settings(detector: Detector, kind: Digitisation) -> dict[str, Any]:
    """Settings in the JSON form of ACTS, one entry a volume and one for every sensor that differs from it.

    Args:
        detector: the sensor table.
        kind: `geometric` or `smeared`.

    Returns:
        The content of an ACTS digitisation file.
    """
    entries = _smeared_entries() if kind == "smeared" else _geometric_entries(detector)
    header = {"format-version": 0, "value-identifier": "digitization-configuration"}
    return {"acts-geometry-hierarchy-map": header, "entries": entries}


def acts_digitisation(detector: Detector, kind: Digitisation) -> Any:
    """Return the settings as the object that `acts.examples.DigitizationAlgorithm` takes.

    Raises:
        ConfigError: the `sim` extra is missing.
    """
    acts_json = import_extra("acts.examples.json")
    # The bindings read this object from a file only.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digitisation.json"
        path.write_text(json.dumps(digitisation_settings(detector, kind)))
        return acts_json.readDigiConfigFromJson(str(path))


def _half_widths(detector: Detector) -> Float64[np.ndarray, "m 2"]:
    u = detector.half_size[:, :2].max(axis=1)
    return np.stack([u, detector.half_size[:, 2]], axis=1).astype(np.float64)


def _smeared_entries() -> list[dict[str, Any]]:
    def gaussian(index: int, pitch: float) -> dict[str, Any]:
        return {"index": index, "mean": 0.0, "stddev": pitch / np.sqrt(12.0), "type": "Gauss"}

    return [
        {"volume": volume, "value": {"smearing": [gaussian(i, p) for i, p in enumerate(readout.pitch)]}}
        for volume, readout in READOUT.items()
    ]


def _geometric_entries(detector: Detector) -> list[dict[str, Any]]:
    half, counts = _half_widths(detector), cell_counts(detector)
    shapes, shape_of = np.unique(np.round(half, 4), axis=0, return_inverse=True)
    entries: list[dict[str, Any]] = []
    for volume, readout in READOUT.items():
        rows = np.flatnonzero(detector.volume_id == volume)
        in_volume = np.bincount(shape_of.ravel()[rows], minlength=len(shapes))
        usual = rows[shape_of.ravel()[rows] == in_volume.argmax()][0]
        entries.append({"volume": volume, "value": _segmentation(half[usual], counts[usual], readout)})
        for row in rows[shape_of.ravel()[rows] != in_volume.argmax()]:
            place = {"layer": int(detector.layer_id[row]), "sensitive": int(detector.module_id[row])}
            value = _segmentation(half[row], counts[row], readout)
            entries.append({"volume": volume, **place, "value": value})
    return entries


def _segmentation(half: np.ndarray, counts: np.ndarray, readout: Readout) -> dict[str, Any]:
    axes = [
        {
            "bins": int(n),
            "min": -float(h),
            "max": float(h),
            "option": "open",
            "type": "equidistant",
            "value": name,
        }
        for n, h, name in zip(counts, half, ("binX", "binY"), strict=True)
    ]
    return {
        "geometric": {
            "digital": False,
            "indices": [0, 1],
            "segmentation": {"binningdata": axes},
            "thickness": readout.thickness,
            "threshold": 0.0,
            "charge-smearing": {"mean": 0.0, "stddev": CHARGE_NOISE, "type": "Gauss"},
        }
    }
