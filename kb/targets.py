"""Targets and what they inherit: `cuda:sm_90` sees its own documents, those of `nvidia`, and `generic` ones; never those of `amd`."""

from __future__ import annotations

import re

FAMILY_OF_TOOLCHAIN = {"cuda": "nvidia", "rocm": "amd", "mtia": "mtia", "cpu": "cpu"}
"""Document family by the part of a target before the colon; an unknown toolchain is its own family."""

GENERIC = "generic"

_TARGET = re.compile(r"^[a-z][a-z0-9_-]*(:[a-z0-9][a-z0-9_.+-]*)?$")


def normalise(target: str) -> str:
    """Return the target in its canonical spelling.

    Raises:
        ValueError: It is neither a family nor `toolchain:chip`.
    """
    text = target.strip().lower()
    if not _TARGET.match(text):
        raise ValueError(f"not a target: {target!r}; write a family (generic, nvidia, amd, mtia, cpu) or toolchain:chip such as cuda:sm_90")
    return text


def family(target: str) -> str:
    """Return the family of a target: `nvidia` for `cuda:sm_90` and for `nvidia` itself."""
    toolchain = target.partition(":")[0]
    return FAMILY_OF_TOOLCHAIN.get(toolchain, toolchain)


def visible(target: str) -> tuple[str, ...]:
    """Return the targets whose documents hold for `target`, most specific first."""
    text = normalise(target)
    if text == "cuda" or text == "rocm":
        text = FAMILY_OF_TOOLCHAIN[text]
    return tuple(dict.fromkeys((text, family(text), GENERIC)))
