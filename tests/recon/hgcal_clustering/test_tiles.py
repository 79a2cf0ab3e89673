"""Windows hold every neighbour once, and sums and minima over them are those over all pairs."""

import jax
import numpy as np
import pytest

from recon.errors import DataError
from recon.hgcal_clustering.tiles import pad_windows, search_tiles
from recon.hgcal_clustering.windows import BLOCK, Windows, nearest_over, sum_over

pytestmark = pytest.mark.usefixtures("quick_programs")


def members(tiles, column):
    """Rows of the points in the windows of one query, in the order of the windows."""
    low, high = tiles.windows.low[:, column], tiles.windows.high[:, column]
    slots = [slot for a, b in zip(low, high, strict=True) for slot in range(a, b)]
    return [int(tiles.order[slot]) for slot in slots]


def check_windows(points, reach, batch=None, batch_reach=0, periods=None, query=None):
    n, n_axes = points.shape
    rank = np.random.default_rng(0).permutation(n)
    tiles = search_tiles(
        points, reach, rank=rank, batch=batch, batch_reach=batch_reach, periods=periods, query=query
    )
    assert sorted(tiles.order.tolist()) == list(range(n))
    apart = np.abs(points[:, None] - points).astype(float)
    for axis in range(n_axes) if periods is not None else ():
        if np.isfinite(periods[axis]):
            turn = apart[..., axis] % periods[axis]
            apart[..., axis] = np.minimum(turn, periods[axis] - turn)
    close = (apart <= np.asarray(reach)).all(-1)
    if batch is not None:
        close &= np.abs(batch[:, None].astype(int) - batch) <= batch_reach
    searching = tiles.order[tiles.windows.query]
    assert sorted(searching.tolist()) == (list(range(n)) if query is None else sorted(query.tolist()))
    seen = 0
    for column, row in enumerate(searching):
        found = members(tiles, column)
        assert len(set(found)) == len(found)
        assert set(np.flatnonzero(close[row])) <= set(found)
        if batch is not None:
            assert (np.abs(batch[found].astype(int) - batch[row]) <= batch_reach).all()
        seen += len(found)
    return seen


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4, 10])
def test_every_neighbour_once(n_axes):
    points = np.random.default_rng(1).uniform(-9, 9, (250, n_axes)).astype(np.float32)
    seen = check_windows(points, 1.0)
    # A window is a small part of the points.
    assert seen < 250 * 250 * {1: 0.15, 2: 0.05}.get(n_axes, 0.02)


@pytest.mark.parametrize(
    "periods", [(20.0, np.inf), (np.inf, 5.0), (20.0, 5.0), (1.5, 0.7), (3.0, 2.5), (2.2, 3.3), (0.1, 100.0)]
)
def test_around_periodic_axes(periods):
    points = np.random.default_rng(2).uniform(-30, 30, (200, 2)).astype(np.float32)
    check_windows(points, 1.0, periods=np.array(periods))


@pytest.mark.parametrize("reach", [0, 1, 2, 9])
@pytest.mark.parametrize("spread", [1, 4, 50])
def test_layers_before_and_after(reach, spread):
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 12, (200, 2)).astype(np.float32)
    check_windows(points, (1.0, 2.0), batch=rng.integers(-3, spread, 200), batch_reach=reach)


@pytest.mark.parametrize("far", [1e3, 1e7, 1e12])
def test_distant_points(far):
    rng = np.random.default_rng(4)
    points = np.concatenate([rng.uniform(0, 9, (150, 3)), rng.uniform(-far, far, (50, 3))]).astype(np.float32)
    seen = check_windows(points, 1.0, batch=rng.integers(0, 3, 200) * 1000)
    assert seen < 200 * 200 * 0.2


def test_some_search():
    points = np.random.default_rng(5).uniform(0, 9, (200, 2)).astype(np.float32)
    check_windows(points, 1.0, query=np.array([7, 3, 199]))
    check_windows(points, 1.0, query=np.zeros(0, np.int64))


def test_batches_that_are_too_far_apart():
    with pytest.raises(DataError, match="the batches span 100000003 numbers"):
        search_tiles(
            np.zeros((2, 1)), 1.0, rank=np.arange(2), batch=np.array([0, 100_000_000]), batch_reach=2
        )


@pytest.mark.parametrize("n", [200, 2 * BLOCK + 300])
def test_sums_and_minima_are_those_over_all_pairs(n):
    rng = np.random.default_rng(6)
    xy = rng.uniform(0, n**0.5, (n, 2)).astype(np.float32)
    xy[::5] = np.round(xy[::5])
    layer = rng.integers(0, 4, n).astype(np.int32)
    energy = rng.integers(1, 9, n).astype(np.float32)
    tiles = search_tiles(xy, 2.0, rank=np.arange(n), batch=layer, batch_reach=1)
    order = tiles.order
    fields = {"x": xy[order, 0], "y": xy[order, 1], "energy": energy[order], "layer": layer[order]}

    def apart(here, there):
        return (here["x"] - there["x"]) ** 2 + (here["y"] - there["y"]) ** 2

    def contribution(here, there):
        return jax.numpy.where(apart(here, there) <= 4, there["energy"], 0)

    def other_layer(here, there):
        allowed = (apart(here, there) <= 4) & (here["layer"] != there["layer"])
        return jax.numpy.where(allowed, apart(here, there), jax.numpy.inf)

    @jax.jit
    def search(windows, fields, rank):
        return sum_over(windows, fields, contribution), nearest_over(windows, fields, other_layer, rank)

    total, (place, found) = search(tiles.windows, fields, order)
    square = ((xy[:, None] - xy) ** 2).sum(-1)
    near = (square <= 4) & (np.abs(layer[:, None] - layer) <= 1)
    row = order[tiles.windows.query]
    np.testing.assert_array_equal(total, (near @ energy)[row])
    square = np.where(near & (layer[:, None] != layer), square, np.inf)
    # Ties: the first minimum is the one of the lowest row, which is the rank here.
    nearest = np.where(np.isinf(square.min(1)), -1, square.argmin(1))
    np.testing.assert_array_equal(np.where(place < 0, -1, order[place]), nearest[row])
    np.testing.assert_allclose(found, square.min(1)[row], rtol=1e-5)
    # Queries without windows find nothing, wherever they point.
    padded = pad_windows(tiles.windows, n + 50, n)
    more, (missing, _) = search(padded, fields, order)
    np.testing.assert_array_equal(more, np.r_[total, np.zeros(50)])
    assert (np.asarray(missing)[n:] == -1).all()


def test_no_points_and_no_queries():
    tiles = search_tiles(np.zeros((0, 2)), 1.0, rank=np.zeros(0, np.int64))
    assert tiles.order.shape == (0,)
    nothing = Windows(*(np.zeros(shape, np.int32) for shape in ((0,), (3, 0), (3, 0))))
    fields = {"x": np.zeros(4, np.float32)}
    assert sum_over(nothing, fields, lambda here, there: there["x"]).shape == (0,)
    assert nearest_over(nothing, fields, lambda here, there: there["x"], np.arange(4, dtype=np.int32))[
        0
    ].shape == (0,)
