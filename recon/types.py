"""Event data: one `NamedTuple` an event, padded arrays beside a `valid` mask.

A batch is one more leading axis; a length is a capacity, not a count. Units everywhere: mm, GeV, ns, rad, T;
`recon.io` converts. Arrays are NumPy on the host and JAX inside a compiled program, never a mixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax import Array as JaxArray
from jaxtyping import Bool, Float32, Int32, Int64, UInt8, UInt64

if TYPE_CHECKING:
    # A type checker cannot know on which side of the compiler an array is: on one it is NumPy's, on the other JAX's.
    Array = Any
else:
    Array = np.ndarray | JaxArray

NOISE = -1
"""`hit_particle` of a hit that no particle made, `hit_track` of a hit on no track, `module` of an unknown sensor."""


class Hits(NamedTuple):
    """The measurements of one event, in any order.

    Attributes:
        position: global position, mm.
        layer: index of the detector layer, 0 to `Detector.n_layers - 1`; -1 where `valid` is false.
        module: row of the sensor in the `Detector` table; -1 where unknown (such a hit cannot be refitted).
        local: position in the sensor's own frame (along `Detector.rotation[:, 0]` and `[:, 1]`), mm.
        variance: variance of `local`, mm^2.
        features: what the sensor saw: cluster size along both local axes (cells) and collected charge.
        valid: false for padding.
    """

    position: Float32[Array, "*b n 3"]
    layer: Int32[Array, "*b n"]
    module: Int32[Array, "*b n"]
    local: Float32[Array, "*b n 2"]
    variance: Float32[Array, "*b n 2"]
    features: Float32[Array, "*b n f"]
    valid: Bool[Array, "*b n"]


class Particles(NamedTuple):
    """The simulated particles of one event and the hits they left.

    Attributes:
        momentum: at the production vertex, GeV.
        vertex: production vertex, mm.
        charge: in units of e.
        pdg: particle code of the Particle Data Group.
        primary: false for what the detector simulation made (conversions, decays in flight in the material).
        valid: false for padding.
        hit_particle: for every hit the row of the particle that made it; `NOISE` for none.
    """

    momentum: Float32[Array, "*b p 3"]
    vertex: Float32[Array, "*b p 3"]
    charge: Int32[Array, "*b p"]
    pdg: Int32[Array, "*b p"]
    primary: Bool[Array, "*b p"]
    valid: Bool[Array, "*b p"]
    hit_particle: Int32[Array, "*b n"]


class HitTruth(NamedTuple):
    """Where the particle really passed the sensor, one row a hit; NaN for noise.

    Attributes:
        position: of the particle at the sensor, mm.
        momentum: of the particle before the sensor, GeV.
        order: place of the hit along its particle's path, from 0; `NOISE` for noise or where unknown.
    """

    position: Float32[Array, "n 3"]
    momentum: Float32[Array, "n 3"]
    order: Int32[Array, " n"]


class Event(NamedTuple):
    """One event as it lies in a file: host arrays, not padded, with the identifiers the file used.

    Attributes:
        number: event number.
        hits: the measurements.
        particles: the truth; `None` for data.
        truth: the true crossing behind every hit; `None` for data.
        hit_id: identifiers from the file, 64 bits; positions in `hits` are the identifiers used everywhere else.
        particle_id: identifiers from the file, 64 bits; empty without truth.
    """

    number: int
    hits: Hits
    particles: Particles | None
    truth: HitTruth | None
    hit_id: UInt64[np.ndarray, " n"]
    particle_id: UInt64[np.ndarray, " p"]


class Detector(NamedTuple):
    """The sensors of a tracking detector, one row each, sorted by `geometry_id`.

    A measurement lies at `center + local[0] * rotation[0] + local[1] * rotation[1]`.

    Attributes:
        center: mm.
        rotation: rows are the sensor's axes u, v and its normal w in the global frame.
        half_size: half length along u at the low and the high v edge, half length along v, mm.
        thickness: material in units of radiation lengths at normal incidence.
        layer: index of the layer, 0 to n_layers - 1, ordered by (volume, layer) identifier.
        pixel: true for pixel sensors.
        geometry_id: identifier in ACTS.
        volume_id: TrackML / ACTS volume identifier.
        layer_id: TrackML / ACTS layer identifier within the volume.
        module_id: ACTS sensitive identifier within the layer.
    """

    center: Float32[np.ndarray, "m 3"]
    rotation: Float32[np.ndarray, "m 3 3"]
    half_size: Float32[np.ndarray, "m 3"]
    thickness: Float32[np.ndarray, " m"]
    layer: Int32[np.ndarray, " m"]
    pixel: Bool[np.ndarray, " m"]
    geometry_id: UInt64[np.ndarray, " m"]
    volume_id: Int32[np.ndarray, " m"]
    layer_id: Int32[np.ndarray, " m"]
    module_id: Int32[np.ndarray, " m"]


class EdgeList(NamedTuple):
    """Candidate segments between hits, from the inner to the outer end.

    Attributes:
        senders: row of the inner hit in `Hits`; 0 where `valid` is false.
        receivers: row of the outer hit; the list is sorted by receiver.
        valid: false for padding.
        overflow: true when the capacity was too small: the list is then incomplete and must not be used.
    """

    senders: Int32[Array, "*b e"]
    receivers: Int32[Array, "*b e"]
    valid: Bool[Array, "*b e"]
    overflow: Bool[Array, "*b"]


class Tracks(NamedTuple):
    """Reconstructed tracks.

    Attributes:
        hit_track: for every hit the row of its track; `NOISE` for none. A hit lies on one track at most.
        parameters: (d0 mm, z0 mm, phi rad, theta rad, q/p 1/GeV) at the point of closest approach to the
            beam line; d0 has the sign of the perigee convention of ACTS.
        covariance: of `parameters`.
        chi2: of the fit, with `2 * n_hits - 5` degrees of freedom.
        n_hits: number of hits on the track.
        valid: false for padding.
    """

    hit_track: Int32[Array, "*b n"]
    parameters: Float32[Array, "*b t 5"]
    covariance: Float32[Array, "*b t 5 5"]
    chi2: Float32[Array, "*b t"]
    n_hits: Int32[Array, "*b t"]
    valid: Bool[Array, "*b t"]


class Calorimeter(NamedTuple):
    """The cells of one endcap of a sampling calorimeter, at z > 0; the other endcap is its mirror image in z.

    Rows are sorted by layer and lie close together in memory where the cells do. A row is the identifier of a cell.

    Attributes:
        position: centre of the cell, mm.
        layer: 0 to n_layers - 1, from the interaction point outwards.
        sensor: row of `recon.hgcal_clustering.geometry.SENSORS`: silicon by thickness, or scintillator.
        area: mm^2.
        gev_per_mip: calibrated energy that one minimum ionising particle leaves, GeV.
        sigma_noise: one standard deviation of the noise on the same scale, GeV.
        layer_z: mm.
        layer_x0: depth of material in front of the layer, summed, radiation lengths.
        layer_lambda: the same in nuclear interaction lengths.
        layer_radius: inner and outer edge of the sensitive area, mm.
    """

    position: Float32[np.ndarray, "c 3"]
    layer: Int32[np.ndarray, " c"]
    sensor: Int32[np.ndarray, " c"]
    area: Float32[np.ndarray, " c"]
    gev_per_mip: Float32[np.ndarray, " c"]
    sigma_noise: Float32[np.ndarray, " c"]
    layer_z: Float32[np.ndarray, " l"]
    layer_x0: Float32[np.ndarray, " l"]
    layer_lambda: Float32[np.ndarray, " l"]
    layer_radius: Float32[np.ndarray, "l 2"]


class RecHits(NamedTuple):
    """The calibrated hits of one event in a calorimeter, in any order.

    Attributes:
        position: centre of the cell, mm; the sign of z says which endcap.
        energy: GeV.
        layer: 0 to n_layers - 1; -1 where `valid` is false.
        cell: row of the `Calorimeter` table, the same in both endcaps; -1 where unknown or padding.
        sigma_noise: one standard deviation of the cell's noise, GeV.
        valid: false for padding.
    """

    position: Float32[Array, "*b n 3"]
    energy: Float32[Array, "*b n"]
    layer: Int32[Array, "*b n"]
    cell: Int32[Array, "*b n"]
    sigma_noise: Float32[Array, "*b n"]
    valid: Bool[Array, "*b n"]


class ShowerTruth(NamedTuple):
    """The particles that reached a calorimeter, and what each gave to every hit (a sparse table of k entries).

    Attributes:
        momentum: at the production vertex, GeV.
        vertex: production vertex, mm.
        charge: in units of e.
        pdg: particle code of the Particle Data Group.
        hard_scatter: false for pile-up.
        hit: row of the hit, ascending.
        particle: row of the particle.
        fraction: of the hit's energy that this particle made; what is missing to 1 is noise.
    """

    momentum: Float32[np.ndarray, "p 3"]
    vertex: Float32[np.ndarray, "p 3"]
    charge: Int32[np.ndarray, " p"]
    pdg: Int32[np.ndarray, " p"]
    hard_scatter: Bool[np.ndarray, " p"]
    hit: Int32[np.ndarray, " k"]
    particle: Int32[np.ndarray, " k"]
    fraction: Float32[np.ndarray, " k"]


class HitTimes(NamedTuple):
    """When hits were made: after light from the origin would have come to the cell.

    Attributes:
        time: ns; NaN for a hit without a time, whose charge was too small or whose sensor has none.
        error: standard deviation of the measurement, ns; NaN without a time.
    """

    time: Float32[np.ndarray, " n"]
    error: Float32[np.ndarray, " n"]


class CalorimeterEvent(NamedTuple):
    """One event of a calorimeter as it lies in a file: host arrays, not padded.

    Attributes:
        number: event number.
        hits: the calibrated hits.
        truth: `None` for data.
        times: of the hits, row by row; `None` where they were not measured.
    """

    number: int
    hits: RecHits
    truth: ShowerTruth | None
    times: HitTimes | None = None


class DensityClusters(NamedTuple):
    """What a density clustering says about every point.

    Attributes:
        ids: cluster of the point, numbered in the order of the seeds; `NOISE` for outliers and padding.
        rho: local density, in the unit of the weights.
        delta: distance to `nearest_higher`; infinite where there is none within reach.
        nearest_higher: row of the nearest point of higher density; -1 where there is none within reach.
        is_seed: true for the points that clusters begin at.
        n_clusters: number of clusters.
        overflow: true when a capacity was too small: the result is then incomplete and must not be used.
    """

    ids: Int32[Array, "*b n"]
    rho: Float32[Array, "*b n"]
    delta: Float32[Array, "*b n"]
    nearest_higher: Int32[Array, "*b n"]
    is_seed: Bool[Array, "*b n"]
    n_clusters: Int32[Array, "*b"]
    overflow: Bool[Array, "*b"]


class Clusters(NamedTuple):
    """Layer clusters: the hits of one layer that belong together.

    Attributes:
        member_cluster: for every hit the row of its cluster; `NOISE` for none.
        position: log-weighted mean of the hits' positions, mm.
        energy: GeV.
        size: number of hits.
        layer: -1 where `valid` is false.
        seed: row of the hit that the cluster begins at; -1 where `valid` is false.
        valid: false for padding.
    """

    member_cluster: Int32[Array, "*b n"]
    position: Float32[Array, "*b c 3"]
    energy: Float32[Array, "*b c"]
    size: Int32[Array, "*b c"]
    layer: Int32[Array, "*b c"]
    seed: Int32[Array, "*b c"]
    valid: Bool[Array, "*b c"]


class Tracksters(NamedTuple):
    """Showers in three dimensions, made of layer clusters (or of hits).

    Attributes:
        member_trackster: for every member the row of its trackster; `NOISE` for none.
        position: energy-weighted barycentre, mm.
        axes: principal axes, one a row, the longest first; the first points away from the interaction point.
        variance: along the axes, mm^2.
        energy: raw, the sum over the members, GeV.
        regressed_energy: GeV.
        size: number of members.
        seed: row of the member that the trackster begins at; -1 where `valid` is false.
        valid: false for padding.
    """

    member_trackster: Int32[Array, "*b n"]
    position: Float32[Array, "*b t 3"]
    axes: Float32[Array, "*b t 3 3"]
    variance: Float32[Array, "*b t 3"]
    energy: Float32[Array, "*b t"]
    regressed_energy: Float32[Array, "*b t"]
    size: Int32[Array, "*b t"]
    seed: Int32[Array, "*b t"]
    valid: Bool[Array, "*b t"]


class Jets(NamedTuple):
    """The jets of one event, as a network sees them.

    Attributes:
        candidates: features of the jet's particles, by decreasing transverse momentum, as `recon.features` makes them.
        candidate_valid: false for padding.
        vertices: features of the secondary vertices in the jet.
        vertex_valid: false for padding.
        label: row of `recon.tagging.labels.LABELS`; `NOISE` where unknown.
    """

    candidates: Float32[Array, "*b j c f"]
    candidate_valid: Bool[Array, "*b j c"]
    vertices: Float32[Array, "*b j v g"]
    vertex_valid: Bool[Array, "*b j v"]
    label: Int32[Array, "*b j"]


class PixelMaps(NamedTuple):
    """Neutrino events as images, as a network sees them: both views of the window of each.

    Attributes:
        xz: calibrated energy of the vertical cells, which measure x; by plane and cell, 8-bit grey values from 0 to 1.
        yz: the same of the horizontal cells.
        label: row of `recon.tagging.labels.NEUTRINO_LABELS`; `NOISE` where unknown.
    """

    xz: Float32[Array, "b planes cells 1"]
    yz: Float32[Array, "b planes cells 1"]
    label: Int32[Array, " b"]


class NeutrinoTruth(NamedTuple):
    """What really happened in neutrino events; for cosmic rays the particle that enters takes the neutrino's place.

    Attributes:
        mode: row of `recon.tagging.labels.NEUTRINO_MODES`; `NOISE` for cosmic rays.
        flavour: particle code: 12, 14 or 16 for neutrinos, 13 or 22 for cosmic rays.
        energy: of the neutrino, GeV.
        visible_energy: left in the scintillator of the whole detector, GeV.
        lepton: momentum of the outgoing lepton, which is a neutrino in neutral currents, GeV.
        vertex: mm; the entry of cosmic rays.
    """

    mode: Int32[Array, " e"]
    flavour: Int32[Array, " e"]
    energy: Float32[Array, " e"]
    visible_energy: Float32[Array, " e"]
    lepton: Float32[Array, "e 3"]
    vertex: Float32[Array, "e 3"]


class NeutrinoEvents(NamedTuple):
    """Many neutrino events as hits, concatenated: a thousandth of the pixels have one.

    Attributes:
        number: event number.
        label: row of `recon.tagging.labels.NEUTRINO_LABELS`; `NOISE` where unknown.
        offsets: event `i` owns the hits `offsets[i]` to `offsets[i + 1]`.
        view: 0 for vertical cells (xz), 1 for horizontal ones (yz).
        plane: within the window, from its upstream end, each view counted alone.
        cell: within the window.
        charge: calibrated energy of the hits, GeV.
        outside: number of hits of the slice that the window does not hold.
        window: first plane of the window and its median cells in x and y (-1 for an empty view), of the detector.
        truth: `None` for data.
    """

    number: UInt64[Array, " e"]
    label: Int32[Array, " e"]
    offsets: Int64[Array, " e1"]
    view: Int32[Array, " n"] | UInt8[Array, " n"]
    plane: Int32[Array, " n"] | UInt8[Array, " n"]
    cell: Int32[Array, " n"] | UInt8[Array, " n"]
    charge: Float32[Array, " n"]
    outside: Int32[Array, " e"]
    window: Int32[Array, "e 3"]
    truth: NeutrinoTruth | None
