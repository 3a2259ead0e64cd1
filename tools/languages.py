"""What a candidate's kernels are written in."""

from __future__ import annotations


def language_of(source: str) -> str:
    """Return triton, cpp or torch, by what the source imports."""
    if "import triton" in source or "from triton" in source:
        return "triton"
    return "cpp" if 'extern "C"' in source or "cpp_extension" in source else "torch"
