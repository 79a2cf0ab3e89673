"""A flux of neutrinos as a table: what a beam group publishes, in place of the built-in beam."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from recon.errors import ConfigError, DataError


@dataclass(frozen=True)
class FluxTable:
    """Flux of neutrinos, linear between the energies and nothing beyond them.

    Attributes:
        energy: GeV, ascending.
        flux: neutrinos per GeV at each energy, in any unit.

    Raises:
        ConfigError: fewer than two energies, or energies and fluxes that cannot be.
    """

    energy: tuple[float, ...]
    flux: tuple[float, ...]

    def __post_init__(self) -> None:
        energy, flux = np.array(self.energy), np.array(self.flux)
        if len(energy) < 2 or energy.shape != flux.shape:
            raise ConfigError(
                f"FluxTable has {len(energy)} energies and {len(flux)} fluxes; needed: as many of each, 2 or more"
            )
        if not (np.isfinite(energy).all() and (np.diff(energy) > 0).all()):
            raise ConfigError("FluxTable.energy must ascend and be finite")
        wrong = ~(np.isfinite(flux) & (flux >= 0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(
                f"FluxTable.flux is {flux[row]} at {energy[row]:g} GeV; allowed: 0 or more, and finite"
            )
        if not flux.any():
            raise ConfigError("FluxTable.flux is 0 at all energies")

    def at(self, energy: Float64[np.ndarray, " e"]) -> Float64[np.ndarray, " e"]:
        """Flux at some energies (GeV)."""
        return np.interp(energy, self.energy, self.flux, left=0.0, right=0.0)

    def part_within(self, low: float, high: float) -> float:
        """The part of all neutrinos that has an energy between two (GeV)."""
        energy = np.array(self.energy)
        within = np.clip([low, high], energy[0], energy[-1])
        inner = np.concatenate([within[:1], energy[(energy > within[0]) & (energy < within[1])], within[1:]])
        return float(np.trapezoid(self.at(inner), inner) / np.trapezoid(self.flux, energy))


def read_flux(path: Path, column: int = 1) -> FluxTable:
    """Read a table from text: numbers between blanks or commas, `#` in front of remarks.

    Args:
        path: file whose first column is the energy, GeV.
        column: of the flux, counted from 0 for the energy.

    Raises:
        ConfigError: `column` is not one of the file's, or not one of a flux.
        DataError: a file that cannot be read, or no table of a flux.
    """
    try:
        lines = [line.partition("#")[0] for line in path.read_text().replace(",", " ").splitlines()]
        rows = [line for line in lines if line.strip()]
        table = np.loadtxt(rows, ndmin=2) if rows else np.zeros((0, 0))
    except (OSError, ValueError) as problem:
        raise DataError(f"{path} is no table of a flux: {problem}") from problem
    if not table.size:
        raise DataError(f"{path} is no table of a flux: it is empty")
    columns = table.shape[1]
    if not 1 <= column < columns:
        raise ConfigError(f"flux column {column} of {path}; allowed: 1 to {columns - 1}")
    try:
        return FluxTable(tuple(table[:, 0].tolist()), tuple(table[:, column].tolist()))
    except ConfigError as problem:
        raise DataError(f"{path}, column {column}: {problem}") from problem
