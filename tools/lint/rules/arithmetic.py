"""Rules about dots, precision, dtypes, reductions and atomics."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.inference import Call
from tools.lint.module import Module
from tools.lint.operations import FLOAT_MATH
from tools.lint.rule import Context, Violation, rule
from tools.lint.values import DTYPES, FLOATS, INTEGERS, SHORT, Value

_DOCUMENT = "guide/lint-rules.md"
_DOT_DTYPES = frozenset(
    {"int8", "uint8", "float16", "bfloat16", "float32", "float64", *(name for name in FLOATS if name.startswith("float8"))}
)


def _operands(call: Call) -> tuple[Value, Value] | None:
    left, right = call.arguments.get("input"), call.arguments.get("other")
    return (left, right) if left is not None and right is not None else None


@rule(
    "L14",
    "`tl.dot` takes two blocks of rank 2 or 3 with one dtype and matching K",
    severity="error",
    why="The matrix unit multiplies M×K by K×N tiles of one type; integers only as int8.",
    fix="make both operands blocks of shape (M, K) and (K, N), and cast them to one dtype with `.to`",
    document=f"{_DOCUMENT}#l14",
)
def dot_operands(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on operands that Triton refuses."""
    for call in context.calls("dot"):
        pair = _operands(call)
        if pair is None:
            continue
        left, right = pair
        ranks = [len(side.shape) for side in pair if side.shape is not None]
        if any(rank not in (2, 3) for rank in ranks) or (len(ranks) == 2 and ranks[0] != ranks[1]):
            yield Violation(call.line, f"Both inputs must be either 2D or 3D; (lhs: {left.shape} vs rhs: {right.shape})")
            continue
        if (
            len(ranks) == 2
            and left.shape
            and right.shape
            and None not in (left.shape[-1], right.shape[-2])
            and left.shape[-1] != right.shape[-2]
        ):
            yield Violation(call.line, f"K of the first operand ({left.shape[-1]}) must equal K of the second ({right.shape[-2]})")
        dtypes = [side.dtype for side in pair if side.dtype is not None and side.kind == "number"]
        for dtype in dtypes:
            if dtype not in _DOT_DTYPES:
                yield Violation(
                    call.line,
                    f"Unsupported dtype {dtype} of a `tl.dot` operand",
                    fix="only int8 of the integers is supported: cast to it or to a float",
                )
        if len(dtypes) == 2 and dtypes[0] != dtypes[1] and not all(dtype.startswith("float8") for dtype in dtypes):
            yield Violation(call.line, f"Both operands must be same dtype. Got {_short(dtypes[0])} and {_short(dtypes[1])}")


def _short(dtype: str) -> str:
    return SHORT.get(dtype, dtype)


