"""Simulation: proton collisions (Pythia 8) through a tracking detector (ACTS Fatras) or into a calorimeter, and jets.

Collisions, the tracking detector and neutrino events need the `sim` extra; showers in the calorimeter, which are a
parametrisation, do not. Nothing heavy is imported before a function needs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from recon.errors import ConfigError


def import_extra(module: str) -> ModuleType:
    """Import a module of the optional `sim` extra.

    Args:
        module: dotted name, for example `acts.examples`.

    Returns:
        The imported module.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        package = {"acts": "pyacts"}.get(top, top)
        raise ConfigError(
            f"the simulation needs the package {package}, which cannot be imported ({error}); "
            "install it with: pip install 'recon-hep[sim]'"
        ) from error
