"""Fixtures of all tests."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_programs():
    """Compile twice as fast, for modules that test what is computed and not how fast."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    # Or later tests would run what was compiled so: equal to rounding, but not to the bit, to other processes.
    jax.clear_caches()
