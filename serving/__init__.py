"""Compiled models behind one SONIC-style inference API: in the same process, on the same host or across the network."""
