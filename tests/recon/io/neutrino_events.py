"""Neutrino events made by hand for tests of files."""

from __future__ import annotations

import numpy as np

from recon.types import NeutrinoEvents, NeutrinoTruth


def make_events(n=7, seed=0, *, truth=True, hits=12):
    """Events with up to `hits` hits in distinct pixels; the first has none."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, hits + 1, n)
    counts[:1] = 0
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    pixels = [np.sort(rng.choice(2 * 100 * 80, count, replace=False)) for count in counts]
    pixel = np.concatenate([*pixels, np.zeros(0, int)])
    true = NeutrinoTruth(
        mode=rng.integers(-1, 3, n).astype(np.int32),
        flavour=rng.choice([12, 14, 16], n).astype(np.int32),
        energy=rng.uniform(1, 9, n).astype(np.float32),
        visible_energy=rng.uniform(0, 1, n).astype(np.float32),
        lepton=rng.normal(size=(n, 3)).astype(np.float32),
        vertex=rng.normal(size=(n, 3)).astype(np.float32),
    )
    return NeutrinoEvents(
        number=np.arange(n, dtype=np.uint64) + 40,
        label=rng.integers(-1, 5, n).astype(np.int32),
        offsets=offsets,
        view=(pixel // 8000).astype(np.int32),
        plane=(pixel // 80 % 100).astype(np.int32),
        cell=(pixel % 80).astype(np.int32),
        charge=rng.uniform(0.001, 0.1, offsets[-1]).astype(np.float32),
        outside=rng.integers(0, 9, n).astype(np.int32),
        window=rng.integers(0, 300, (n, 3)).astype(np.int32),
        truth=true if truth else None,
    )


def assert_same(left, right):
    """Equal to the bit, types included."""
    for name in left._fields:
        ours, theirs = getattr(left, name), getattr(right, name)
        if name == "truth":
            assert (ours is None) == (theirs is None)
            for key, values in ours._asdict().items() if ours is not None else ():
                np.testing.assert_array_equal(values, getattr(theirs, key), err_msg=key)
            continue
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
