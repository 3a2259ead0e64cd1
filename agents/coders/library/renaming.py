"""Top-level names of a kernel's Python block get a prefix, so that several kernels can stand in one module."""

from __future__ import annotations

import ast


def split_imports(code: str) -> tuple[tuple[str, ...], str]:
    """Separate the import statements at the top level from the rest of a module."""
    tree = ast.parse(code)
    imports = tuple(ast.unparse(item) for item in tree.body if isinstance(item, ast.Import | ast.ImportFrom))
    lines = code.splitlines()
    drop: set[int] = set()
    for item in tree.body:
        is_docstring = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
        if isinstance(item, ast.Import | ast.ImportFrom) or is_docstring:
            drop.update(range(item.lineno, (item.end_lineno or item.lineno) + 1))
    rest = "\n".join(line for number, line in enumerate(lines, 1) if number not in drop)
    return imports, rest.strip("\n") + "\n"


def replace_function(code: str, name: str, text: str) -> str:
    """Put other source in the place of a top-level function, decorators included.

    Raises:
        ValueError: There is no such function.
    """
    for item in ast.parse(code).body:
        if isinstance(item, ast.FunctionDef) and item.name == name:
            first = min([item.lineno, *[decorator.lineno for decorator in item.decorator_list]])
            lines = code.splitlines()
            return "\n".join([*lines[: first - 1], text.rstrip("\n"), *lines[item.end_lineno :]]) + "\n"
    raise ValueError(f"the kernel block defines no function {name!r}")


def rename_top_level(code: str, name_of: dict[str, str] | str) -> str:
    """Rename the functions, classes and variables defined at the top level, wherever they are used; comments and layout stay.

    Args:
        code: A module without imports.
        name_of: New names, or a prefix for all of them.
    """
    tree = ast.parse(code)
    names = {item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)}
    for item in tree.body:
        targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        names |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    new = (
        {name: f"{name_of}{name}" for name in names}
        if isinstance(name_of, str)
        else {name: name_of[name] for name in names if name in name_of}
    )
    edits: list[tuple[int, int, str]] = []
    _collect(tree, new, frozenset(), edits, code.splitlines())
    lines = [line.encode() for line in code.splitlines()]
    for line, column, name in sorted(set(edits), reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:column] + new[name].encode() + text[column + len(name.encode()) :]
    return "\n".join(line.decode() for line in lines) + "\n"


def _collect(node: ast.AST, new: dict[str, str], hidden: frozenset[str], edits: list[tuple[int, int, str]], lines: list[str]) -> None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        if node.name in new and node.name not in hidden and node.col_offset == 0:
            keyword = "def " if isinstance(node, ast.FunctionDef) else "class "
            edits.append((node.lineno, len(keyword.encode()), node.name))
        if isinstance(node, ast.FunctionDef):
            for part in (*node.decorator_list, *node.args.defaults, *(item for item in node.args.kw_defaults if item is not None)):
                _collect(part, new, hidden, edits, lines)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                if argument.annotation is not None:
                    _collect(argument.annotation, new, hidden, edits, lines)
            inner = hidden | _locals(node)
            for statement in node.body:
                _collect(statement, new, inner, edits, lines)
            return
    if isinstance(node, ast.Name) and node.id in new and node.id not in hidden:
        edits.append((node.lineno, node.col_offset, node.id))
    for child in ast.iter_child_nodes(node):
        _collect(child, new, hidden, edits, lines)


def _locals(function: ast.FunctionDef) -> frozenset[str]:
    arguments = function.args
    names = {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {item.arg for item in (arguments.vararg, arguments.kwarg) if item is not None}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)
