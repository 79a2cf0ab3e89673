"""The commands of jet tagging."""
