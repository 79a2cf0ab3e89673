"""Compiled models behind one SONIC-style inference API: in the same process, on the same host or across the network."""

import os

# XLA prints a page of text for every kept program that it reads on a CPU: its own tuning hints are no features of the
# machine. It looks at this when JAX is imported.
# JAX itself sets 1, which child processes inherit.
if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
