"""What the allocator costs: a program of XLA that copies 16 MiB from one piece of shared memory, then to another.

Run it under each allocator, see README.md here.
"""

from __future__ import annotations

import argparse
import os
import time
from multiprocessing import shared_memory

import jax
import jax.numpy as jnp
import numpy as np

BYTES = 16 << 20


def measure(calls: int) -> tuple[list[float], list[float]]:
    """Seconds of every execution, and of the copy of its result."""
    shape = (1, BYTES // 4)
    program = jax.jit(jnp.copy).lower(jax.ShapeDtypeStruct(shape, jnp.float32)).compile()
    given, taken = (shared_memory.SharedMemory(create=True, size=BYTES) for _ in range(2))
    runs, copies = [], []
    try:
        source, target = (np.ndarray(shape, np.float32, part.buf) for part in (given, taken))
        source[:], target[:] = 1.0, 0.0
        for _ in range(calls):
            started = time.perf_counter()
            result = np.asarray(program(source))
            ran = time.perf_counter()
            np.copyto(target, result)
            runs.append(ran - started)
            copies.append(time.perf_counter() - ran)
            del result
        del source, target
    finally:
        for part in (given, taken):
            part.close()
            part.unlink()
    return runs, copies


def main() -> None:
    """Print the medians and the fastest, without the first calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    runs, copies = measure(parser.parse_args().calls)
    warm = slice(len(runs) // 8, None)
    name = os.environ.get("LD_PRELOAD", "C library").rsplit("/", 1)[-1]
    numbers = [1e3 * f(np.array(part[warm])) for part in (runs, copies) for f in (np.median, np.min)]
    print(
        f"| {name} | {os.environ.get('MALLOC_CONF', '')} | " + " | ".join(f"{x:.2f}" for x in numbers) + " |"
    )


if __name__ == "__main__":
    main()
