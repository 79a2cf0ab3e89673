"""What networks read of a candidate or a vertex, computed from the columns of a file: the same in NumPy and JAX.

Names and definitions are those of DeepAK8 (`pfcand_*` and `sv_*`; CMSSW, DeepBoostedJetTagInfoProducer and
TrackInfoBuilder) and of JetClass's configurations (`part_*`). CMS measures in cm and gives the transverse impact
parameter the other sign; both are converted here. Quantities derived from tracks are 0 for neutral candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

from recon.errors import DataError
from recon.geometry import delta_r
from recon.types import Array

PION_MASS = 0.13957
"""GeV."""
MM_PER_CM = 10.0
NO_CHI2 = 999.0
"""What CMS gives candidates without a track."""
SUBJET_ABSENT = -1.0


class MissingColumnError(DataError):
    """A file lacks a column.

    Args:
        column: its name.
        given: names of the columns that there are.
    """

    def __init__(self, column: str, given: Iterable[str]) -> None:
        super().__init__(f"there is no column {column!r}; given are {sorted(given)}")
        self.column = column


class Quantities:
    """Quantities of one kind of object by name, each computed once when it is first asked for.

    Args:
        columns: of the file, one value an object.
        jets: columns of the jets.
        spread: brings a column of the jets to the shape of the objects.
        formulas: quantities by name; they come before columns of the same name.
        numpy: NumPy or `jax.numpy`.
    """

    def __init__(
        self,
        columns: Mapping[str, Array],
        jets: Mapping[str, Array],
        spread: Callable[[Array], Array],
        formulas: Mapping[str, Callable[[Quantities], Array]],
        numpy: ModuleType,
    ) -> None:
        self._columns, self._jets, self._spread, self._formulas = columns, jets, spread, formulas
        self.numpy = numpy
        self._known: dict[str, Array] = {}
        self._raw: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        """A quantity; raises `MissingColumnError` if the file lacks a column that it is made of."""
        if name not in self._known:
            formula = self._formulas.get(name)
            self._known[name] = self.raw(name) if formula is None else formula(self)
        return self._known[name]

    def raw(self, name: str) -> Array:
        """A column of the file, of the jets brought to the objects where it is one of theirs, as float32."""
        if name not in self._raw:
            if name in self._columns:
                column = self._columns[name]
            elif name in self._jets:
                column = self._spread(self._jets[name])
            else:
                raise MissingColumnError(name, {*self._columns, *self._jets})
            self._raw[name] = self.numpy.asarray(column, dtype=self.numpy.float32)
        return self._raw[name]

    def given(self, name: str) -> bool:
        """Whether the file has a column of this name."""
        return name in self._columns or name in self._jets

    def has(self, name: str) -> bool:
        """Whether the file gives a quantity or the columns it is made of."""
        return self.lacks(name) is None

    def lacks(self, name: str) -> str | None:
        """The first column that is missing for a quantity; `None` where there are all."""
        try:
            self[name]
        except MissingColumnError as missing:
            return missing.column
        return None


def _tracked(q: Quantities, value: Array, otherwise: float = 0.0) -> Array:
    return q.numpy.where(q.raw("part_d0err") > 0, value, q.numpy.float32(otherwise))


def _stored(column: str, formula: Callable[[Quantities], Array]) -> Callable[[Quantities], Array]:
    """What the file says where it does, since it knows the whole fit of the track; 0 without a track."""

    def quantity(q: Quantities) -> Array:
        return _tracked(q, q.raw(column) if q.given(column) else formula(q))

    return quantity


def _distance_to_vertex(q: Quantities) -> Array:
    # CMS looks at all vertices of the event, where the file has them.
    return q.raw("part_drminsv") if q.given("part_drminsv") else q.raw("nearest_vertex")


def _hadronic_fraction(q: Quantities) -> Array:
    """Share of the hadronic calorimeter; where the file does not say, all of a neutral hadron's energy."""
    return q.raw("part_hcal_fraction" if q.given("part_hcal_fraction") else "part_isNeutralHadron")


def _over(q: Quantities, value: Array, error: Array) -> Array:
    """A quotient that is 0 where the divisor is."""
    good = error > 0
    return q.numpy.where(good, value / q.numpy.where(good, error, 1), 0)


