"""Rules about loads, stores and their masks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.module import Module, argument, is_none
from tools.lint.rule import Context, Violation, rule


@rule(
    "L04",
    "`other` needs a mask",
    severity="error",
    why="Triton refuses `other` without `mask`: there is no masked-off lane that could take it.",
    fix="pass `mask=` too, or drop `other=`",
)
def other_without_mask(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.load(p, other=0.0)`."""
    for kernel in module.kernels.values():
        for node in ast.walk(kernel.node):
            if module.language_call(node) == "load" and isinstance(node, ast.Call):
                if not is_none(argument(node, 2, "other")) and is_none(argument(node, 1, "mask")):
                    yield Violation(node.lineno, "`other` cannot be provided without `mask`")
