"""The classical peer: seeding, combinatorial Kalman filter and ambiguity resolution of ACTS on stored events.

The chain is that of the ACTS examples: triplets of pixel space points on a grid, track parameters from each
triplet, a combinatorial Kalman filter outwards and back inwards to the beam line, and a greedy resolution of
shared hits (X. Ai et al., "A Common Tracking Software Project", Comput. Softw. Big Sci. 6, 8 (2022),
arXiv:2106.13593).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.errors import ConfigError
from recon.sim import import_extra
from recon.sim.acts_fit import fit_tracks_kalman
from recon.sim.acts_output import PeerTracks, reconstruction_cpu
from recon.sim.acts_sequence import (
    FIELD_TESLA,
    ActsSequence,
    magnetic_field,
    shared_geometry,
    space_point_maker,
)
from recon.sim.detector import PIXEL_VOLUMES
from recon.types import Detector, Event

__all__ = [
    "WORKING_POINTS",
    "CkfConfig",
    "PeerTracks",
    "find_tracks_ckf",
    "fit_tracks_kalman",
    "reconstruction_cpu",
]


def _check(fine: bool, name: str, given: object, allowed: str) -> None:
    if not fine:
        raise ConfigError(f"CkfConfig.{name} is {given}; allowed: {allowed}")


@dataclass(frozen=True, kw_only=True)
class CkfConfig:
    """A working point of the chain; the defaults are those of the ACTS examples.

    Attributes:
        seed_pt_min: smallest transverse momentum of a seed and of a track, GeV.
        eta_max: largest absolute pseudorapidity of a seed.
        middle_radius: range of the radius of the middle space point of a seed, mm.
        seed_radius: range of the radius of all space points of a seed, mm.
        seed_delta_r: range of the radial distance between neighbouring space points of a seed, mm.
        seed_z_max: largest absolute z of a space point, mm.
        seeds_per_middle: most seeds kept for one middle space point.
        impact_max: largest transverse impact parameter of a seed, mm.
        collision_z_max: half length of the luminous region that a seed must point to, mm.
        branches: most measurements followed on one surface.
        chi2_max: largest chi2 of a measurement (2 degrees of freedom) that joins the track.
        chi2_outlier: up to here a measurement is booked as an outlier, beyond as a hole.
        min_measurements: fewest measurements on a track.
        max_holes: most holes on a track.
        max_outliers: most outliers on a track.
        d0_max: largest absolute transverse impact parameter of a track, mm.
        shared_hits_max: a track with this many shared hits or more loses against better ones.
    """

    seed_pt_min: float = 0.9
    eta_max: float = 4.0
    middle_radius: tuple[float, float] = (60.0, 120.0)
    seed_radius: tuple[float, float] = (30.0, 200.0)
    seed_delta_r: tuple[float, float] = (1.0, 300.0)
    seed_z_max: float = 2000.0
    seeds_per_middle: int = 1
    impact_max: float = 3.0
    collision_z_max: float = 250.0
    branches: int = 2
    chi2_max: float = 15.0
    chi2_outlier: float = 25.0
    min_measurements: int = 6
    max_holes: int = 2
    max_outliers: int = 2
    d0_max: float = 4.0
    shared_hits_max: int = 3

    def __post_init__(self) -> None:
        for name in ("seed_pt_min", "eta_max", "seed_z_max", "impact_max", "collision_z_max", "d0_max"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        for name in ("seeds_per_middle", "branches", "min_measurements"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("max_holes", "max_outliers", "shared_hits_max"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("middle_radius", "seed_radius", "seed_delta_r"):
            low, high = getattr(self, name)
            _check(0 <= low < high, name, (low, high), "(low, high) with 0 <= low < high")
        _check(
            self.chi2_outlier >= self.chi2_max,
            "chi2_outlier",
            self.chi2_outlier,
            f"chi2_max ({self.chi2_max}) or more",
        )


WORKING_POINTS: dict[str, CkfConfig] = {
    "default": CkfConfig(),
    "wide": CkfConfig(middle_radius=(40.0, 180.0)),
    "tuned": CkfConfig(middle_radius=(35.0, 180.0), seeds_per_middle=5, seed_pt_min=0.7),
    "tuned-3": CkfConfig(middle_radius=(35.0, 180.0), seeds_per_middle=3, seed_pt_min=0.8),
}
"""From the fastest to the most efficient: "default", "wide", "tuned-3", "tuned"."""


def find_tracks_ckf(events: Sequence[Event], config: CkfConfig, detector: Detector) -> list[PeerTracks]:
    """Find and fit tracks with ACTS: seeding, combinatorial Kalman filter, ambiguity resolution.

    Single-threaded and silent. CPU time is reported by stage: `space_points`, `seeding`, `parameters`,
    `finding` (which contains the fit) and `ambiguity`, and apart from them `input` and `output`, the copies
    between Python and ACTS, which no user of ACTS pays.

    Args:
        events: stored events; only `hits` is looked at.
        config: the working point, for example `WORKING_POINTS["default"]`.
        detector: the sensor table that `Hits.module` points into.

    Returns:
        The tracks of every event; without hits or without seeds an empty entry.

    Raises:
        ConfigError: the `sim` extra is missing.
        DataError: a valid hit without sensor, finite position or positive variance.

    Example:
        >>> from recon.tracking.detector import load_detector
        >>> find_tracks_ckf([], WORKING_POINTS["default"], load_detector())
        []
    """
    sequence = ActsSequence(events, detector)
    sequence.add("space_points", space_point_maker(sequence, PIXEL_VOLUMES))
    sequence.add("seeding", _seeding(config, sequence))
    sequence.add("parameters", _parameter_estimation(sequence))
    sequence.add("finding", _track_finding(config, sequence))
    sequence.add("ambiguity", _ambiguity(config, sequence))
    return sequence.run("resolved_tracks")


def _seeding(config: CkfConfig, sequence: ActsSequence) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    (low, high), (middle_low, middle_high) = config.seed_delta_r, config.middle_radius
    return examples.GridTripletSeedingAlgorithm(
        level=sequence.silent,
        inputSpacePoints="space_points",
        outputSeeds="seeds",
        bFieldInZ=FIELD_TESLA * acts.UnitConstants.T,
        minPt=config.seed_pt_min * acts.UnitConstants.GeV,
        cotThetaMax=math.sinh(config.eta_max),
        impactMax=config.impact_max,
        rMin=config.seed_radius[0],
        rMax=config.seed_radius[1],
        zMin=-config.seed_z_max,
        zMax=config.seed_z_max,
        rMinMiddle=middle_low,
        rMaxMiddle=middle_high,
        **{f"deltaRMin{end}": low for end in ("", "Top", "Bottom")},
        **{f"deltaRMax{end}": high for end in ("", "Top", "Bottom")},
        collisionRegionMin=-config.collision_z_max,
        collisionRegionMax=config.collision_z_max,
        maxSeedsPerSpM=config.seeds_per_middle,
        sigmaScattering=5.0,
        radLengthPerSeed=0.1,
    )


def _parameter_estimation(sequence: ActsSequence) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    unit = acts.UnitConstants
    return examples.TrackParamsEstimationAlgorithm(
        level=sequence.silent,
        inputSeeds="seeds",
        outputTrackParameters="start_parameters",
        outputSeeds="start_seeds",
        trackingGeometry=shared_geometry().tracking_geometry,
        magneticField=magnetic_field(),
        particleHypothesis=acts.ParticleHypothesis.pion,
        initialSigmas=[unit.mm, unit.mm, unit.degree, unit.degree, 0.0, unit.ns],
        initialSigmaQoverPt=0.1 / unit.GeV,
        initialSigmaPtRel=0.1,
        initialVarInflation=[1.0] * 6,
    )


def _track_finding(config: CkfConfig, sequence: ActsSequence) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    geometry, field = shared_geometry().tracking_geometry, magnetic_field()
    cuts: tuple[list[float], ...] = ([], [config.chi2_max], [config.chi2_outlier], [config.branches])
    algorithm = examples.TrackFindingAlgorithm
    return algorithm(
        level=sequence.silent,
        measurementSelectorCfg=acts.MeasurementSelector.Config([(acts.GeometryIdentifier(), cuts)]),
        inputMeasurements="measurement_subset",
        inputInitialTrackParameters="start_parameters",
        inputSeeds="start_seeds",
        outputTracks="found_tracks",
        findTracks=algorithm.makeTrackFinderFunction(geometry, field, sequence.silent),
        findTracksBrem=algorithm.makeBremTrackFinderFunction(geometry, field, sequence.silent),
        trackingGeometry=geometry,
        magneticField=field,
        trackSelectorCfg=acts.TrackSelector.Config(
            loc0Min=-config.d0_max,
            loc0Max=config.d0_max,
            ptMin=config.seed_pt_min * acts.UnitConstants.GeV,
            minMeasurements=config.min_measurements,
            maxHoles=config.max_holes,
            maxOutliers=config.max_outliers,
        ),
        twoWay=True,
        seedDeduplication=True,
        stayOnSeed=True,
    )


def _ambiguity(config: CkfConfig, sequence: ActsSequence) -> Any:
    return import_extra("acts.examples").GreedyAmbiguityResolutionAlgorithm(
        level=sequence.silent,
        inputTracks="found_tracks",
        outputTracks="resolved_tracks",
        maximumSharedHits=config.shared_hits_max,
        nMeasurementsMin=config.min_measurements,
        maximumIterations=1_000_000,
    )