def _subjet(n: int) -> Callable[[Quantities], Array]:
    def distance(q: Quantities) -> Array:
        apart = delta_r(q["eta"], q["phi"], q.raw(f"subjet{n}_eta"), q.raw(f"subjet{n}_phi"))
        there = q.raw(f"subjet{n}_pt") > 0
        return q.numpy.where(there, apart, q.numpy.float32(SUBJET_ABSENT))

    return distance


def _along_jet(q: Quantities) -> Array:
    """Component of the direction of flight along the jet's axis."""
    flight = q.numpy.cos(q.raw("part_dphi")) + q["sinh_eta"] * q["sinh_jet_eta"]
    return flight / (q["cosh_eta"] * q["cosh_jet_eta"])


def _across_jet(q: Quantities) -> Array:
    """Size of the component across the axis, from the vector product: stable where the two nearly agree."""
    sine, cosine = q.numpy.sin(q.raw("part_dphi")), q.numpy.cos(q.raw("part_dphi"))
    x = sine * q["sinh_jet_eta"]
    y = q["sinh_eta"] - cosine * q["sinh_jet_eta"]
    return q.numpy.sqrt(x * x + y * y + sine * sine) / (q["cosh_eta"] * q["cosh_jet_eta"])


def _relative_rapidity(q: Quantities) -> Array:
    along = q["momentum"] * q["along_jet"]
    across = q.numpy.hypot(q["momentum"] * q["across_jet"], q.numpy.float32(PION_MASS))
    energy = q.numpy.hypot(q["momentum"], q.numpy.float32(PION_MASS))
    # 1/2 log((E + p) / (E - p)), without the difference.
    return q.numpy.log(q.numpy.maximum(energy + along, 1e-30) / across)


def _closest(q: Quantities) -> tuple[Array, Array, Array]:
    """Vector from the primary vertex to the track, mm: across the track's azimuth, along it, along the beam."""
    d0, dz = q.raw("part_d0val"), q.raw("part_dzval")
    sine_squared = 1 / (q["cosh_eta"] * q["cosh_eta"])
    return d0, -dz * q["sinh_eta"] * sine_squared, dz * sine_squared


def _sip3d(q: Quantities) -> Array:
    across, along, beam = _closest(q)
    size = q.numpy.sqrt(across * across + along * along + beam * beam)
    sine, cosine = q.numpy.sin(q.raw("part_dphi")), q.numpy.cos(q.raw("part_dphi"))
    # Its projection on the axis of the jet, up to a positive factor.
    ahead = across * sine + along * cosine + beam * q["sinh_jet_eta"]
    return size * q.numpy.sign(ahead) / MM_PER_CM


def _sip3d_significance(q: Quantities) -> Array:
    across, along, beam = _closest(q)
    size = q.numpy.sqrt(across * across + along * along + beam * beam)
    longitudinal = q.raw("part_dzval") / (q["cosh_eta"] * q["cosh_eta"]) * q.raw("part_dzerr")
    error = _over(q, q.numpy.hypot(across * q.raw("part_d0err"), longitudinal), size)
    return _over(q, q["pfcand_btagSip3dVal"] * MM_PER_CM, error)


def _jet_distance(q: Quantities) -> Array:
    """Distance of the track from the axis, both as straight lines; negative, as CMS gives it."""
    sine, cosine = q.numpy.sin(q.raw("part_dphi")), q.numpy.cos(q.raw("part_dphi"))
    # Normal to both lines, with the axes along, across (to the left of) the track's azimuth and along the beam; the
    # transverse impact parameter points to the right.
    left = q["sinh_eta"] * cosine - q["sinh_jet_eta"]
    beam = -sine
    along = q["sinh_eta"] * sine
    size = q.numpy.sqrt(left * left + beam * beam + along * along)
    overlap = -q.raw("part_d0val") * left + q.raw("part_dzval") * beam
    return -q.numpy.abs(_over(q, overlap, size)) / MM_PER_CM


