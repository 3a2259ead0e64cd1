"""The target that a question names by its words: chip names, architecture codes, vendor terms."""

from __future__ import annotations

import re

from kb.targets import family

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
    (r"\bMTIA\b", "mtia"),
    (r"\b(?:AVX(?:-?512|2)?|x86(?:-64|_64)?|Xeon|EPYC|AArch64)\b|\bon (?:the |a |my )?CPUs?\b", "cpu"),
)


def named_target(query: str) -> str | None:
    """Return the one target or family that a query names, the exact one if it names both; None if it names none or several."""
    exact = {
        form.format(*(group.lower() for group in match.groups()))
        for pattern, form in _EXACT
        for match in re.finditer(pattern, query, re.IGNORECASE)
    }
    families = {name for pattern, name in _FAMILY if re.search(pattern, query, re.IGNORECASE)}
    families |= {family(target) for target in exact}
    if len(families) != 1 or len(exact) > 1:
        only = families.pop() if len(families) == 1 else None
        return only
    return next(iter(exact)) if exact else families.pop()
