"""State dictionaries of PyTorch: both formats without PyTorch, and files that are damaged or mean harm."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.weights_pt import _tensor as rebuilt
from recon.io.weights_pt import read_state_dict
from tests.recon.io.state_dictionaries import KINDS, write_state_dict

ARRAYS = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": np.asarray(7),
    "none": np.zeros((0, 2), np.float32),
    **{kind: np.asarray([1, 0, 1]).astype(kind) for kind in KINDS},
}


@pytest.mark.parametrize("old", [False, True])
def test_round_trip(tmp_path, old):
    found = read_state_dict(write_state_dict(tmp_path / "a.pt", ARRAYS, old=old))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_truncated_files_are_named(tmp_path, old, share):
    path = write_state_dict(tmp_path / "cut.pt", {"w": np.ones(300, np.float32), **ARRAYS}, old=old)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut\.pt"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (4, (), ()),
        (-3, (4,), (1,)),
        (2, (3,), (1,)),
        (0, (2, 2), (-10, 11)),
        (0, (-1,), (1,)),
        (0, (2, 3), (2, 1)),
    ],
)
def test_views_never_leave_the_numbers_of_their_tensor(offset, shape, strides):
    """A damaged or malicious file must not show what else is in memory."""
    with pytest.raises(ValueError, match="a tensor of shape"):
        rebuilt(np.arange(4, dtype=np.float32), offset, shape, strides)


def test_views_of_numbers():
    numbers = np.arange(6, dtype=np.float32)
    assert rebuilt(numbers, 5, (), ()) == 5
    np.testing.assert_array_equal(rebuilt(numbers, 1, (2, 2), (1, 2)), [[1, 3], [2, 4]])
    assert rebuilt(numbers, 9, (0, 3), (3, 1)).shape == (0, 3)
