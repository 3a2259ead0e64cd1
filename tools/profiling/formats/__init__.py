"""Readers of what profilers write, one file a family."""
