"""Changes between two sources: where they are, which kernels they touch, and the first source with one of them alone."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One run of lines that differ."""

    first_line: int
    """Where it begins in the first source, from 1."""
    removed: tuple[str, ...]
    added: tuple[str, ...]
    second_line: int
    """Where it begins in the second source, from 1."""
    functions: tuple[str, ...]
    """Functions whose text it lies in, in either source."""
    named: tuple[str, ...]
    """Names that occur in the changed lines or in the functions around them."""

    @property
    def place(self) -> str:
        """Return where it is, for a person."""
        inside = f" in {', '.join(self.functions)}" if self.functions else ""
        return f"line {self.second_line}{inside}"

    @property
    def diff(self) -> str:
        """Return removed and added lines with their signs."""
        return "\n".join([*(f"- {line}" for line in self.removed), *(f"+ {line}" for line in self.added)])

    def touches(self, kernels: Sequence[str]) -> tuple[str, ...]:
        """Return the kernels that it lies in; failing that, those that the code around it names."""
        inside = tuple(name for name in kernels if name in self.functions)
        return inside or tuple(name for name in kernels if name in self.named)


def changes_between(first: str, second: str) -> tuple[Change, ...]:
    """Return the changes in order. Changes with nothing but blank lines between them are one."""
    before, after = first.splitlines(), second.splitlines()
    homes = (_functions(first), _functions(second))
    found = []
    for tag, begin, end, start, stop in _joined(difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes(), before):
        if tag == "equal" or not "".join((*before[begin:end], *after[start:stop])).strip():
            continue
        functions = tuple(dict.fromkeys((*_inside(homes[0], begin, end), *_inside(homes[1], start, stop))))
        around = [
            line
            for home, lines in zip(homes, (before, after), strict=True)
            for name, top, bottom in home
            if name in functions
            for line in lines[top - 1 : bottom]
        ]
        named = tuple(sorted(set(re.findall(r"[A-Za-z_]\w*", "\n".join((*before[begin:end], *after[start:stop], *around))))))
        found.append(Change(begin + 1, tuple(before[begin:end]), tuple(after[start:stop]), start + 1, functions, named))
    return tuple(found)


def with_only(first: str, change: Change) -> str | None:
    """Return the first source with one change applied; None if that is no Python."""
    lines = first.splitlines()
    at = change.first_line - 1
    source = "\n".join([*lines[:at], *change.added, *lines[at + len(change.removed) :]]) + "\n"
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    return source


def _joined(codes: Sequence[tuple[str, int, int, int, int]], before: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    joined: list[tuple[str, int, int, int, int]] = []
    for index, code in enumerate(codes):
        tag, begin, end, start, stop = code
        if tag == "equal" and not "".join(before[begin:end]).strip() and 0 < index < len(codes) - 1:
            continue  # the next code joins what surrounds the blank lines
        if tag != "equal" and joined and joined[-1][0] != "equal":
            last = joined.pop()
            joined.append(("replace", last[1], end, last[3], stop))
        else:
            joined.append((tag, begin, end, start, stop))
    return joined


def _functions(source: str) -> list[tuple[str, int, int]]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            top = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            found.append((node.name, top, node.end_lineno or node.lineno))
    return found


def _inside(functions: Sequence[tuple[str, int, int]], begin: int, end: int) -> list[str]:
    """Return the functions that hold any of the lines `begin` to `end` (from 0, end excluded)."""
    return [name for name, top, bottom in functions if top <= max(end, begin + 1) and begin + 1 <= bottom]
