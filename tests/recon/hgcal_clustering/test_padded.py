"""The traceable algorithms find what their namesakes with tiles from the host find, in batches and exported."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from recon.hgcal_clustering.checks import pad_rows
from recon.hgcal_clustering.clue3d import Clue3dConfig, clue3d
from recon.hgcal_clustering.clue_hits import HitClueConfig, clue_hits
from recon.hgcal_clustering.imaging import ImagingConfig, imaging
from recon.hgcal_clustering.padded import clue3d_padded, clue_hits_padded, imaging_padded
from recon.types import NOISE
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
    "imaging": (
        lambda position, energy, layer, rho_c, valid: (
            imaging_padded(position, energy, layer, rho_c, valid, d_c=15.0).clusters
        ),
        hit_events,
        lambda hits: padded(hits.position, hits.energy, hits.layer, 9 * hits.sigma_noise),
        lambda hits: imaging(hits, ImagingConfig(d_c=15.0)).clusters,
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """(program, function that makes events, function that pads them, host function)."""
    return CASES[request.param]


def groups(ids):
    return {frozenset(np.flatnonzero(ids == name)) for name in np.unique(ids[ids >= 0])}


def test_batch_finds_what_the_host_finds(case):
    program, events, inputs, host = case
    events = events()
    batch = jax.tree.map(lambda *columns: np.stack(columns), *map(inputs, events))
    found = jax.jit(jax.vmap(program))(*batch)
    for index, event in enumerate(events):
        n, expected = len(event.energy), host(event)
        ids = np.asarray(found.ids[index])
        assert (ids[n:] == NOISE).all()
        assert expected.n_clusters == found.n_clusters[index] > 2
        np.testing.assert_allclose(found.rho[index][:n], expected.rho, rtol=1e-5)
        assert not found.overflow[index]
        np.testing.assert_array_equal(found.is_seed[index][:n].sum(), expected.is_seed.sum())
    if host is clue3d:
        np.testing.assert_array_equal(ids[:n], expected.ids)
        np.testing.assert_array_equal(found.nearest_higher[index][:n], expected.nearest_higher)


def test_halo_is_that_of_the_host():
    hits = hit_events()[0]
    position, energy, layer, rho_c, valid = CASES["imaging"][2](hits)
    found = imaging_padded(*map(jax.numpy.asarray, (position, energy, layer, rho_c, valid)), d_c=15.0)
    halo = imaging(hits, ImagingConfig(d_c=15.0)).halo
    assert halo.any()
    # Where hits are equally dense their order decides, which is not the same here.
    assert (np.asarray(found.halo[: len(halo)]) != halo).mean() < 0.05


def test_both_endcaps_at_once():
    one, other = random_event(0, showers=6, noise=30), random_event(1, showers=6, noise=30)
    mirrored = other.position * np.array([1, 1, -1], np.float32)
    columns = (
        np.concatenate([one.position, mirrored]),
        np.concatenate([one.energy, other.energy]),
        np.concatenate([one.layer, other.layer]),
    )
    found = jax.jit(CASES["clue3d"][0])(*padded(*columns))
    n, first = len(one.energy), clue3d(one)
    np.testing.assert_array_equal(found.ids[:n], first.ids)
    second = clue3d(other).ids
    np.testing.assert_array_equal(
        found.ids[n : n + len(second)], np.where(second >= 0, second + first.n_clusters, NOISE)
    )


def test_empty_event(case):
    program, events, inputs, _ = case
    columns = inputs(events()[0])
    found = jax.jit(program)(*columns[:-1], np.zeros(LENGTH, bool))
    assert found.n_clusters == 0
    assert (found.ids == NOISE).all()


def test_export(case):
    program, events, inputs, _ = case
    columns = inputs(events()[0])

    def ids_of(*event):
        found = program(*event)
        return {"ids": found.ids, "rho": found.rho}

    exported = jax.export.export(jax.jit(ids_of))(
        *(jax.ShapeDtypeStruct(column.shape, column.dtype) for column in columns)
    )
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(again.call(*columns)["ids"], jax.jit(program)(*columns).ids)
