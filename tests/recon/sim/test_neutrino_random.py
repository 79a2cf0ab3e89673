"""Random numbers of compiled loops: NumPy's SFC64 bit for bit, distributions, streams."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("numba")

from recon.sim.compiled import compiled
from recon.sim.neutrino_random import (
    bits,
    exponential,
    gamma8,
    mixed,
    normals,
    poisson,
    seed_stream,
    uniform,
)
from tests.reference.neutrino import splitmix, stream_words

N = 20_000


def stream(seed=1, kind=0, number=0):
    state = np.zeros(4, np.uint64)
    seed_stream(state, seed, kind, number)
    return state


@compiled
def many(state: np.ndarray, mean: float, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i, 0] = uniform(state)
        out[i, 1] = exponential(state)
        out[i, 2], out[i, 3] = normals(state)
        out[i, 4] = poisson(state, mean)
        out[i, 5] = gamma8(state)


@pytest.fixture(scope="module")
def numbers():
    out = np.zeros((N, 6))
    many(stream(3), 2.5, out)
    return out


def test_it_is_numpys_generator():
    state = stream(5, 2, 77)
    peer = np.random.SFC64()
    given = peer.state
    given["state"]["state"] = state.copy()
    peer.state = given
    assert [int(bits(state)) for _ in range(100)] == peer.random_raw(100).tolist()


@pytest.mark.parametrize(
    ("word", "number"), [(0, 2.0**-54), (2**63, 0.5 + 2.0**-54), (2**64 - 1, 1 - 2.0**-53)]
)
def test_uniform_numbers_are_never_an_end(word, number):
    """The state whose next word is given: a sum of three words of it."""
    assert uniform(np.array([word, 0, 0, 0], np.uint64)) == number
    assert 0 < number < 1


@pytest.mark.parametrize("seed", [(0, 0, 0), (1, 4, 12), (2**32 - 1, 3, 10**7)])
def test_streams_begin_as_the_twin_says(seed):
    words = stream_words(*seed)
    peer = np.random.SFC64()
    given = peer.state
    given["state"]["state"] = np.array([*words, 1], np.uint64)
    peer.state = given
    peer.random_raw(12)
    assert int(bits(stream(*seed))) == int(peer.random_raw())


def test_scrambling_of_known_words():
    # The first outputs of splitmix64 from seed 0 (Vigna's reference program).
    golden = 0x9E3779B97F4A7C15
    assert int(mixed(np.uint64(golden))) == 0xE220A8397B1DCDAF
    assert int(mixed(np.uint64(2 * golden % 2**64))) == 0x6E789E6AA1B965F4
    for word in (0, 1, 12345678901234567890):
        assert int(mixed(np.uint64(word))) == splitmix(word)


@pytest.mark.parametrize("other", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_every_part_of_the_seed_counts(other):
    left, right = stream(), stream(*other)
    assert not np.array_equal(left, right)
    assert {int(bits(left)) for _ in range(50)}.isdisjoint({int(bits(right)) for _ in range(50)})


def test_the_same_seed_is_the_same_stream():
    np.testing.assert_array_equal(stream(9, 1, 5), stream(9, 1, 5))


def test_neighbouring_events_are_independent():
    first = np.array([uniform(stream(1, 0, number)) for number in range(3000)])
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.06


@pytest.mark.parametrize(
    ("column", "law"),
    [(0, stats.uniform()), (1, stats.expon()), (2, stats.norm()), (3, stats.norm()), (5, stats.gamma(8, scale=1 / 8))],
)  # fmt: skip
def test_distributions(numbers, column, law):
    assert stats.kstest(numbers[:, column], law.cdf).pvalue > 1e-3


def test_uniform_numbers_leave_the_ends_out(numbers):
    assert 0.0 < numbers[:, 0].min() < 1e-3
    assert 1 - 1e-3 < numbers[:, 0].max() < 1.0


def test_the_two_normal_numbers_are_independent(numbers):
    assert abs(np.corrcoef(numbers[:, 2], numbers[:, 3])[0, 1]) < 0.03


@pytest.mark.parametrize("mean", [0.1, 2.5, 29.0, 31.0, 140.0])
def test_poisson_numbers(mean):
    state = stream(7, 0, int(10 * mean))
    drawn = np.array([poisson(state, mean) for _ in range(4000)])
    low, high = (int(stats.poisson.ppf(q, mean)) for q in (0.002, 0.998))
    # Bins that hold enough for a chi-squared test.
    edges = np.unique(np.linspace(low, high, 9).astype(int))
    cut = np.concatenate([[-1], edges, [10**6]])
    expected = np.diff(stats.poisson.cdf(cut, mean)) * len(drawn)
    found = np.histogram(drawn, cut + 0.5)[0]
    used = expected > 5
    assert found[~used].sum() < 30
    assert (
        stats.chisquare(found[used], expected[used] * found[used].sum() / expected[used].sum()).pvalue > 1e-3
    )


def test_no_light_is_no_photoelectron():
    state = stream()
    assert {poisson(state, 0.0) for _ in range(100)} == {0}
