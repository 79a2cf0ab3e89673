"""From the raw energy of a shower to an estimate of the true one: a correction with few, readable parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from recon.errors import ConfigError, DataError
from recon.geometry import array_namespace
from recon.types import Array

REFERENCE_ENERGY = 50.0
"""Energy at which the slopes in the logarithm of the energy change nothing, GeV."""
REFERENCE_ETA = 2.25
_LEAST_RESPONSE = 0.1


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Parameters of the response, `raw energy / true energy`.

        response = scale + energy ln(E / 50 GeV) + pseudorapidity (|eta| - 2.25) + hadronic h + hadronic_energy h ln(E / 50 GeV)

    with h the fraction of the raw energy E behind the front section. The defaults change nothing.

    Attributes:
        front_layers: number of layers of the front (CE-E) section: 26 in the final detector, 28 before.
        scale: response to a shower of 50 GeV in the front section at |eta| = 2.25.
        energy: slope in the logarithm of the energy.
        pseudorapidity: slope in |eta|: pile-up adds more energy near the beam.
        hadronic: what the response changes by if all energy lies behind the front section.
        hadronic_energy: and how this depends on the logarithm of the energy.
    """  # noqa: E501 - a formula on one line

    front_layers: int = 26
    scale: float = 1.0
    energy: float = 0.0
    pseudorapidity: float = 0.0
    hadronic: float = 0.0
    hadronic_energy: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(value) for value in asdict(self).values()):
            raise ConfigError(f"{self}: all parameters must be finite")
        if self.scale <= 0 or self.front_layers < 0:
            raise ConfigError(
                f"CalibrationConfig: scale = {self.scale} must be above 0, front_layers = {self.front_layers} not below"
            )


def response_terms(
    energy: Float[Array, " t"], eta: Float[Array, " t"], hadronic_fraction: Float[Array, " t"]
) -> Float[Array, "t 5"]:
    """What the parameters `scale` to `hadronic_energy` are multiplied by."""
    xp = array_namespace(energy)
    logarithm = xp.log(xp.maximum(energy, 1e-3) / REFERENCE_ENERGY)
    columns = [
        xp.ones_like(energy),
        logarithm,
        xp.abs(eta) - REFERENCE_ETA,
        hadronic_fraction,
        hadronic_fraction * logarithm,
    ]
    return xp.stack(columns, -1)


def regress_energy(
    energy: Float32[Array, " t"],
    eta: Float32[Array, " t"],
    hadronic_fraction: Float32[Array, " t"],
    config: CalibrationConfig,
) -> Float32[Array, " t"]:
    """Raw energy over the expected response, which is never taken below 0.1.

    Args:
        energy: raw, GeV.
        eta: pseudorapidity of the barycentre.
        hadronic_fraction: part of `energy` behind the front section.
        config: parameters.
    """
    parameters = jnp.array(
        [config.scale, config.energy, config.pseudorapidity, config.hadronic, config.hadronic_energy],
        jnp.float32,
    )
    response = (response_terms(energy, eta, hadronic_fraction) * parameters).sum(-1)
    return energy / jnp.maximum(response, _LEAST_RESPONSE)


def fit_calibration(
    energy: Float[np.ndarray, " t"],
    eta: Float[np.ndarray, " t"],
    hadronic_fraction: Float[np.ndarray, " t"],
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
    terms = np.asarray(response_terms(energy, eta, hadronic_fraction), np.float64)
    response = energy / true_energy
    kept = np.ones(len(energy), bool)
    parameters = np.zeros(5)
    for _ in range(rounds):
        # Columns that do not vary get no weight of their own: the solution of least norm.
        parameters = np.linalg.lstsq(terms[kept], response[kept], rcond=1e-6)[0]
        distance = np.abs(response - terms @ parameters)
        kept = distance <= max(3 * 1.4826 * float(np.median(distance)), 1e-9)
    names = ("scale", "energy", "pseudorapidity", "hadronic", "hadronic_energy")
    return CalibrationConfig(
        front_layers=front_layers,
        **{name: float(value) for name, value in zip(names, parameters, strict=True)},
    )