CANDIDATE_FORMULAS: Mapping[str, Callable[[Quantities], Array]] = {
    "pt": lambda q: q.numpy.hypot(q.raw("part_px"), q.raw("part_py")),
    "eta": lambda q: q.raw("part_deta") + q.raw("jet_eta"),
    "phi": lambda q: q.raw("part_dphi") + q.raw("jet_phi"),
    "sinh_eta": lambda q: q.numpy.sinh(q["eta"]),
    "cosh_eta": lambda q: q.numpy.cosh(q["eta"]),
    "sinh_jet_eta": lambda q: q.numpy.sinh(q.raw("jet_eta")),
    "cosh_jet_eta": lambda q: q.numpy.cosh(q.raw("jet_eta")),
    "momentum": lambda q: q["pt"] * q["cosh_eta"],
    "along_jet": _along_jet,
    "across_jet": _across_jet,
    # JetClass
    "part_pt_log": lambda q: q.numpy.log(q["pt"]),
    "part_e_log": lambda q: q.numpy.log(q.raw("part_energy")),
    "part_logptrel": lambda q: q.numpy.log(q["pt"] / q.raw("jet_pt")),
    "part_logerel": lambda q: q.numpy.log(q.raw("part_energy") / q.raw("jet_energy")),
    "part_deltaR": lambda q: q.numpy.hypot(q.raw("part_deta"), q.raw("part_dphi")),
    "part_d0": lambda q: q.numpy.tanh(q.raw("part_d0val")),
    "part_dz": lambda q: q.numpy.tanh(q.raw("part_dzval")),
    # DeepAK8
    "pfcand_pt_log": lambda q: q["part_pt_log"],
    # CMS's ParticleNet reads momenta before the weights of PUPPI.
    "pfcand_pt_log_nopuppi": lambda q: q.numpy.log(q["pt"] / q.raw("part_puppi_weight")),
    "pfcand_e_log_nopuppi": lambda q: q.numpy.log(q.raw("part_energy") / q.raw("part_puppi_weight")),
    "pfcand_ptrel_log": lambda q: q["part_logptrel"],
    "pfcand_erel_log": lambda q: q["part_logerel"],
    "pfcand_phirel": lambda q: q.raw("part_dphi"),
    "pfcand_etarel": lambda q: q.numpy.where(q.raw("jet_eta") > 0, 1, -1) * q.raw("part_deta"),
    "pfcand_deltaR": lambda q: q["part_deltaR"],
    "pfcand_abseta": lambda q: q.numpy.abs(q["eta"]),
    "pfcand_puppiw": lambda q: q.raw("part_puppi_weight"),
    "pfcand_drminsv": _distance_to_vertex,
    "pfcand_drsubjet1": _subjet(1),
    "pfcand_drsubjet2": _subjet(2),
    "pfcand_charge": lambda q: q.raw("part_charge"),
    "pfcand_isMu": lambda q: q.raw("part_isMuon"),
    "pfcand_isEl": lambda q: q.raw("part_isElectron"),
    "pfcand_isChargedHad": lambda q: q.raw("part_isChargedHadron"),
    "pfcand_isGamma": lambda q: q.raw("part_isPhoton"),
    "pfcand_isNeutralHad": lambda q: q.raw("part_isNeutralHadron"),
    "pfcand_hcalFrac": _hadronic_fraction,
    "pfcand_VTX_ass": lambda q: q.raw("part_pv_association"),
    "pfcand_lostInnerHits": lambda q: q.raw("part_lost_inner_hits"),
    "pfcand_normchi2": lambda q: _tracked(q, q.raw("part_normchi2"), NO_CHI2),
    "pfcand_quality": lambda q: _tracked(q, q.raw("part_track_quality")),
    "pfcand_dz": lambda q: _tracked(q, q.raw("part_dzval")) / MM_PER_CM,
    "pfcand_dzsig": lambda q: _tracked(q, _over(q, q.raw("part_dzval"), q.raw("part_dzerr"))),
    "pfcand_dxy": lambda q: _tracked(q, -q.raw("part_d0val")) / MM_PER_CM,
    "pfcand_dxysig": lambda q: _tracked(q, _over(q, -q.raw("part_d0val"), q.raw("part_d0err"))),
    "pfcand_dptdpt": lambda q: _tracked(q, q.raw("part_cov_pt_pt")),
    "pfcand_detadeta": lambda q: _tracked(q, q.raw("part_cov_eta_eta")),
    "pfcand_dphidphi": lambda q: _tracked(q, q.raw("part_cov_phi_phi")),
    "pfcand_dxydxy": lambda q: _tracked(q, (q.raw("part_d0err") / MM_PER_CM) ** 2),
    "pfcand_dzdz": lambda q: _tracked(q, (q.raw("part_dzerr") / MM_PER_CM) ** 2),
    "pfcand_dxydz": lambda q: _tracked(q, q.raw("part_cov_dxy_dz")),
    "pfcand_dphidxy": lambda q: _tracked(q, q.raw("part_cov_phi_dxy")),
    "pfcand_dlambdadz": lambda q: _tracked(q, q.raw("part_cov_lambda_dz")),
    "pfcand_btagEtaRel": _stored("part_btagEtaRel", _relative_rapidity),
    "pfcand_btagPtRatio": _stored("part_btagPtRatio", lambda q: q["across_jet"]),
    "pfcand_btagPParRatio": _stored("part_btagPParRatio", lambda q: q["along_jet"]),
    "pfcand_btagSip2dVal": lambda q: (
        _tracked(
            q,
            q.numpy.abs(q.raw("part_d0val"))
            * q.numpy.sign(q.raw("part_d0val") * q.numpy.sin(q.raw("part_dphi"))),
        )
        / MM_PER_CM
    ),
    "pfcand_btagSip2dSig": lambda q: _over(q, q["pfcand_btagSip2dVal"] * MM_PER_CM, q.raw("part_d0err")),
    "pfcand_btagSip3dVal": _stored("part_btagSip3dVal", _sip3d),
    "pfcand_btagSip3dSig": _stored("part_btagSip3dSig", _sip3d_significance),
    "pfcand_btagJetDistVal": _stored("part_btagJetDistVal", _jet_distance),
}
"""Quantities of candidates; columns that only some files have are named `part_cov_*`, `part_normchi2` and so on."""

