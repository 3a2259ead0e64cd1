"""From what the compiler wrote back to the lines of the source: how many instructions of each stage stem from which line.

Read from the debug information that Triton leaves in its stages: `loc(…)` in TTIR and TTGIR, the comments behind `.loc` in PTX and AMD assembly. An instruction of an
inlined function counts for the line that calls it. Nothing has to run, and no device is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from tools.profiling.types import SourceLine

STAGES = ("ttir", "ttgir", "ptx", "amdgcn")
Place = tuple[str, int]
"""Name of a file without its folders, and a line."""

_ASSEMBLY_LOC = re.compile(r"^\s*\.loc\s[^/;]*(?://|;)\s*(?P<chain>.*)$")
_IN_CHAIN = re.compile(r"(?P<file>[^\s\[\]@]+?):(?P<line>\d+):\d+")
_PTX_INSTRUCTION = re.compile(r"^\s+(?:@!?%p\d+\s+)?[a-z][\w.]*\s[^;]*;|^\s+(?:ret|exit);")
_GCN_INSTRUCTION = re.compile(r"^\s+(?:[vs]|ds|global|buffer|flat|scratch)_\w+")
_LOC_NAME = re.compile(r"^#(?P<name>loc\d*) = loc\((?P<what>.*)\)\s*$")
_LOC_USE = re.compile(r"loc\(#(?P<name>loc\d*)\)\s*$")
_LOC_FILE = re.compile(r'^"(?P<file>[^"]*)":(?P<line>\d+):\d+')
_LOC_REFERENCE = re.compile(r"#(loc\d*)")
_OPERATION = re.compile(r"^\s+(?:%[\w#:, %]+ = )?\"?(?:tt|ttg|ttng|arith|math|scf|cf|nvgpu|nvws|amdgpu|gpu|tensor|proton)\.[\w.]+")


def source_lines(texts: Mapping[str, str], source: str = "", *, first_line: int = 1, file: str = "") -> tuple[SourceLine, ...]:
    """Return the lines of a kernel's source with the instructions that stem from them.

    Args:
        texts: Stage to its text; unknown stages are left out.
        source: What `text` of the lines is taken from.
        first_line: The line in the file at which `source` begins.
        file: Name of the file that holds the kernel; empty: the one that most instructions stem from.
    """
    counts = {stage: Counter(_places(stage, texts[stage])) for stage in STAGES if stage in texts}
    name = PurePath(file).name or _main_file(counts)
    written = source.splitlines()
    numbers = sorted({line for places in counts.values() for where, line in places if where == name and line > 0})
    return tuple(
        SourceLine(
            number,
            written[number - first_line] if 0 <= number - first_line < len(written) else "",
            {stage: places[name, number] for stage, places in counts.items() if places[name, number]},
        )
        for number in numbers
    )


def stage_of(text: str) -> str:
    """Return the stage of an assembly text."""
    return "amdgcn" if "amdgcn" in text[:4000] else "ptx"


def _main_file(counts: Mapping[str, Counter[Place]]) -> str:
    total: Counter[str] = Counter()
    for places in counts.values():
        for (name, _), number in places.items():
            total[name] += number
    return max(sorted(total), key=lambda name: total[name], default="")


def _places(stage: str, text: str) -> Iterator[Place]:
    return _assembly(text, _GCN_INSTRUCTION if stage == "amdgcn" else _PTX_INSTRUCTION) if stage in ("ptx", "amdgcn") else _mlir(text)


def _assembly(text: str, instruction: re.Pattern[str]) -> Iterator[Place]:
    here: Place | None = None
    for line in text.split("\n"):
        if match := _ASSEMBLY_LOC.match(line):
            chain = _IN_CHAIN.findall(match["chain"])
            here = (PurePath(chain[-1][0]).name, int(chain[-1][1])) if chain else None
        elif here is not None and instruction.match(line):
            yield here


def _mlir(text: str) -> Iterator[Place]:
    known: dict[str, str] = {match["name"]: match["what"] for line in text.split("\n") if (match := _LOC_NAME.match(line))}
    found: dict[str, Place | None] = {}
    for line in text.split("\n"):
        if _OPERATION.match(line) and (use := _LOC_USE.search(line)):
            name = use["name"]
            if name not in found:
                found[name] = _resolved(name, known)
            if (place := found[name]) is not None:
                yield place


def _resolved(name: str, known: Mapping[str, str]) -> Place | None:
    """Return the outermost place of a location: of `callsite(inner at outer)` the outer one, of a name the place that it wraps."""
    for _ in range(100):  # deeper chains are not followed
        what = known.get(name, "")
        if match := _LOC_FILE.match(what):
            return PurePath(match["file"]).name, int(match["line"])
        references = _LOC_REFERENCE.findall(what)
        if not references:
            return None
        name = references[-1]
    return None
