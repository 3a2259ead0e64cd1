"""What a problem is about, in words that a knowledge base can be asked with: its own description and the operators that it calls. Read from the text; nothing runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

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
        "ParameterList",
        "ModuleList",
        "zip",
        "enumerate",
        "randn",
        "rand",
        "full",
    ]
)
"""Calls that say nothing about what is computed."""
_QUESTION_WORDS = ("where",)
"""Operators whose names would be taken for the beginning of another question."""
MAX_WORDS = 40
MAX_OPERATORS = 8

LEGALITY = {
    "mtia": "rules for Triton on MTIA that are rejected: row alignment 32 bytes, masks, scatter stores, tl.where in loops, allow-listed operations",
    "amd": "what differs on AMD for a Triton kernel: wavefront of 64, LDS limits, occupancy",
    "nvidia": "what limits a Triton kernel on this GPU: launch limits, coalescing, registers, numerics",
    "cpu": "C++ kernel on the CPU: vectorised loops, threads, cache blocking, memory traffic",
}
"""What a writer must know about a family before the first draft."""

TUNING = {
    "mtia": ("block sizes and buffers on MTIA: fewer waves, larger transfers",),
    "amd": ("tile sizes, wavefronts and occupancy on AMD",),
    "nvidia": ("tile sizes, num_warps, num_stages and occupancy",),
    "cpu": ("streaming stores and page faults of a fresh output", "register tile and cache blocking on the CPU"),
}
"""What makes a correct kernel of a family faster, whatever it computes."""


@dataclass(frozen=True)
class Topic:
    """A kind of work, by the operators that show it, and what to ask about it."""

    operators: frozenset[str]
    questions: Mapping[str, str]
    """By family; the empty name: every other one."""


TOPICS = (
    Topic(frozenset(["Linear", "linear"]), {"nvidia": "linear layer at float32 accuracy on float16 tensor cores, epilogue"}),
    Topic(
        frozenset(["matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "mv", "cdist"]),
        {
            "nvidia": "float32 matrix product on tensor cores at float32 accuracy",
            "cpu": "GEMM on the CPU: register tile and cache blocking",
            "": "matrix product: tiles, accumulator, layout",
        },
    ),
    Topic(
        frozenset(f"{name}{rank}d" for name in ("Conv", "conv", "ConvTranspose", "conv_transpose") for rank in (1, 2, 3)),
        {"": "convolution kernel: implicit GEMM or direct, layout, when which"},
    ),
    Topic(
        frozenset(["softmax", "log_softmax", "logsumexp", "Softmax", "LogSoftmax"]),
        {"": "softmax and logsumexp of rows: one pass, running maximum, long rows"},
    ),
    Topic(
        frozenset(
            ["LayerNorm", "layer_norm", "GroupNorm", "group_norm", "InstanceNorm2d", "BatchNorm1d", "BatchNorm2d", "batch_norm", "rms_norm"]
        ),
        {"": "normalisation kernel: mean and variance, passes over memory"},
    ),
    Topic(
        frozenset(["sum", "mean", "amax", "amin", "max", "min", "prod", "norm", "var", "std", "argmax", "argmin"]),
        {"": "reduction over rows or columns: how to split the work"},
    ),
    Topic(frozenset(["cumsum", "cumprod", "cummax", "logcumsumexp"]), {"": "scan, cumulative sum: carry, blocks"}),
    Topic(
        frozenset(["exp", "log", "tanh", "sigmoid", "gelu", "GELU", "silu", "erf", "softplus", "mish", "sin", "cos"]),
        {"": "tanh, sigmoid, gelu, exp: cost and accuracy of fast forms"},
    ),
    Topic(
        frozenset(["gather", "index_select", "Embedding", "embedding", "scatter", "scatter_add", "index_add", "bucketize", "searchsorted"]),
        {"": "gather, embedding and scatter: rows in flight, atomics"},
    ),
    Topic(frozenset(["sort", "topk", "argsort", "kthvalue"]), {"": "top-k and sort kernels"}),
    Topic(
        frozenset(["pad", "unfold", "roll", "avg_pool2d", "max_pool2d"]),
        {"": "stencil, sliding window: halo, reuse of neighbours, blocking"},
    ),
)
"""In the order of what usually decides the speed."""
MAX_TOPICS = 2


def operators(problem: Problem) -> tuple[str, ...]:
    """Return the operators that the reference's modules call, in order, each once."""
    try:
        tree = ast.parse(problem.source)
    except (SyntaxError, ValueError):
        return ()
    bodies = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    calls = [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call) and not _is_own(node.func)]
    named = [node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "") for node in calls]
    if any(isinstance(node, ast.MatMult) for body in bodies for node in ast.walk(body)):
        named.insert(0, "matmul")
    return tuple(dict.fromkeys(name for name in named if name and name not in _PLUMBING))[:MAX_OPERATORS]


def _is_own(function: ast.expr) -> bool:
    """Return whether a call is of the module's own attribute, for example `self.first(x)`: a name that says nothing."""
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self"


def description(problem: Problem) -> str:
    """Return the problem's own first sentence, else its name in words."""
    try:
        tree = ast.parse(problem.source)
    except (SyntaxError, ValueError):
        return _words(problem.name)
    holders: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for holder in holders:
        text = ast.get_docstring(holder) or ""
        first = re.split(r"(?<=\.)\s|\n\n", " ".join(text.split("\n\n")[0].split()))[0]
        if len(first.split()) > 2:
            return " ".join(first.split()[:MAX_WORDS])
    return _words(problem.name)


def family(target: str) -> str:
    """Return the family of a target's toolchain, for example `nvidia`."""
    from tools.targets.base import FAMILIES

    toolchain = target.partition(":")[0]
    return FAMILIES.get(toolchain, toolchain)


def subject(problem: Problem, target: str) -> str:
    """Return what a kernel for the problem is, as one phrase: its language, the problem's description and the operators."""
    called = ", ".join(f"torch.{name}" if name in _QUESTION_WORDS else name.replace("_", " ") for name in operators(problem))
    language = "C++" if family(target) == "cpu" else "Triton"
    return f"{language} kernel for {description(problem).rstrip('.')}" + (f" ({called})" if called else "")


def topics(problem: Problem, target: str) -> tuple[str, ...]:
    """Return what to ask about the kinds of work in a problem, at most `MAX_TOPICS` questions; none for MTIA, where they would crowd out its rules."""
    called, name = set(operators(problem)), family(target)
    if name == "mtia":
        return ()
    found = [topic.questions.get(name, topic.questions.get("", "")) for topic in TOPICS if called & topic.operators]
    return tuple(question for question in found if question)[:MAX_TOPICS]


def questions(problem: Problem, target: str) -> tuple[str, ...]:
    """Return what to ask a knowledge base before the first draft for a target: about the problem, its kinds of work, and what the target forbids."""
    rules = LEGALITY.get(family(target))
    return (subject(problem, target), *topics(problem, target), *([rules] if rules else []))


def standing_questions(target: str) -> tuple[str, ...]:
    """Return what is asked for a target whatever a diagnosis raises: the rules of chips that writers do not know by heart."""
    return (LEGALITY["mtia"],) if family(target) == "mtia" else ()


def _words(name: str) -> str:
    return " ".join(part for part in re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").split() if not part.isdigit())
