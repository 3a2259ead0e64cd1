"""Checks of a folder of knowledge documents: `kb lint DIR`."""
