"""CLUE on free points against a hand case, its slow twin, CLUEstering's own answers and its symmetries."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import CLUE, Kernel, Metric
from recon.hgcal_clustering.clue import _first_search, clue
from recon.hgcal_clustering.points import position_rank
from tests.reference import clue as twin

pytestmark = pytest.mark.usefixtures("quick_programs")

SHARED = Path(__file__).parents[4] / "shared" / "data" / "clue"
NAMES = (
    "toyDetector_1000",
    "toyDetector_10000",
    "sissa_1000",
    "aniso_1000",
    "moons",
    "blobs_noise",
    "data_16384",
    "data_dim_3",
)
DENSE = ("blobs_noise", "data_16384")


def showers(n, n_axes, seed=0):
    """Points around a few centres and noise, with exponential weights: no ties."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 6 * n ** (1 / n_axes) / 2, (max(n // 20, 1), n_axes))
    points = centres[rng.integers(0, len(centres), n)] + rng.normal(0, 1, (n, n_axes))
    points[: n // 10] = rng.uniform(points.min(0), points.max(0), (n // 10, n_axes))
    return points.astype(np.float32), rng.exponential(1, n).astype(np.float32)


def assert_same(found, expected, rho=1e-5):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.nearest_higher, expected.nearest_higher)
    np.testing.assert_array_equal(found.is_seed, expected.is_seed)
    np.testing.assert_allclose(found.rho, expected.rho, rtol=rho)
    np.testing.assert_allclose(found.delta, expected.delta, rtol=1e-4)
    assert int(found.n_clusters) == expected.n_clusters
    assert not found.overflow


def read_shared(name):
    if not SHARED.is_dir():
        pytest.skip(f"no point clouds at {SHARED}")
    table = np.loadtxt(SHARED / f"{name}.csv", delimiter=",", skiprows=1)
    parameters = json.loads((SHARED / "golden_ids.json").read_text())[name]
    settings = {"d_c": parameters["density_radius"], "rho_c": parameters["min_density"]}
    return table[:, :-1], table[:, -1], settings


def test_by_hand():
    # Weights 1 on a line at 0, 1, 2 and 10, 11; d_c = 1.5: densities 1.5, 2, 1.5, 1.5, 1.5.
    found = clue(np.array([[0.0], [1], [2], [10], [11]]), d_c=1.5, rho_c=1.5, outlier_delta_factor=1.0)
    assert found.rho.tolist() == [1.5, 2, 1.5, 1.5, 1.5]
    assert found.nearest_higher.tolist() == [1, -1, 1, 4, -1]
    assert found.delta.tolist() == [1, np.inf, 1, 1, np.inf]
    assert found.is_seed.tolist() == [False, True, False, False, True]
    assert found.ids.tolist() == [0, 0, 0, 1, 1]
    assert int(found.n_clusters) == 2


def test_outliers_look_farther_than_seeds():
    # A lone point 2 away from a pair: within twice d_c it joins, within d_c it is an outlier.
    points = np.array([[0.0, 0.0], [0.5, 0.0], [2.4, 0.0]])
    assert clue(points, d_c=1.0, rho_c=1.2, outlier_delta_factor=2.0).ids.tolist() == [0, 0, 0]
    assert clue(points, d_c=1.0, rho_c=1.2, outlier_delta_factor=1.0).ids.tolist() == [0, 0, -1]
    old = clue(points, d_c=1.0, rho_c=1.2, outlier_delta_factor=2.0, compat="cluestering-2.11")
    assert old.ids.tolist() == [0, 0, -1]
    # A dense point does not look farther than the seeding distance.
    found = clue(points, [1, 1, 1.3], d_c=1.0, rho_c=1.2)
    assert found.ids.tolist() == [0, 0, 1]
    assert clue(points, [1, 1, 1.3], d_c=1.0, rho_c=1.2, seeding_distance=2.0).ids.tolist() == [0, 0, 0]


@pytest.mark.parametrize("n_axes", [1, 2, 3, 5, 10])
def test_twin(n_axes):
    points, weights = showers(250, n_axes)
    for compat in ("paper", "cluestering-2.11"):
        for factor in (0.5, 1.0, 2.0):
            settings = {"d_c": 1.6, "rho_c": 2.0, "outlier_delta_factor": factor, "compat": compat}
            expected = twin.clue(points, weights, **settings)
            assert 3 < expected.n_clusters < 240
            assert_same(clue(points, weights, **settings), expected)