VERTEX_FORMULAS: Mapping[str, Callable[[Quantities], Array]] = {
    "pt": lambda q: q.numpy.hypot(q.raw("sv_px"), q.raw("sv_py")),
    "sv_pt_log": lambda q: q.numpy.log(q["pt"]),
    "sv_ptrel_log": lambda q: q.numpy.log(q["pt"] / q.raw("jet_pt")),
    "sv_erel_log": lambda q: q.numpy.log(q.raw("sv_energy") / q.raw("jet_energy")),
    "sv_phirel": lambda q: q.raw("sv_dphi"),
    "sv_etarel": lambda q: q.numpy.where(q.raw("jet_eta") > 0, 1, -1) * q.raw("sv_deta"),
    "sv_deltaR": lambda q: q.numpy.hypot(q.raw("sv_deta"), q.raw("sv_dphi")),
    "sv_abseta": lambda q: q.numpy.abs(q.raw("sv_deta") + q.raw("jet_eta")),
    "sv_dxy": lambda q: q.raw("sv_dxy") / MM_PER_CM,
    "sv_dxysig": lambda q: q.raw("sv_dxy") / q.raw("sv_dxyerr"),
    "sv_d3d": lambda q: q.raw("sv_d3d") / MM_PER_CM,
    "sv_d3dsig": lambda q: q.raw("sv_d3d") / q.raw("sv_d3derr"),
}
"""Quantities of secondary vertices; mass, ntracks, normchi2 and costhetasvpv are columns of the file."""


def nearest_vertex(
    deta: Array, dphi: Array, vertex_deta: Array, vertex_dphi: Array, vertex_valid: Array, numpy: ModuleType
) -> Array:
    """Distance of candidates from the nearest secondary vertex of their jet.

    Args:
        deta: [...], of the candidates from the axis of the jet.
        dphi: [...], the same in azimuth, rad.
        vertex_deta: [..., v], of the vertices of the candidate's jet.
        vertex_dphi: [..., v].
        vertex_valid: [..., v].
        numpy: NumPy or `jax.numpy`.

    Returns:
        [...]; infinite where the jet has no vertex, which CMS's rules replace by -1.
    """
    distance = delta_r(deta[..., None], dphi[..., None], vertex_deta, vertex_dphi)
    return numpy.where(vertex_valid, distance, numpy.inf).min(axis=-1, initial=numpy.inf)
