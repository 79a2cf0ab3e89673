"""The cache: where it is, and programs that the next process finds again."""

import os
import subprocess
import sys

from recon.cache import cache_directory

PROGRAM = """
from recon.cache import keep_compiled_programs
keep_compiled_programs()
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((3, 3)))))
"""


def test_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "a"))
    assert cache_directory() == tmp_path / "a"
    monkeypatch.delenv("RECON_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_directory() == tmp_path / "b" / "recon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "recon"


def run(**environment):
    keep = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=keep | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "27.0"
    return done.stderr


def test_programs_are_kept_for_the_next_process(tmp_path):
    run(RECON_CACHE=str(tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("programs/*/*-cache")}
    assert kept
    assert "error" not in run(RECON_CACHE=str(tmp_path)).lower()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("programs/*/*-cache")} == kept


def test_the_user_may_choose_another_place(tmp_path):
    run(RECON_CACHE=str(tmp_path / "ours"), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "theirs"))
    assert list((tmp_path / "theirs").glob("*-cache"))
    assert not (tmp_path / "ours").exists()