@pytest.mark.parametrize("name", NAMES)
def test_public_sets(name):
    points, weights, settings = read_shared(name)
    golden = np.load(SHARED / "golden_ids.npz")[name]
    # The dense sets have ten million pairs within twice d_c: there the reach of the density does.
    settings["outlier_delta_factor"] = 1.0 if name in DENSE else 2.0
    radius = settings["outlier_delta_factor"] * settings["d_c"]
    pairs = twin.fast_pairs(points, radius, np.zeros(len(points), int))
    expected = twin.clue(points, weights, pairs=pairs, **settings)
    for dtype in (np.float32, np.float64):
        old = clue(points.astype(dtype), weights, compat="cluestering-2.11", **settings)
        np.testing.assert_array_equal(old.ids, golden)
        np.testing.assert_array_equal(clue(points.astype(dtype), weights, **settings).ids, expected.ids)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DENSE])
def test_twin_answers_like_cluestering(name):
    points, weights, settings = read_shared(name)
    pairs = twin.fast_pairs(points, settings["d_c"], np.zeros(len(points), int))
    found = twin.clue(points, weights, pairs=pairs, compat="cluestering-2.11", **settings)
    np.testing.assert_array_equal(found.ids, np.load(SHARED / "golden_ids.npz")[name])


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("manhattan", None),
        ("chebyshev", None),
        ("weighted", (0.3, 2.0, 1.0)),
        ("weighted_chebyshev", (0.3, 2.0, 1.0)),
        ("periodic", (9.0, np.inf, 5.0)),
        ("periodic", (9.0, 11.0, 7.0)),
        ("periodic", (2.0, 1.0, 0.5)),
    ],
)
def test_metrics(metric, values):
    points, weights = showers(300, 3, seed=1)
    settings = {"d_c": 1.2, "rho_c": 2.5}
    array = None if values is None else np.asarray(values)
    expected = twin.clue(points, weights, metric=metric, values=array, **settings)
    found = clue(points, weights, metric=metric if values is None else Metric(metric, values), **settings)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("kernel", "parameters"),
    [("flat", (0.25,)), ("exponential", (0.7, 1.3)), ("gaussian", (0.2, 0.8, 1.1))],
)
def test_kernels(kernel, parameters):
    points, weights = showers(300, 2, seed=2)
    settings = {"d_c": 1.5, "rho_c": 2.0}
    expected = twin.clue(points, weights, kernel=kernel, parameters=parameters, **settings)
    assert_same(clue(points, weights, kernel=Kernel(kernel, parameters), **settings), expected)


def test_batches_do_not_see_each_other():
    points, weights = showers(300, 2, seed=3)
    batch = np.random.default_rng(0).integers(-3, 4, 300)
    expected = twin.clue(points, weights, d_c=1.5, rho_c=1.5, batch=batch)
    found = clue(points, weights, d_c=1.5, rho_c=1.5, batch=batch)
    assert_same(found, expected)
    alone = clue(points[batch == 2], weights[batch == 2], d_c=1.5, rho_c=1.5)
    np.testing.assert_array_equal(found.rho[batch == 2], alone.rho)
    # Numbers far apart are as good as others.
    far = clue(points, weights, d_c=1.5, rho_c=1.5, batch=batch * 300_000_000)
    np.testing.assert_array_equal(far.ids, found.ids)


def test_threshold_of_every_point():
    points, weights = showers(300, 2, seed=4)
    rho_c = np.random.default_rng(1).uniform(0, 6, 300).astype(np.float32)
    assert_same(clue(points, weights, d_c=1.5, rho_c=rho_c), twin.clue(points, weights, d_c=1.5, rho_c=rho_c))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_order_of_the_input_does_not_matter(rows, random):
    # Integer coordinates and weights: ties in density and distance all over.
    table = np.asarray(rows, float)
    order = list(range(len(rows)))
    random.shuffle(order)
    settings = {"d_c": 1.5, "rho_c": 1.0}
    expected = twin.clue(table[:, :2], table[:, 2], **settings)
    found = clue(table[:, :2], table[:, 2], **settings)
    assert_same(found, expected)
    shuffled = clue(table[order, :2], table[order, 2], **settings)
    # Points that agree in everything may change places with each other.
    alike = {tuple(row): place for place, row in enumerate(rows)}
    name = np.array([alike[tuple(row)] for row in rows])
    np.testing.assert_array_equal(shuffled.rho, found.rho[order])
    if len(alike) == len(rows):
        groups = {tuple(sorted(name[found.ids == k])) for k in range(int(found.n_clusters))}
        there = name[order]
        assert groups == {tuple(sorted(there[shuffled.ids == k])) for k in range(int(shuffled.n_clusters))}


