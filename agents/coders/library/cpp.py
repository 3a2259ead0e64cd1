"""C++ kernels as the candidate carries them: preamble, tunables, generated slots and the kernel in a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from agents.coders.library.errors import DocumentError
from agents.coders.library.slots import SlotCode

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)


@lru_cache(maxsize=1)
def preamble() -> str:
    """Return `preamble.h`."""
    return Path(__file__).with_name("preamble.h").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def runtime() -> str:
    """Return the Python that compiles and calls C++ kernels inside a candidate."""
    return Path(__file__).with_name("cpp_runtime.txt").read_text(encoding="utf-8")


def translation_unit(code: str, name: str, tunables: Mapping[str, object], slots: Mapping[str, SlotCode], source: str) -> str:
    """Return the body of a kernel's translation unit (the preamble goes in front of it when it is compiled).

    Args:
        code: The `cpp kernel` block.
        name: Becomes the namespace; the entry point is `run_<name>`.
        tunables: Become macros.
        slots: Generated slots by name; others keep the document's identity.
        source: The document, for messages.

    Raises:
        DocumentError: A marker of a generated slot is missing.
    """
    if slots:
        code = _replace(code, "extra", _extra(slots), source)
    for slot, generated in slots.items():
        code = _replace(code, slot, generated.text, source)
    includes = _INCLUDE.findall(code)
    code = _INCLUDE.sub("", code).strip("\n")
    code = re.sub(r"(extern\s+\"C\"\s+void\s+)run\b", rf"\1run_{name}", code)
    macros = [f"#define {key} {_macro(value)}" for key, value in tunables.items()]
    return "\n".join([*includes, *macros, f"namespace {name} {{", code, "}", ""])


def _macro(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _extra(slots: Mapping[str, SlotCode]) -> str:
    parts = []
    for slot, struct in (("prologue", "PrologueExtra"), ("epilogue", "EpilogueExtra")):
        types = slots[slot].extra_types if slot in slots else ()
        fields = " ".join(f"const {kind}* __restrict__ p{index};" for index, kind in enumerate(types))
        values = ", ".join(f"static_cast<const {kind}*>(extra[{index}])" for index, kind in enumerate(types))
        parts.append(f"struct {struct} {{ {fields} }};")
        parts.append(f"static inline {struct} make_{slot}_extra(void* const* extra) {{ return {{{values}}}; }}")
    return "\n".join(parts) + "\n"


def _replace(code: str, slot: str, text: str, source: str) -> str:
    begin, end = f"// slot {slot} begin", f"// slot {slot} end"
    before, found, rest = code.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DocumentError(f"{source}: no markers {begin!r} and {end!r} in the cpp kernel")
    return f"{before}{begin}\n{text}{end}{after}"
