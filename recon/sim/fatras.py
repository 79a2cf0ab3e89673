"""ACTS Fatras and digitisation for a range of events: generated particles in, plain arrays out.

Import this module only where the `sim` extra is known to be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import acts
import numpy as np
from acts import examples
from jaxtyping import Float64, Int64, UInt64

from recon.errors import DataError
from recon.sim.detector import GenericGeometry
from recon.sim.mixing import GeneratedParticles

FIELD = 2.0
"""Magnetic field along z, T."""

_SILENT = acts.logging.FATAL
_FIELDS = ("collision", "secondary vertex", "particle", "generation", "sub-particle")
_BITS = (12, 12, 16, 8, 16)
"""Widths of the parts of a packed barcode, from the highest bits down: `Barcode` of ACTS up to version 40."""


class SimulatedArrays(NamedTuple):
    """One event as ACTS made it, before noise and shuffling.

    Attributes:
        number: event number.
        barcode: of every particle, packed into 64 bits (see `pack_barcodes`), ascending.
        pdg: particle code.
        charge: in units of e.
        vertex: production vertex, mm.
        momentum: at production, GeV.
        geometry_id: sensor of every hit.
        local: measured position on the sensor, mm.
        cluster: cells along u and v and collected charge; zeros for smeared digitisation.
        hit_barcode: particle that made the hit.
        hit_position: true crossing point, mm.
        hit_momentum: before the sensor, GeV.
        hit_index: counts the crossings of a particle along its path.
    """

    number: int
    barcode: UInt64[np.ndarray, " p"]
    pdg: Int64[np.ndarray, " p"]
    charge: Float64[np.ndarray, " p"]
    vertex: Float64[np.ndarray, "p 3"]
    momentum: Float64[np.ndarray, "p 3"]
    geometry_id: UInt64[np.ndarray, " n"]
    local: Float64[np.ndarray, "n 2"]
    cluster: Float64[np.ndarray, "n 3"]
    hit_barcode: UInt64[np.ndarray, " n"]
    hit_position: Float64[np.ndarray, "n 3"]
    hit_momentum: Float64[np.ndarray, "n 3"]
    hit_index: Int64[np.ndarray, " n"]


def run_fatras(
    geometry: GenericGeometry,
    digitisation: Any,
    generate: Callable[[int], GeneratedParticles],
    *,
    first_event: int,
    events: int,
    seed: int,
) -> list[SimulatedArrays]:
    """Simulate and digitise a range of events in this thread.

    Multiple scattering, ionisation, bremsstrahlung and photon conversion are on; Fatras in this version has
    no hadronic interactions, and the silicon of the geometry is a thousand times too thin for energy loss
    (not for scattering). ACTS draws its random numbers from (seed, place of the algorithm in the sequence,
    event number), so an event comes out the same in whatever range it is run; adding an algorithm in front
    would change every event.

    Args:
        geometry: from `generic_tracking_geometry`.
        digitisation: from `acts_digitisation`.
        generate: returns the particles of an event, given its number.
        first_event: number of the first event.
        events: how many.
        seed: of the ACTS random numbers.

    Returns:
        One entry an event, in order.
    """
    numbers = examples.RandomNumbers(seed=seed)
    sequencer = examples.Sequencer(
        events=events, skip=first_event, numThreads=1, logLevel=_SILENT, trackFpes=False
    )
    for decorator in geometry.decorators:
        sequencer.addContextDecorator(decorator)
    # The sequencer does not keep Python algorithms alive: hold them until the run is over.
    reader = _ParticleSource(generate, first_event, events)
    readout = _Readout()
    sequencer.addReader(reader)
    sequencer.addAlgorithm(_fatras(geometry, numbers))
    sequencer.addAlgorithm(_digitisation(geometry, numbers, digitisation))
    sequencer.addAlgorithm(readout)
    try:
        sequencer.run()
    except RuntimeError:
        # ACTS reports no more than an abnormal end; what our own part raised says why.
        for error in (reader.error, readout.error):
            if error is not None:
                raise error from None
        raise
    return sorted(readout.events, key=lambda event: event.number)


def pack_barcodes(parts: Int64[np.ndarray, "p 5"]) -> UInt64[np.ndarray, " p"]:
    """Pack (collision, secondary vertex, particle, generation, sub-particle) into 64 bits, in that order.

    The order of the packed numbers is that of the tuples; collision 1 is the hard scatter, generation 0 is
    what came from the generator.

    Raises:
        DataError: a part does not fit into its 12, 12, 16, 8 or 16 bits.
    """
    packed = np.zeros(len(parts), np.uint64)
    for column, (name, bits) in enumerate(zip(_FIELDS, _BITS, strict=True)):
        values = parts[:, column]
        if values.size and values.max() >= 1 << bits:
            raise DataError(
                f"{name} {values.max()} does not fit into the {bits} bits of a particle identifier"
            )
        packed = (packed << np.uint64(bits)) | values.astype(np.uint64)
    return packed


def _fatras(geometry: GenericGeometry, numbers: Any, **options: bool) -> Any:
    return examples.FatrasSimulation(
        level=_SILENT,
        inputParticles="particles_generated",
        outputParticles="particles_simulated",
        outputSimHits="simhits",
        randomNumbers=numbers,
        trackingGeometry=geometry.tracking_geometry,
        magneticField=acts.ConstantBField(acts.Vector3(0.0, 0.0, FIELD * acts.UnitConstants.T)),
        generateHitsOnSensitive=True,
        emScattering=True,
        emEnergyLossIonisation=True,
        emEnergyLossRadiation=True,
        emPhotonConversion=True,
        **options,
    )


def _digitisation(geometry: GenericGeometry, numbers: Any, digitisation: Any) -> Any:
    config = examples.DigitizationAlgorithm.Config(
        digitizationConfigs=digitisation,
        surfaceByIdentifier=geometry.tracking_geometry.geoIdSurfaceMap(),
        randomNumbers=numbers,
        inputSimHits="simhits",
        outputMeasurements="measurements",
        outputClusters="clusters",
        outputMeasurementParticlesMap="measurement_particles_map",
        outputMeasurementSimHitsMap="measurement_simhits_map",
        outputParticleMeasurementsMap="particle_measurements_map",
        outputSimHitMeasurementsMap="simhit_measurements_map",
        doMerge=False,
    )
    return examples.DigitizationAlgorithm(config, _SILENT)


class _ParticleSource(examples.IReader):
    """Hands generated particles to ACTS."""

    def __init__(self, generate: Callable[[int], GeneratedParticles], first: int, events: int) -> None:
        examples.IReader.__init__(self, "ParticleSource", _SILENT)
        self._generate = generate
        # ACTS skips to the first event itself and wants to skip over something.
        self._range = (0, first + events)
        self._output = examples.WriteDataHandle(self, examples.SimParticleContainer, "OutputParticles")
        self._output.initialize("particles_generated")
        self.error: Exception | None = None

    def availableEvents(self) -> tuple[int, int]:  # noqa: N802 - the name that ACTS calls
        return self._range

    def read(self, context: Any) -> Any:
        try:
            self._output(context, _particle_container(self._generate(context.eventNumber)))
        except Exception as error:
            self.error = error
            raise
        return examples.ProcessCode.SUCCESS


def _particle_container(particles: GeneratedParticles) -> Any:
    container = examples.SimParticleContainer()
    absolute = np.linalg.norm(particles.momentum, axis=1)
    columns = (*particles, absolute)
    for collision, secondary, index, pdg, charge, mass, momentum, vertex, time, p in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        barcode = examples.SimBarcode()
        barcode.vertexPrimary, barcode.vertexSecondary, barcode.particle = collision, secondary, index
        particle = examples.SimParticle(barcode, acts.PdgParticle(pdg), charge, mass)
        particle.fourPosition = acts.Vector4(*vertex, time)
        particle.direction = acts.Vector3(*momentum)
        particle.absoluteMomentum = p
        container.insert(particle)
    return container


class _Readout(examples.IAlgorithm):
    """Copies what the simulation made into arrays.

    A loop over a container costs microseconds an element and dominates the simulation when written
    carelessly: one attribute a pass, vectors through their buffers, truth through the one iterable map.
    """

    def __init__(self) -> None:
        examples.IAlgorithm.__init__(self, "Readout", _SILENT)
        self.events: list[SimulatedArrays] = []
        self.error: Exception | None = None
        self._particles = self._handle(examples.SimParticleContainer, "particles_simulated")
        self._sim_hits = self._handle(examples.SimHitContainer, "simhits")
        self._measurements = self._handle(examples.MeasurementContainer, "measurements")
        self._links = self._handle(examples.MeasurementSimHitsMap, "measurement_simhits_map")
        self._clusters = self._handle(examples.ClusterContainer, "clusters")

    def _handle(self, kind: Any, name: str) -> Any:
        handle = examples.ReadDataHandle(self, kind, name)
        handle.initialize(name)
        return handle

    def execute(self, context: Any) -> Any:
        try:
            self.events.append(self._arrays(context.eventNumber, context.eventStore))
        except Exception as error:
            self.error = error
            raise
        return examples.ProcessCode.SUCCESS

    def _arrays(self, number: int, store: Any) -> SimulatedArrays:
        particles, hits, measurements = (
            self._particles(store),
            self._sim_hits(store),
            self._measurements(store),
        )
        source = _first_source(self._links(store), len(measurements))
        return SimulatedArrays(
            number=number,
            barcode=_barcodes(p.particleId for p in particles),
            pdg=np.array([int(p.pdg) for p in particles], np.int64),
            charge=np.array([p.charge for p in particles], np.float64),
            vertex=_vectors([p.fourPosition for p in particles], 4)[:, :3],
            momentum=_vectors([p.fourMomentum for p in particles], 4)[:, :3],
            geometry_id=np.array([m.geometryId.value for m in measurements], np.uint64),
            local=_vectors([m.fullParameters for m in measurements], 6)[:, :2],
            cluster=_cluster_shapes(self._clusters(store), len(measurements)),
            hit_barcode=_barcodes(h.particleId for h in hits)[source],
            hit_position=_vectors([h.fourPosition for h in hits], 4)[source, :3],
            hit_momentum=_vectors([h.momentum4Before for h in hits], 4)[source, :3],
            hit_index=np.array([h.index for h in hits], np.int64)[source],
        )


def _vectors(items: list[Any], length: int) -> Float64[np.ndarray, "n k"]:
    """Stack ACTS vectors through the buffer protocol, several times faster than indexing them."""
    return np.frombuffer(b"".join(items), np.float64).reshape(-1, length)


def _barcodes(items: Any) -> UInt64[np.ndarray, " n"]:
    parts = [(b.vertexPrimary, b.vertexSecondary, b.particle, b.generation, b.subParticle) for b in items]
    return pack_barcodes(np.array(parts, np.int64).reshape(-1, len(_BITS)))


def _cluster_shapes(clusters: Any, n: int) -> Float64[np.ndarray, "n 3"]:
    shapes = [(c.sizeLoc0, c.sizeLoc1, c.sumActivations()) for c in clusters]
    return np.array(shapes, np.float64) if len(shapes) == n and n else np.zeros((n, 3))


def _first_source(links: Any, n: int) -> Int64[np.ndarray, " n"]:
    """Return the simulated hit behind every measurement (the first one, should there be several)."""
    pairs = np.array(list(links), np.int64).reshape(-1, 2)
    measurement, first = np.unique(pairs[:, 0], return_index=True)
    if len(measurement) != n:
        raise DataError(f"ACTS linked {len(measurement)} of {n} measurements to simulated hits")
    return pairs[first, 1]
