"""Shared memory of real segments: bounds, keys, views and what becomes of them."""

import gc
import os
import threading
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from serving.errors import InvalidInput
from serving.shared_memory import SharedMemory
from serving.types import Region

FOLDER = Path("/dev/shm")
FLOAT = np.dtype("<f4")


@pytest.fixture
def segment():
    """A segment of 4096 bytes: the numbers 0 to 1023."""
    path = FOLDER / f"recon-test-segment-{os.getpid()}"
    path.write_bytes(np.arange(1024, dtype=FLOAT).tobytes())
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def memory(segment):
    memory = SharedMemory()
    memory.register("r", f"/{segment.name}", 4096)
    return memory


def test_views_follow_the_segment_and_cannot_be_written(memory, segment):
    view = memory.view(Region("r", 24, 40), FLOAT, (2, 3))
    np.testing.assert_array_equal(view, np.arange(10, 16).reshape(2, 3))
    assert not view.flags.owndata
    with segment.open("r+b") as file:
        file.seek(40)
        file.write(np.float32(-1).tobytes())
    assert view[0, 0] == -1
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 7


@pytest.mark.parametrize(
    "array",
    [np.float32(3).reshape(()), np.zeros((0, 4), FLOAT), np.arange(6, dtype=FLOAT).reshape(2, 3).T,
     np.arange(4).astype(ml_dtypes.bfloat16), np.array([True, False])],
    ids=["scalar", "empty", "transposed", "bfloat16", "bool"],
)  # fmt: skip
def test_what_is_placed_is_found(memory, array):
    memory.place(Region("r", 100, 8), array)
    found = memory.view(Region("r", array.nbytes, 8), array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_a_region_may_start_inside_its_segment(memory, segment):
    memory.register("late", segment.name, 8, 400)
    assert memory.view(Region("late", 8), FLOAT, (2,)).tolist() == [100, 101]
    with pytest.raises(InvalidInput, match=r"'late': offset 4 and byte_size 8 leave the region of 8 bytes"):
        memory.view(Region("late", 8, 4), FLOAT, (2,))


@pytest.mark.parametrize(
    ("region", "shape", "text"),
    [
        (Region("none", 4), (1,), "'none' is not registered"),
        (Region("r", 4), (2,), r"'r': byte_size 4 for shape \[2\]; 8 is allowed"),
        (Region("r", 8, 4092), (2,), "offset 4092 and byte_size 8 leave the region of 4096 bytes"),
        (Region("r", 8, -8), (2,), "offset -8"),
        (Region("r", 8, 2**64), (2,), "leave the region"),
    ],
)
def test_views_stay_inside_their_region(memory, region, shape, text):
    with pytest.raises(InvalidInput, match=text):
        memory.view(region, FLOAT, shape)


def test_an_output_that_does_not_fit_is_refused(memory):
    with pytest.raises(InvalidInput, match="output of 12 bytes does not fit into byte_size 8"):
        memory.place(Region("r", 8), np.zeros(3, FLOAT))
    with pytest.raises(InvalidInput, match="leave the region"):
        memory.place(Region("r", 5000), np.zeros(3, FLOAT))


KEYS = [
    "",
    "/",
    "..",
    "/../etc/passwd",
    "a/b",
    "//a",
    ".hidden",
    "a\0b",
    "a" * 256,
    "/dev/shm/a",
    "none-of-this",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_names_in_the_folder_of_shared_memory(key):
    with pytest.raises(InvalidInput, match="shared memory 'r': key"):
        SharedMemory().register("r", key, 4)


def test_links_are_not_followed(segment, tmp_path):
    link = FOLDER / f"{segment.name}-link"
    link.symlink_to(segment)
    try:
        with pytest.raises(InvalidInput, match="cannot be opened"):
            SharedMemory().register("r", link.name, 4)
    finally:
        link.unlink()


@pytest.mark.parametrize(("size", "offset"), [(0, 0), (-1, 0), (4, -4), (4097, 0), (4096, 1), (2**63, 2**63)])
def test_regions_stay_inside_their_segment(segment, size, offset):
    with pytest.raises(InvalidInput, match="shared memory 'r'"):
        SharedMemory().register("r", segment.name, size, offset)


def test_names_are_taken_once(memory, segment):
    with pytest.raises(InvalidInput, match="registered already"):
        memory.register("r", segment.name, 4)
    with pytest.raises(InvalidInput, match="name is empty"):
        memory.register("", segment.name, 4)
    memory.unregister("r")
    memory.unregister("r")
    memory.register("r", segment.name, 4)
    assert memory.status("r")[0].byte_size == 4
    memory.unregister("")
    assert memory.status() == []
    with pytest.raises(InvalidInput, match="'r' is not registered"):
        memory.status("r")


def mapped(path):
    return path.name in Path("/proc/self/maps").read_text()


def test_a_mapping_ends_with_its_last_view(memory, segment):
    view = memory.view(Region("r", 8), FLOAT, (2,))
    gone = weakref.ref(view)
    memory.unregister("r")
    assert view.tolist() == [0, 1]
    assert mapped(segment)
    del view
    gc.collect()
    assert gone() is None
    assert not mapped(segment)


def test_a_segment_cut_short_is_refused_and_does_not_end_the_process(memory, segment):
    os.truncate(segment, 8)
    assert memory.view(Region("r", 8), FLOAT, (2,)).tolist() == [0, 1]
    with pytest.raises(InvalidInput, match="has shrunk to 8 bytes; 12 are needed"):
        memory.view(Region("r", 12), FLOAT, (3,))
    with pytest.raises(InvalidInput, match="has shrunk"):
        memory.place(Region("r", 12), np.zeros(3, FLOAT))


def test_threads_do_not_disturb_each_other(segment):
    memory, errors = SharedMemory(), []

    def work(name):
        try:
            for _ in range(200):
                memory.register(name, segment.name, 4096)
                assert memory.view(Region(name, 8), FLOAT, (2,)).tolist() == [0, 1]
                memory.unregister(name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert memory.status() == []
