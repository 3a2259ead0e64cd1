"""Regions of Triton kernels, found in the source, and variants of the source that make one region visible: without it, with it twice, or marked for Proton.

Variants compute other values on purpose and are for timing alone. Each changes one call and leaves the dependences around it in place, so that the compiler cannot drop
more than the region; whether it did shows when the variant is timed.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["load", "store", "dot", "reduce", "math"]
Method = Literal["remove", "twice"]

MAX_SITES = 24
_KINDS: dict[str, Kind] = {
    "load": "load", "store": "store", "dot": "dot", "sum": "reduce", "max": "reduce", "min": "reduce", "exp": "math", "exp2": "math", "log": "math", "log2": "math", "sqrt": "math", "rsqrt": "math",
    "sin": "math", "cos": "math", "erf": "math", "sigmoid": "math", "tanh": "math",
}  # fmt: skip
METHODS: dict[Kind, Method] = {"load": "remove", "store": "remove", "dot": "twice", "reduce": "twice", "math": "twice"}
_NEVER = 12344.0
"""A value that results do not take: exact in float16 and bfloat16 alike."""


@dataclass(frozen=True)
class Site:
    """One call in one kernel that is timed as a region."""

    kernel: str
    kind: Kind
    line: int
    end_line: int
    column: int
    function: str
    """`load`, `sum`, …"""

    @property
    def name(self) -> str:
        """Return kernel, kind and line: `softmax.load@12`."""
        return f"{self.kernel}.{self.function}@{self.line}:{self.column}"


@dataclass(frozen=True)
class Variant:
    """The source with one region removed or done twice."""

    site: Site
    method: Method
    source: str


def find_sites(source: str) -> tuple[Site, ...]:
    """Return the regions in order of the source, at most `MAX_SITES`; empty where there is no Triton kernel.

    Raises:
        SyntaxError: The source is not Python.
    """
    found = [
        site for kernel in kernel_functions(ast.parse(source)) for node in ast.walk(kernel) if (site := _site(kernel, node)) is not None
    ]
    return tuple(sorted(found, key=lambda site: (site.line, site.column)))[:MAX_SITES]


def variants(source: str) -> tuple[Variant, ...]:
    """Return a variant for each region that a rewriting exists for.

    Raises:
        SyntaxError: The source is not Python.
    """
    found = []
    for site in find_sites(source):
        method = METHODS[site.kind]
        tree = _Rewritten(site, _REWRITE[site.kind]).visit(ast.parse(source))
        found.append(Variant(site, method, ast.unparse(ast.fix_missing_locations(tree)) + "\n"))
    return tuple(found)


def instrumented(source: str) -> str:
    """Return the source with each region's statement between marks of Proton's instrumentation backend.

    Raises:
        SyntaxError: The source is not Python.
    """
    tree = ast.parse(source)
    places = {(site.kernel, site.line, site.column): site for site in find_sites(source)}
    for kernel in kernel_functions(tree):
        _mark(kernel, kernel.name, places)
    head = ast.parse("import triton.profiler.language as kevolve_pl\nkevolve_pl.enable_semantic('triton')\n").body
    at = next((index for index, node in enumerate(tree.body) if not _comes_first(node, index)), 0)
    tree.body[at:at] = head
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _comes_first(node: ast.stmt, index: int) -> bool:
    is_docstring = index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def kernel_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the functions that Triton compiles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(mark).split("(")[0].split(".") for mark in node.decorator_list):
            yield node


def _site(kernel: ast.FunctionDef, node: ast.AST) -> Site | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name | ast.Attribute)):
        return None
    base = ast.unparse(node.func.value)
    kind = _KINDS.get(node.func.attr)
    if kind is None or base not in ("tl", "triton.language", "language", "tl.math", "libdevice") or not node.args:
        return None
    return Site(kernel.name, kind, node.lineno, node.end_lineno or node.lineno, node.col_offset, node.func.attr)


class _Rewritten(ast.NodeTransformer):
    def __init__(self, site: Site, rewrite: Callable[[ast.Call], ast.expr]) -> None:
        self._site = site
        self._rewrite = rewrite

    def visit_Call(self, node: ast.Call) -> ast.expr:  # the protocol of ast
        if (node.lineno, node.col_offset, node.end_lineno) == (self._site.line, self._site.column, self._site.end_line) and isinstance(node.func, ast.Attribute) and node.func.attr == self._site.function:  # fmt: skip
            return self._rewrite(node)
        self.generic_visit(node)
        return node


def _without_load(call: ast.Call) -> ast.expr:
    """The loaded value becomes a bit of the address, in the type of the data: addresses are still computed, nothing is read."""
    pointer = ast.unparse(call.args[0])
    return ast.parse(f"((({pointer}).to(tl.int64) & 1).to(({pointer}).dtype.element_ty))", mode="eval").body


def _without_store(call: ast.Call) -> ast.expr:
    """The mask becomes one that no value fulfils, which the compiler cannot know: the value is still computed."""
    changed = copy.deepcopy(call)
    value = (
        ast.unparse(call.args[1])
        if len(call.args) > 1
        else next((ast.unparse(item.value) for item in call.keywords if item.arg == "value"), "0")
    )
    never = f"(({value}) == {_NEVER})"
    given = (
        ast.unparse(call.args[2])
        if len(call.args) > 2
        else next((ast.unparse(item.value) for item in call.keywords if item.arg == "mask"), "")
    )
    mask = ast.parse(f"({given}) & {never}" if given and given != "None" else never, mode="eval").body
    changed.args = changed.args[:2]
    changed.keywords = [item for item in changed.keywords if item.arg != "mask"] + [ast.keyword("mask", mask)]
    return changed


def _dot_twice(call: ast.Call) -> ast.expr:
    """The product is added to itself: twice the matrix instructions, one after the other."""
    outer = copy.deepcopy(call)
    if len(outer.args) > 2:
        outer.args[2] = copy.deepcopy(call)
    else:
        outer.keywords = [item for item in outer.keywords if item.arg != "acc"] + [ast.keyword("acc", copy.deepcopy(call))]
    return outer


def _reduce_twice(call: ast.Call) -> ast.expr:
    """A second reduction over the same values leaves the result as it is: the largest of maximum and minimum, or a sum to which a maximum is added and subtracted again."""
    other = copy.deepcopy(call)
    if not isinstance(call.func, ast.Attribute) or not isinstance(other.func, ast.Attribute):
        return call
    base, function = ast.unparse(call.func.value), call.func.attr
    other.func.attr = "min" if function == "max" else "max"
    other.keywords = [item for item in other.keywords if item.arg in ("axis", "keep_dims")]
    first, second = ast.unparse(call), ast.unparse(other)
    pick = {"max": "maximum", "min": "minimum"}.get(function)
    return ast.parse(f"{base}.{pick}({first}, {second})" if pick else f"({first} + ({second} - {second}))", mode="eval").body


def _math_twice(call: ast.Call) -> ast.expr:
    """The function is applied again to a value that depends on the first application."""
    argument, text = ast.unparse(call.args[0]), ast.unparse(call)
    again = copy.deepcopy(call)
    again.args[0] = ast.parse(f"({text} * 0.0 + ({argument}))", mode="eval").body
    return again


_REWRITE: dict[Kind, Callable[[ast.Call], ast.expr]] = {
    "load": _without_load, "store": _without_store, "dot": _dot_twice, "reduce": _reduce_twice, "math": _math_twice,
}  # fmt: skip


def _mark(owner: ast.AST, kernel: str, places: dict[tuple[str, int, int], Site]) -> None:
    """Put marks around the simple statements that hold a region; blocks are entered."""
    for field in ("body", "orelse"):
        statements = getattr(owner, field, None)
        if not isinstance(statements, list):
            continue
        marked: list[ast.stmt] = []
        for statement in statements:
            if isinstance(statement, ast.For | ast.While | ast.If | ast.With):
                _mark(statement, kernel, places)
                marked.append(statement)
                continue
            name = next(
                (
                    site.name
                    for node in ast.walk(statement)
                    if isinstance(node, ast.Call) and (site := places.get((kernel, node.lineno, node.col_offset)))
                ),
                None,
            )
            if name is None or isinstance(statement, ast.Return):
                marked.append(statement)
            else:
                label = name.partition(".")[2]
                marked += [
                    *ast.parse(f"kevolve_pl.enter_scope({label!r})").body,
                    statement,
                    *ast.parse(f"kevolve_pl.exit_scope({label!r})").body,
                ]
        setattr(owner, field, marked)
