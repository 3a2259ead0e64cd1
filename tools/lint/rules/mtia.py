"""Rules of Triton on MTIA, from public papers and the skips of public test suites. They reject what Triton-MTIA is reported to reject."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.inference import Call, Trace
from tools.lint.module import Module
from tools.lint.rule import Context, Violation, rule
from tools.lint.values import DTYPES, Value

_DOCUMENT = "guide/lint-rules.md"
_MTIA = ("mtia",)
_WIDEST = 8
"""Bytes of the widest element: what is misaligned for it is misaligned for every dtype of a power-of-two size."""
_IGNORED = ("num_warps", "num_stages", "num_ctas", "waves_per_eu", "matrix_instr_nonkdim", "kpack", "maxnreg")


def _bytes(value: Value) -> int | None:
    return DTYPES[value.dtype] // 8 if value.dtype is not None and value.kind in ("pointer", "number") else None


def _misaligned(elements: int, value: Value, alignment: int) -> bool:
    """Tell whether a distance in elements is proven not to be a multiple of the alignment."""
    width = _bytes(value)
    return elements * (width if width is not None else _WIDEST) % alignment != 0


def _pointer(call: Call) -> Value | None:
    pointer = call.arguments.get("pointer")
    return pointer if pointer is not None and pointer.kind not in ("descriptor", "block_pointer") else None


def _marked(value: Value, mark: str) -> list[int]:
    return sorted(int(trait.partition(":")[2]) for trait in value.traits if trait.startswith(f"{mark}:"))


@rule(
    "L25",
    "Atomics are not part of Triton on MTIA",
    severity="warning",
    targets=_MTIA,
    why="Atomics were unsupported in public test runs of December 2025; triton-shared gained a lowering in 2026, which says nothing about the chip's compiler.",
    fix="write partial results per program and reduce them in a second kernel",
    document=f"{_DOCUMENT}#l25",
)
def atomics(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on every atomic."""
    for trace in context.traces:
        for call in trace.calls:
            if call.name.startswith("atomic_"):
                yield Violation(call.line, f"`tl.{call.name}` is reported as unsupported")


