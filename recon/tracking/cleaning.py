"""Fitted candidates to tracks: outlying hits leave, and what does not look like a particle is dropped.

Hits lie on one candidate each, so ambiguity is resolved hit by hit by the walk; what remains is to judge the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

from recon.errors import ConfigError
from recon.tracking.fitting import FitResult
from recon.types import NOISE


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """Cuts on hits and tracks.

    Attributes:
        hit_chi2: hits further than this from the track fitted without them are outliers (2 degrees of freedom).
        outlier_share: of several outliers only those with at least this share of the largest chi2 leave: one wrong hit
            spoils the fit for its neighbours, which are judged again after the next fit.
        rounds: fits followed by outlier removal, before the final one.
        min_hits: shorter tracks are dropped, in hits.
        pt_min: softer tracks are dropped, GeV.
        chi2_per_dof: tracks with a worse fit are dropped.
    """

    hit_chi2: float = 25.0
    outlier_share: float = 0.99
    rounds: int = 1
    min_hits: int = 6
    pt_min: float = 0.0
    chi2_per_dof: float = 1000.0

    def __post_init__(self) -> None:
        if self.hit_chi2 <= 0 or self.chi2_per_dof <= 0:
            raise ConfigError(
                f"CleaningConfig: hit_chi2 = {self.hit_chi2} and chi2_per_dof = {self.chi2_per_dof} must be positive"
            )
        if self.rounds < 0 or self.min_hits < 3:
            raise ConfigError(
                f"CleaningConfig: rounds = {self.rounds} (0 or more), min_hits = {self.min_hits} (3 or more)"
            )


def remove_outliers(
    track_hits: Int32[Array, "t k"], fit: FitResult, config: CleaningConfig
) -> Int32[Array, "t k"]:
    """Hit lists without the hits that do not belong to the fitted track, as long as `min_hits` remain.

    Args:
        track_hits: hits of each candidate, -1 for padding.
        fit: of these hits, with `hit_chi2`.
        config: cuts.
    """
    present = track_hits >= 0
    chi2 = jnp.where(present, fit.hit_chi2, 0.0)
    worst = chi2.max(1, keepdims=True)
    outlier = (chi2 > config.hit_chi2) & (chi2 >= config.outlier_share * worst)
    enough = (present & ~outlier).sum(1) >= config.min_hits
    drop = outlier & fit.converged[:, None] & enough[:, None]
    return jnp.where(drop, NOISE, track_hits)


def accept(n_hits: Int32[Array, " t"], fit: FitResult, config: CleaningConfig) -> Bool[Array, " t"]:
    """Candidates that are tracks."""
    curvature = jnp.abs(fit.parameters[:, 4])
    pt = jnp.sin(fit.parameters[:, 3]) / jnp.maximum(curvature, 1e-9)
    good = fit.chi2 <= config.chi2_per_dof * jnp.maximum(fit.ndof, 1)
    return fit.converged & good & (n_hits >= config.min_hits) & (pt >= config.pt_min)