def test_permutation_on_many_points():
    points, weights = showers(20_000, 2, seed=5)
    order = np.random.default_rng(2).permutation(20_000)
    found = clue(points, weights, d_c=1.3, rho_c=3.0)
    shuffled = clue(points[order], weights[order], d_c=1.3, rho_c=3.0)
    np.testing.assert_array_equal(shuffled.rho, found.rho[order])
    seed_of = np.r_[np.flatnonzero(found.is_seed), -1][found.ids]
    seed_there = np.r_[order[np.flatnonzero(shuffled.is_seed)], -1][shuffled.ids]
    np.testing.assert_array_equal(seed_there, seed_of[order])


def test_moving_the_points_changes_nothing():
    points, weights = showers(500, 2, seed=6)
    near = clue(points.astype(float), weights, d_c=1.4, rho_c=2.0)
    far = clue(points.astype(float) + [5e7, -3e8], weights, d_c=1.4, rho_c=2.0)
    np.testing.assert_array_equal(near.ids, far.ids)


def test_distant_points_cost_nothing_but_are_found():
    points, weights = showers(500, 2, seed=7)
    with_far = np.r_[points, [[1e9, -1e9], [1e9, -1e9]]].astype(np.float32)
    found = clue(with_far, np.r_[weights, 3, 3], d_c=1.4, rho_c=2.0)
    alone = clue(points, weights, d_c=1.4, rho_c=2.0)
    np.testing.assert_array_equal(found.ids[:500], alone.ids)
    assert found.ids[500:].tolist() == [int(alone.n_clusters)] * 2


@pytest.mark.parametrize("compat", ["paper", "cluestering-2.11"])
def test_small_and_equal_events(compat):
    settings = {"d_c": 1.0, "rho_c": 1.0, "compat": compat}
    empty = clue(np.zeros((0, 2)), np.zeros(0), **settings)
    assert empty.ids.shape == (0,)
    assert int(empty.n_clusters) == 0
    assert clue([[3.0, 4.0]], **settings).ids.tolist() == [0]
    assert clue([[3.0, 4.0]], [0.5], **settings).ids.tolist() == [-1]
    equal = clue(np.ones((50, 3)), np.ones(50), **settings)
    assert equal.ids.tolist() == [0] * 50
    assert equal.is_seed.tolist() == [False] * 49 + [True]
    assert equal.rho.tolist() == [25.5] * 50
    assert clue(np.ones((4, 2)), np.zeros(4), **settings).ids.tolist() == [-1] * 4


def test_points_without_density_follow_each_other_in_the_paper_only():
    settings = {"d_c": 1.0, "rho_c": 0.0}
    assert clue(np.ones((4, 2)), np.zeros(4), **settings).ids.tolist() == [0] * 4
    old = clue(np.ones((4, 2)), np.zeros(4), compat="cluestering-2.11", **settings)
    assert old.ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("points", "weights", "match"),
    [
        ([[0.0, np.nan]], None, "points are not finite .* in row 0"),
        ([[0.0], [1e39]], None, "points are not finite .* in row 1"),
        ([[0.0], [1.0]], [1.0, -1.0], "weights is -1.0 in row 1"),
        ([[0.0], [1.0]], [np.inf, 1.0], "weights are not finite .* in row 0"),
        ([[0.0], [1.0]], [1.0], r"weights have the shape \(1,\)"),
        ([0.0, 1.0], None, r"points have the shape \(2,\)"),
        (np.zeros((2, 11)), None, r"points have the shape \(2, 11\)"),
        ([["a"]], None, "allowed are numbers"),
    ],
)
def test_bad_points(points, weights, match):
    with pytest.raises(DataError, match=match):
        clue(points, weights, d_c=1.0, rho_c=1.0)


