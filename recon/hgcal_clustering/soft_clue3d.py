"""CLUE3D with soft decisions: density, seeds and the way to them as functions with gradients.

As in `recon.hgcal_clustering.soft`, every comparison becomes a logistic function on a scale given by a temperature T.
With t_ij the transverse distance of j from i, d_ij the one in three dimensions and l_ij their layers apart:

    beside_ij = sigmoid((sibling_layers + 1/2 - l_ij) / T)
    rho_i = e_i + kernel_factor sum_j sigmoid((density_radius - t_ij) / (T density_radius)) beside_ij e_j, l_ij > 0
    higher_ij = sigmoid((rho_j - rho_i) / (T critical_density))
    in_reach_ij = beside_ij sigmoid((r - t_ij) / (T critical_distance)), r = outlier_multiplier critical_distance
    none_i = prod_j (1 - higher_ij in_reach_ij)
    next_ij = (1 - none_i) softmax_j(log higher_ij + log in_reach_ij - d_ij / (sqrt(T) critical_distance))
    close_ij = sigmoid((critical_distance - t_ij) / (T critical_distance)) sigmoid((critical_layers + 1/2 - l_ij) / T)
    core_i = sigmoid((rho_i - critical_density) / (T critical_density))
             sigmoid((e_i / rho_i - critical_self_density) / T)

A layer cluster in the core of a shower is a seed if the one that is next is not close, and else follows it:

    seed_i = core_i (none_i + sum_j next_ij (1 - close_ij))
    outlier_i = (1 - core_i) none_i
    follow_ij = next_ij (1 - core_i (1 - close_ij))

which sum to 1. For T to 0 these go to what `recon.hgcal_clustering.clue3d` decides before it dissolves the tracksters
with too few members, wherever nothing is tied and nothing lies on a radius or a threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from recon.hgcal_clustering.clue3d import Clue3dConfig
from recon.hgcal_clustering.projective import LinePoints, transverse2
from recon.hgcal_clustering.soft import SoftClusters, none_of, shares
from recon.types import Array


class Clue3dParameters(NamedTuple):
    """The parameters of `Clue3dConfig` that have gradients, layers as real numbers; all above 0."""

    critical_density: float | Array
    critical_self_density: float | Array
    sibling_layers: float | Array
    density_radius: float | Array
    kernel_factor: float | Array
    critical_distance: float | Array
    critical_layers: float | Array
    outlier_multiplier: float | Array

    @classmethod
    def from_config(cls, config: Clue3dConfig) -> Clue3dParameters:
        """Those of a configuration."""
        return cls(*(float(getattr(config, name)) for name in cls._fields))


class _Pairs(NamedTuple):
    """What lies between every point and its neighbours, (n, k) each.

    Attributes:
        there: false for empty slots.
        across: transverse distance, mm.
        apart: distance in three dimensions, mm.
        layers: layers apart.
    """

    there: Array
    across: Array
    apart: Array
    layers: Array


def soft_clue3d(
    points: LinePoints,
    neighbours: Int32[Array, "n k"],
    parameters: Clue3dParameters,
    *,
    temperature: float | Array = 0.1,
    same_layer_density: bool = False,
) -> SoftClusters:
    """Soft CLUE3D on the layer clusters of one endcap.

    It has gradients with respect to the energies and places of the points and to all parameters.

    Args:
        points: layer clusters; `row` is not looked at.
        neighbours: rows of others of which a layer cluster may take notice, -1 in empty slots; pairs that are not
            listed count as infinitely far apart.
        parameters: of CLUE3D.
        temperature: scale of all decisions, relative to what is compared; in layers for layers.
        same_layer_density: whether others on the same layer count in the density.

    Returns:
        One row a layer cluster; `delta` is the expected transverse distance of the one that is next, and the largest
        that is looked at where there is none.
    """
    p = Clue3dParameters(*map(jnp.asarray, parameters))
    row = jnp.maximum(neighbours, 0)
    pairs = _pairs(points, row, neighbours >= 0)
    rho = _density(points.energy, row, pairs, p, temperature, same_layer_density)

    log_higher = jax.nn.log_sigmoid((rho[row] - rho[:, None]) / (temperature * p.critical_density))
    reach = p.outlier_multiplier * p.critical_distance
    width = temperature * p.critical_distance
    log_reach = jax.nn.log_sigmoid((reach - pairs.across) / width) + _log_within(
        pairs.layers, p.sibling_layers, temperature
    )
    none = none_of(jnp.where(pairs.there, jnp.exp(log_higher + log_reach), 0))
    score = log_higher + log_reach - pairs.apart / (jnp.sqrt(temperature) * p.critical_distance)
    following = (1 - none)[:, None] * shares(score, pairs.there)

    log_close = jax.nn.log_sigmoid((p.critical_distance - pairs.across) / width)
    log_close += _log_within(pairs.layers, p.critical_layers, temperature)
    core = jax.nn.sigmoid((rho - p.critical_density) / (temperature * p.critical_density))
    self_density = points.energy / jnp.where(rho > 0, rho, 1)
    core *= jax.nn.sigmoid((self_density - p.critical_self_density) / temperature)
    starts = core[:, None] * following * (1 - jnp.exp(log_close))
    return SoftClusters(
        rho=rho,
        delta=(following * pairs.across).sum(1) + none * reach,
        seed=core * none + starts.sum(1),
        outlier=(1 - core) * none,
        follow=following - starts,
    )


def _pairs(points: LinePoints, row: Array, there: Array) -> _Pairs:
    names = ("slope", "phi", "z", "layer")
    here = {name: getattr(points, name)[:, None] for name in names}
    other = {name: getattr(points, name)[row] for name in names}
    square = transverse2(here, other)
    return _Pairs(
        there,
        _root(square, there),
        _root(square + (here["z"] - other["z"]) ** 2, there),
        jnp.abs(here["layer"] - other["layer"]),
    )


def _root(square: Array, there: Array) -> Array:
    """Square roots; without a gradient where they are 0, for it would be infinite."""
    some = there & (square > 0)
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)


def _log_within(layers: Array, limit: Array, temperature: float | Array) -> Array:
    """Logarithm of the probability to be within so many layers; whole numbers lie half a layer off the border."""
    return jax.nn.log_sigmoid((limit + 0.5 - layers) / temperature)


def _density(
    energy: Float[Array, " n"],
    row: Array,
    pairs: _Pairs,
    p: Clue3dParameters,
    temperature: float | Array,
    same_layer: bool,
) -> Float[Array, " n"]:
    near = jax.nn.sigmoid((p.density_radius - pairs.across) / (temperature * p.density_radius))
    near *= jnp.exp(_log_within(pairs.layers, p.sibling_layers, temperature))
    counts = pairs.there if same_layer else pairs.there & (pairs.layers > 0)
    return energy + p.kernel_factor * jnp.where(counts, near * energy[row], 0).sum(1)
