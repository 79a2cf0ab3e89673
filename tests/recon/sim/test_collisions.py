"""Pools of collisions: what they hold, and that they depend on nothing but their settings."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.sim.collisions import (
    CHUNK_SIZE,
    check_pool_settings,
    generate_chunk,
    generate_pool,
    seen_by_tracker,
    single_collision,
)
from recon.sim.pool import (
    Pool,
    concatenate,
    empty_pool,
    keep_particles,
    pool_size,
    read_pool,
    select,
    write_pool,
)

pytest.importorskip("pythia8mc")


def assert_same(one, other):
    for name in Pool._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def toy_pool(*counts):
    """Collisions with the given numbers of particles, numbered through."""
    n = sum(counts)
    row = np.arange(n)
    vectors = np.stack([row] * 3, axis=1).astype(np.float32)
    return Pool(
        pdg=row.astype(np.int32),
        charge=(row % 3 - 1).astype(np.int32),
        mass=row.astype(np.float32),
        momentum=vectors,
        vertex=vectors,
        time=row.astype(np.float32),
        tracked=row % 4 > 0,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def test_selection_keeps_order_and_repeats():
    picked = select(toy_pool(2, 0, 3), np.array([2, 0, 1, 2]))
    assert picked.pdg.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert picked.offsets.tolist() == [0, 3, 5, 5, 8]


def test_selection_of_nothing_is_empty():
    assert_same(select(toy_pool(2, 3), np.zeros(0, np.int64)), empty_pool())


def test_joining_undoes_taking_apart():
    pool = toy_pool(4, 1, 0, 2)
    parts = [select(pool, np.array([i])) for i in range(pool_size(pool))]
    assert_same(concatenate(parts), pool)


def test_pool_survives_the_disk(tmp_path):
    write_pool(tmp_path / "deep" / "pool.npz", toy_pool(2, 3))
    assert_same(read_pool(tmp_path / "deep" / "pool.npz"), toy_pool(2, 3))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pool.npz"]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_file_cut_short_reads_as_missing(tmp_path, keep):
    path = tmp_path / "pool.npz"
    write_pool(path, toy_pool(200, 300))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    assert read_pool(path) is None


def test_a_tracking_detector_is_given_the_visible_particles(ttbar, minbias):
    for pool in map(seen_by_tracker, (ttbar, minbias)):
        pt = np.hypot(pool.momentum[:, 0], pool.momentum[:, 1])
        charged = pool.charge != 0
        assert (pool.pdg[~charged] == 22).all()
        assert pt[charged].min() > 0.1
        assert pt[~charged].min() > 0.2
        assert np.abs(np.arcsinh(pool.momentum[:, 2] / pt)).max() < 4.5
        assert np.isin(pool.charge, (-1, 0, 1)).all()


def test_calorimeters_are_given_forward_neutral_hadrons_and_soft_photons_too(minbias):
    new = keep_particles(minbias, ~minbias.tracked)
    energy = np.linalg.norm(new.momentum, axis=1)
    eta = np.arcsinh(new.momentum[:, 2] / np.hypot(new.momentum[:, 0], new.momentum[:, 1]))
    assert (new.charge == 0).all()
    assert energy.min() > 0.5
    assert np.abs(eta).min() > 1.3
    assert set(np.abs(new.pdg)) == {22, 130, 2112}
    assert {130, 2112, -2112} <= set(new.pdg)
    hadrons = new.pdg != 22
    assert 0.05 < hadrons.sum() / (minbias.charge != 0).sum() < 0.5
    assert pool_size(new) == pool_size(minbias)


def test_particles_are_kept_in_their_collisions():
    pool = toy_pool(2, 0, 3)
    kept = keep_particles(pool, np.array([False, True, True, False, True]))
    assert kept.pdg.tolist() == [1, 2, 4]
    assert kept.offsets.tolist() == [0, 1, 1, 3]
    assert_same(seen_by_tracker(pool), keep_particles(pool, np.array([False, True, True, True, False])))


def test_masses_and_charges_belong_to_the_codes(ttbar):
    pions = np.abs(ttbar.pdg) == 211
    assert pions.sum() > 1000
    np.testing.assert_allclose(ttbar.mass[pions], 0.13957, atol=1e-5)
    np.testing.assert_array_equal(ttbar.charge[pions], np.sign(ttbar.pdg[pions]))
    electrons = np.abs(ttbar.pdg) == 11
    np.testing.assert_array_equal(ttbar.charge[electrons], -np.sign(ttbar.pdg[electrons]))


def test_top_pairs_are_busier_and_harder_than_minimum_bias(ttbar, minbias):
    def mean_charged(pool, pt_min):
        hard = (pool.charge != 0) & (np.hypot(pool.momentum[:, 0], pool.momentum[:, 1]) > pt_min)
        return hard.sum() / pool_size(pool)

    assert 1.5 * mean_charged(minbias, 0.15) < mean_charged(ttbar, 0.15)
    assert 5.0 * mean_charged(minbias, 5.0) < mean_charged(ttbar, 5.0)


def test_minimum_bias_is_symmetric_about_the_beam(minbias):
    direction = minbias.momentum / np.linalg.norm(minbias.momentum, axis=1, keepdims=True)
    # Thousands of correlated particles: two per cent is far more than chance.
    assert np.abs(direction[:, :2].mean(axis=0)).max() < 0.02


def test_displaced_particles_exist_but_most_are_prompt(ttbar):
    distance = np.linalg.norm(ttbar.vertex, axis=1)
    assert np.median(distance) < 1e-3
    assert 0.02 < (distance > 1.0).mean() < 0.3


def test_collisions_do_not_depend_on_the_size_of_the_pool(ttbar):
    assert_same(generate_pool("ttbar", 5, 1, first=7), select(ttbar, np.arange(7, 12)))
    assert_same(single_collision("ttbar", 1, 7), select(ttbar, np.array([7])))


def test_chunk_does_not_depend_on_what_was_generated_before(ttbar):
    # The fixture made chunk 0 from a fresh generator; now it follows chunk 3.
    later = generate_chunk("ttbar", 1, 3)
    again = select(generate_chunk("ttbar", 1, 0), np.arange(20))
    assert_same(again, ttbar)
    assert not np.array_equal(later.pdg[:500], ttbar.pdg[:500])


def test_seeds_differ(ttbar):
    other = generate_pool("ttbar", 20, seed=2)
    assert not np.array_equal(other.offsets, ttbar.offsets)


def test_two_processes_make_the_same_pool(monkeypatch, tmp_path, ttbar):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    calls = []
    n = CHUNK_SIZE["ttbar"] + 1
    pool = generate_pool("ttbar", n, 1, workers=2, progress=lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    assert_same(select(pool, np.arange(20)), ttbar)
    assert pool_size(pool) == n
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_damaged_cache_file_is_made_again(monkeypatch, tmp_path, ttbar):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    generate_pool("ttbar", 1, seed=1)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(b"PK")
    assert_same(generate_pool("ttbar", 20, seed=1), ttbar)


def test_no_collisions_cost_nothing():
    assert_same(generate_pool("minbias", 0, seed=1), empty_pool())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": -1}, "n of the ttbar pool is -1; at least 0"),
        ({"seed": -5}, "seed of the ttbar pool is -5"),
        ({"first": -1}, "first of the ttbar pool is -1"),
        ({"workers": 0}, "workers of the ttbar pool is 0; at least 1"),
    ],
)
def test_settings_out_of_range(change, message):
    settings = {"n": 1, "seed": 1, "first": 0, "workers": 1, **change}
    with pytest.raises(ConfigError, match=message):
        generate_pool("ttbar", **settings)


def test_unknown_kind_names_the_allowed_ones():
    # Past the type checks of the tests, which would refuse it first.
    with pytest.raises(ConfigError, match="kind of collision 'higgs'; allowed: ttbar, minbias"):
        check_pool_settings("higgs", n=1, seed=1, first=0, workers=1)
