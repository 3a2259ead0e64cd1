"""The reference's source turned into the candidate's: `Model` becomes `ModelNew`, its forward is kept as the fallback, input generators go."""

from __future__ import annotations

import ast
import re

from agents.coders.library.errors import CaptureError

FALLBACK = "forward_reference"
_GENERATORS = frozenset({"get_inputs", "get_init_inputs"})


def candidate_module(source: str, forward: str | None) -> str:
    """Return the module of the reference with a class `ModelNew`, built alike, whose forward is `forward`.

    The constructor stays as it is, so parameters have the reference's names, shapes and initial values (the same seed gives the same numbers).
    The reference's own forward remains as the method `forward_reference`, for inputs that the kernels were not written for.

    Args:
        source: The problem's source.
        forward: Text of the method(s), indented by four spaces; None keeps the reference's forward as the forward.

    Raises:
        CaptureError: The source defines no class `Model`.
    """
    tree = ast.parse(source)
    model = next((item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == "Model"), None)
    if model is None:
        raise CaptureError("the problem does not define `class Model` at the top of its file")
    lines = source.splitlines()
    drop: set[int] = set()
    for statement in tree.body:
        if _is_generator(statement):
            first = min([statement.lineno, *[item.lineno for item in getattr(statement, "decorator_list", [])]])
            drop.update(range(first, (statement.end_lineno or statement.lineno) + 1))
    method = next((item for item in model.body if isinstance(item, ast.FunctionDef) and item.name == "forward"), None)
    if method is not None and forward is not None:
        line = method.lineno - 1
        lines[line] = re.sub(r"def\s+forward\b", f"def {FALLBACK}", lines[line], count=1)
    for line, column, length in _uses_of_model(tree):
        text = lines[line - 1].encode()
        lines[line - 1] = (text[:column] + b"ModelNew" + text[column + length :]).decode()
    line = model.lineno - 1
    lines[line] = re.sub(r"class\s+Model\b", "class ModelNew", lines[line], count=1)
    end = model.end_lineno or len(lines)
    kept = [text for number, text in enumerate(lines[:end], 1) if number not in drop]
    rest = [text for number, text in enumerate(lines[end:], end + 1) if number not in drop]
    added = [] if forward is None else ["", forward.rstrip("\n"), ""]
    return "\n".join([*kept, *added, *rest]).rstrip() + "\n"


def forward_parameters(source: str) -> str:
    """Return the parameter list of the reference's forward, without annotations, for example `self, x, scale=1.0`."""
    tree = ast.parse(source)
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == "Model":
            for item in statement.body:
                if isinstance(item, ast.FunctionDef) and item.name == "forward":
                    arguments = item.args
                    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
                        if argument is not None:
                            argument.annotation = None
                    return ast.unparse(arguments)
    return "self, *inputs"


def call_arguments(parameters: str) -> str:
    """Return how to hand the parameters of a method on to another one."""
    arguments = ast.parse(f"def f({parameters}): pass").body[0].args  # type: ignore[attr-defined] # the statement is a function
    names = [item.arg for item in (*arguments.posonlyargs, *arguments.args)][1:]
    if arguments.vararg:
        names.append(f"*{arguments.vararg.arg}")
    names += [f"{item.arg}={item.arg}" for item in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(f"**{arguments.kwarg.arg}")
    return ", ".join(names)


def _is_generator(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return statement.name in _GENERATORS
    if isinstance(statement, ast.If):
        return "__name__" in ast.unparse(statement.test)
    return False


def _uses_of_model(tree: ast.Module) -> list[tuple[int, int, int]]:
    found = [(node.lineno, node.col_offset, len("Model")) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Model"]
    return sorted(found, reverse=True)
