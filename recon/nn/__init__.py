"""Layers that two or more tasks share."""
