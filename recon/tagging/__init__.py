"""Jet tagging: which particle made a jet."""
