"""Layer clusters to showers along lines of sight: the association that came with CMS's imaging algorithm.

The layer cluster with most energy is a seed and takes all that lie within a radius of the line from the interaction
point through it; then the next that is not taken, and so on (`HGCal3DClustering` in CMSSW). What is a seed does not
depend on the order in which independent ones are looked at, so all are decided in a few rounds at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.checks import LEAST_ROWS, large_clusters, pad_rows
from recon.hgcal_clustering.clue3d import without_small
from recon.hgcal_clustering.imaging import ImagingConfig
from recon.hgcal_clustering.projective import find_tiles, pad_tiles
from recon.hgcal_clustering.rows import to_rows
from recon.hgcal_clustering.tiles import Tiles
from recon.hgcal_clustering.windows import by_row, nearest_over, sum_over
from recon.padding import bucket_size
from recon.types import NOISE, Array, Clusters, DensityClusters

_OPEN, _SEED, _TAKEN = 0, 1, 2
ALL_LAYERS = 1000


def sight_distance(here: Mapping[str, Array], there: Mapping[str, Array]) -> Float32[Array, " b"]:
    """Distance of `here` from the line of sight through `there`, in the plane of `here`, mm."""
    return here["z"] * jnp.hypot(here["u"] - there["u"], here["v"] - there["v"])


def multicluster_program(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    priority: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    tiles: Tiles,
    config: ImagingConfig,
) -> DensityClusters:
    """The association for one endcap, to be compiled with static `config`; can be batched with `vmap`.

    Args:
        position: of the layer clusters, mm; padded.
        energy: GeV.
        priority: unique numbers; the lowest is looked at first.
        valid: false for padding.
        tiles: for `config.radius` through all layers, padded.
        config: radius and least size.

    Returns:
        `nearest_higher` is the seed that took a layer cluster, `delta` its distance from the line of sight in mm, and
        `rho` the energy.
    """
    n = energy.shape[0]
    depth = jnp.where(valid, jnp.abs(position[:, 2]), 1)
    columns = {"u": position[:, 0] / depth, "v": position[:, 1] / depth, "z": depth, "priority": priority}
    here = {name: column[tiles.order] for name, column in columns.items()}
    query = tiles.windows.query
    searching = jnp.zeros(n, bool).at[query].set(True, mode="drop")

    def before(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
        return (other["priority"] < one["priority"]) & (sight_distance(one, other) < config.radius)

    def decide(state: Array) -> Array:
        def contribution(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
            # Any seed makes the sum infinite; without one it counts those that are still open.
            weight = jnp.select([other["state"] == _SEED, other["state"] == _OPEN], [jnp.inf, 1.0], 0.0)
            return jnp.where(before(one, other), weight, 0)

        found = sum_over(tiles.windows, here | {"state": state}, contribution)
        ahead = jnp.zeros(n).at[query].set(found, mode="drop")
        decided = jnp.where(jnp.isinf(ahead), _TAKEN, jnp.where(ahead == 0, _SEED, _OPEN))
        return jnp.where(state == _OPEN, decided, state)

    start = jnp.where(searching, _OPEN, _TAKEN)
    state = jax.lax.while_loop(lambda state: jnp.any(state == _OPEN), decide, start)

    def turn(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
        takes = before(one, other) & (other["state"] == _SEED)
        return jnp.where(takes, other["priority"].astype(jnp.float32), jnp.inf)

    place, _ = nearest_over(tiles.windows, here | {"state": state}, turn, here["priority"])
    taken_by = jnp.where(place >= 0, tiles.order[jnp.maximum(place, 0)], NOISE)
    nearest = by_row(jnp.full(n, NOISE, jnp.int32), tiles.order, query, taken_by)
    seed = {name: column[jnp.maximum(nearest, 0)] for name, column in columns.items()}
    delta = jnp.where(nearest < 0, jnp.inf, sight_distance(columns, seed))
    found = assign(energy, delta, nearest, jnp.zeros(n), valid)
    return without_small(found, config.min_layer_clusters)


_program = jax.jit(multicluster_program, static_argnames="config")

STEPS = (_program,)


def multiclusters(
    clusters: Clusters, config: ImagingConfig | None = None, *, min_size: int = 1
) -> DensityClusters:
    """Associate the layer clusters of one endcap along lines of sight.

    Args:
        clusters: on the host; those that are not valid or too small are left out.
        config: parameters; CMS's if not given.
        min_size: least number of hits of a layer cluster.

    Returns:
        Host arrays, one row a layer cluster. Of equal energies the first is looked at first.

    Raises:
        DataError: a layer cluster that counts is not finite, has negative energy, or lies in the plane z = 0 or on the
            other side of it than another.
    """
    config = config or ImagingConfig()
    rows, position, energy, layer = large_clusters(clusters, min_size)
    n = len(rows)
    length = bucket_size(n, LEAST_ROWS)
    priority = np.empty(n, np.int32)
    priority[np.argsort(-energy, kind="stable")] = np.arange(n)
    pad = partial(pad_rows, length=length)
    tiles = pad_tiles(find_tiles(position, layer, config.radius, ALL_LAYERS), length, length)
    found = _program(pad(position), pad(energy), pad(priority), np.arange(length) < n, tiles, config=config)
    return to_rows(jax.device_get(found), rows, len(clusters.valid))
