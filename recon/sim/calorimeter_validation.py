"""The parametrised showers beside Geant4: the same quantities, from the same deposits, in the same units.

The reference is the set of distributions of the CMSHGCaloChallenge (CMSSW, 47 layers): single particles at eta = 2,
deposits in the sensors as Geant4 has them, without noise or digitisation. An energy there is the sum of what is
deposited in the sensors, MeV, times the weights of the layers: sensors of different thickness count differently, and
scintillator counts most. Hits are cells with any deposit; rings count cells from the one under the mean direction.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.errors import DataError
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.lookup import cell_at, load_lookup
from recon.hgcal_clustering.sensors import COARSE, ELECTRON_CHARGE, SENSORS, cell_pitch
from recon.sim.calorimeter_deposits import Deposits, collect
from recon.sim.calorimeter_hadrons import shower_spots
from recon.sim.calorimeter_particles import GUNS, Incident

SAMPLES = {
    "Photon_E5": ("photon", 5.0),
    "Photon_E50": ("photon", 50.0),
    "Photon_E500": ("photon", 500.0),
    "Pion_E50": ("pion", 50.0),
}
"""Name in the reference file to gun and energy in GeV."""

ETA, PHI = 2.0, 0.935
"""Direction of the particles. In this azimuth the sensors along the path are those of the reference: 200 um up to layer
23, then 300 um, scintillator from layer 39."""
DIRECTION_SPREAD = 0.0159
"""Half width in phi: the particles of the reference do not all hit the same point; how far they spread is not known and
was chosen for the innermost three rings, which hardly depend on anything else."""
MINIMAL_DEPOSIT = 1e-3
"""MeV; the reference keeps deposits above."""
_WEDGE = EndcapGeometry(phi_min=0.0, phi_max=1.9)
_PAIR_ENERGY = 3.62e-6
"""MeV to free an electron in silicon."""
_SCINTILLATOR_DEPOSIT = 0.54
"""MeV that a minimum ionising particle leaves in 3 mm of scintillator: 2 MeV/cm, somewhat quenched."""
_N_RINGS = 80


class ShowerShapes(NamedTuple):
    """Mean showers of one kind and energy.

    Attributes:
        response: mean ratio of the weighted deposits to the energy of the particle, in the reference's units.
        resolution: standard deviation of that ratio, relative to its mean.
        profile: mean fraction of the energy in every layer.
        profile_spread: standard deviation of that fraction.
        hits: mean number of hits in every layer.
        rings: mean fraction of the energy in every ring of cells around the direction.
    """

    response: float
    resolution: float
    profile: Float64[np.ndarray, " l"]
    profile_spread: Float64[np.ndarray, " l"]
    hits: Float64[np.ndarray, " l"]
    rings: Float64[np.ndarray, " r"]


def simulate_shapes(sample: str, n: int, seed: int) -> ShowerShapes:
    """Simulate single particles and measure what the reference holds.

    Args:
        sample: a key of `SAMPLES`.
        n: number of particles.
        seed: of the random numbers.

    Returns:
        Their mean showers.
    """
    name, energy = SAMPLES[sample]
    rng = np.random.default_rng(seed)
    layers = _WEDGE.layers()
    incident = _incident(name, energy, n, rng)
    deposits = collect(shower_spots(incident, layers, rng), n, load_lookup(_WEDGE))
    return _shapes(deposits, energy, n)


def read_reference(path: str | Path) -> dict[str, ShowerShapes]:
    """Read the reference distributions.

    Args:
        path: `geant4_reference.json.gz`.

    Returns:
        The mean showers of every key of `SAMPLES`.

    Raises:
        DataError: a file that is missing, damaged or without one of the distributions.
    """
    try:
        with gzip.open(path) as stream:
            tree = json.load(stream)
        return {sample: _reference(tree, sample) for sample in SAMPLES}
    except (OSError, EOFError, ValueError, KeyError) as problem:
        raise DataError(f"{path}: no reference for showers: {type(problem).__name__}: {problem}") from problem


def compare(measured: ShowerShapes, reference: ShowerShapes) -> dict[str, float]:
    """Divide what was measured by the reference.

    Args:
        measured: of `simulate_shapes`.
        reference: of `read_reference`.

    Returns:
        Ratios of the response, the resolution, the mean layer, the spread over the layers, the number of hits, and the
        mean ring (transverse width); and as `profile overlap` the sum over the layers of the smaller fraction, which is
        1 where the profiles agree.
    """
    ratios = {
        "response": measured.response / reference.response,
        "resolution": measured.resolution / reference.resolution,
        "mean layer": _mean(measured.profile) / _mean(reference.profile),
        "spread over layers": _spread(measured.profile) / _spread(reference.profile),
        "hits": measured.hits.sum() / reference.hits.sum(),
        "transverse width": _mean(measured.rings) / _mean(reference.rings),
        "profile overlap": np.minimum(measured.profile, reference.profile).sum(),
    }
    return {name: float(ratio) for name, ratio in ratios.items()}


def _incident(name: str, energy: float, n: int, rng: np.random.Generator) -> Incident:
    code, charge, _ = GUNS[name]
    phi = PHI + rng.uniform(-DIRECTION_SPREAD, DIRECTION_SPREAD, n)
    slope = 1.0 / np.sinh(ETA)
    return Incident(
        row=np.arange(n, dtype=np.int32),
        pdg=np.full(n, code, np.int32),
        charge=np.full(n, charge, np.int32),
        energy=np.full(n, energy),
        x0=np.zeros(n),
        y0=np.zeros(n),
        slope_x=slope * np.cos(phi),
        slope_y=slope * np.sin(phi),
    )


def _shapes(deposits: Deposits, energy: float, n: int) -> ShowerShapes:
    calorimeter, layers = load_calorimeter(_WEDGE), _WEDGE.layers()
    n_layers = len(layers.z)
    deposited = deposits.energy * _deposit_of_mip()[calorimeter.sensor[deposits.cell]]
    kept = deposited > MINIMAL_DEPOSIT
    cell, particle, deposited = deposits.cell[kept], deposits.particle[kept], deposited[kept]
    layer = calorimeter.layer[cell].astype(np.int64)
    weighted = deposited * layers.weight[layer]
    by_layer = np.bincount(particle * n_layers + layer, weighted, n * n_layers).reshape(n, n_layers)
    total = by_layer.sum(axis=1)
    fraction = by_layer / np.maximum(total, 1e-12)[:, None]
    ring = _rings(cell, layer)
    by_ring = np.bincount(particle * _N_RINGS + ring, weighted, n * _N_RINGS).reshape(n, _N_RINGS)
    return ShowerShapes(
        response=1e-3 * total.mean() / energy,
        resolution=total.std() / total.mean(),
        profile=fraction.mean(axis=0),
        profile_spread=fraction.std(axis=0),
        hits=np.bincount(layer, minlength=n_layers) / n,
        rings=(by_ring / np.maximum(total, 1e-12)[:, None]).mean(axis=0),
    )


def _rings(cell: Int64[np.ndarray, " k"], layer: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
    """Distance from the cell under the mean direction, in cells."""
    calorimeter, layers = load_calorimeter(_WEDGE), _WEDGE.layers()
    radius = layers.z / np.sinh(ETA)
    every = np.arange(len(layers.z))
    centre = cell_at(load_lookup(_WEDGE), radius * np.cos(PHI), radius * np.sin(PHI), every)
    away = calorimeter.position[cell, :2] - calorimeter.position[centre[layer], :2]
    ring = np.floor(np.hypot(*away.T) / cell_pitch(COARSE) + 0.5).astype(np.int64)
    return np.minimum(ring, _N_RINGS - 1)


def _deposit_of_mip() -> Float64[np.ndarray, " s"]:
    """MeV that a minimum ionising particle leaves in every kind of sensor."""
    silicon = [sensor.fc_per_mip / ELECTRON_CHARGE * _PAIR_ENERGY for sensor in SENSORS]
    return np.array([deposit or _SCINTILLATOR_DEPOSIT for deposit in silicon])


def _reference(tree: dict, sample: str) -> ShowerShapes:
    profile = tree[f"{sample}_LongitudinalProfile"]
    ratio, spread = _moments(tree[f"{sample}_EnergyRatio"], integer=False)
    layers = range(len(profile["ref_mean"]))
    hits = [_moments(tree[f"{sample}_OccupancyLayer{layer}"], integer=True)[0] for layer in layers]
    return ShowerShapes(
        response=ratio,
        resolution=spread / ratio,
        profile=np.array(profile["ref_mean"]),
        profile_spread=np.array(profile["ref_std"]),
        hits=np.array(hits),
        rings=np.array(tree[f"{sample}_Transverse"]["ref_mean"]),
    )


def _moments(histogram: dict, *, integer: bool) -> tuple[float, float]:
    """Mean and standard deviation of a histogram; bins of whole numbers hold those from their lower edge on."""
    edges = np.array(histogram["binning"])
    weight = np.array(histogram["dist_ref"]) * np.diff(edges)
    middle = edges[:-1] + 0.5 * (np.diff(edges) - (1.0 if integer else 0.0))
    mean = np.average(middle, weights=weight)
    return float(mean), float(np.sqrt(np.average((middle - mean) ** 2, weights=weight)))


def _mean(fractions: Float64[np.ndarray, " n"]) -> float:
    return float(np.average(np.arange(len(fractions)), weights=fractions))


def _spread(fractions: Float64[np.ndarray, " n"]) -> float:
    place = np.arange(len(fractions)) - _mean(fractions)
    return float(np.sqrt(np.average(place**2, weights=fractions)))
