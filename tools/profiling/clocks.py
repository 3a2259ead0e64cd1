"""Regions between clock marks: variants of a Triton source in which each program reads its multiprocessor's clock around one region and around itself.

A kernel's body is cut into regions that leave nothing out: straight statements up to the next load, store, dot, reduction or function, and loops; the body of a loop is
cut once more. Each variant marks one region only, so that a pass disturbs little. The marks are instructions that the compiler may not drop or reorder among themselves,
but arithmetic may move across them, and a load's waiting time falls to the region that first needs the value.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.profiling.regions import find_sites, kernel_functions

SLOTS = 65536
"""Programs whose clocks are kept; later ones overwrite those of the same number modulo this."""
MAX_MARKED = 20
_HEAD = f"""
import torch as kevolve_torch

@triton.jit
def kevolve_clock():
    return tl.inline_asm_elementwise("mov.u64 $0, %clock64;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)

kevolve_held = []

def kevolve_buffer():
    if not kevolve_held:
        kevolve_held.append(kevolve_torch.zeros({2 * SLOTS}, dtype=kevolve_torch.int64, device="cuda"))
    return kevolve_held[0]
"""
_BEGIN = "kevolve_begin = kevolve_clock()\nkevolve_spent = kevolve_begin - kevolve_begin"
_END = f"""
kevolve_whole = kevolve_clock() - kevolve_begin
kevolve_slot = ((tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)) % {SLOTS}
tl.store(kevolve_marks + kevolve_slot * 2, kevolve_spent)
tl.store(kevolve_marks + kevolve_slot * 2 + 1, kevolve_whole)
"""


@dataclass(frozen=True)
class Place:
    """Statements of one block of a kernel that are timed as one region."""

    kernel: str
    block: tuple[int, ...]
    """Indices of the loops that lead to the block, from the kernel's body inwards; empty: the body itself."""
    first: int
    """Index of the first statement in its block."""
    last: int
    line: int
    end_line: int
    label: str
    """What stands out in it, with the line: `load@12`, `loop@15`, `rest@20`."""

    @property
    def is_outer(self) -> bool:
        """True if it is a part of the kernel's body: these regions add up to the kernel."""
        return not self.block


@dataclass(frozen=True)
class Marked:
    """A source with marks around one region, or around whole kernels only."""

    place: Place | None
    kernel: str
    source: str


def find_places(source: str) -> tuple[Place, ...]:
    """Return the regions of every launched kernel, outer ones first, at most `MAX_MARKED`.

    Raises:
        SyntaxError: The source is not Python.
    """
    tree = ast.parse(source)
    launched = {name for name, _ in _launches(tree)}
    named = {(site.kernel, site.line): site.function for site in reversed(find_sites(source))}
    found: list[Place] = []
    for kernel in kernel_functions(tree):
        if kernel.name in launched and not any(isinstance(node, ast.Return) for node in ast.walk(kernel)):
            found += _cut(kernel.name, kernel.body, (), named)
    return tuple(sorted(found, key=lambda place: len(place.block)))[:MAX_MARKED]


def marked_variants(source: str) -> tuple[Marked, ...]:
    """Return the variants: for each kernel one that marks it as a whole (the control), then one for each of its regions.

    Raises:
        SyntaxError: The source is not Python.
    """
    places = find_places(source)
    kernels = dict.fromkeys(place.kernel for place in places)
    whole = [Marked(None, kernel, _marked(source, kernel, None)) for kernel in kernels]
    return (*whole, *(Marked(place, place.kernel, _marked(source, place.kernel, place)) for place in places))


def _cut(kernel: str, body: Sequence[ast.stmt], block: tuple[int, ...], named: dict[tuple[str, int], str]) -> Iterator[Place]:
    first = 0
    inner: list[Place] = []

    def place(last: int, label: str) -> Place:
        line, end_line = body[first].lineno, body[last].end_lineno or body[last].lineno
        return Place(kernel, block, first, last, line, end_line, f"{label}@{line}")

    for index, statement in enumerate(body):
        if isinstance(statement, ast.For | ast.While):
            if first < index:
                yield place(index - 1, "rest")
                first = index
            yield place(index, "loop")
            first = index + 1
            inner += _cut(kernel, statement.body, (*block, index), named)
            continue
        label = next((named[kernel, node.lineno] for node in ast.walk(statement) if isinstance(node, ast.Call) and (kernel, node.lineno) in named), "")  # fmt: skip
        if label:
            yield place(index, label)
            first = index + 1
    if first < len(body):
        yield place(len(body) - 1, "rest")
    yield from inner


def _marked(source: str, kernel: str, place: Place | None) -> str:
    tree = ast.parse(source)
    function = next(node for node in kernel_functions(tree) if node.name == kernel)
    if place is not None:
        block = _block(function, place.block)
        block[place.first : place.last + 1] = [
            *ast.parse("kevolve_since = kevolve_clock()").body,
            *block[place.first : place.last + 1],
            *ast.parse("kevolve_spent += kevolve_clock() - kevolve_since").body,
        ]
    function.body = [*ast.parse(_BEGIN).body, *function.body, *ast.parse(_END).body]
    function.args.args.append(ast.arg("kevolve_marks"))
    function.args.defaults.append(ast.Constant(None))
    for name, call in _launches(tree):
        if name == kernel:
            call.keywords.append(ast.keyword("kevolve_marks", ast.parse("kevolve_buffer()", mode="eval").body))
    at = next(index for index, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    tree.body[at:at] = copy.deepcopy(ast.parse(_HEAD).body)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _block(function: ast.FunctionDef, path: tuple[int, ...]) -> list[ast.stmt]:
    block = function.body
    for index in path:
        loop = block[index]
        assert isinstance(loop, ast.For | ast.While)
        block = loop.body
    return block


def _launches(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of the form `kernel[grid](…)` with the kernel's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name):
            yield node.func.value.id, node
