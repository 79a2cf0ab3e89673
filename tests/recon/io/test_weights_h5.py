"""HDF5 as Keras writes it, without Keras."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.foreign_weights import read_foreign_arrays
from recon.io.weights_h5 import read_h5

KERNEL, BIAS = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)


@pytest.fixture
def write(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")

    def written(arrays, name="weights.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["backend"] = "tensorflow"
            for place, array in arrays.items():
                file[place] = array
        return tmp_path / name

    return written


def test_groups_in_front_and_what_stands_behind_go(write):
    path = write(
        {
            "model_weights/conv1/conv1/kernel:0": KERNEL,
            "model_weights/conv1/conv1/bias:0": BIAS,
            "top/w": BIAS,
        }
    )
    arrays = read_foreign_arrays(path)
    assert set(arrays) == {"conv1/kernel", "conv1/bias", "top/w"}
    np.testing.assert_array_equal(arrays["conv1/kernel"], KERNEL)
    assert arrays["conv1/bias"].dtype == np.float32


def test_two_arrays_of_one_name_are_refused(write):
    path = write({"one/conv/kernel:0": KERNEL, "two/conv/kernel:0": KERNEL})
    with pytest.raises(DataError, match=r"weights\.h5 has two arrays 'conv/kernel'"):
        read_h5(path)


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(DataError, match=r"weights\.h5 has no arrays"):
        read_h5(write({}))
    with pytest.raises(DataError, match=r"none\.h5 cannot be read"):
        read_h5(tmp_path / "none.h5")
    path = write({"layer/kernel": np.ones((200, 50), np.float32)})
    content = path.read_bytes()
    for share in (0.01, 0.5, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"weights\.h5"):
            read_h5(path)


def test_h5py_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'recon-hep\[keras\]'"):
        read_h5(tmp_path / "weights.h5")


def test_files_of_another_ending_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.ckpt: weights are read from files \.safetensors, \.pth"):
        read_foreign_arrays(tmp_path / "a.ckpt")
