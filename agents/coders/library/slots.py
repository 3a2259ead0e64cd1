"""Source text of generated slots: the fused expression, with every extra tensor read by broadcasting from (row, col)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agents.coders.library.errors import LoweringError
from agents.coders.library.expressions import CPP_TYPES, Builder, Operand, lower
from agents.coders.library.fusion import Fusion, Scene, is_reshape, kind_of, leaves, literal_operand, operand_refs
from agents.coders.library.graph import TensorSpec


@dataclass(frozen=True)
class Address:
    """Offset of an element in a broadcast tensor, in terms of the slot's `row` and `col`."""

    row: str
    """Text that depends on `row` alone; empty if none."""
    col: str
    """Text that depends on `col` alone; empty if none."""
    is_whole: bool = False
    """True if the text in `col` mixes both."""


def address(spec: TensorSpec, context: tuple[int, ...], columns: int, division: str = "//") -> Address:
    """Derive the offset of a broadcast tensor.

    Args:
        spec: The tensor that is read, with its strides.
        context: The shape it is broadcast to; `row * columns + col` is the row-major index in it.
        columns: Length of a row.
        division: Integer division in the language.
    """
    numel = math.prod(context)
    dims = _merged(spec, context)
    terms_row, terms_col = [], []
    for size, inner, stride in _split(dims, columns):
        if stride == 0:
            continue
        if inner * size <= columns and columns % (inner * size) == 0:
            terms_col.append(_term("col", inner, size, stride, inner * size == columns, division))
        elif inner >= columns and inner % columns == 0:
            terms_row.append(_term("row", inner // columns, size, stride, inner * size == numel, division))
        else:
            linear = f"(row * {columns} + col)"
            whole = [_term(linear, i, n, s, i * n == numel, division) for n, i, s in dims if s]
            return Address("", " + ".join(whole), True)
    return Address(" + ".join(terms_row), " + ".join(terms_col))


def _merged(spec: TensorSpec, context: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return (size, row-major inner size, stride) per group of dimensions that can be walked as one, outermost first."""
    pad = len(context) - spec.ndim
    merged: list[tuple[int, int, int]] = []
    inner = 1
    for axis in range(len(context) - 1, -1, -1):
        size = context[axis]
        if size == 1:
            continue
        own = spec.shape[axis - pad] if axis >= pad else 1
        stride = spec.stride[axis - pad] if own != 1 else 0
        if merged and merged[-1][2] * merged[-1][0] == stride:
            last = merged.pop()
            merged.append((last[0] * size, last[1], last[2]))
        else:
            merged.append((size, inner, stride))
        inner *= size
    return merged[::-1]


def _split(dims: list[tuple[int, int, int]], columns: int) -> list[tuple[int, int, int]]:
    parts = []
    for size, inner, stride in dims:
        if inner < columns < inner * size and columns % inner == 0 and size % (columns // inner) == 0:
            low = columns // inner
            parts += [(size // low, columns, stride * low), (low, inner, stride)]
        else:
            parts.append((size, inner, stride))
    return parts


def _term(variable: str, inner: int, size: int, stride: int, is_outermost: bool, division: str) -> str:
    text = variable if inner == 1 else f"{variable} {division} {inner}"
    if not is_outermost:
        text = f"{text} % {size}" if inner == 1 else f"({text}) % {size}"
    if stride == 1:
        return f"({text})" if text != variable else text
    return f"({text}) * {stride}" if text != variable else f"{text} * {stride}"


@dataclass(frozen=True)
class SlotCode:
    """A generated slot."""

    text: str
    """The function's source."""
    extras: tuple[str, ...]
    """Values to pass as the extra tuple, in order."""
    extra_types: tuple[str, ...]
    """C++ element types of the extras."""


def write_slot(view: Scene, fusion: Fusion, name: str, columns: int) -> SlotCode:
    """Generate a slot function.

    Args:
        view: The graph.
        fusion: What it computes.
        name: `prologue` or `epilogue`.
        columns: Length of a row of the slot's logical tensor.

    Raises:
        LoweringError: Part of the fusion cannot be expressed.
    """
    writer = _Writer(view, fusion, columns)
    result = writer.value(fusion.result, view.spec(fusion.result).shape)
    extras = leaves(view, fusion)
    if view.language == "cpp":
        return _cpp(view, writer, name, result, extras)
    lines = list(writer.builder.lines)
    if result.literal is not None or (fusion.source is None and not writer.is_blocked):
        lines.append(f"result = tl.where(mask, {result.text}, {result.text})")
        result = Operand("result", result.kind)
    body = "\n".join(f"    {line}" for line in [*lines, f"return {result.text}"])
    text = f"@triton.jit\ndef {name}(value, extra, row, col, mask):\n{body}\n"
    return SlotCode(text, extras, ())


class _Writer:
    def __init__(self, view: Scene, fusion: Fusion, columns: int) -> None:
        self.view = view
        self.fusion = fusion
        self.columns = columns
        self.builder = Builder(view.language)
        self.extras = {leaf: index for index, leaf in enumerate(leaves(view, fusion))}
        self.inside = set(fusion.nodes)
        self.done: dict[tuple[str, tuple[int, ...]], Operand] = {}
        self.is_blocked = False

    def value(self, name: str, context: tuple[int, ...]) -> Operand:
        literal = literal_operand(self.view.graph, name)
        if literal is not None:
            return self.builder.const(literal.literal, literal.kind) if literal.literal is not None else literal
        if name == self.fusion.source:
            return Operand("value", "f")
        node = self.view.graph.node(name) if name in self.inside else None
        if node is not None and node.spec is not None and node.spec.numel == self.fusion.numel:
            context = node.spec.shape
        key = (name, context)
        if key not in self.done:
            self.done[key] = self._node(name, context) if name in self.inside else self._load(name, context)
        return self.done[key]

    def _node(self, name: str, context: tuple[int, ...]) -> Operand:
        node = self.view.graph.node(name)
        assert node is not None and node.spec is not None  # fusions hold tensor nodes
        if is_reshape(self.view, node):
            source = node.refs()[0]
            return self.value(source, self.view.spec(source).shape)
        operands = {ref: self.value(ref, context) for ref in operand_refs(self.view, node)}
        for ref in node.refs():
            operands.setdefault(ref, Operand("0", "f"))
        return lower(self.builder, node, operands)

    def _load(self, name: str, context: tuple[int, ...]) -> Operand:
        spec = self.view.spec(name)
        kind = kind_of(spec.dtype)
        index = self.extras[name]
        rows = math.prod(context) // self.columns
        if rows * self.columns != math.prod(context):
            raise LoweringError(f"{self.columns} columns do not divide {math.prod(context)} elements")
        is_cpp = self.view.language == "cpp"
        where = address(spec, context, self.columns, "/" if is_cpp else "//")
        if is_cpp:
            return self.builder.let(Operand(self._cpp_load(index, where), kind))
        last = spec.numel and sum((size - 1) * abs(stride) for size, stride in zip(spec.shape, spec.stride, strict=True))
        col_text = where.col.replace("col", "col.to(tl.int64)") if last >= 2**31 and math.prod(context) < 2**31 else where.col
        pointer, mask = f"extra[{index}]", ""
        if where.is_whole or (where.row and where.col):
            joined = _joined(where, self.columns) if not where.is_whole else col_text
            pointer, mask = f"{pointer} + {joined}", "mask"
            self.is_blocked = True
        elif where.col:
            pointer, mask = f"{pointer} + {col_text}", f"col < {self.columns}"
            self.is_blocked = True
        elif where.row and rows > 1:
            # 64-bit division per element costs more than the load where `row` has the shape of the block; the row number itself is small.
            narrow = where.row.replace("row", "tl.cast(row, tl.int32)") if rows < 2**31 and last < 2**31 else where.row
            pointer, mask = f"{pointer} + {narrow}", f"row < {rows}"
        elif where.row:
            pointer = f"{pointer}"
        load = f"tl.load({pointer}, mask={mask})" if mask else f"tl.load({pointer})"
        if kind == "f":
            load += ".to(tl.float32)" if spec.dtype != "float32" else ""
        return self.builder.let(Operand(load, kind))

    def _cpp_load(self, index: int, where: Address) -> str:
        text = where.col if where.is_whole else " + ".join(part for part in (f"({where.row})" if where.row else "", where.col) if part)
        return f"extra.p{index}[{text or '0'}]"


def _joined(where: Address, columns: int) -> str:
    return f"({where.row}) + ({where.col})" if where.row != f"row * {columns}" else f"{where.row} + {where.col}"


def _cpp(view: Scene, writer: _Writer, name: str, result: Operand, extras: tuple[str, ...]) -> SlotCode:
    body = "\n".join(f"  {line}" for line in [*writer.builder.lines, f"return {result.text};"])
    struct = f"{name.capitalize()}Extra"
    text = f"static inline float {name}(float value, const {struct}& extra, int64_t row, int64_t col) {{\n{body}\n}}\n"
    return SlotCode(text, extras, tuple(CPP_TYPES[view.spec(leaf).dtype] for leaf in extras))
