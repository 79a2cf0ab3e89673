"""Particle reconstruction recast as machine learning and compiled by XLA.

Importing this package is cheap: nothing of JAX is loaded before a task folder is.
"""

__version__ = "0.1.0"
