"""What a network reads of a jet: names of features, their standardisation and capacities, as data beside weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recon.errors import ConfigError
from recon.features import Feature, FeatureTable, features_from_json, features_to_json
from recon.tagging.quantities import CANDIDATE_FORMULAS


@dataclass(frozen=True, kw_only=True)
class JetInputs:
    """What a network reads of a jet; travels with its weights.

    Candidates are sorted by falling transverse momentum (after the weights of PUPPI), vertices by falling
    significance of their transverse distance.

    Attributes:
        candidates: features of the candidates, by the names of `recon.tagging.quantities`.
        vertices: features of the vertices; `None` for a network that reads none.
        n_candidates: capacity; softer candidates are left out and counted.
        n_vertices: capacity; less significant vertices are left out and counted.
    """

    candidates: FeatureTable
    vertices: FeatureTable | None = None
    n_candidates: int = 100
    n_vertices: int = 7

    def __post_init__(self) -> None:
        if self.n_candidates < 1 or self.n_vertices < 1:
            raise ConfigError(
                f"inputs of a jet network: n_candidates {self.n_candidates}, n_vertices {self.n_vertices}; "
                "both must be at least 1"
            )


DEEPAK8_CANDIDATES = tuple(
    name for name in CANDIDATE_FORMULAS if name.startswith("pfcand_") and not name.endswith("_nopuppi")
)
"""The 42 features of a candidate that DeepAK8 reads."""

DEEPAK8_VERTICES = (
    *(f"sv_{name}" for name in ("pt_log", "ptrel_log", "erel_log", "phirel", "etarel", "deltaR", "abseta")),
    *(f"sv_{name}" for name in ("mass", "ntracks", "normchi2", "dxy", "dxysig", "d3d", "d3dsig")),
    "sv_costhetasvpv",
)
"""The 15 features of a vertex that DeepAK8 reads."""

NOT_SIMULATED = tuple(
    f"pfcand_{name}"
    for name in (
        *("VTX_ass", "lostInnerHits", "normchi2", "quality"),
        *("dptdpt", "detadeta", "dphidphi", "dxydz", "dphidxy", "dlambdadz"),
    )
)
"""Features that `recon.sim.jets` cannot give: the hits and fits of tracks, and their covariance but for the errors of
the impact parameters."""

_LOGARITHMS = ("_pt_log", "_ptrel_log", "_erel_log")


def replacement(name: str) -> float:
    """What CMS puts in place of NaN and infinity: -99 for logarithms, -1 for the distance of the nearest vertex."""
    if name.endswith(_LOGARITHMS):
        return -99.0
    return -1.0 if name == "pfcand_drminsv" else 0.0


JETCLASS_INPUTS = JetInputs(
    candidates=FeatureTable(
        features=(
            Feature(column="part_pt_log", mean=1.7, scale=1 / 0.7, clip=5.0, replace=0.0),
            Feature(column="part_e_log", mean=2.0, scale=1 / 0.7, clip=5.0, replace=0.0),
            Feature(column="part_logptrel", mean=-4.7, scale=1 / 0.7, clip=5.0, replace=0.0),
            Feature(column="part_logerel", mean=-4.7, scale=1 / 0.7, clip=5.0, replace=0.0),
            Feature(column="part_deltaR", mean=0.2, scale=0.25, clip=5.0, replace=0.0),
            *(
                Feature(column=f"part_{name}", replace=0.0)
                for name in (
                    *(
                        "charge",
                        "isChargedHadron",
                        "isNeutralHadron",
                        "isPhoton",
                        "isElectron",
                        "isMuon",
                        "d0",
                    ),
                )
            ),
            Feature(column="part_d0err", limits=(0.0, 1.0), replace=0.0),
            Feature(column="part_dz", replace=0.0),
            Feature(column="part_dzerr", limits=(0.0, 1.0), replace=0.0),
            Feature(column="part_deta", replace=0.0),
            Feature(column="part_dphi", replace=0.0),
        )
    ),
    n_candidates=128,
)
"""The 17 features of JetClass's `full` configuration with its own standardisation; the last two are the points."""


_KINEMATICS = ("part_pt_log", "part_e_log", "part_logptrel", "part_logerel", "part_deltaR")
_POINTS = ("part_deta", "part_dphi")
_IDENTITY = (
    "part_charge",
    *(f"part_is{kind}" for kind in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")),
)


_VECTOR = tuple(Feature(column=f"part_{name}") for name in ("px", "py", "pz", "energy"))


def jetclass_inputs(n_features: int, *, vectors: bool = False) -> JetInputs:
    """What a network trained on JetClass reads, told by the number of its features.

    Args:
        n_features: 7 for kinematics (`kin`), 13 with the kinds of particles (`kinpid`), 17 for all (`full`).
        vectors: with the momenta of the candidates behind the features, as the Particle Transformer reads them.

    Raises:
        ConfigError: another number.
    """
    full = JETCLASS_INPUTS.candidates.columns
    names = {7: (*_KINEMATICS, *_POINTS), 13: (*_KINEMATICS, *_IDENTITY, *_POINTS), len(full): full}
    if n_features not in names:
        raise ConfigError(f"networks of JetClass read {sorted(names)} features; this one reads {n_features}")
    features = tuple(JETCLASS_INPUTS.candidates.features[full.index(name)] for name in names[n_features])
    features += _VECTOR if vectors else ()
    return replace(JETCLASS_INPUTS, candidates=FeatureTable(features=features))


def deepak8_features(names: Sequence[str]) -> tuple[Feature, ...]:
    """Features with CMS's clip and replacement rules, not yet standardised: `fit_inputs` does that."""
    return tuple(Feature(column=name, clip=5.0, replace=replacement(name)) for name in names)


def inputs_to_json(inputs: JetInputs) -> dict[str, Any]:
    """The inputs as JSON-serialisable data."""
    return {
        "candidates": features_to_json(inputs.candidates),
        "vertices": None if inputs.vertices is None else features_to_json(inputs.vertices),
        "n_candidates": inputs.n_candidates,
        "n_vertices": inputs.n_vertices,
    }


def inputs_from_json(data: Mapping[str, Any]) -> JetInputs:
    """The inputs back from `inputs_to_json`.

    Raises:
        ConfigError: an entry is unknown or missing.
    """
    try:
        vertices = data["vertices"]
        return JetInputs(
            candidates=features_from_json(data["candidates"]),
            vertices=None if vertices is None else features_from_json(vertices),
            n_candidates=int(data["n_candidates"]),
            n_vertices=int(data["n_vertices"]),
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"not the inputs of a jet network: {error!r}") from error
