"""What each function of the Triton language returns, as far as its arguments prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tools.lint.values import FLOATS, NOTHING, UNPROVEN, Shape, Value, broadcast, constant, join, promote

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "program_id": ("axis",),
    "num_programs": ("axis",),
    "arange": ("start", "end"),
    "zeros": ("shape", "dtype"),
    "full": ("shape", "value", "dtype"),
    "zeros_like": ("input",),
    "load": ("pointer", "mask", "other", "boundary_check", "padding_option"),
    "store": ("pointer", "value", "mask", "boundary_check"),
    "make_block_ptr": ("base", "shape", "strides", "offsets", "block_shape", "order"),
    "advance": ("base", "offsets"),
    "make_tensor_descriptor": ("base", "shape", "strides", "block_shape", "padding_option"),
    "dot": ("input", "other", "acc", "input_precision", "allow_tf32", "max_num_imprecise_acc", "out_dtype"),
    "to": ("input", "dtype", "fp_downcast_rounding", "bitcast"),
    "cast": ("input", "dtype", "fp_downcast_rounding", "bitcast"),
    "where": ("condition", "x", "y"),
    "sum": ("input", "axis", "keep_dims"),
    "max": ("input", "axis", "return_indices", "return_indices_tie_break_left", "keep_dims"),
    "min": ("input", "axis", "return_indices", "return_indices_tie_break_left", "keep_dims"),
    "argmax": ("input", "axis"),
    "argmin": ("input", "axis"),
    "xor_sum": ("input", "axis", "keep_dims"),
    "reduce": ("input", "axis", "combine_fn", "keep_dims"),
    "associative_scan": ("input", "axis", "combine_fn", "reverse"),
    "cumsum": ("input", "axis", "reverse"),
    "cumprod": ("input", "axis", "reverse"),
    "sort": ("input", "dim"),
    "softmax": ("input", "dim"),
    "reshape": ("input", "shape"),
    "view": ("input", "shape"),
    "broadcast_to": ("input", "shape"),
    "expand_dims": ("input", "axis"),
    "trans": ("input",),
    "permute": ("input",),
    "ravel": ("input",),
    "cat": ("input", "other", "can_reorder"),
    "join": ("a", "b"),
    "split": ("a",),
    "interleave": ("a", "b"),
    "histogram": ("input", "num_bins", "mask"),
    "gather": ("src", "index", "axis"),
    "fma": ("x", "y", "z"),
    "fdiv": ("x", "y"),
    "div_rn": ("x", "y"),
    "maximum": ("x", "y"),
    "minimum": ("x", "y"),
    "clamp": ("x", "min", "max"),
    "cdiv": ("x", "div"),
    "multiple_of": ("input", "values"),
    "max_contiguous": ("input", "values"),
    "atomic_cas": ("pointer", "cmp", "val", "sem", "scope"),
    **{f"atomic_{name}": ("pointer", "val", "mask", "sem", "scope") for name in ("add", "max", "min", "xchg", "and", "or", "xor")},
    **dict.fromkeys(
        ("exp", "exp2", "log", "log2", "sin", "cos", "sqrt", "sqrt_rn", "rsqrt", "erf", "floor", "ceil", "abs", "sigmoid"), ("x",)
    ),
}
"""Names of the leading parameters, for turning positional arguments into named ones. Methods take the tensor first."""

REDUCTIONS = frozenset({"sum", "max", "min", "argmax", "argmin", "xor_sum", "reduce"})
SCANS = frozenset({"cumsum", "cumprod", "associative_scan", "sort"})
FLOAT_MATH = frozenset({"exp", "exp2", "log", "log2", "sin", "cos", "sqrt", "rsqrt", "erf", "floor", "ceil", "sigmoid"})
"""Functions whose argument must be float32 or float64."""
_LANES = "undefined_lanes"


def evaluate_call(name: str, arguments: Mapping[str, Value]) -> Value:
    """Return what is proven about the result of a call."""
    rule = _RULES.get(name.removeprefix("."))
    if rule is None:
        traits = frozenset().union(*(value.traits for value in arguments.values())) if arguments else frozenset()
        return Value(traits=traits & {"program_id", "loaded", "arange"})
    return rule(arguments)


def dimensions(value: Value | None) -> Shape | None:
    """Return a shape argument (`[BLOCK, 64]`) as a tuple, None if it is not proven to be a list."""
    if value is None:
        return None
    if value.kind == "tuple":
        return tuple(item.integer for item in value.items)
    return (value.integer,) if value.integer is not None else None


def _first(arguments: Mapping[str, Value]) -> Value:
    return arguments.get("input") or arguments.get("x") or NOTHING


def _program_id(_: Mapping[str, Value]) -> Value:
    return Value("number", (), "int32", UNPROVEN, False, frozenset({"program_id"}))


def _arange(arguments: Mapping[str, Value]) -> Value:
    start, end = arguments.get("start", NOTHING).integer, arguments.get("end", NOTHING).integer
    extent = end - start if start is not None and end is not None else None
    return Value("number", (extent,), "int32", UNPROVEN, False, frozenset({"arange", "unit:0"}))


def _filled(arguments: Mapping[str, Value]) -> Value:
    dtype = arguments.get("dtype", NOTHING)
    return Value("number", dimensions(arguments.get("shape")), dtype.dtype if dtype.kind == "dtype" else None, UNPROVEN, False)


def _like(arguments: Mapping[str, Value]) -> Value:
    return replace(_first(arguments), const=UNPROVEN, traits=frozenset())


def _load(arguments: Mapping[str, Value]) -> Value:
    pointer, mask, other = arguments.get("pointer", NOTHING), arguments.get("mask"), arguments.get("other")
    traits = {"loaded"} | {trait for trait in pointer.traits if trait in ("program_id", "arange")}
    has_mask = mask is not None and mask.const is not None
    if has_mask and (other is None or (other.is_static and other.const is None)):
        traits.add(_LANES)
    if pointer.shape is not None and len(pointer.shape) >= 2:
        traits.add("loaded_nd")
    return Value("number", pointer.shape, pointer.dtype if pointer.kind == "pointer" else None, UNPROVEN, False, frozenset(traits))


def _cast(arguments: Mapping[str, Value]) -> Value:
    value, dtype = _first(arguments), arguments.get("dtype", NOTHING)
    if dtype.kind != "dtype":
        return replace(value, dtype=None, const=UNPROVEN)
    extra = {"int64"} if dtype.dtype in ("int64", "uint64") else set()
    return replace(value, kind="number", dtype=dtype.dtype, const=UNPROVEN, traits=(value.traits - {"argument"}) | extra)


def _where(arguments: Mapping[str, Value]) -> Value:
    condition, x, y = (arguments.get(name, NOTHING) for name in ("condition", "x", "y"))
    both = join(x, y)
    return Value(
        "number", broadcast(replace(condition, kind="number"), _wide(x, y)), promote(x, y), UNPROVEN, False, both.traits - {_LANES}
    )


def _wide(x: Value, y: Value) -> Value:
    return Value("number", broadcast(x, y))


def _reduced(arguments: Mapping[str, Value]) -> Value:
    value, axis = _first(arguments), arguments.get("axis")
    keep = arguments.get("keep_dims") or arguments.get("keepdims")
    if keep is not None or arguments.get("return_indices") is not None:
        return Value(traits=value.traits - {_LANES})
    shape = value.shape
    if axis is None or (axis.is_static and axis.const is None):
        shape = () if value.shape is not None else None
    elif axis.integer is not None and shape and -len(shape) <= axis.integer < len(shape):
        index = axis.integer % len(shape)
        shape = shape[:index] + shape[index + 1 :]
    else:
        shape = None
    dtype = value.dtype if value.dtype in FLOATS and value.dtype not in ("float16", "bfloat16") else None
    return Value("number", shape, dtype, UNPROVEN, False, value.traits - {_LANES, "arange"})


def _same(arguments: Mapping[str, Value]) -> Value:
    return replace(_first(arguments), const=UNPROVEN)


def _pair(arguments: Mapping[str, Value]) -> Value:
    x, y = arguments.get("x", NOTHING), arguments.get("y", NOTHING)
    return Value("number", broadcast(x, y), promote(x, y), UNPROVEN, False, x.traits | y.traits)


def _dot(arguments: Mapping[str, Value]) -> Value:
    a, b, out = arguments.get("input", NOTHING), arguments.get("other", NOTHING), arguments.get("out_dtype")
    shape = (*a.shape[:-1], b.shape[-1]) if a.shape and b.shape and len(a.shape) >= 2 and len(b.shape) >= 2 else None
    dtype = (
        out.dtype
        if out is not None and out.kind == "dtype"
        else "float32"
        if out is None and a.dtype in ("float32", "float16", "bfloat16")
        else None
    )
    return Value("number", shape, dtype, UNPROVEN, False, frozenset({"dot"}))


def _reshaped(arguments: Mapping[str, Value]) -> Value:
    return replace(_first(arguments), shape=dimensions(arguments.get("shape")), const=UNPROVEN)


def _transposed(arguments: Mapping[str, Value]) -> Value:
    value = _first(arguments)
    shape = value.shape[::-1] if value.shape is not None and len(value.shape) == 2 and len(arguments) == 1 else None
    return replace(value, shape=shape, const=UNPROVEN)


def _expand_dims(arguments: Mapping[str, Value]) -> Value:
    value, axis = _first(arguments), arguments.get("axis", NOTHING).integer
    if value.shape is None or axis is None:
        return replace(value, shape=None)
    index = axis if axis >= 0 else axis + len(value.shape) + 1
    return replace(value, shape=(*value.shape[:index], 1, *value.shape[index:]))


def _block_pointer(arguments: Mapping[str, Value]) -> Value:
    return Value("block_pointer", dimensions(arguments.get("block_shape")), arguments.get("base", NOTHING).dtype)


def _descriptor(arguments: Mapping[str, Value]) -> Value:
    shape, block = arguments.get("shape", NOTHING), arguments.get("block_shape", NOTHING)
    return Value("descriptor", dimensions(block), arguments.get("base", NOTHING).dtype, items=shape.items)


def _advance(arguments: Mapping[str, Value]) -> Value:
    return arguments.get("base", NOTHING)


def _hint(arguments: Mapping[str, Value]) -> Value:
    return arguments.get("input", NOTHING)


def _cdiv(arguments: Mapping[str, Value]) -> Value:
    x, y = arguments.get("x", NOTHING), arguments.get("div", NOTHING)
    if x.integer is not None and y.integer:
        return constant(-(-x.integer // y.integer))
    return Value("number", broadcast(x, y), None, UNPROVEN, x.is_static if x.is_static == y.is_static else None, x.traits | y.traits)


def _float(arguments: Mapping[str, Value]) -> Value:
    value = next(iter(arguments.values()), NOTHING)
    try:
        return constant(float(value.const)) if isinstance(value.const, str | int | float) else Value("number", value.shape, "float32")
    except ValueError:
        return NOTHING


def _constexpr(arguments: Mapping[str, Value]) -> Value:
    return next(iter(arguments.values()), NOTHING)


_RULES: Mapping[str, Callable[[Mapping[str, Value]], Value]] = {
    "program_id": _program_id,
    "num_programs": _program_id,
    "arange": _arange,
    "zeros": _filled,
    "full": _filled,
    "zeros_like": _like,
    "load": _load,
    "to": _cast,
    "cast": _cast,
    "where": _where,
    **dict.fromkeys(REDUCTIONS - {"argmax", "argmin"}, _reduced),
    **dict.fromkeys(SCANS | {"softmax"} | FLOAT_MATH | {"abs", "sqrt_rn", "clamp"}, _same),
    "fma": _pair,
    "fdiv": _pair,
    "div_rn": _pair,
    "maximum": _pair,
    "minimum": _pair,
    "dot": _dot,
    "reshape": _reshaped,
    "view": _reshaped,
    "broadcast_to": _reshaped,
    "trans": _transposed,
    "expand_dims": _expand_dims,
    "make_block_ptr": _block_pointer,
    "make_tensor_descriptor": _descriptor,
    "advance": _advance,
    "multiple_of": _hint,
    "max_contiguous": _hint,
    "cdiv": _cdiv,
    "constexpr": _constexpr,
    "python.float": _float,
}
