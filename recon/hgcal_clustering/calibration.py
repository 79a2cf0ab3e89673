"""From the raw energy of a shower to an estimate of the true one: a correction with few, readable parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from recon.errors import ConfigError, DataError
from recon.geometry import array_namespace
from recon.types import Array

REFERENCE_ENERGY = 50.0
"""Energy at which the slopes in the logarithm of the energy change nothing, GeV."""
REFERENCE_ETA = 2.25
SOFT_ENERGY = 1.0
"""GeV; a layer cluster or hit counts at most this much as pile-up."""
_LEAST_RESPONSE = 0.1


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Parameters of the response, `raw energy / true energy`.

        response = scale + energy ln(E / 50 GeV) + pseudorapidity (|eta| - 2.25) + hadronic h + hadronic_energy h ln(E / 50 GeV)
                   + P [pileup + pileup_energy ln(E / 50 GeV) + pileup_pseudorapidity (|eta| - 2.25)]

    with h the fraction of the raw energy E behind the front section and P the soft energy of the endcap (`soft_energy`),
    which grows with the number of collisions. The defaults change nothing.

    Attributes:
        front_layers: number of layers of the front (CE-E) section: 26 in the final detector, 28 before.
        scale: response to a shower of 50 GeV in the front section at |eta| = 2.25.
        energy: slope in the logarithm of the energy.
        pseudorapidity: slope in |eta|.
        hadronic: what the response changes by if all energy lies behind the front section.
        hadronic_energy: and how this depends on the logarithm of the energy.
        pileup: what a TeV of soft energy adds.
        pileup_energy: and how this depends on the logarithm of the energy: soft showers gain most.
        pileup_pseudorapidity: and on |eta|: there is more of it near the beam.
    """  # noqa: E501 - a formula on one line

    front_layers: int = 26
    scale: float = 1.0
    energy: float = 0.0
    pseudorapidity: float = 0.0
    hadronic: float = 0.0
    hadronic_energy: float = 0.0
    pileup: float = 0.0
    pileup_energy: float = 0.0
    pileup_pseudorapidity: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(value) for value in asdict(self).values()):
            raise ConfigError(f"{self}: all parameters must be finite")
        if self.scale <= 0 or self.front_layers < 0:
            raise ConfigError(
                f"CalibrationConfig: scale = {self.scale} must be above 0, front_layers = {self.front_layers} not below"
            )


PARAMETERS = tuple(field.name for field in fields(CalibrationConfig) if field.name != "front_layers")
"""Names of the parameters, in the order of `response_terms`."""


def soft_energy(
    energy: Float[Array, " n"], z: Float[Array, " n"], side: Float[Array, " t"]
) -> Float[Array, " t"]:
    """Energy of an endcap in layer clusters or hits, of which none counts more than 1 GeV: a measure of pile-up, TeV.

    Hard showers have most of their energy in members of more, so that the sum hardly knows them.

    Args:
        energy: of all members of the event, in showers or not, GeV; 0 for padding.
        z: of the members.
        side: any number with the sign of the z of the endcap that is asked for.
    """
    xp = array_namespace(energy)
    soft = xp.clip(energy, 0, SOFT_ENERGY) / 1000
    return xp.where(side < 0, xp.sum(soft * (z < 0)), xp.sum(soft * (z >= 0)))


def response_terms(
    energy: Float[Array, " t"],
    eta: Float[Array, " t"],
    hadronic_fraction: Float[Array, " t"],
    pileup: Float[Array, " t"],
) -> Float[Array, "t 8"]:
    """What `PARAMETERS` are multiplied by; arguments as for `regress_energy`."""
    xp = array_namespace(energy)
    logarithm = xp.log(xp.maximum(energy, 1e-3) / REFERENCE_ENERGY)
    forward = xp.abs(eta) - REFERENCE_ETA
    columns = [
        xp.ones_like(energy),
        logarithm,
        forward,
        hadronic_fraction,
        hadronic_fraction * logarithm,
        pileup,
        pileup * logarithm,
        pileup * forward,
    ]
    return xp.stack(columns, -1)


def regress_energy(
    energy: Float32[Array, " t"],
    eta: Float32[Array, " t"],
    hadronic_fraction: Float32[Array, " t"],
    pileup: Float32[Array, " t"],
    config: CalibrationConfig,
) -> Float32[Array, " t"]:
    """Raw energy over the expected response, which is never taken below 0.1.

    Args:
        energy: raw, GeV.
        eta: pseudorapidity of the barycentre.
        hadronic_fraction: part of `energy` behind the front section.
        pileup: soft energy of the endcap, TeV; see `soft_energy`.
        config: parameters.
    """
    parameters = jnp.array([getattr(config, name) for name in PARAMETERS], jnp.float32)
    response = (response_terms(energy, eta, hadronic_fraction, pileup) * parameters).sum(-1)
    return energy / jnp.maximum(response, _LEAST_RESPONSE)


def fit_calibration(
    energy: Float[np.ndarray, " t"],
    eta: Float[np.ndarray, " t"],
    hadronic_fraction: Float[np.ndarray, " t"],
    pileup: Float[np.ndarray, " t"],
    true_energy: Float[np.ndarray, " t"],
    *,
    front_layers: int,
    rounds: int = 4,
) -> CalibrationConfig:
    """Least squares of the response of showers whose particle is known; host NumPy.

    Showers further than three robust widths from the fit (cut in two, or joined with another) are left out and the fit
    is repeated.

    Args:
        energy: raw, GeV.
        eta: pseudorapidity of the barycentre.
        hadronic_fraction: part of `energy` behind the front section.
        pileup: soft energy of the endcap, TeV.
        true_energy: of the particle, GeV.
        front_layers: written into the result.
        rounds: number of fits.

    Raises:
        DataError: fewer than ten showers, or energies that are not above 0.
    """
    if len(energy) < 10 or not (np.all(energy > 0) and np.all(true_energy > 0)):
        raise DataError(
            f"fit_calibration was given {len(energy)} showers; needed are ten or more, of energies above 0"
        )
    terms = np.asarray(response_terms(energy, eta, hadronic_fraction, pileup), np.float64)
    response = energy / true_energy
    kept = np.ones(len(energy), bool)
    parameters = np.zeros(len(PARAMETERS))
    for _ in range(rounds):
        # Columns that do not vary get no weight of their own: the solution of least norm.
        parameters = np.linalg.lstsq(terms[kept], response[kept], rcond=1e-6)[0]
        distance = np.abs(response - terms @ parameters)
        kept = distance <= max(3 * 1.4826 * float(np.median(distance)), 1e-9)
    named = {name: float(value) for name, value in zip(PARAMETERS, parameters, strict=True)}
    return CalibrationConfig(front_layers=front_layers, **named)
