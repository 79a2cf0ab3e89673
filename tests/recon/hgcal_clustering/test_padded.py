"""The traceable algorithms find what their namesakes with tiles from the host find, in batches and exported."""

from __future__ import annotations

from functools import cache, partial

import jax
import numpy as np
import pytest

from recon.hgcal_clustering.checks import pad_rows
from recon.hgcal_clustering.clue3d import Clue3dConfig, clue3d
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, clue_clusters
from recon.hgcal_clustering.clue_hits import HitClueConfig, clue_hits
from recon.hgcal_clustering.imaging import ImagingConfig, imaging
from recon.hgcal_clustering.multiclusters import multiclusters
from recon.hgcal_clustering.padded import (
    clue3d_padded,
    clue_clusters_padded,
    clue_hits_padded,
    imaging_cores,
    imaging_padded,
    multiclusters_padded,
)
from recon.types import NOISE, DensityClusters
from tests.recon.hgcal_clustering.showers_by_hand import random_event
from tests.reference.toy_showers import toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")

LENGTH = 512


def padded(*columns):
    """Columns with rows that hold nonsense, and which rows do not."""
    n = len(columns[0])
    made = [pad_rows(column, LENGTH) for column in columns]
    for column in made:
        column[n:] = np.nan if column.dtype.kind == "f" else 7
    return *made, np.arange(LENGTH) < n


def layer_events():
    return [random_event(seed, showers=8, noise=60) for seed in (0, 1, 2)]


def hit_events():
    return [toy_event(seed, showers=4, n_layers=8, noise=20, both_ends=True).hits for seed in (1, 2, 3)]


CASES = {
    "clue3d": (
        partial(clue3d_padded, config=Clue3dConfig()),
        layer_events,
        lambda event: padded(event.position, event.energy, event.layer),
        clue3d,
    ),
    "clue_hits": (
        partial(clue_hits_padded, config=HitClueConfig()),
        hit_events,
        lambda hits: padded(hits.position, hits.energy, hits.layer),
        clue_hits,
    ),
    "multiclusters": (
        partial(multiclusters_padded, config=ImagingConfig()),
        layer_events,
        lambda event: padded(event.position, event.energy, event.layer),
        multiclusters,
    ),
    "clue_clusters": (
        partial(clue_clusters_padded, config=ClusterClueConfig(rho_c=1.5)),
        layer_events,
        lambda event: padded(event.position, event.energy, event.layer),
        lambda event: clue_clusters(event, ClusterClueConfig(rho_c=1.5)),
    ),
    "imaging": (
        partial(imaging_padded, d_c=15.0),
        hit_events,
        lambda hits: padded(hits.position, hits.energy, hits.layer, 9 * hits.sigma_noise),
        lambda hits: imaging(hits, ImagingConfig(d_c=15.0)).clusters,
    ),
}


@cache
def batch_of(name):
    """(events, what the program finds in them and in an event without any hit)."""
    program, events, inputs, _ = CASES[name]
    events = events()
    columns = [inputs(event) for event in events]
    columns.append((*columns[0][:-1], np.zeros(LENGTH, bool)))
    batch = jax.tree.map(lambda *rows: np.stack(rows), *columns)
    return events, jax.device_get(jax.jit(jax.vmap(program))(*batch))


@pytest.mark.parametrize("name", CASES)
def test_batch_finds_what_the_host_finds(name):
    (events, found), host = batch_of(name), CASES[name][3]
    clusters = found.clusters if name == "imaging" else found
    for index, event in enumerate(events):
        n, expected = len(event.energy), host(event)
        one = DensityClusters(*(column[index] for column in clusters))
        assert (one.ids[n:] == NOISE).all()
        assert expected.n_clusters == one.n_clusters > 2
        assert not one.overflow
        np.testing.assert_allclose(one.rho[:n], expected.rho, rtol=1e-5)
        assert one.is_seed[:n].sum() == expected.is_seed.sum()
        np.testing.assert_array_equal(one.ids[:n], expected.ids)
        np.testing.assert_array_equal(one.nearest_higher[:n], expected.nearest_higher)


@pytest.mark.parametrize("name", CASES)
def test_event_without_hits(name):
    _, found = batch_of(name)
    clusters = found.clusters if name == "imaging" else found
    assert clusters.n_clusters[-1] == 0
    assert (clusters.ids[-1] == NOISE).all()


def test_halo_is_that_of_the_host():
    events, found = batch_of("imaging")
    halo = imaging(events[0], ImagingConfig(d_c=15.0)).halo
    assert halo.any()
    np.testing.assert_array_equal(found.halo[0][: len(halo)], halo)


def test_both_endcaps_at_once_and_exported():
    one, other = random_event(0, showers=6, noise=30), random_event(1, showers=6, noise=30)
    mirrored = other.position * np.array([1, 1, -1], np.float32)
    columns = padded(
        np.concatenate([one.position, mirrored]),
        np.concatenate([one.energy, other.energy]),
        np.concatenate([one.layer, other.layer]),
    )
    shapes = (jax.ShapeDtypeStruct(column.shape, column.dtype) for column in columns)
    # Types of our own cannot be exported: a flat dict can.
    program = jax.jit(lambda *event: clue3d_padded(*event, Clue3dConfig())._asdict())
    exported = jax.export.deserialize(jax.export.export(program)(*shapes).serialize())
    ids = np.asarray(exported.call(*columns)["ids"])
    n, first, second = len(one.energy), clue3d(one), clue3d(other).ids
    np.testing.assert_array_equal(ids[:n], first.ids)
    np.testing.assert_array_equal(
        ids[n : n + len(second)], np.where(second >= 0, second + first.n_clusters, NOISE)
    )


def test_cores_of_both_kinds_of_sensors():
    hits = hit_events()[0]
    tile = np.arange(len(hits.energy)) % 3 == 0
    config = ImagingConfig(d_c=15.0, d_c_tiles=25.0)
    *columns, valid = padded(hits.position, hits.energy, hits.layer, hits.sigma_noise)
    program = jax.jit(imaging_cores, static_argnames="config")
    found = program(*columns, valid, pad_rows(tile, LENGTH), config=config)
    expected, n = imaging(hits, config, scintillator=tile).core(), len(tile)
    assert {True, False} == set(tile[expected.is_seed].tolist())
    for name in ("ids", "is_seed", "nearest_higher"):
        np.testing.assert_array_equal(getattr(found, name)[:n], getattr(expected, name), err_msg=name)
    assert int(found.n_clusters) == int(expected.n_clusters) == expected.is_seed.sum()
    assert (np.asarray(found.ids)[n:] == NOISE).all()