@pytest.mark.parametrize(
    ("batch", "match"),
    [([0], "batch has the shape"), ([0.5, 1.0], "batch has the type"), ([0, 1 << 40], "32 bits")],
)
def test_bad_batches(batch, match):
    with pytest.raises(DataError, match=match):
        clue([[0.0], [1.0]], d_c=1.0, rho_c=1.0, batch=np.asarray(batch))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"d_c": 0.0}, "d_c = 0.0"),
        ({"d_c": np.nan}, "d_c = nan"),
        ({"outlier_delta_factor": -1.0}, "outlier_delta_factor = -1.0"),
        ({"seeding_distance": np.inf}, "seeding_distance = inf"),
        ({"rho_c": -1.0}, "rho_c has values that are negative"),
        ({"rho_c": np.ones(3)}, r"rho_c has the shape \(3,\)"),
        ({"compat": "main"}, "compat 'main': allowed are paper, cluestering-2.11"),
        ({"metric": "cosine"}, "metric 'cosine'"),
        ({"metric": "periodic"}, "one positive value a coordinate"),
        ({"metric": Metric("periodic", (1.0,))}, "has 1 values, the points have 2"),
        ({"kernel": "exponential"}, "takes 2 parameters"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(ConfigError, match=match):
        clue(np.zeros((2, 2)), **({"d_c": 1.0, "rho_c": 1.0} | settings))


def test_no_new_program_for_new_parameters():
    points, weights = showers(300, 2, seed=8)
    settings = {"d_c": 1.4, "rho_c": 2.0}
    clue(points, weights, **settings)
    before = _first_search._cache_size()
    clue(points[:280], weights[:280], d_c=1.1, rho_c=1.0, outlier_delta_factor=1.5)
    clue(points, weights, kernel=Kernel("flat", (0.3,)), **settings)
    assert _first_search._cache_size() == before


def test_rank_is_a_sort_by_position_and_weight():
    rng = np.random.default_rng(3)
    points = rng.integers(-2, 3, (200, 3)).astype(np.float32)
    points[::7] *= -1  # negative zeros
    weights = rng.integers(0, 3, 200).astype(np.float32)
    np.testing.assert_array_equal(position_rank(points, weights), twin.position_rank(points, weights))


def test_pairs_of_the_twin():
    points, _ = showers(200, 2, seed=9)
    batch = np.arange(200) % 2
    for metric in ("euclidean", "manhattan", "chebyshev"):
        slow = twin.all_pairs(points.astype(float), 1.5, batch, metric)
        for one, other in zip(slow, twin.fast_pairs(points.astype(float), 1.5, batch, metric), strict=True):
            np.testing.assert_allclose(one, other)


def test_estimator():
    points, weights = showers(300, 2, seed=10)
    model = CLUE(d_c=1.4, rho_c=2.0, outlier_delta_factor=1.5)
    labels = model.fit_predict(points, sample_weight=weights)
    expected = clue(points, weights, d_c=1.4, rho_c=2.0, outlier_delta_factor=1.5)
    np.testing.assert_array_equal(labels, expected.ids)
    assert model.labels_ is labels
    np.testing.assert_array_equal(labels[model.seeds_], np.arange(model.n_clusters_))
    np.testing.assert_array_equal(model.rho_, expected.rho)
    np.testing.assert_array_equal(model.nearest_higher_, expected.nearest_higher)
    assert np.isinf(model.delta_[model.seeds_]).all()
    assert model.n_features_in_ == 2
    assert isinstance(labels, np.ndarray)
    assert not isinstance(labels, jax.Array)


def test_estimator_settings():
    model = CLUE(d_c=2.0, rho_c=3.0)
    assert CLUE(**model.get_params()).get_params() == model.get_params()
    assert model.set_params(d_c=1.0, compat="cluestering-2.11") is model
    assert model.d_c == 1.0
    assert repr(model).startswith("CLUE(d_c=1.0, rho_c=3.0,")
    with pytest.raises(ConfigError, match="no setting radius; it has d_c, rho_c"):
        model.set_params(radius=1.0)
    with pytest.raises(ConfigError, match=r"d_c = -1\.0"):
        model.set_params(rho_c=9.0, d_c=-1.0)
    assert model.rho_c == 3.0
