"""The process that starts itself again under another allocator."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving import allocator

PROGRAM = """
import os, sys
from serving import allocator
allocator.FOLDERS = (os.environ["FOLDER"],)
print(os.getpid(), allocator.use_jemalloc({arguments}), *sys.argv[1:], sep="|")
print(os.environ.get("MALLOC_CONF"), file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path):
    """Some library under jemalloc's name: which it is does not matter to the loader."""
    libraries = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    library = next(path for path in libraries if "/libm.so" in path or "/libm-" in path)
    shutil.copy(library, tmp_path / "libjemalloc.so.2")
    return tmp_path


def run(folder, arguments="sys.argv[1:]", **environment):
    """(whether it kept its process id, what it said, its arguments)."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in {"LD_PRELOAD", "MALLOC_CONF", allocator.GUARD}
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments), "serve", "--models", "a b"],
        env={**clean, "FOLDER": str(folder), **environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    output, _ = process.communicate(timeout=60)
    pid, said, *words = output.strip().split("|")
    return int(pid) == process.pid, said, words


def test_it_starts_again_once(folder):
    assert run(folder) == (True, "allocator: jemalloc", ["serve", "--models", "a b"])


@pytest.mark.parametrize("given", [None, "dirty_decay_ms:100"])
def test_jemalloc_keeps_freed_memory_unless_told_otherwise(folder, given, capfd):
    run(folder, **({} if given is None else {"MALLOC_CONF": given}))
    assert capfd.readouterr().err.split() == [given or allocator.SETTINGS]


def test_a_library_that_cannot_be_loaded(tmp_path):
    (tmp_path / "libjemalloc.so.2").write_text("no library")
    _, said, words = run(tmp_path)
    assert "could not be loaded" in said
    assert words == ["serve", "--models", "a b"]


def test_a_program_that_calls_the_command_is_left_alone(folder):
    _, said, _ = run(folder, arguments="['--models', 'elsewhere']")
    assert f"LD_PRELOAD={folder}" in said


@pytest.mark.skipif(ctypes.util.find_library("jemalloc") is not None, reason="jemalloc is installed")
def test_it_says_what_a_missing_library_is_worth(tmp_path):
    assert "libjemalloc2 makes XLA on a CPU up to 1.3x faster" in run(tmp_path)[1]
