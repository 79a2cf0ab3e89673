"""The track fit: exact helices, a slow twin, pulls, masks, symmetries, gradients."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tracking.detector import PassiveMaterial
from recon.tracking.fit_setup import FitConfig, FitSurfaces, fit_surfaces
from recon.tracking.fitting import FitResult, fit_and_clean, fit_tracks
from recon.types import Detector, Hits
from tests.reference import kalman as slow

CAPACITY = 12
TRACKS = 100
"""Barrel tracks, and as many through discs: the shapes are the same in all tests, so that the fit compiles once."""
CONFIG = FitConfig()
BARREL, DISCS = np.arange(TRACKS), np.arange(TRACKS, 2 * TRACKS)


class Sample(NamedTuple):
    world: slow.World
    hits: Hits
    surfaces: FitSurfaces


def detector_of(world: slow.World) -> tuple[Detector, PassiveMaterial]:
    n = len(world.center)
    detector = Detector(
        center=world.center.astype(np.float32),
        rotation=world.axes.astype(np.float32),
        half_size=np.full((n, 3), 8, np.float32),
        thickness=world.thickness.astype(np.float32),
        layer=world.layer.astype(np.int32),
        pixel=world.pixel,
        geometry_id=np.arange(n, dtype=np.uint64),
        volume_id=np.zeros(n, np.int32),
        layer_id=np.zeros(n, np.int32),
        module_id=np.zeros(n, np.int32),
    )
    cylinders = np.array([slow.TUBE, slow.PIPE], np.float32)
    passive = PassiveMaterial(cylinders[:, 0], np.full(2, 3000, np.float32), cylinders[:, 1])
    return detector, passive


def hits_at(world: slow.World, local: np.ndarray) -> Hits:
    """One hit on every sensor, in the order of the sensors."""
    n = len(local)
    position = world.center + np.einsum("ni,nij->nj", local, world.axes[:, :2])
    return Hits(
        position=position.astype(np.float32),
        layer=world.layer.astype(np.int32),
        module=np.arange(n, dtype=np.int32),
        local=local.astype(np.float32),
        variance=world.variance.astype(np.float32),
        features=np.zeros((n, 3), np.float32),
        valid=np.ones(n, bool),
    )


def stops_of(sample: Sample, tracks: np.ndarray, without_hit: int | None = None) -> list[slow.Stop]:
    radius = np.asarray(sample.surfaces.barrel)[:, 1].astype(np.float64)
    return slow.make_stops(sample.world, tracks, radius, CONFIG.passive_loss, without_hit)


def simulate(world: slow.World, rng: np.random.Generator, scatter: float, smear: float) -> Sample:
    """Follow all tracks with random kinks (times `scatter`) and smear their hits (times `smear`)."""
    surfaces = fit_surfaces(*detector_of(world))
    sample = Sample(world, hits_at(world, np.zeros((len(world.center), 2))), surfaces)
    local = np.zeros((len(world.center), 2))
    for tracks in (BARREL, DISCS):
        stops = stops_of(sample, tracks)
        kinks = np.zeros((len(tracks), len(stops), 2))
        _, variance = slow.follow(world.truth[tracks], kinks, stops, CONFIG.field, CONFIG.mass)
        kinks = scatter * np.sqrt(variance)[..., None] * rng.normal(size=kinks.shape)
        predicted, _ = slow.follow(world.truth[tracks], kinks, stops, CONFIG.field, CONFIG.mass)
        rows = world.hits[tracks]
        local[rows[rows >= 0]] = predicted.reshape(-1, 2)
    local += smear * np.sqrt(world.variance) * rng.normal(size=local.shape)
    return sample._replace(hits=hits_at(world, local))


@pytest.fixture(scope="module")
def world() -> slow.World:
    rng = np.random.default_rng(7)
    barrel = slow.draw_perigees(rng, TRACKS, (0.0, 1.2), (0.5, 100.0))
    discs = slow.draw_perigees(rng, TRACKS, (2.8, 4.0), (0.5, 100.0))
    # The hard cases: 1 TeV, in the middle and at |eta| = 4.
    barrel[0, 4] = 1e-3 * np.sin(barrel[0, 3])
    discs[0, 3] = 2 * np.arctan(np.exp(-4.0))
    discs[0, 4] = -1e-3 * np.sin(discs[0, 3])
    return slow.make_world(rng, barrel, discs, CAPACITY)


@pytest.fixture(scope="module")
def exact(world: slow.World) -> Sample:
    return simulate(world, np.random.default_rng(1), scatter=0.0, smear=0.0)


@pytest.fixture(scope="module")
def smeared(world: slow.World) -> Sample:
    return simulate(world, np.random.default_rng(2), scatter=1.0, smear=1.0)


@pytest.fixture(scope="module")
def fitted(smeared: Sample) -> FitResult:
    return fit(smeared)


def fit(sample: Sample, track_hits: np.ndarray | None = None) -> FitResult:
    lists = jnp.asarray(sample.world.hits if track_hits is None else track_hits)
    return jax.tree.map(np.asarray, fit_tracks(sample.hits, lists, sample.surfaces, CONFIG))


def pulls(result: FitResult, parameters: np.ndarray) -> np.ndarray:
    difference = result.parameters - parameters
    difference[:, 2] = np.mod(difference[:, 2] + np.pi, 2 * np.pi) - np.pi
    return difference / np.sqrt(np.einsum("tii->ti", result.covariance))


def test_exact_hits_give_the_true_parameters(exact: Sample) -> None:
    result = fit(exact)
    assert result.converged.all()
    assert np.abs(pulls(result, exact.world.truth)).max() < 0.05
    assert result.chi2.max() < 0.1


def test_the_hard_cases_are_right_in_single_precision(exact: Sample) -> None:
    result = fit(exact)
    for track in (BARREL[0], DISCS[0]):
        assert 1 / abs(result.parameters[track, 4]) == pytest.approx(
            1 / abs(exact.world.truth[track, 4]), rel=0.02
        )
        assert abs(pulls(result, exact.world.truth)[track, 3]) < 0.05


def assert_as_in_the_slow_twin(
    sample: Sample, result: FitResult, tracks: np.ndarray, without_hit: int | None = None
) -> None:
    rows = sample.world.hits[tracks]
    rows = rows[:, rows[0] >= 0]
    if without_hit is not None:
        rows = np.delete(rows, without_hit, axis=1)
    parameters, covariance, chi2 = slow.fit(
        sample.world.truth[tracks],
        sample.hits.local[rows].astype(np.float64),
        sample.world.variance[rows],
        stops_of(sample, tracks, without_hit),
    )
    ours = jax.tree.map(lambda array: array[tracks], result)
    assert np.abs(pulls(ours, parameters)).max() < 0.05
    sigma, slow_sigma = (np.sqrt(np.einsum("tii->ti", c)) for c in (ours.covariance, covariance))
    np.testing.assert_allclose(sigma, slow_sigma, rtol=0.03)
    np.testing.assert_allclose(
        ours.covariance / sigma[:, None] / sigma[:, :, None],
        covariance / slow_sigma[:, None] / slow_sigma[:, :, None],
        atol=0.03,
    )
    np.testing.assert_allclose(ours.chi2, chi2, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("tracks", [BARREL[:10], DISCS[:10]], ids=["barrel", "discs"])
def test_agrees_with_the_slow_twin(smeared: Sample, fitted: FitResult, tracks: np.ndarray) -> None:
    assert_as_in_the_slow_twin(smeared, fitted, tracks)


@pytest.mark.parametrize("slot", [0, 3])
@pytest.mark.parametrize("tracks", [BARREL[:10], DISCS[:10]], ids=["barrel", "discs"])
def test_a_layer_without_a_hit_still_scatters(smeared: Sample, tracks: np.ndarray, slot: int) -> None:
    lists = smeared.world.hits.copy()
    lists[:, slot] = -1
    assert_as_in_the_slow_twin(smeared, fit(smeared, lists), tracks, without_hit=slot)


@pytest.mark.parametrize("tracks", [BARREL, DISCS], ids=["barrel", "discs"])
def test_pulls_and_chi2_are_those_of_a_correct_fit(
    smeared: Sample, fitted: FitResult, tracks: np.ndarray
) -> None:
    assert fitted.converged[tracks].all()
    pull = pulls(fitted, smeared.world.truth)[tracks]
    # 100 tracks: the width of a unit Gaussian is known to 0.07, its mean to 0.1.
    np.testing.assert_allclose(pull.std(0), 1, atol=0.2)
    np.testing.assert_allclose(pull.mean(0), 0, atol=0.3)
    reduced = fitted.chi2[tracks] / fitted.ndof[tracks]
    assert reduced.mean() == pytest.approx(1, abs=0.12)
    present = smeared.world.hits[tracks] >= 0
    assert fitted.hit_chi2[tracks][present].mean() == pytest.approx(2, abs=0.25)
    assert (fitted.hit_chi2[tracks][~present] == 0).all()


def test_hit_chi2_is_the_gain_of_leaving_the_hit_out(smeared: Sample, fitted: FitResult) -> None:
    for slot in (0, 3, 6):
        variance = smeared.hits.variance.copy()
        variance[smeared.world.hits[:, slot]] *= 1e8
        without = fit(smeared._replace(hits=smeared.hits._replace(variance=variance)))
        gain = fitted.chi2 - without.chi2
        difference = np.abs(fitted.hit_chi2[:, slot] - gain)
        assert np.median(difference) < 0.01
        # Without the hit the momentum changes, and with it the multiple scattering of slow tracks.
        fast = np.abs(smeared.world.truth[:, 4] / np.sin(smeared.world.truth[:, 3])) < 0.2
        assert (difference < 0.15 + 0.05 * np.abs(gain))[fast].mean() > 0.97


def test_a_displaced_hit_is_found(smeared: Sample) -> None:
    local = smeared.hits.local.copy()
    slot = 4
    local[smeared.world.hits[:, slot]] += [0.5, 2.0]
    result = fit(smeared._replace(hits=hits_at(smeared.world, local)))
    fast = np.abs(smeared.world.truth[:, 4] / np.sin(smeared.world.truth[:, 3])) < 0.2
    assert (result.hit_chi2[fast].argmax(1) == slot).mean() > 0.95


def test_rotating_everything_turns_phi_and_nothing_else(smeared: Sample, fitted: FitResult) -> None:
    angle = 2.0
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    world = smeared.world._replace(center=smeared.world.center @ turn, axes=smeared.world.axes @ turn)
    rotated = Sample(world, hits_at(world, smeared.hits.local), fit_surfaces(*detector_of(world)))
    result = fit(rotated)
    expected = fitted.parameters + np.array([0, 0, angle, 0, 0])
    assert np.abs(pulls(result, expected)).max() < 0.05
    np.testing.assert_allclose(result.chi2, fitted.chi2, rtol=0.05, atol=0.1)


def test_padding_and_the_order_of_tracks_and_hits_change_nothing(smeared: Sample, fitted: FitResult) -> None:
    rng = np.random.default_rng(3)
    lists = smeared.world.hits.copy()
    lists[::2] = -1
    order = rng.permutation(len(lists))
    shuffle = rng.permutation(len(smeared.hits.valid))
    place = np.append(np.argsort(shuffle), -1).astype(np.int32)
    shuffled = Hits(*(array[shuffle] for array in smeared.hits))
    result = fit(smeared._replace(hits=shuffled), place[lists[order]])
    kept = order % 2 == 1
    np.testing.assert_array_equal(result.converged, kept)
    np.testing.assert_allclose(result.parameters[kept], fitted.parameters[order[kept]], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result.hit_chi2[kept], fitted.hit_chi2[order[kept]], rtol=1e-3, atol=1e-3)


def test_holes_in_the_list_are_skipped(smeared: Sample) -> None:
    lists = smeared.world.hits.copy()
    lists[:, 2] = -1
    compact = np.concatenate([np.delete(lists, 2, axis=1), np.full((len(lists), 1), -1, np.int32)], axis=1)
    holes, packed = fit(smeared, lists), fit(smeared, compact)
    assert np.abs(pulls(holes, packed.parameters)).max() < 0.02
    np.testing.assert_allclose(
        np.delete(holes.hit_chi2, 2, axis=1), packed.hit_chi2[:, :-1], rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize("how", ["module", "valid"])
def test_hits_that_cannot_be_used_are_left_out(smeared: Sample, how: str) -> None:
    hits, lists = smeared.hits, smeared.world.hits.copy()
    rows = lists[:, 1]
    values = getattr(hits, how).copy()
    values[rows] = -1 if how == "module" else False
    result = fit(smeared._replace(hits=hits._replace(**{how: values})))
    lists[:, 1] = -1
    expected = fit(smeared, lists)
    np.testing.assert_array_equal(result.ndof, expected.ndof)
    np.testing.assert_allclose(result.parameters, expected.parameters, rtol=1e-6)


@pytest.mark.parametrize("n_hits", [0, 1, 2, 3])
def test_short_tracks_are_finite_and_flagged(exact: Sample, n_hits: int) -> None:
    lists = np.where(np.arange(CAPACITY) < n_hits, exact.world.hits, -1)
    result = fit(exact, lists)
    assert all(np.isfinite(array).all() for array in result)
    assert (result.ndof == max(2 * n_hits - 5, 0)).all()
    if n_hits < 3:
        assert not result.converged.any()
    else:
        assert result.converged.mean() > 0.9
        assert np.abs(pulls(result, exact.world.truth)[result.converged]).max() < 0.1


def test_repeated_and_absurd_hits_stay_finite(smeared: Sample) -> None:
    lists = smeared.world.hits.copy()
    lists[0] = lists[0, 0]
    lists[1] = lists[1, ::-1]
    lists[2, :3] = lists[3:6, 7]
    assert all(np.isfinite(array).all() for array in fit(smeared, lists))


@pytest.mark.parametrize("rounds", [0, 1])
def test_fit_and_clean_is_the_fit_of_what_is_left(smeared: Sample, rounds: int) -> None:
    lists = jnp.asarray(smeared.world.hits)

    def without_second(lists: jax.Array, fit: FitResult) -> jax.Array:
        # The judge sees a complete fit with the chi2 of hits.
        bad = (fit.hit_chi2[:, 1] > 0) & fit.converged
        return lists.at[:, 1].set(jnp.where(bad, -1, lists[:, 1]))

    clean = jax.jit(fit_and_clean, static_argnames=("config", "clean", "rounds"))
    left, result = clean(smeared.hits, lists, smeared.surfaces, CONFIG, without_second, rounds)
    expected = fit(smeared, np.asarray(left))
    removed = np.asarray(left)[:, 1] < 0
    assert removed.mean() > 0.9 if rounds else not removed[smeared.world.hits[:, 1] >= 0].any()
    sigma = np.sqrt(np.diagonal(expected.covariance, axis1=1, axis2=2))
    # Without its hit a track moves by a sigma or less: what one linearisation makes of that is not exact.
    limit = 0.1 if rounds else 0.001
    assert (np.abs(result.parameters - expected.parameters) < limit * sigma)[expected.converged].all()
    np.testing.assert_array_equal(result.ndof, expected.ndof)
    assert not np.asarray(result.hit_chi2).any()


def test_gradient_is_the_difference_quotient(smeared: Sample) -> None:
    config = FitConfig(iterations=1, hit_chi2=False)
    lists = smeared.world.hits.copy()
    lists[5:10] = -1

    # The gradient is compiled once for three calls: fast compilation matters more than fast code.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @jax.value_and_grad
    def total(local: jax.Array) -> jax.Array:
        hits = smeared.hits._replace(local=local)
        return fit_tracks(hits, jnp.asarray(lists), smeared.surfaces, config).parameters[:, 2].sum()

    local = jnp.asarray(smeared.hits.local)
    gradient = np.asarray(total(local)[1])
    assert np.isfinite(gradient).all()
    unused = smeared.world.hits[5:10]
    assert (gradient[unused[unused >= 0]] == 0).all()
    row, step = smeared.world.hits[20, 1], 0.02
    up, down = (float(total(local.at[row, 0].add(sign * step))[0]) for sign in (1, -1))
    assert gradient[row, 0] == pytest.approx((up - down) / (2 * step), rel=0.1)


def test_one_compilation_for_all_events(smeared: Sample, exact: Sample) -> None:
    fit(smeared)
    before = fit_tracks._cache_size()
    fit(exact)
    fit(smeared, np.full_like(smeared.world.hits, -1))
    assert fit_tracks._cache_size() == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"field": 0.0}, "0 T"), ({"iterations": 0}, "iterations=0"), ({"min_hits": 2}, "min_hits=2")],
)
def test_impossible_settings_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitConfig(**setting)
