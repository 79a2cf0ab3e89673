"""Files of the cache: whole or absent, and made again where they are damaged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from recon.io.npz import read_arrays, write_arrays


class Pair(NamedTuple):
    numbers: np.ndarray
    flags: np.ndarray


class Triple(NamedTuple):
    numbers: np.ndarray
    flags: np.ndarray
    more: np.ndarray


PAIR = Pair(np.arange(300, dtype=np.float32).reshape(3, 100), np.array([True, False]))


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "new" / "folder" / "pair.npz"
    write_arrays(found, PAIR)
    return found


def test_round_trip(path):
    again = read_arrays(path, Pair)
    assert isinstance(again, Pair)
    for one, other in zip(PAIR, again, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_older_file_is_replaced(path):
    write_arrays(path, PAIR._replace(flags=np.zeros(7, bool)))
    assert read_arrays(path, Pair).flags.shape == (7,)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_absent(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert read_arrays(path, Pair) is None


def test_flipped_bits_are_noticed(path):
    content = bytearray(path.read_bytes())
    content[content.index(PAIR.numbers.tobytes()) + 40] ^= 8
    path.write_bytes(bytes(content))
    assert read_arrays(path, Pair) is None


def test_other_files_are_absent(path, tmp_path):
    assert read_arrays(path, Triple) is None
    assert read_arrays(tmp_path / "none.npz", Pair) is None
    # One array without an archive around it, and one that would run code.
    np.save(tmp_path / "one.npy", PAIR.numbers)
    assert read_arrays(tmp_path / "one.npy", Pair) is None
    np.savez(tmp_path / "objects.npz", numbers=np.array([print], object), flags=PAIR.flags)
    assert read_arrays(tmp_path / "objects.npz", Pair) is None
