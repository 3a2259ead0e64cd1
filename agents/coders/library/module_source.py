"""The reference's source turned into the candidate's: `Model` becomes `ModelNew`, its forward is kept as the fallback, input generators go."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

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
    if method is None and forward is not None:
        if any(isinstance(item, ast.Assign | ast.AnnAssign) and "forward" in ast.unparse(item).split("=")[0] for item in model.body):
            raise CaptureError("`forward` of the class `Model` is no method")
        forward = f"    def {FALLBACK}(self, *inputs, **keywords):\n        return super().forward(*inputs, **keywords)\n\n{forward}"
    added = [] if forward is None else ["", forward.rstrip("\n"), ""]
    return "\n".join([*kept, *added, *rest]).rstrip() + "\n"


def forward_parameters(source: str) -> str:
    """Return the parameter list of the reference's forward, without annotations, for example `self, x, scale=1.0`; a general one if a base class has it."""
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
    return "self, *inputs, **keywords"


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


def default_checks(parameters: str, given: Collection[str]) -> list[str]:
    """Return the conditions under which a parameter that the captured call left out has another value than its default.

    Args:
        parameters: From `forward_parameters`.
        given: Names of the parameters that the captured call had values for.
    """
    arguments = ast.parse(f"def f({parameters}): pass").body[0].args  # type: ignore[attr-defined] # the statement is a function
    plain = [*arguments.posonlyargs, *arguments.args][1:]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults[-len(plain) :] if plain else []
    pairs = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    checks = [_is_changed(item.arg, default) for item, default in pairs if default is not None and item.arg not in given]
    return checks + ([arguments.kwarg.arg] if arguments.kwarg else [])


def _is_changed(name: str, default: ast.expr) -> str:
    try:
        value = ast.literal_eval(default)
    except ValueError:
        return f"{name} is not {ast.unparse(default)}"
    if value is None or isinstance(value, bool):
        return f"{name} is not {value}"
    return f"type({name}) is not {type(value).__name__} or {name} != {value!r}"


def _is_generator(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return statement.name in _GENERATORS
    if isinstance(statement, ast.If):
        return "__name__" in ast.unparse(statement.test)
    return False


def _uses_of_model(tree: ast.Module) -> list[tuple[int, int, int]]:
    found = [(node.lineno, node.col_offset, len("Model")) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Model"]
    return sorted(found, reverse=True)
