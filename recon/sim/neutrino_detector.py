"""The far detector: planes of cells, what they are made of, how their light is read out, and the particles in it.

Even planes have vertical cells, which measure x; odd planes have horizontal cells, which measure y. z is along the
beam, the origin is in the middle of the upstream face. Numbers are those of the NOvA technical design report
(FERMILAB-DESIGN-2007-01) and of D. Rocco's thesis (University of Minnesota, 2016) unless something else is said.
"""

from __future__ import annotations

PLANES, CELLS = 896, 384
PLANE_PITCH, CELL_PITCH = 66.5, 39.7
"""mm."""
PLANE_DEPTH, CELL_WIDTH = 59.0, 35.7
"""Of the scintillator within the pitch, mm; the rest is PVC and glue."""
HALF_WIDTH = CELLS * CELL_PITCH / 2
LENGTH = PLANES * PLANE_PITCH

MAP_PLANES, MAP_CELLS = 100, 80
"""Of one view of a pixel map."""

DENSITY, Z_OVER_A, EXCITATION = 0.98, 0.54, 75e-9
"""Liquid scintillator and PVC as one material: g/cm^3, mol/g, GeV."""
RADIATION_LENGTH = 380.0
"""mm."""

LIGHT_YIELD = 6.0
"""Photo-electrons a MeV next to the readout, so that a muon leaves about 20 at the far end."""
SHORT_ATTENUATION, LONG_ATTENUATION, SHORT_SHARE = 3000.0, 13000.0, 0.45
"""Of light in the fibre, mm. The fibre is a loop with both ends at the readout."""
ELECTRONIC_NOISE, THRESHOLD = 2.0, 15.0
"""Photo-electrons."""
BIRKS = 0.12
"""mm/MeV: 0.012 g/(MeV cm^2) of the usual scintillators."""

ELECTRON, PHOTON, MUON, PI_PLUS, PI_MINUS, PROTON, NEUTRON, PI_ZERO = range(8)
"""Particles of the simulation; positrons are electrons, muons of both charges are one."""
MASSES = (0.000510999, 0.0, 0.1056584, 0.1395704, 0.1395704, 0.9382721, 0.9395654, 0.1349768)
"""GeV."""
ELECTRON_MASS, MUON_MASS, PION_MASS, NUCLEON_MASS, TAU_MASS = (
    0.000510999,
    0.1056584,
    0.1395704,
    0.9389,
    1.77686,
)
CHARGES = (-1, 0, -1, 1, -1, 1, 0, 0)

FERMI_MOMENTUM, BINDING_ENERGY = 0.221, 0.025
"""Of carbon, GeV (electron scattering; Moniz et al., PRL 26 (1971) 445)."""
CARBON_SHARE = 12 / 14
"""Of the nucleons of CH2; the others are free protons."""
