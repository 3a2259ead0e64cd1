"""The built-in coder: captures a reference, retrieves kernels by what they match, composes them and searches their tunables."""

from agents.coders.library.coder import LibraryCoder

__all__ = ["LibraryCoder"]
