"""The target that a question names by its words: chip names, architecture codes, vendor terms; and whether a passage speaks of it.

The target is a filter only if the words leave no doubt (exactly one). A filter cannot tell apart documents that state no target, as manuals do, so passages
are also judged by their own words: by where they stand (source, title, headings) first, then by what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

from kb.targets import GENERIC, family, normalise, visible

_EXACT: tuple[tuple[str, str], ...] = (
    (r"\bsm_?(\d{2,3})[af]?\b", "cuda:sm_{0}"),
    (r"\b(gfx\d{3,4}[a-z]?)\b", "rocm:{0}"),
    (r"\b(?:G?H100|G?H200|H20|Hopper)\b", "cuda:sm_90"),
    (r"\b(?:A100|A30)\b", "cuda:sm_80"),
    (r"\b(?:G?B100|G?B200)\b", "cuda:sm_100"),
    (r"\b(?:L40S?|L4|RTX ?40\d\d|Ada Lovelace)\b", "cuda:sm_89"),
    (r"\bV100\b", "cuda:sm_70"),
    (r"\b(?:MI300[AX]?|MI325X?|CDNA ?3)\b", "rocm:gfx942"),
    (r"\b(?:MI350X?|MI355X?|CDNA ?4)\b", "rocm:gfx950"),
    (r"\b(?:MI2[1-5]0X?|CDNA ?2)\b", "rocm:gfx90a"),
    (r"\bMTIA[ -]?(?:v)?(2i|300|1|2)\b", "mtia:{0}"),
)
"""Patterns and the target they mean. Sources: vendors' lists of compute capabilities and LLVM's AMDGPU processor table (LLVM AMDGPUUsage)."""

_FAMILY: tuple[tuple[str, str], ...] = (
    (r"\b(?:NVIDIA|CUDA|PTX|SASS|cuBLAS|cuDNN|CUTLASS|Nsight|Blackwell|Ampere)\b", "nvidia"),
    (r"\b(?:AMD|ROCm|HIP|hipBLAS\w*|MIOpen|rocprof\w*|AMDGPU|CDNA|Instinct|AMDGCN)\b", "amd"),
    (r"\bcuda[A-Z]\w+|\bcu(?:Launch|Module|Mem|Ctx)[A-Z]\w+", "nvidia"),
    (r"\bhip[A-Z]\w+|\bMI\d{2,3}[A-Z]?\b|\bRDNA ?\d?\b|\bRadeon\b", "amd"),
    (r"\bMTIA\b", "mtia"),
    (r"\b(?:Tenstorrent|Tensix|Wormhole|Blackhole|TT-?NN|TT-?Metal(?:ium)?|SFPU)\b", "tenstorrent"),
    (r"\b(?:Intel (?:Data Center )?(?:GPUs?|XPUs?|Arc|Max)|Ponte Vecchio|Battlemage|XPU|DPAS)\b", "intel"),
    (r"\b(?:AVX(?:-?512|2)?|x86(?:-64|_64)?|Xeon|EPYC|AArch64)\b|\bon (?:the |a |my )?CPUs?\b", "cpu"),
)

_COMPILED = [(re.compile(pattern, re.IGNORECASE), family(form.partition(":")[0])) for pattern, form in _EXACT]
_COMPILED += [(re.compile(pattern, 0 if "[A-Z]" in pattern else re.IGNORECASE), name) for pattern, name in _FAMILY]

AGAINST = -1.5
"""What a passage of another target loses; scores are standardised, so few gaps among the first hits are as wide."""
IN_FAVOUR = 0.3
"""What a passage gains that speaks of the target."""
STATED = 1.1
"""What the passages of a document gain that states the target, or its family, and no other family: advice for all is right and seldom specific."""


_HINTS: tuple[tuple[str, ...], ...] = (
    ("sm",),
    ("gfx",),
    ("h100", "h200", "h20", "hopper"),
    ("a100", "a30"),
    ("b100", "b200"),
    ("l4", "rtx", "ada"),
    ("v100",),
    ("mi3", "cdna"),
    ("mi3", "cdna"),
    ("mi2", "cdna"),
    ("mtia",),
    ("nvidia", "cuda", "ptx", "sass", "cublas", "cudnn", "cutlass", "nsight", "blackwell", "ampere"),
    ("amd", "rocm", "hip", "miopen", "rocprof", "cdna", "instinct"),
    ("cuda", "cu"),
    ("hip", "mi", "rdna", "radeon"),
    ("mtia",),
    ("tens", "wormhole", "blackhole", "tt", "sfpu"),
    ("intel", "ponte", "battlemage", "xpu", "dpas"),
    ("avx", "x86", "xeon", "epyc", "aarch64", "cpu"),
)
"""For each pattern in order, substrings of which every match holds one: looking for them first is ten times faster than running the patterns."""


def families(passage: str) -> set[str]:
    """Return the families of targets that a text names."""
    lowered = passage.lower()
    found: set[str] = set()
    for (pattern, name), hints in zip(_COMPILED, _HINTS, strict=True):
        if name not in found and any(hint in lowered for hint in hints) and pattern.search(passage):
            found.add(name)
    return found


def about(target: str | None) -> str | None:
    """Return the family that the hits for a target should be about; None: any."""
    name = family(normalise(target)) if target else GENERIC
    return None if name == GENERIC else name


def target_fit(connection: Connection, numbers: Sequence[int], wanted: str) -> dict[int, float]:
    """Return what chunks gain or lose for being about this family or about others only; chunks that name none are left out."""
    statement = text(
        "SELECT c.number, c.section_path, c.context, c.text, d.source, d.title FROM chunks c JOIN documents d ON d.document_id = c.document_id "
        "WHERE c.number IN :numbers"
    ).bindparams(bindparam("numbers", expanding=True))
    fit: dict[int, float] = {}
    for row in connection.execute(statement, {"numbers": list(numbers)}):
        path = row.section_path if isinstance(row.section_path, str) else json.dumps(row.section_path)
        place = families(f"{re.sub(r'[/+_.-]', ' ', row.source)}\n{row.title}\n{path}")
        named = place or families(f"{row.context}\n{row.text}")
        if named:
            fit[int(row.number)] = IN_FAVOUR if wanted in named else AGAINST
    return fit


def stating(connection: Connection, numbers: Sequence[int], target: str) -> dict[int, float]:
    """Return what chunks gain because their document states the target, or its family, and no other family; the others are left out."""
    statement = text(
        "SELECT c.number, t.target FROM chunks c JOIN document_targets t ON t.document_id = c.document_id WHERE c.number IN :numbers"
    ).bindparams(bindparam("numbers", expanding=True))
    own = {name for name in visible(target) if name != GENERIC}
    stated: dict[int, set[str]] = {}
    for number, name in connection.execute(statement, {"numbers": list(numbers)}):
        stated.setdefault(int(number), set()).add(str(name))
    return {number: STATED for number, names in stated.items() if own & names and len({family(name) for name in names} - {GENERIC}) == 1}


def named_target(query: str) -> str | None:
    """Return the one target or family that a query names, the exact one if it names both; None if it names none or several."""
    exact = {
        form.format(*(group.lower() for group in match.groups()))
        for pattern, form in _EXACT
        for match in re.finditer(pattern, query, re.IGNORECASE)
    }
    named = families(query)
    if len(named) != 1:
        return None
    return next(iter(exact)) if len(exact) == 1 else named.pop()
