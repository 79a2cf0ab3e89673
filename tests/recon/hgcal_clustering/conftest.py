"""Small pieces of an endcap for all tests of the task."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.hgcal_clustering.lookup import build_lookup


@pytest.fixture(scope="session")
def wedge():
    """All 47 layers, 15 degrees wide: 130,000 cells of every kind."""
    return EndcapGeometry(phi_min=0.4, phi_max=0.66)


@pytest.fixture(scope="session")
def calorimeter(wedge):
    return build_calorimeter(wedge)


@pytest.fixture(scope="session")
def lookup(wedge, calorimeter):
    return build_lookup(wedge, calorimeter)


@pytest.fixture
def rng():
    return np.random.default_rng(42)
