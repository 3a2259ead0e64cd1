"""Rules about loads, stores, masks, addresses and descriptors."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.inference import Call
from tools.lint.module import Module, argument, is_none
from tools.lint.operations import REDUCTIONS, SCANS, dimensions
from tools.lint.rule import Context, Violation, rule
from tools.lint.values import DTYPES

_DOCUMENT = "guide/lint-rules.md"


@rule(
    "L04",
    "`other` needs a mask",
    severity="error",
    why="Triton refuses `other` without `mask`: there is no masked-off lane that could take it.",
    fix="pass `mask=` too, or drop `other=`",
    document=f"{_DOCUMENT}#l04",
)
def other_without_mask(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.load(p, other=0.0)`."""
    for call in context.calls("load"):
        starred = any(isinstance(item, ast.Starred) for item in call.node.args) or any(
            keyword.arg is None for keyword in call.node.keywords
        )
        if not starred and not is_none(argument(call.node, 2, "other")) and is_none(argument(call.node, 1, "mask")):
            yield Violation(call.line, "`other` cannot be provided without `mask`")


@rule(
    "L05",
    "A masked load that feeds a reduction or a dot states `other`",
    severity="warning",
    why="Masked-off lanes hold anything on a device (the interpreter gives 0), and a reduction or a dot mixes them into the result.",
    fix="pass `other=` the neutral element (0 for sums and dots, -inf for max), or select with `tl.where` before reducing",
    document=f"{_DOCUMENT}#l05",
)
def undefined_lanes(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.sum(tl.load(p, mask=m))`."""
    for call in context.calls(*REDUCTIONS, *SCANS, "dot", *(f".{name}" for name in REDUCTIONS | SCANS)):
        for name in ("input", "other"):
            value = call.arguments.get(name)
            if value is not None and value.has("undefined_lanes"):
                yield Violation(call.line, f"`tl.{call.name.lstrip('.')}` takes in lanes that a masked load without `other` left undefined")
                break


@rule(
    "L06",
    "Blocks that may reach past the end are masked",
    severity="warning",
    why="Without a mask the last program reads or writes beyond the tensor unless every extent is a multiple of the block; on MTIA that stops the processing element.",
    fix="pass `mask=offsets < n`, or make the exact multiple a requirement and say so",
    document=f"{_DOCUMENT}#l06",
)
def unmasked_access(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on loads and stores of a block addressed by program id or loop with no mask."""
    for call in context.calls("load", "store"):
        pointer = call.arguments.get("pointer")
        if (
            pointer is None
            or pointer.kind in ("descriptor", "block_pointer")
            or not pointer.is_block
            or call.arguments.get("boundary_check") is not None
        ):
            continue
        if call.argument("mask") is None and pointer.has("arange") and (pointer.has("program_id") or pointer.has("loop")):
            yield Violation(call.line, f"`tl.{call.name}` of a block has no mask")


@rule(
    "L07",
    "A scalar pointer takes a scalar mask and a scalar `other`",
    severity="error",
    why="One address cannot be masked by many lanes.",
    fix="add a block of offsets to the pointer, or make the mask a scalar condition",
    document=f"{_DOCUMENT}#l07",
)
def block_mask_of_scalar(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.load(p, mask=offsets < n)` with a scalar `p`."""
    for call in context.calls("load", "store"):
        pointer = call.arguments.get("pointer")
        if pointer is None or not pointer.is_scalar or pointer.kind in ("descriptor", "block_pointer"):
            continue
        for name, title in (("mask", "Mask"), ("other", "Other"), ("value", "Value")):
            value = call.arguments.get(name)
            if value is not None and value.is_block and not (call.name == "load" and name == "value"):
                yield Violation(call.line, f"{title} argument cannot be block type if pointer argument is not a block")


@rule(
    "L08",
    "`boundary_check` and `padding_option` belong to block pointers, and block pointers give way to descriptors",
    severity="error",
    why="A block of pointers is bounded by its mask; only a block pointer knows its shape. `tl.make_block_ptr` is deprecated in favour of tensor descriptors.",
    fix="use `mask=` with pointers; for tiles prefer `tl.make_tensor_descriptor`",
    document=f"{_DOCUMENT}#l08",
)
def boundary_check(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on a boundary check of pointers (error) and on `make_block_ptr` (warning)."""
    for call in context.calls("load", "store"):
        pointer, checked = call.arguments.get("pointer"), call.arguments.get("boundary_check")
        is_block_of_pointers = (
            pointer is not None
            and pointer.shape is not None
            and pointer.kind in ("pointer", "unknown")
            and "argument" not in pointer.traits
        )
        if is_block_of_pointers and ((checked is not None and checked.items) or call.argument("padding_option") is not None):
            yield Violation(call.line, "`padding_option` or `boundary_check` argument is not supported for a tensor of pointers")
    for call in context.calls("make_block_ptr"):
        yield Violation(call.line, "`tl.make_block_ptr` is deprecated", severity="warning")


@rule(
    "L09",
    "Descriptors have 1 to 5 dimensions, a last stride of 1 and a last block dimension of at least 16 bytes",
    severity="error",
    targets=("nvidia",),
    why="The tensor memory accelerator copies tiles of up to five dimensions whose rows are contiguous and whose addresses are multiples of 16 bytes.",
    fix="pass the tensor with its contiguous dimension last; widen the last block dimension; make the other strides multiples of 16 bytes",
    document=f"{_DOCUMENT}#l09",
)
def descriptor_shape(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on descriptors that TMA cannot express."""
    for call in context.calls("make_tensor_descriptor"):
        shape, strides, block = (call.arguments.get(name) for name in ("shape", "strides", "block_shape"))
        if shape is not None and shape.kind == "tuple" and not 1 <= len(shape.items) <= 5:
            yield Violation(call.line, f"Expected 1 <= ndim <= 5 but got {len(shape.items)} dimensions")
        if strides is not None and strides.items and strides.items[-1].integer not in (None, 1):
            yield Violation(call.line, f"Tensor descriptor last dim must be 1 but got {strides.items[-1].integer}")
        extent = (dimensions(block) or (None,))[-1]
        dtype = call.result.dtype
        width = DTYPES[dtype] // 8 if dtype else 8
        if extent is not None and extent * width < 16:
            yield Violation(
                call.line, f"Descriptor block shape must have at least 16 bytes in the last dimension, but got {extent} elements"
            )


@rule(
    "L10",
    "Descriptors made in a kernel need an allocator",
    severity="error",
    targets=("nvidia",),
    why="A descriptor made on the device lives in global scratch memory that the host must provide; without an allocator the launch fails.",
    fix="call `triton.set_allocator(lambda size, align, stream: torch.empty(size, device='cuda', dtype=torch.int8))` before the launch, "
    "or make the descriptor on the host",
    document=f"{_DOCUMENT}#l10",
)
def descriptor_allocator(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.make_tensor_descriptor` in a module that never calls `triton.set_allocator`."""
    if any(isinstance(node, ast.Call) and module.dotted(node.func).endswith("set_allocator") for node in ast.walk(module.tree)):
        return
    if not module.launches:
        return
    for call in context.calls("make_tensor_descriptor"):
        yield Violation(call.line, "Kernel requires a runtime memory allocation, but no allocator was set")


@rule(
    "L11",
    "A descriptor's tile starts inside the tensor",
    severity="error",
    targets=("nvidia",),
    why="A tile that lies wholly past the end raises an illegal-instruction error on the device; it is not masked silently.",
    fix="correct the tile index or the number of programs; a mask does not help",
    document=f"{_DOCUMENT}#l11",
)
def descriptor_outside(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where constant offsets lie past constant extents."""
    for call in context.calls(".load", ".store"):
        descriptor = call.arguments.get("pointer")
        offsets = call.arguments.get("mask") if call.name == ".load" else call.arguments.get("value")
        if descriptor is None or descriptor.kind != "descriptor" or offsets is None:
            continue
        for axis, (extent, offset) in enumerate(zip(descriptor.items, offsets.items, strict=False)):
            if extent.integer is not None and offset.integer is not None and offset.integer >= extent.integer:
                yield Violation(call.line, f"the tile starts at {offset.integer} on axis {axis}, which has {extent.integer} elements")


@rule(
    "L12",
    "Descriptor gather and scatter take blocks of one row and at least 8 offsets",
    severity="error",
    targets=("nvidia",),
    why="The hardware gathers rows of a 2-D tensor, eight or more at a time.",
    fix="make the descriptor with `block_shape=[1, COLUMNS]` and pass at least 8 row offsets",
    document=f"{_DOCUMENT}#l12",
)
def descriptor_gather(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on gathers that TMA cannot express."""
    for call in context.calls(".gather", ".scatter"):
        values = list(call.arguments.values())
        descriptor = values[0] if values else None
        if descriptor is None or descriptor.kind != "descriptor" or descriptor.shape is None:
            continue
        if len(descriptor.shape) != 2:
            yield Violation(call.line, f"descriptor must be 2D, but got {len(descriptor.shape)} dimensions")
        elif descriptor.shape[0] not in (None, 1):
            yield Violation(call.line, f"descriptor block must have 1 row, but got {descriptor.shape[0]}")
        offsets = values[1] if call.name == ".gather" and len(values) > 1 else values[2] if len(values) > 2 else None
        if offsets is not None and offsets.shape and offsets.shape[0] is not None and offsets.shape[0] < 8:
            yield Violation(call.line, f"descriptor {call.name[1:]} must have at least 8 rows, but got {offsets.shape[0]}")


@rule(
    "L13",
    "Descriptors with three or more stages need a look at the result",
    severity="warning",
    targets=("nvidia",),
    why="Triton issue 10474: device-made descriptors with num_stages >= 3 were compiled with misaligned shared memory in some versions.",
    fix="check values with num_stages=2 first, then with the deeper pipeline",
    document=f"{_DOCUMENT}#l13",
)
def descriptor_stages(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on launches with three or more stages of kernels that make descriptors."""
    makers = {trace.kernel.name for trace in context.traces if trace.named("make_tensor_descriptor")}
    for launch in module.launches:
        stages = launch.keyword("num_stages")
        if launch.kernel in makers and isinstance(stages, ast.Constant) and isinstance(stages.value, int) and stages.value >= 3:
            yield Violation(launch.call.lineno, f"{launch.kernel} makes descriptors and is launched with num_stages={stages.value}")


@rule(
    "L31",
    "Offsets that may pass 2^31 are 64-bit",
    severity="warning",
    why="A program id times a stride is int32 arithmetic: beyond 2^31 elements it wraps and addresses the wrong memory.",
    fix="cast first: `row = tl.program_id(0).to(tl.int64)`",
    document=f"{_DOCUMENT}#l31",
)
def narrow_offsets(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where a program id is multiplied by a stride from the launch with no cast to int64."""
    for trace in context.traces:
        parameters = {f"param:{name}" for name in trace.kernel.parameters if name not in trace.kernel.constexprs}
        for operation in trace.operations:
            for one, other in ((operation.left, operation.right), (operation.right, operation.left)):
                is_product = (
                    operation.operator == "Mult" and one.has("program_id") and not one.has("loaded") and bool(other.traits & parameters)
                )
                if is_product and not (one.has("int64") or other.has("int64")) and "int64" not in (one.dtype, other.dtype):
                    yield Violation(operation.node.lineno, "a program id times a stride may pass 2^31 in int32")


@rule(
    "L39",
    "The contiguous dimension is the innermost one of the block",
    severity="performance",
    why="Neighbouring threads take neighbouring elements of the last block dimension: with a stride there, each access touches its own memory sector.",
    fix="let the last block dimension (`[None, :]`) run along the dimension with stride 1, and transpose in registers if needed",
    document=f"{_DOCUMENT}#l39",
)
def strided_innermost(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on blocks whose first axis has stride 1 while the last has not."""
    for call in context.calls("load", "store"):
        pointer = call.arguments.get("pointer")
        if (
            pointer is not None
            and pointer.shape is not None
            and len(pointer.shape) == 2
            and pointer.has("unit:0")
            and not pointer.has("unit:1")
        ):
            yield Violation(call.line, f"`tl.{call.name}`: the first block axis has stride 1, the last one does not")


@rule(
    "L41",
    "`tl.where` guards neither loads nor divisions",
    severity="warning",
    why="Both sides are evaluated for every lane; only the result is selected.",
    fix="mask the load itself, and replace the divisor by 1 where it may be 0 before dividing",
    document=f"{_DOCUMENT}#l41",
)
def where_guards(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on an unmasked load inside `tl.where`, and on a division whose divisor the condition tests."""
    for call in context.calls("where"):
        condition = argument(call.node, 0, "condition")
        tested = {node.id for node in ast.walk(condition) if isinstance(node, ast.Name)} if condition is not None else set()
        for side in (argument(call.node, 1, "x"), argument(call.node, 2, "y")):
            for node in ast.walk(side) if side is not None else ():
                if isinstance(node, ast.Call) and module.language_call(node) == "load" and is_none(argument(node, 1, "mask")):
                    yield Violation(node.lineno, "a load without mask inside `tl.where` reads every lane")
                is_tested = (
                    isinstance(node, ast.BinOp)
                    and isinstance(node.op, ast.Div)
                    and isinstance(node.right, ast.Name)
                    and node.right.id in tested
                )
                if is_tested:
                    yield Violation(call.line, "`tl.where` does not keep the division from dividing by zero")


def store_sites(call: Call) -> bool:
    """Tell whether a call writes to device memory."""
    return call.name in ("store", ".store") or call.name.lstrip(".").startswith("atomic_")
