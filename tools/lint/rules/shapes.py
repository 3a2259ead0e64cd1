"""Rules about block shapes, program ids and control flow."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.inference import Call
from tools.lint.module import Module
from tools.lint.operations import dimensions
from tools.lint.rule import Context, Violation, rule

MAX_NUMEL = 1_048_576
"""Triton's TRITON_MAX_TENSOR_NUMEL: elements of one block."""
_DOCUMENT = "guide/lint-rules.md"


def _block_shapes(context: Context) -> Iterator[tuple[Call, tuple[int | None, ...]]]:
    for call in context.calls(
        "zeros", "full", "reshape", ".reshape", "view", ".view", "broadcast_to", ".broadcast_to", "make_block_ptr", "make_tensor_descriptor"
    ):
        shape = dimensions(call.arguments.get("block_shape") or call.arguments.get("shape"))
        if call.name in ("make_block_ptr", "make_tensor_descriptor"):
            shape = dimensions(call.arguments.get("block_shape"))
        if shape is not None:
            yield call, shape


@rule(
    "L01",
    "Block dimensions are powers of two, at most 1,048,576 elements together",
    severity="error",
    why="Triton distributes a block over threads by halving; any other extent is refused, and so are blocks of more than TRITON_MAX_TENSOR_NUMEL elements.",
    fix="round the extent up with `triton.next_power_of_2` on the host, and mask the lanes beyond the end",
    document=f"{_DOCUMENT}#l01",
)
def block_dimensions(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.zeros([100], …)` and on blocks that are too large."""
    for call, shape in _block_shapes(context):
        for index, extent in enumerate(shape):
            if extent is not None and (extent < 1 or extent & (extent - 1)):
                yield Violation(call.line, f"Shape element {index} must be a power of 2, got {extent} in `tl.{call.name.lstrip('.')}`")
        yield from _too_large(call.line, shape)
    for call in context.calls("arange"):
        if call.result.shape and call.result.shape[0]:
            yield from _too_large(call.line, call.result.shape)


def _too_large(line: int, shape: tuple[int | None, ...]) -> Iterator[Violation]:
    numel = 1
    for extent in shape:
        numel *= extent or 1
    if numel > MAX_NUMEL:
        fix = "loop over smaller blocks inside the program, or start more programs"
        yield Violation(line, f"numel ({numel}) exceeds triton maximum tensor numel ({MAX_NUMEL})", fix=fix)


@rule(
    "L02",
    "`tl.arange` takes compile-time bounds whose difference is a power of two",
    severity="error",
    why="The extent of a range is a block dimension: it must be known when the kernel is compiled and be a power of two that fits int32.",
    fix="make the extent a `tl.constexpr` parameter that the host rounds up to a power of two, and mask with `offsets < n`",
    document=f"{_DOCUMENT}#l02",
)
def arange_bounds(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.arange(0, 100)`, `tl.arange(8, 8)` and on bounds that come from the launch's data."""
    for call in context.calls("arange"):
        start, end = call.arguments.get("start"), call.arguments.get("end")
        if start is None or end is None:
            continue
        if start.is_static is False or end.is_static is False:
            yield Violation(call.line, "arange's arguments must be of type tl.constexpr")
        elif start.integer is not None and end.integer is not None:
            extent = end.integer - start.integer
            if end.integer >= 2**31:
                yield Violation(call.line, "arange must fit in int32")
            elif extent <= 0:
                yield Violation(call.line, "arange's end argument must be greater than the start argument", fix="swap the bounds")
            elif extent & (extent - 1):
                yield Violation(call.line, f"arange's range must be a power of 2, got {extent}")


@rule(
    "L03",
    "Grid axes are 0, 1 and 2",
    severity="error",
    why="A grid has three axes.",
    fix="fold the further dimensions into one axis on the host and take them apart with `//` and `%`",
    document=f"{_DOCUMENT}#l03",
)
def grid_axis(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.program_id(3)`."""
    for call in context.calls("program_id", "num_programs"):
        axis = call.arguments.get("axis")
        if axis is not None and axis.integer is not None and axis.integer not in (0, 1, 2):
            yield Violation(call.line, f"{call.name} axis must be 0, 1, or 2 but got {axis.integer}")


@rule(
    "L30",
    "A variable exists with one type on every path",
    severity="error",
    why="Branches and loops that remain in the compiled kernel carry values with one fixed type; a name bound on one path only, or in a loop only, does not exist after it.",
    fix="give the variable its final shape and dtype before the branch or loop, for example `acc = tl.zeros([BLOCK], dtype=tl.float32)`",
    document=f"{_DOCUMENT}#l30",
)
def one_type(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on names bound in one branch of a runtime condition or in a loop only, and on scalars that become blocks in a loop."""
    for trace in context.traces:
        for issue in trace.issues:
            if issue.kind == "undefined":
                place = "inside a loop" if issue.detail == "loop" else "in one branch of a runtime condition"
                yield Violation(issue.line, f"{issue.name} is not defined on every path: it is bound only {place}")
            elif issue.kind == "loop_type":
                yield Violation(issue.line, f"Loop-carried variable {issue.name} changes its type: {issue.detail}")


@rule(
    "L45",
    "Kernels read module-level values only if they are `tl.constexpr`",
    severity="error",
    why="Triton compiles the value in; a plain Python global could change unnoticed, so it is refused.",
    fix="write `NAME = tl.constexpr(value)` at module level, or pass it as a `tl.constexpr` parameter",
    document=f"{_DOCUMENT}#l45",
)
def plain_globals(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on a kernel that reads `N = 128` from the module."""
    for trace in context.traces:
        for issue in trace.issues:
            if issue.kind == "global":
                yield Violation(
                    issue.line, f"Cannot access global variable {issue.name} from within @jit'ed function: it is not a constexpr"
                )


@rule(
    "L28",
    "`//` and `%` of runtime integers truncate towards zero",
    severity="warning",
    why="Triton follows C: -1 // 4 is 0 and -1 % 4 is -1, where Python gives -1 and 3.",
    fix="keep the left operand non-negative, for example `(i - k + n) % n`",
    document=f"{_DOCUMENT}#l28",
)
def truncating_division(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where a difference is divided or taken modulo."""
    for trace in context.traces:
        for operation in trace.operations:
            is_integer = operation.left.dtype not in ("float64", "float32", "float16", "bfloat16")
            is_runtime = operation.left.is_static is False
            is_difference = isinstance(operation.node.left, ast.BinOp) and isinstance(operation.node.left.op, ast.Sub)
            if operation.operator in ("FloorDiv", "Mod") and is_integer and is_runtime and is_difference:
                sign = "//" if operation.operator == "FloorDiv" else "%"
                yield Violation(operation.node.lineno, f"`{sign}` of a difference that may be negative truncates towards zero")


@rule(
    "L40",
    "Short loops with a fixed trip count are unrolled with `tl.static_range`",
    severity="performance",
    why="A loop that stays a loop costs a branch and a dependency per trip and hides constants from the compiler.",
    fix="write `for i in tl.static_range(n)`",
    document=f"{_DOCUMENT}#l40",
)
def short_loop(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `for i in range(4)` in a kernel."""
    for trace in context.traces:
        for node in ast.walk(trace.kernel.node):
            if (
                isinstance(node, ast.For)
                and isinstance(node.iter, ast.Call)
                and isinstance(node.iter.func, ast.Name)
                and node.iter.func.id == "range"
            ):
                bounds = [item.value for item in node.iter.args if isinstance(item, ast.Constant)]
                if len(bounds) == len(node.iter.args) == 1 and isinstance(bounds[0], int) and bounds[0] <= 8:
                    yield Violation(node.lineno, f"the loop runs {bounds[0]} times, always")
