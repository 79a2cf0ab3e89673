"""Members to tracksters: energy, barycentre, principal axes and regressed energy of every shower."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.geometry import eta
from recon.hgcal_clustering.calibration import CalibrationConfig, regress_energy, soft_energy
from recon.hgcal_clustering.principal_axes import basis_along, outward_axes, symmetric_eigen
from recon.segments import segment_sum
from recon.types import NOISE, Array, DensityClusters, Tracksters


def make_tracksters(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    density: DensityClusters,
    config: CalibrationConfig,
    *,
    capacity: int,
) -> tuple[Tracksters, Bool[Array, ""]]:
    """Make the tracksters of one event; pure, to be compiled with static `config` and `capacity`.

    The axes are those of the energy-weighted covariance about the barycentre, without a correction for few members. A
    single member has no extent: its first axis points away from the interaction point.

    Args:
        position: of the members (layer clusters, or hits), mm.
        energy: of the members, GeV.
        layer: of the members.
        density: what clusters them; padding and loose members are `NOISE`.
        config: parameters of the regressed energy.
        capacity: length of the list of tracksters.

    Returns:
        The tracksters in the order of their seeds, and whether they are incomplete: more than `capacity`, or `density`
        overflowed itself.
    """
    n = energy.shape[0]
    member = (density.ids >= 0) & (density.ids < capacity)
    trackster = jnp.where(member, density.ids, 0)
    weight = jnp.where(member, jnp.maximum(energy, 0), 0)
    is_seed = member & density.is_seed
    place = jnp.where(is_seed, trackster, capacity)
    seed = jnp.full(capacity, -1, jnp.int32).at[place].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
    total, behind, size, barycentre = _sums(
        position, weight, layer >= config.front_layers, trackster, member, seed, capacity
    )
    axes, variance = _extent(position, weight, trackster, member, barycentre, total)
    valid = jnp.arange(capacity) < density.n_clusters
    off_axis = jnp.where(valid[:, None], barycentre, jnp.array([1.0, 0.0, 1.0]))
    hadronic = behind / jnp.where(total > 0, total, 1)
    pileup = soft_energy(energy, position[:, 2], off_axis[:, 2])
    made = Tracksters(
        member_trackster=jnp.where(member, trackster, NOISE),
        position=jnp.where(valid[:, None], barycentre, 0),
        axes=jnp.where(valid[:, None, None], axes, 0),
        variance=jnp.where(valid[:, None], variance, 0),
        energy=total,
        regressed_energy=jnp.where(valid, regress_energy(total, eta(off_axis), hadronic, pileup, config), 0),
        size=size,
        seed=seed,
        valid=valid,
    )
    return made, density.overflow | (density.n_clusters > capacity)


def _sums(
    position: Float32[Array, "n 3"],
    weight: Float32[Array, " n"],
    behind: Bool[Array, " n"],
    trackster: Int32[Array, " n"],
    member: Bool[Array, " n"],
    seed: Int32[Array, " t"],
    capacity: int,
) -> tuple[Array, Array, Array, Array]:
    """(energy, energy behind the front section, size, barycentre); offsets are from the seed, where they are small."""
    if weight.shape[0] == 0:
        zero = jnp.zeros(capacity, jnp.float32)
        return zero, zero, jnp.zeros(capacity, jnp.int32), jnp.zeros((capacity, 3), jnp.float32)
    origin = position[jnp.maximum(seed, 0)]
    offset = jnp.where(member[:, None], position - origin[trackster], 0)
    columns = jnp.column_stack([weight, weight * behind, weight[:, None] * offset])
    sums = segment_sum(columns, trackster, capacity, valid=member)
    size = jax.ops.segment_sum(member.astype(jnp.int32), trackster, capacity)
    barycentre = origin + sums[:, 2:] / jnp.where(sums[:, :1] > 0, sums[:, :1], 1)
    return sums[:, 0], sums[:, 1], size, barycentre


def _extent(
    position: Float32[Array, "n 3"],
    weight: Float32[Array, " n"],
    trackster: Int32[Array, " n"],
    member: Bool[Array, " n"],
    barycentre: Float32[Array, "t 3"],
    total: Float32[Array, " t"],
) -> tuple[Float32[Array, "t 3 3"], Float32[Array, "t 3"]]:
    """(axes, variance along them)."""
    capacity = total.shape[0]
    offset = position - barycentre[trackster]
    products = jnp.stack(
        [offset[:, i] * offset[:, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], 1
    )
    sums = segment_sum(weight[:, None] * products, trackster, capacity, valid=member)
    six = sums / jnp.where(total > 0, total, 1)[:, None]
    covariance = six[:, jnp.array([0, 1, 2, 1, 3, 4, 2, 4, 5])].reshape(-1, 3, 3)
    values, axes = symmetric_eigen(covariance)
    point = (values[:, 0] <= 0)[:, None, None]
    axes = jnp.where(point, basis_along(barycentre), outward_axes(axes, barycentre))
    # Rounding may leave a flat cloud with a variance below 0.
    return axes, jnp.maximum(values, 0)
