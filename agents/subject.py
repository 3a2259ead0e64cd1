"""What a problem is about, in words that a knowledge base can be asked with: its own description and the operators that it calls. Read from the text; nothing runs."""

from __future__ import annotations

import ast
import re

from tools.types import Problem

_PLUMBING = frozenset(
    [
        "view",
        "reshape",
        "to",
        "contiguous",
        "size",
        "shape",
        "dim",
        "unsqueeze",
        "squeeze",
        "expand",
        "device",
        "dtype",
        "float",
        "long",
        "double",
        "type",
        "append",
        "range",
        "super",
        "__init__",
        "Parameter",
        "Module",
        "ones",
        "zeros",
        "empty",
        "zeros_like",
        "empty_like",
        "ones_like",
        "arange",
        "tensor",
        "flatten",
        "stack",
        "permute",
        "transpose",
        "get_inputs",
        "len",
        "int",
        "print",
    ]
)
"""Calls that say nothing about what is computed."""
MAX_WORDS = 40
MAX_OPERATORS = 8

LEGALITY = {
    "mtia": "rules for Triton on MTIA that are rejected: row alignment 32 bytes, masks, scatter stores, where in loops, allow-listed operations",
    "amd": "what differs on AMD for a Triton kernel: wavefront of 64, LDS limits, occupancy",
    "nvidia": "what limits a Triton kernel on this GPU: launch limits, coalescing, registers, numerics",
    "cpu": "C++ kernel on the CPU: vectorised loops, threads, cache blocking, memory traffic",
}
"""What a writer must know about a family before the first draft."""


def operators(problem: Problem) -> tuple[str, ...]:
    """Return the operators that the reference's modules call, in order, each once."""
    try:
        tree = ast.parse(problem.source)
    except (SyntaxError, ValueError):
        return ()
    bodies = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    calls = [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call)]
    named = [node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "") for node in calls]
    return tuple(dict.fromkeys(name for name in named if name and name not in _PLUMBING))[:MAX_OPERATORS]


def description(problem: Problem) -> str:
    """Return the problem's own first sentence, else its name in words."""
    try:
        tree = ast.parse(problem.source)
    except (SyntaxError, ValueError):
        return _words(problem.name)
    holders: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for holder in holders:
        text = ast.get_docstring(holder) or ""
        first = re.split(r"(?<=[.:])\s|\n\n", " ".join(text.split("\n\n")[0].split()))[0]
        if len(first.split()) > 2:
            return " ".join(first.split()[:MAX_WORDS])
    return _words(problem.name)


def questions(problem: Problem, target: str) -> tuple[str, ...]:
    """Return what to ask a knowledge base before the first draft for a target: about the problem, and about what the target forbids."""
    from tools.targets.base import FAMILIES

    toolchain = target.partition(":")[0]
    called = ", ".join(name.replace("_", " ") for name in operators(problem))
    language = "C++" if toolchain == "cpu" else "Triton"
    about = f"{language} kernel for {description(problem).rstrip('.')}" + (f" ({called})" if called else "")
    rules = LEGALITY.get(FAMILIES.get(toolchain, toolchain))
    return (about, *([rules] if rules else []))


def _words(name: str) -> str:
    return " ".join(part for part in re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").split() if not part.isdigit())
