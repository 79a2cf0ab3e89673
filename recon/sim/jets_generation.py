"""Hard proton collisions for jets: Pythia's settings by process, and its events as flat arrays.

Everything goes through `Pythia.nextBatch`, which fills arrays in C++: a loop over particles in Python would cost
as much as Pythia itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64

from recon.errors import ConfigError
from recon.sim import import_extra

Process = Literal["qcd", "top", "wz", "hz"]

QUARKS = "onIfAny = 1 2 3 4 5"
PROCESSES: dict[str, tuple[str, ...]] = {
    "qcd": ("HardQCD:all = on",),
    "top": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off", f"24:{QUARKS}"),
    "wz": (
        "WeakDoubleBoson:ffbar2ZW = on",
        "WeakZ0:gmZmode = 2",
        "24:onMode = off",
        f"24:{QUARKS}",
        "23:onMode = off",
        f"23:{QUARKS}",
    ),
    "hz": ("HiggsSM:ffbar2HZ = on", "25:onMode = off", "25:onIfAny = 4 5", "23:onMode = off", f"23:{QUARKS}"),
}
"""Pythia's settings of every process; resonances decay to quarks, the Higgs boson to b or c."""

SPECTRUM_POWER = {"qcd": 5.0, "top": 4.0, "wz": 4.0, "hz": 4.0}
"""The spectrum of the hard process is flattened by this power of its transverse momentum; weights undo it."""

HIGGS_CHARM_FRACTION = 0.3
"""Of the decays in `hz`; in nature 5 % as many Higgs bosons go to charm as to bottom quarks, too few to learn from."""

ENERGY = 13_000.0
"""GeV, proton on proton, as for JetClass and CMS's taggers."""

LONGEST_LIFETIME = 10.0
"""mm over c; what lives longer meets the detector before it decays."""

_MAX_PYTHIA_SEED = 900_000_000


class Collisions(NamedTuple):
    """Particles of many collisions, concatenated, those that decayed included.

    Attributes:
        pdg: particle code.
        status: Pythia's status; positive for what does not decay.
        daughter1: row of the first daughter, -1 for none.
        daughter2: row of the last daughter, -1 for none.
        momentum: px, py, pz, E; GeV.
        vertex: production vertex, mm.
        event: row of the collision.
        offsets: collision `i` owns the particles `offsets[i]` to `offsets[i + 1]`.
        weight: of every collision.
    """

    pdg: Int32[np.ndarray, " n"]
    status: Int32[np.ndarray, " n"]
    daughter1: Int64[np.ndarray, " n"]
    daughter2: Int64[np.ndarray, " n"]
    momentum: Float64[np.ndarray, "n 4"]
    vertex: Float64[np.ndarray, "n 3"]
    event: Int64[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " e1"]
    weight: Float64[np.ndarray, " e"]


def generate_collisions(
    process: Process, n: int, entropy: tuple[int, ...], *, pt_min: float, pt_max: float
) -> Collisions:
    """Run Pythia.

    The generator of a process is set up once and reseeded for every call, which restarts its sequence entirely:
    the result depends on the arguments alone.

    Args:
        process: `qcd`, `top` (t tbar), `wz` (W Z) or `hz` (H Z).
        n: number of collisions.
        entropy: what the seed is made of.
        pt_min: lower end of the spectrum, GeV.
        pt_max: upper end, GeV.

    Returns:
        The collisions.

    Raises:
        ConfigError: the `sim` extra is missing, or Pythia refuses its settings.
    """
    awkward = import_extra("awkward")
    pythia = _generator(process, pt_min, pt_max)
    pythia.rndm.init(int(np.random.SeedSequence(entropy).generate_state(1)[0]) % _MAX_PYTHIA_SEED + 1)
    batch = pythia.nextBatch(n)
    particles = batch.prt
    offsets = np.concatenate([[0], np.cumsum(awkward.to_numpy(awkward.num(particles)))]).astype(np.int64)
    event = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))

    def column(jagged: Any) -> np.ndarray:
        return awkward.to_numpy(awkward.fill_none(awkward.flatten(jagged), 0))

    def rows(jagged: Any) -> np.ndarray:
        index = column(jagged).astype(np.int64)
        return np.where(index > 0, index + offsets[event], -1)

    return Collisions(
        pdg=column(particles.id).astype(np.int32),
        status=column(particles.status).astype(np.int32),
        daughter1=rows(particles.daughter1),
        daughter2=rows(particles.daughter2),
        momentum=np.stack([column(particles.p[name]) for name in ("px", "py", "pz", "e")], axis=1),
        vertex=np.stack([column(particles.vProd[name]) for name in ("px", "py", "pz")], axis=1).astype(float),
        event=event,
        offsets=offsets,
        weight=awkward.to_numpy(batch.info.weights[:, 0]).astype(float),
    )


def charges(pdg: Int[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """Charges of particles that leave tracks or none, in units of e."""
    data = _particle_data()
    codes, inverse = np.unique(pdg, return_inverse=True)
    return np.array([round(data.charge(int(code))) for code in codes], np.int32)[inverse.ravel()]


@lru_cache(maxsize=1)
def _particle_data() -> Any:
    # A generator that is never set up: its particle data are there at once. Kept, since the data belong to it.
    return _new_pythia().particleData


def _new_pythia() -> Any:
    return import_extra("pythia8mc").Pythia("", False)


@lru_cache(maxsize=2)
def _generator(process: str, pt_min: float, pt_max: float) -> Any:
    pythia = _new_pythia()
    settings = (
        f"Beams:eCM = {ENERGY}",
        "Print:quiet = on",
        "Random:setSeed = on",
        "Random:seed = 1",
        # A little wider than the jets: smearing and radiation carry some across the edges.
        f"PhaseSpace:pTHatMin = {0.95 * pt_min}",
        f"PhaseSpace:pTHatMax = {1.1 * pt_max}",
        "PhaseSpace:bias2Selection = on",
        f"PhaseSpace:bias2SelectionPow = {SPECTRUM_POWER[process]}",
        f"PhaseSpace:bias2SelectionRef = {pt_min}",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {LONGEST_LIFETIME}",
    )
    for setting in settings + PROCESSES[process]:
        if not pythia.readString(setting):
            raise ConfigError(f"this version of Pythia refuses the setting {setting!r}")
    if process == "hz":
        _set_charm_fraction(pythia)
    if not pythia.init():
        raise ConfigError(f"Pythia cannot be set up for {process} between {pt_min} and {pt_max} GeV")
    return pythia


def _set_charm_fraction(pythia: Any) -> None:
    """Make the Higgs boson decay to charm in `HIGGS_CHARM_FRACTION` of the events."""
    for mode, ratio in (("4 -4", HIGGS_CHARM_FRACTION), ("5 -5", 1 - HIGGS_CHARM_FRACTION)):
        # `oneChannel` first replaces the whole table of decays, `addChannel` extends it.
        verb = "oneChannel" if mode == "4 -4" else "addChannel"
        if not pythia.readString(f"25:{verb} = 1 {ratio} 100 {mode}"):
            raise ConfigError(f"this version of Pythia refuses the decay of the Higgs boson to {mode}")
    # Otherwise Pythia computes the Standard Model's ratios again.
    if not pythia.readString("25:doForceWidth = on"):
        raise ConfigError("this version of Pythia refuses to keep the width of the Higgs boson")
