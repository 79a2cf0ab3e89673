"""CLUEstering 2.11.0 as the peer of `benchmarks/clue.py`: built from its source package, called without its Python.

    python benchmarks/clue_peer.py --folder out/peer

The source package comes from PyPI (`pip download`) and is compiled with g++ (C++20, two minutes, the flags of its own
CMake file) against a serial stand-in for alpaka. `pybind11` and `scikit-build-core` must be installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

VERSION = "2.11.0"
HERE = Path(__file__).parent / "cluestering"
FLAGS = "-std=c++20 -O2 -funroll-loops -funsafe-math-optimizations -ftree-vectorize -march=native -DNDEBUG"
DEFINES = "-DALPAKA_HOST_ONLY -DALPAKA_ACC_CPU_B_SEQ_T_SEQ_ENABLED -D_GLIBCXX_USE_TBB_PAR_BACKEND=0"

Peer = Callable[..., np.ndarray]


def build(folder: Path) -> Path:
    """Download and compile; returns the extension module."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "-d", str(folder), f"cluestering=={VERSION}"], check=True)
    with tarfile.open(folder / f"cluestering-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    source = folder / f"cluestering-{VERSION}"
    stand_in = folder / "alpaka"
    stand_in.mkdir(exist_ok=True)
    (stand_in / "alpaka.hpp").write_text((HERE / "alpaka.hpp").read_text())
    includes = [
        folder,
        source / "include",
        source / "extern/pybind11/include",
        sysconfig.get_paths()["include"],
    ]
    module = folder / "clue_peer.so"
    command = [
        "g++",
        *FLAGS.split(),
        *DEFINES.split(),
        "-fPIC",
        "-shared",
        *(f"-I{path}" for path in includes),
    ]
    subprocess.run([*command, str(HERE / "binding.cpp"), "-o", str(module)], check=True)
    return module


def load(module: Path) -> Peer:
    """Function (points, weights, d_c, rho_c, points_per_tile, batch sizes) -> ids."""
    spec = importlib.util.spec_from_file_location("clue_peer", module)
    assert spec is not None
    assert spec.loader is not None
    peer: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)

    def run(
        points: np.ndarray,
        weights: np.ndarray,
        d_c: float,
        rho_c: float,
        *,
        outlier_distance: float | None = None,
        points_per_tile: int = 128,
        batch_sizes: list[int] | None = None,
    ) -> np.ndarray:
        n, n_axes = points.shape
        table = np.concatenate([points.T.ravel(), weights]).astype(np.float32)
        results = np.zeros(2 * n, np.int32)
        find = {2: peer.run2, 3: peer.run3}[n_axes]
        find(d_c, rho_c, outlier_distance or d_c, d_c, points_per_tile, table, results, batch_sizes, n)
        return results[:n]

    return run


def main(folder: Path) -> None:
    """Build the peer.

    Args:
        folder: where the source and the module go.
    """
    print(build(folder))


if __name__ == "__main__":
    tyro.cli(main)
