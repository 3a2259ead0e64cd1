"""The instruction mix of a kernel that never ran, counted in PTX or AMD assembly. Counts are of instructions in the text, not of executions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tools.profiling.types import Figure
from tools.types import Evidence

_PTX: Mapping[str, str] = {
    "static_float64": r"\b(?:fma|add|mul|sub|div|sqrt|rcp)(?:\.\w+)*\.f64\b",
    "static_conversions": r"\bcvt(?:\.\w+)*\.(?:f16|bf16|f32|f64|f16x2|bf16x2|e4m3x2|e5m2x2)\b(?:\.\w+)*",
    "static_atomics": r"\b(?:atom|red)(?:\.\w+)*\.global\b|\b(?:atom|red)\.global\b",
    "static_arithmetic": r"\b(?:fma|add|mul|sub|max|min|neg|abs)(?:\.(?!lo\b|hi\b|wide\b)\w+)*\.(?:f16|f16x2|bf16|bf16x2|f32|f32x2|f64)\b",
    "static_async_copies": r"\bcp\.async(?:\.bulk)?(?:\.\w+)*(?:\.shared)",
    "static_global_loads": r"\bld\.global\b",
    "static_barriers": r"\bbar(?:rier)?(?:\.\w+)*\.sync\b|\bbar\.sync\b",
    "static_divisions": r"\b(?:div|rem)\.[us](?:32|64)\b",
    "static_special": r"\b(?:ex2|lg2|sin|cos|tanh|rcp|rsqrt|sqrt)(?:\.\w+)*\.f(?:32|16x2|16)\b|\bdiv(?:\.\w+)*\.f32\b",
    "static_wide_integer": r"\b(?:add|mul|mad)(?:\.\w+)*\.[us]64\b",
}
_GCN: Mapping[str, str] = {
    "static_float64": r"\bv_\w+_f64\b",
    "static_conversions": r"\bv_cvt_\w+",
    "static_atomics": r"\b(?:global|flat|buffer)_atomic_\w+",
    "static_arithmetic": r"\bv_(?:pk_)?(?:fma|add|mul|sub|max|min|mac|fmac)_f(?:16|32|64)\w*",
    "static_global_loads": r"\b(?:global|buffer)_load_\w+",
    "static_barriers": r"\bs_barrier\b",
    "static_special": r"\bv_(?:exp|log|sin|cos|rcp|rsq|sqrt)_f(?:16|32)\w*",
}


def static_mix(text: str) -> tuple[Figure, ...]:
    """Return the counts as figures with evidence `compiled`.

    Args:
        text: PTX, or AMD assembly (`.amdgcn_target`).
    """
    is_amd = "amdgcn" in text[:4000]
    source = "AMD assembly" if is_amd else "PTX"
    body = re.sub(r"//[^\n]*|/\*.*?\*/|^\s*\.(?:loc|file)\b[^\n]*", "", text, flags=re.DOTALL | re.MULTILINE) if not is_amd else text
    counts = {name: len(re.findall(pattern, body)) for name, pattern in (_GCN if is_amd else _PTX).items()}
    counts["static_instructions"] = len(re.findall(r"^\s+[a-z@][^;\n]*;?$", body, re.MULTILINE))
    counts["static_loops"] = _back_edges(body)
    return tuple(
        Figure(name, float(count), "1", f"instructions in the {source}", "instruction", Evidence.COMPILED) for name, count in counts.items()
    )


def _back_edges(text: str) -> int:
    """Return how many branches go back to a label above them."""
    places: dict[str, int] = {}
    edges = 0
    for number, line in enumerate(text.split("\n")):
        if match := re.match(r"\s*(\$?[\w$.]+):", line):
            places[match[1]] = number
        elif (match := re.search(r"\b(?:bra(?:\.uni)?|s_c?branch\w*)\s+(\$?[\w$.]+)", line)) and match[1] in places:
            edges += 1
    return edges