@rule(
    "M01",
    "Every row that is loaded or stored starts at a multiple of 32 bytes",
    severity="error",
    targets=_MTIA,
    why="A misaligned DMA stops the processing element.",
    fix="pad the inner dimension to a multiple of 32 bytes and mask, or load an aligned tile and shift inside it",
    document=f"{_DOCUMENT}#m01",
)
def alignment(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on steps and constant offsets that cannot be multiples of 32 bytes."""
    boundary = int(context.limit("dma_alignment_bytes") or 32)
    for call in context.calls("load", "store"):
        pointer = _pointer(call)
        if pointer is None or not pointer.is_block:
            continue
        for step in _marked(pointer, "step"):
            if step and _misaligned(step, pointer, boundary):
                yield Violation(
                    call.line,
                    f"`tl.{call.name}`: a row step of {step} elements is not a multiple of {boundary} bytes",
                    fix=_aligned(boundary),
                )
        for offset in _marked(pointer, "offset"):
            if _misaligned(offset, pointer, boundary):
                yield Violation(
                    call.line,
                    f"`tl.{call.name}`: an offset of {offset} elements is not a multiple of {boundary} bytes",
                    fix=_aligned(boundary),
                )


def _aligned(boundary: int) -> str:
    return f"pad the inner dimension to a multiple of {boundary} bytes and mask, or load an aligned tile and shift inside it"


@rule(
    "M02",
    "Stores are contiguous tiles, not scatters",
    severity="error",
    targets=_MTIA,
    why="Scatter stores are switched off in the compiler.",
    fix="sort or segment first and store contiguous tiles, or write a dense intermediate",
    document=f"{_DOCUMENT}#m02",
)
def scatter_store(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where the address of a store depends on loaded values."""
    for call in context.calls("store"):
        pointer = _pointer(call)
        if pointer is not None and pointer.has("loaded") and pointer.is_block:
            yield Violation(call.line, "the addresses of this store are loaded values")


@rule(
    "M03",
    "A kernel has at most 14 load and store sites after unrolling",
    severity="error",
    targets=_MTIA,
    why="Each site takes a circular buffer of local memory, of which there are 14.",
    fix="merge loads, keep a loop instead of unrolling it, or split the kernel",
    document=f"{_DOCUMENT}#m03",
)
def circular_buffers(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on kernels with more sites than circular buffers."""
    most = int(context.limit("max_circular_buffers") or 14)
    for trace in context.traces:
        sites = sum(call.copies for call in _sites(trace))
        if sites > most:
            yield Violation(
                trace.kernel.node.lineno, f"{trace.kernel.name} has {sites} load and store sites after unrolling, at most {most}"
            )


def _sites(trace: Trace) -> list[Call]:
    return [call for call in trace.calls if call.name in ("load", "store", ".load", ".store")]


@rule(
    "M04",
    "Tiles fit the local memory of one processing element",
    severity="error",
    targets=_MTIA,
    why="Circular buffers, one per load or store site and as deep as `cb_multiplier` says, share the local memory with the accumulators.",
    fix="use smaller blocks, fewer sites or a smaller cb_multiplier",
    document=f"{_DOCUMENT}#m04",
)
def local_memory(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where the tiles do not fit once (error), or not with double buffering (warning)."""
    most = context.limit("local_memory_bytes")
    if most is None:
        return
    for trace in context.traces:
        tiles = sum(_tile_bytes(call) * call.copies for call in _sites(trace))
        accumulators = sum(_shape_bytes(call.result, 4) for call in trace.named("dot"))
        if tiles + accumulators > most:
            yield Violation(
                trace.kernel.node.lineno,
                f"{trace.kernel.name} needs at least {tiles + accumulators:,} bytes of local memory, {context.target} has {int(most):,}",
            )
        elif 2 * tiles + accumulators > most:
            message = f"{trace.kernel.name} needs {2 * tiles + accumulators:,} bytes with double buffering, {context.target} has {int(most):,}: transfers will not overlap"
            yield Violation(trace.kernel.node.lineno, message, severity="warning")


def _tile_bytes(call: Call) -> int:
    value = call.result if call.name.endswith("load") else call.arguments.get("pointer")
    return _shape_bytes(value, 1) if value is not None else 0


def _shape_bytes(value: Value, least: int) -> int:
    if value.shape is None:
        return 0
    count = 1
    for extent in value.shape:
        count *= extent or 1
    return count * (_bytes(value) or least)


@rule(
    "M05",
    "The accumulator's rows are at least 128 bytes",
    severity="error",
    targets=_MTIA,
    why="The dot product engine reads its initial value with a stride of at least 128 bytes.",
    fix="use BLOCK_N >= 32 for a float32 accumulator",
    document=f"{_DOCUMENT}#m05",
)
def accumulator_stride(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on dots whose result has narrow rows."""
    least = int(context.limit("min_accumulator_stride_bytes") or 128)
    for call in context.calls("dot"):
        shape = call.result.shape
        if shape and shape[-1] is not None and shape[-1] * (_bytes(call.result) or 4) < least:
            yield Violation(call.line, f"accumulator rows of {shape[-1]} elements are shorter than {least} bytes")


@rule(
    "M06",
    "Dots are two-dimensional",
    severity="error",
    targets=_MTIA,
    why="There is no pattern for batched dots.",
    fix="loop over the batch, or give it a grid axis",
    document=f"{_DOCUMENT}#m06",
)
def batched_dot(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on 3-D operands."""
    for call in context.calls("dot"):
        operand = call.arguments.get("input")
        if operand is not None and operand.shape is not None and len(operand.shape) == 3:
            yield Violation(call.line, "the operands of `tl.dot` have three dimensions")


@rule(
    "M07",
    "Ranges are not wrapped with `%`",
    severity="error",
    targets=_MTIA,
    why="Addresses must be base + stride × range; a wrapped range is not one DMA.",
    fix="mask the lanes beyond the end instead of wrapping them; `%` of a scalar program id is fine",
    document=f"{_DOCUMENT}#m07",
)
def wrapped_range(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `(… + tl.arange(…)) % n`."""
    for trace in context.traces:
        for operation in trace.operations:
            if operation.operator == "Mod" and operation.left.has("arange") and not operation.left.has("loaded"):
                yield Violation(operation.node.lineno, "`%` of a range wraps addresses")


@rule(
    "M08",
    "At most one dimension is gathered, by a one-dimensional offset",
    severity="error",
    targets=_MTIA,
    why="The indexed DMA takes one list of row indices.",
    fix="gather rows with a 1-D index and a contiguous second dimension, or compute a linear index over one dimension",
    document=f"{_DOCUMENT}#m08",
)
def gathers(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on 2-D index blocks and on two gathered dimensions."""
    for call in context.calls("load"):
        pointer = _pointer(call)
        if pointer is None or not pointer.has("loaded"):
            continue
        if pointer.has("loaded_nd"):
            yield Violation(call.line, "the offsets are a loaded block of two or more dimensions")
        elif len(_marked(pointer, "gather")) > 1:
            yield Violation(call.line, "two dimensions are gathered")


@rule(
    "M09",
    "`other` is a scalar",
    severity="error",
    targets=_MTIA,
    why="A masked DMA fills with one value.",
    fix="pass a scalar `other` and select with arithmetic afterwards",
    document=f"{_DOCUMENT}#m09",
)
def block_other(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on a block passed as `other`."""
    for call in context.calls("load"):
        other = call.argument("other")
        if other is not None and other.is_block:
            yield Violation(call.line, "`other` is a block")


@rule(
    "M10",
    "Masks compare ranges with scalars",
    severity="error",
    targets=_MTIA,
    why="A mask becomes the extent of a DMA; one that depends on loaded values has no extent. It is possible only on the gathered dimension.",
    fix="load the whole tile and multiply by the condition afterwards",
    document=f"{_DOCUMENT}#m10",
)
def unstructured_mask(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on masks that depend on loaded values where the address does not."""
    for call in context.calls("load", "store"):
        mask, pointer = call.argument("mask"), _pointer(call)
        if mask is not None and mask.is_block and mask.has("loaded") and pointer is not None and not pointer.has("loaded"):
            yield Violation(call.line, f"the mask of `tl.{call.name}` depends on loaded values")


@rule(
    "M11",
    "`tl.where` stays out of loops that are not unrolled",
    severity="error",
    targets=_MTIA,
    why="It fails to compile there in a published case study; the same paper uses it in an unrolled loop.",
    fix="multiply by `(condition).to(tl.float32)`, or unroll with `tl.static_range`",
    document=f"{_DOCUMENT}#m11",
)
def where_in_loop(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.where` inside a loop that stays a loop."""
    for call in context.calls("where"):
        if call.is_in_loop:
            yield Violation(call.line, "`tl.where` in a loop that is not unrolled")


_REFUSED = {"inline_asm_elementwise": "inline assembly", "extra.libdevice.log1p": "log1p", "extra.cuda.libdevice.log1p": "log1p"}
_DOUBTFUL = {
    "rand": "random bits differ from Philox on GPUs",
    "randn": "random bits differ from Philox on GPUs",
    "randint": "random bits differ from Philox on GPUs",
    "associative_scan": "scans were unsupported in December 2025",
    "cumsum": "scans were unsupported in December 2025",
    "cumprod": "scans were unsupported in December 2025",
    "make_tensor_descriptor": "descriptors were unsupported in December 2025",
    "device_print": "device prints were unsupported in December 2025",
    "join": "join and split were unsupported in December 2025",
    "split": "join and split were unsupported in December 2025",
}


@rule(
    "M12",
    "Only functions that the compiler's allow-list has",
    severity="error",
    targets=_MTIA,
    why="The backend accepts a list of about two hundred functions; log1p, inline assembly, float64 and complex numbers are not among them.",
    fix="write the function with exp, log and arithmetic in float32",
    document=f"{_DOCUMENT}#m12",
)
def allow_list(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on functions known to be refused (error) and on those of doubtful support (warning)."""
    for trace in context.traces:
        for call in trace.calls:
            if call.name in _REFUSED or call.name.endswith("libdevice.log1p"):
                yield Violation(call.line, f"{_REFUSED.get(call.name, 'log1p')} is not in the allow-list")
            elif call.name in _DOUBTFUL:
                yield Violation(call.line, f"`tl.{call.name}`: {_DOUBTFUL[call.name]}", severity="warning")
        for node in ast.walk(trace.kernel.node):
            if isinstance(node, ast.Attribute) and module.dotted(node) == "triton.language.float64":
                yield Violation(node.lineno, "float64 is not in the allow-list")


@rule(
    "M13",
    "GPU launch options have no meaning",
    severity="warning",
    targets=_MTIA,
    why="There are no warps; the compiler drops the options.",
    fix="tune BLOCK sizes, `cb_multiplier` (1 to 8) and `use_dual_core` instead",
    document=f"{_DOCUMENT}#m13",
)
def ignored_options(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on num_warps and the like at launches and in `triton.Config`."""
    launches = {id(launch.call) for launch in module.launches}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (id(node) in launches or module.dotted(node.func).endswith("triton.Config")):
            ignored = [keyword.arg for keyword in node.keywords if keyword.arg in _IGNORED]
            if ignored:
                yield Violation(
                    node.lineno,
                    f"{', '.join(map(str, ignored))} has no meaning on {context.target} and is ignored",
                    fix=None if "mtia" in context.lineage else "tune BLOCK sizes instead",
                )


def crowded_wave(programs: int, elements: int) -> bool:
    """Tell whether a grid runs a last wave that is nearly empty: up to 16 programs beyond a multiple of the processing elements."""
    return programs > elements and 0 < programs % elements <= 16


@rule(
    "M14",
    "The number of programs is a multiple of the processing elements, or clearly below one wave",
    severity="performance",
    targets=_MTIA,
    why="Programs run in waves of one per processing element: one program more than a wave takes as long as a whole further wave.",
    fix="choose the block so that the grid is a multiple of the processing elements, or loop over tiles inside as many programs as there are elements",
    document=f"{_DOCUMENT}#m14",
)
def wave_count(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on literal grids with a nearly empty last wave; recorded launches are checked by `tools.compile.legality`."""
    elements = int(context.limit("processing_elements") or 64)
    for launch in module.launches:
        sizes = [item.value for item in launch.grid.elts if isinstance(item, ast.Constant)] if isinstance(launch.grid, ast.Tuple) else []
        if not isinstance(launch.grid, ast.Tuple) or len(sizes) != len(launch.grid.elts):
            continue
        programs = 1
        for size in sizes:
            programs *= size if isinstance(size, int) else 1
        if crowded_wave(programs, elements):
            yield Violation(launch.call.lineno, f"{programs} programs on {elements} processing elements leave the last wave nearly empty")


@rule(
    "M15",
    "The contiguous dimension of a tile is at least 32 bytes",
    severity="error",
    targets=_MTIA,
    why="A DMA row shorter than the alignment cannot start at an aligned address for the next row, and wastes the burst; 256 bytes and more are fast.",
    fix="make the last block dimension at least 8 float32 or 16 float16 elements",
    document=f"{_DOCUMENT}#m15",
)
def narrow_row(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on blocks whose last dimension is proven to be shorter than the alignment."""
    boundary = int(context.limit("dma_alignment_bytes") or 32)
    for call in context.calls("load", "store"):
        pointer = _pointer(call)
        if pointer is None or not pointer.shape or pointer.shape[-1] is None or pointer.has("loaded"):
            continue
        if all(extent == 1 for extent in pointer.shape):
            continue
        if pointer.shape[-1] * (_bytes(pointer) or _WIDEST) < boundary:
            yield Violation(call.line, f"`tl.{call.name}`: rows of {pointer.shape[-1]} elements are shorter than {boundary} bytes")


@rule(
    "M16",
    "Directional loads run in the same order on every processing element",
    severity="error",
    targets=_MTIA,
    why="A broadcast read is taken by all elements of a row or column together: one that skips it blocks the others.",
    fix="load unconditionally and use `tl.consume()` where the value is not needed",
    document=f"{_DOCUMENT}#m16",
)
def divergent_direction(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.load(..., direction=…)` under a condition that only the running kernel knows."""
    for call in context.calls("load", "store"):
        if call.argument("direction") is not None and call.is_guarded:
            yield Violation(call.line, "a directional access under a runtime condition is not run by every processing element")
