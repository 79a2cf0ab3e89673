"""Random numbers inside compiled loops: a stream of its own for every event.

The generator is Chris Doty-Humphrey's SFC64, as in NumPy. Its state is four 64-bit words in an array that the caller
keeps. An event's stream depends on the seed of the sample, the class and the number of the event alone: how events are
divided among batches and processes changes nothing.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt64

from recon.sim.compiled import compiled

State = UInt64[np.ndarray, " 4"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_U3, _U11, _U24, _U27, _U30, _U31, _U40 = (np.uint64(n) for n in (3, 11, 24, 27, 30, 31, 40))
_ONE = np.uint64(1)
_STEP = 2.0**-53
_BELOW_ONE = 1.0 - _STEP
_WARM_UP = 12
_SMALL_MEAN = 30.0


@compiled
def mixed(word: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of splitmix64; Steele, Lea and Flood, 2014)."""
    word = (word ^ (word >> _U30)) * _MIX1
    word = (word ^ (word >> _U27)) * _MIX2
    return word ^ (word >> _U31)


@compiled
def seed_stream(state: State, seed: int, kind: int, number: int) -> None:
    """Start the stream of one event.

    Args:
        state: overwritten.
        seed: of the sample.
        kind: class of the event.
        number: of the event within its class.
    """
    word = mixed(np.uint64(seed) + _GOLDEN)
    word = mixed(word ^ (np.uint64(kind) + _GOLDEN))
    word = mixed(word ^ (np.uint64(number) + _GOLDEN))
    for i in range(3):
        word = mixed(word + _GOLDEN)
        state[i] = word
    state[3] = _ONE
    for _ in range(_WARM_UP):
        bits(state)


@compiled
def bits(state: State) -> np.uint64:
    """The next 64 random bits."""
    a, b, c, counter = state[0], state[1], state[2], state[3]
    word = a + b + counter
    state[0] = b ^ (b >> _U11)
    state[1] = c + (c << _U3)
    state[2] = ((c << _U24) | (c >> _U40)) + word
    state[3] = counter + _ONE
    return word


@compiled
def uniform(state: State) -> float:
    """A number in (0, 1), never an end of it: logarithms of it are finite."""
    # Half a step above the largest integers is no number of its own: the last one would be rounded up to 1.
    return min((float(bits(state) >> _U11) + 0.5) * _STEP, _BELOW_ONE)


@compiled
def exponential(state: State) -> float:
    """A number with mean 1."""
    return -math.log(uniform(state))


@compiled
def normals(state: State) -> tuple[float, float]:
    """Two independent standard normal numbers (Marsaglia's polar method)."""
    while True:
        x, y = 2.0 * uniform(state) - 1.0, 2.0 * uniform(state) - 1.0
        square = x * x + y * y
        if 0.0 < square < 1.0:
            scale = math.sqrt(-2.0 * math.log(square) / square)
            return x * scale, y * scale


@compiled
def poisson(state: State, mean: float) -> int:
    """A Poisson number: products of uniform numbers, in parts of means that exp(-mean) can hold."""
    total = 0
    while mean > _SMALL_MEAN:
        # The sum of Poisson numbers is one: no approximation for large means.
        total += _poisson_small(state, _SMALL_MEAN)
        mean -= _SMALL_MEAN
    return total + _poisson_small(state, mean)


@compiled
def _poisson_small(state: State, mean: float) -> int:
    limit, product, n = math.exp(-mean), uniform(state), 0
    while product > limit:
        product *= uniform(state)
        n += 1
    return n


@compiled
def gamma8(state: State) -> float:
    """A gamma number of shape 8, divided by 8: mean 1, spread 0.35."""
    product = 1.0
    for _ in range(8):
        product *= uniform(state)
    return -math.log(product) / 8.0