@rule(
    "L15",
    "`tl.dot` tiles are at least 16 wide in K, 32 for 8-bit types",
    severity="error",
    targets=("nvidia",),
    why="Smaller K does not fill one matrix instruction; Triton before 3.6 also asked for M and N of at least 16.",
    fix="use K >= 16 (32 for 8-bit types) and M, N >= 16, padding with zeros; for a few rows write a product and `tl.sum` instead",
    document=f"{_DOCUMENT}#l15",
)
def dot_minimum(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on K below the minimum (error) and on M or N below 16 (warning)."""
    for call in context.calls("dot"):
        pair = _operands(call)
        if pair is None or not pair[0].shape or not pair[1].shape or len(pair[0].shape) < 2 or len(pair[1].shape) < 2:
            continue
        (m, k), n = pair[0].shape[-2:], pair[1].shape[-1]
        width = DTYPES.get(pair[0].dtype or "", 16)
        least = 32 if width == 8 else 16
        k = k if k is not None else pair[1].shape[-2]
        if k is not None and k < least:
            yield Violation(call.line, f"Input shapes should have M >= 1, N >= 1 and K >= {least}, got K = {k}")
        elif any(extent is not None and extent < 16 for extent in (m, n)):
            yield Violation(
                call.line,
                f"M = {m}, N = {n}: tiles under 16 waste most of the matrix unit and are refused by Triton before 3.6",
                severity="warning",
            )


@rule(
    "L16",
    "`tl.dot` does not accumulate in bfloat16",
    severity="error",
    why="The matrix units accumulate in float32 (or float16).",
    fix="leave out_dtype at float32 and cast the result with `.to(tl.bfloat16)`",
    document=f"{_DOCUMENT}#l16",
)
def bfloat16_accumulator(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `out_dtype=tl.bfloat16`."""
    for call in context.calls("dot"):
        out = call.arguments.get("out_dtype")
        if out is not None and out.kind == "dtype" and out.dtype == "bfloat16":
            yield Violation(call.line, "out_dtype=bfloat16 is unsupported")


@rule(
    "L17",
    "The accumulator of `tl.dot` has the result's shape and dtype",
    severity="error",
    why="The accumulator is updated in place by the matrix unit.",
    fix="start it as `tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)` and pass the same dtype as out_dtype",
    document=f"{_DOCUMENT}#l17",
)
def dot_accumulator(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where shape or dtype of `acc` differ from the result's."""
    for call in context.calls("dot"):
        acc, out, pair = call.argument("acc"), call.arguments.get("out_dtype"), _operands(call)
        if acc is None or pair is None:
            continue
        expected = out.dtype if out is not None and out.kind == "dtype" else "float32" if out is None else None
        is_integer = pair[0].dtype in INTEGERS or pair[0].dtype is None
        if acc.dtype is not None and expected is not None and acc.dtype != expected and not (is_integer and acc.dtype == "int32"):
            yield Violation(call.line, f"the accumulator is {_short(acc.dtype)}, the result {_short(expected)}")
        shape = call.result.shape
        if acc.shape is not None and shape is not None:
            differs = len(acc.shape) != len(shape) or any(None not in (a, b) and a != b for a, b in zip(acc.shape, shape, strict=False))
            if differs:
                yield Violation(call.line, f"the accumulator has shape {acc.shape}, the result {shape}")


@rule(
    "L18",
    "A float32 `tl.dot` says which precision it wants",
    severity="warning",
    targets=("nvidia", "amd"),
    why="NVIDIA multiplies float32 as tf32 (10-bit mantissa) by default, AMD as IEEE float32: the same source gives different results.",
    fix='pass `input_precision="ieee"` for float32 accuracy, `"tf32"` for speed, `"tf32x3"` between the two',
    document=f"{_DOCUMENT}#l18",
)
def float32_dot(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on float32 operands without `input_precision`."""
    for call in context.calls("dot"):
        pair = _operands(call)
        if (
            pair
            and pair[0].dtype == pair[1].dtype == "float32"
            and call.argument("input_precision") is None
            and call.argument("allow_tf32") is None
        ):
            yield Violation(call.line, "a float32 `tl.dot` without input_precision uses tf32 on NVIDIA and IEEE on AMD")


_PRECISIONS = {
    "nvidia": ("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6"),
    "gfx942": ("tf32", "ieee", "bf16x3", "bf16x6"),
    "gfx950": ("ieee", "bf16x3", "bf16x6"),
}


@rule(
    "L46",
    "`input_precision` is one that the target's compiler takes",
    severity="error",
    targets=("nvidia", "amd"),
    why="Each backend has its list: tf32x3 is NVIDIA's, and gfx950 has no tf32 at all (gfx942 has xf32).",
    fix='use "ieee", or "bf16x3" and "bf16x6", which every backend takes; choose by target where tf32 matters',
    document=f"{_DOCUMENT}#l46",
)
def dot_precision(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on a literal precision that the target refuses."""
    allowed = next((names for chip, names in _PRECISIONS.items() if chip in context.lineage), None)
    for call in context.calls("dot"):
        precision = call.argument("input_precision")
        if allowed and precision is not None and isinstance(precision.const, str) and precision.const.lower() not in allowed:
            yield Violation(call.line, f"input_precision must be one of {allowed}. Got {precision.const}")


@rule(
    "L19",
    "`allow_tf32` is deprecated",
    severity="warning",
    why="It was replaced by input_precision, which names the precision.",
    fix='write `input_precision="tf32"` or `"ieee"`',
    document=f"{_DOCUMENT}#l19",
)
def allow_tf32(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `allow_tf32=` in `tl.dot`."""
    for call in context.calls("dot"):
        if call.argument("allow_tf32") is not None:
            yield Violation(call.line, "`allow_tf32` is deprecated")


@rule(
    "L20",
    "Sums are kept in float32",
    severity="warning",
    why="A float16 sum has 11 bits of mantissa: after 2,048 equal terms it stops growing.",
    fix="accumulate in float32 and cast once at the store",
    document=f"{_DOCUMENT}#l20",
)
def half_accumulator(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on float16 accumulators of dots and on sums of half-precision blocks."""
    for call in context.calls("dot"):
        out = call.arguments.get("out_dtype")
        if out is not None and out.kind == "dtype" and out.dtype == "float16":
            yield Violation(call.line, "`tl.dot` accumulates in float16")
    for call in context.calls("sum", ".sum", "cumsum", ".cumsum"):
        value = call.arguments.get("input")
        if value is not None and value.kind == "number" and value.dtype in ("float16", "bfloat16"):
            yield Violation(call.line, f"`tl.{call.name.lstrip('.')}` of a {value.dtype} block accumulates in half precision")


_FLOAT8_HOMES = {
    "float8e4nv": ("sm_90", "sm_100", "gfx950"),
    "float8e5": ("sm_90", "sm_100", "gfx950"),
    "float8e4b8": ("gfx942",),
    "float8e5b16": ("gfx942",),
    "float8e4b15": ("sm_80",),
}


@rule(
    "L21",
    "The float8 encoding is one that the chip has",
    severity="warning",
    targets=("nvidia", "amd"),
    why="Each chip multiplies one family of encodings (OCP on sm_90, sm_100 and gfx950; FNUZ on gfx942); others are converted first, or refused.",
    fix="use float8e4nv and float8e5 on sm_90, sm_100 and gfx950, float8e4b8 and float8e5b16 on gfx942, 16-bit types on sm_80",
    document=f"{_DOCUMENT}#l21",
)
def float8_encoding(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on encodings that are foreign to the target."""
    for trace in context.traces:
        for node in ast.walk(trace.kernel.node):
            if not isinstance(node, ast.Attribute):
                continue
            name = module.dotted(node).removeprefix("triton.language.")
            if name in _FLOAT8_HOMES and not any(chip in _FLOAT8_HOMES[name] for chip in context.lineage):
                yield Violation(node.lineno, f"{name} is not native on {context.target}")


@rule(
    "L22",
    "Transcendental functions take float32 or float64",
    severity="error",
    why="Triton's math functions have no half-precision form; an argument of another type is refused.",
    fix="cast first: `tl.exp(x.to(tl.float32))`",
    document=f"{_DOCUMENT}#l22",
)
def float_math(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.exp` of a half or integer block."""
    for call in context.calls(*FLOAT_MATH, *(f".{name}" for name in FLOAT_MATH)):
        value = call.arguments.get("x")
        if call.name.lstrip(".") == "sigmoid" and value is not None and value.dtype in INTEGERS:
            continue
        if value is not None and value.is_block and value.dtype is not None and value.dtype not in ("float32", "float64"):
            yield Violation(call.line, f"`tl.{call.name.lstrip('.')}`: Expected dtype ['fp32', 'fp64'] but got {_short(value.dtype)}")


@rule(
    "L23",
    "Atomics support few dtypes",
    severity="error",
    why="The hardware has compare-and-swap for 16, 32 and 64 bits, add for half types, and the rest for 32 and 64 bits.",
    fix="accumulate in a float32 or int32 buffer",
    document=f"{_DOCUMENT}#l23",
)
def atomic_dtype(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where the pointer's dtype is known and not supported."""
    for call in context.calls(*_ATOMICS):
        pointer = call.arguments.get("pointer")
        if pointer is None or pointer.kind != "pointer" or pointer.dtype is None:
            continue
        if call.name == "atomic_cas":
            if DTYPES[pointer.dtype] not in (16, 32, 64):
                yield Violation(call.line, "atomic_cas only supports elements with width {16, 32, 64}")
        elif (
            (pointer.dtype in ("float16", "bfloat16") and call.name != "atomic_add")
            or pointer.dtype in ("int16", "uint16")
            or DTYPES[pointer.dtype] < 16
        ):
            yield Violation(call.line, f"{call.name} does not support {_short(pointer.dtype)}")


_ATOMICS = tuple(f"atomic_{name}" for name in ("add", "max", "min", "xchg", "cas", "and", "or", "xor"))


@rule(
    "L24",
    "Atomic sums depend on the order of programs",
    severity="warning",
    targets=("nvidia", "amd", "cpu"),
    why="Floating-point addition is not associative and programs finish in any order; the default also orders memory (acq_rel), which costs time.",
    fix='reduce in two passes for a repeatable result, or accept it and pass `sem="relaxed"`',
    document=f"{_DOCUMENT}#l24",
)
def atomic_order(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on atomic adds with the default memory order."""
    for call in context.calls("atomic_add"):
        if call.argument("sem") is None:
            yield Violation(call.line, "`tl.atomic_add` with the default acq_rel order; a float sum is not repeatable")


@rule(
    "L26",
    "Combine functions are `@triton.jit` and associative",
    severity="error",
    why="The combine function is compiled into the kernel and applied in an order that depends on the layout.",
    fix="decorate it with `@triton.jit` and use an associative operation",
    document=f"{_DOCUMENT}#l26",
)
def combine_function(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on a lambda or plain function (error) and on one that subtracts or divides its arguments (warning)."""
    plain = {node.name for node in module.tree.body if isinstance(node, ast.FunctionDef) and node.name not in module.kernels}
    for call in context.calls("reduce", "associative_scan"):
        node = next(
            (keyword.value for keyword in call.node.keywords if keyword.arg == "combine_fn"),
            call.node.args[2] if len(call.node.args) > 2 else None,
        )
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.Name) and node.id in plain):
            yield Violation(call.line, "the combine function is not decorated with `@triton.jit`")
        elif isinstance(node, ast.Name) and node.id in module.kernels and _subtracts(module.kernels[node.id].node):
            yield Violation(call.line, f"{node.id} subtracts or divides its arguments: not associative", severity="warning")


def _subtracts(node: ast.FunctionDef) -> bool:
    returned = [item.value for item in ast.walk(node) if isinstance(item, ast.Return)]
    return any(isinstance(value, ast.BinOp) and isinstance(value.op, ast.Sub | ast.Div) for value in returned)


@rule(
    "L27",
    "`histogram` takes 1-D integers, `split` a last dimension of 2, `cat` may reorder",
    severity="error",
    why="These operations exist for one shape each; `cat` promises no order of elements in some versions.",
    fix="reshape first; use `tl.join`, `tl.permute` and `tl.reshape` where the order matters",
    document=f"{_DOCUMENT}#l27",
)
def special_shapes(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on shapes and dtypes that these operations refuse."""
    for call in context.calls("histogram"):
        value = call.arguments.get("input")
        if value is not None and ((value.shape is not None and len(value.shape) != 1) or value.dtype in FLOATS):
            yield Violation(call.line, "histogram only supports 1D integer input")
    for call in context.calls("split", ".split"):
        value = call.arguments.get("a")
        if value is not None and value.shape and value.shape[-1] not in (None, 2):
            yield Violation(call.line, f"split needs a last dimension of 2, got {value.shape[-1]}")
    for call in context.calls("cat"):
        yield Violation(call.line, "`tl.cat` may reorder elements", severity="warning")


@rule(
    "L29",
    "Floats are clamped before they become integers",
    severity="warning",
    why="A float outside the integer's range converts to a value that differs between chips.",
    fix="clamp to the integer's range first",
    document=f"{_DOCUMENT}#l29",
)
def float_to_integer(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `.to(tl.int8)` of a float that is not bounded right before."""
    for call in context.calls("to", ".to", "cast"):
        value, dtype = call.arguments.get("input"), call.arguments.get("dtype")
        narrow = dtype is not None and dtype.kind == "dtype" and dtype.dtype in ("int8", "uint8", "int16", "uint16")
        if narrow and value is not None and value.kind == "number" and value.dtype in FLOATS and not _is_bounded(call.node):
            yield Violation(call.line, f"float to {dtype.dtype if dtype else ''} conversion is undefined out of range")


def _is_bounded(node: ast.Call) -> bool:
    names = {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}
    return bool(names & {"clamp", "minimum", "maximum", "min", "max", "sigmoid"})


@rule(
    "L42",
    "libdevice functions are looked up in tables on MTIA",
    severity="warning",
    targets=("mtia",),
    why="They run on the special function unit with a lookup table: faster and less accurate, and the interpreter cannot run them.",
    fix="check values against a float32 reference with the tolerance that the problem states",
    document=f"{_DOCUMENT}#l42",
)
def libdevice(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on calls of libdevice."""
    for trace in context.traces:
        for call in trace.calls:
            if "libdevice." in call.name or module.dotted(call.node.func).startswith("triton.language.extra"):
                yield Violation(call.line, f"{call.name.split('.')[-1]} uses the special function unit's lookup table")
