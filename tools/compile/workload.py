"""Derive from a kernel's source and one recorded launch what the MTIA model needs: bytes, products and operations per program."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tools.compile.bindings import bindings
from tools.lint.inference import Call, Trace, trace_kernel, trips
from tools.lint.module import parse
from tools.lint.operations import FLOAT_MATH, REDUCTIONS
from tools.lint.values import DTYPES, Value
from tools.targets.base import LaunchRecord
from tools.targets.mtia_model import Step, Work

_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "float16": 2, "bfloat16": 2, "int16": 2, "float64": 8, "int64": 8, "complex64": 8}


def work_of(source: str, launch: LaunchRecord) -> Work | None:
    """Return the work of a launch; None where the source does not prove it (a loop with unknown trips, blocks of unknown shape, no memory access)."""
    module = parse(source)
    kernel = module.kernels.get(launch.kernel)
    if kernel is None or not launch.programs:
        return None
    trace = trace_kernel(module, kernel, bindings(launch))
    sites = [call for call in trace.calls if call.name in ("load", "store")]
    counts = [trips(call.loops) for call in trace.calls if call.name in ("load", "store", "dot")]
    if not sites or any(count is None for count in counts) or any(_site_shape(call) is None for call in sites):
        return None
    steps = max((count for count in counts if count is not None), default=1)
    step = _step(trace, sites, steps)
    depth = launch.options.get("cb_multiplier", 2)
    return Work(launch.kernel, launch.programs, steps, step, _tensor_bytes(launch), overlap=isinstance(depth, int) and depth >= 2)


def _step(trace: Trace, sites: list[Call], steps: int) -> Step:
    loaded = stored = gathered = 0.0
    for call in sites:
        elements = math.prod(_site_shape(call) or ()) * (trips(call.loops) or 1) / steps
        pointer = call.arguments["pointer"]
        if call.name == "load" and pointer.has("loaded"):
            gathered += elements
        elif call.name == "load":
            loaded += elements * _width(pointer)
        else:
            stored += elements * _width(pointer)
    dots = trace.named("dot")
    simd, functions = _arithmetic(trace, steps)
    tile = _tile(dots[0]) if dots else None
    products = math.ceil(tile[0] / 32) * math.ceil(tile[1] / 32) if tile else 0
    instructions = len(sites) + products + len(trace.operations)
    width = _width(dots[0].arguments["input"], 2) if dots else 2
    return Step(loaded, stored, float(len(sites)), tile, width, simd, functions, gathered, float(instructions))


def _site_shape(call: Call) -> tuple[int, ...] | None:
    pointer = call.arguments.get("pointer")
    if pointer is None or pointer.shape is None:
        return None
    sizes = tuple(extent for extent in pointer.shape if extent is not None)
    return sizes if len(sizes) == len(pointer.shape) else None


def _tile(call: Call) -> tuple[int, int, int] | None:
    left, result = call.arguments.get("input"), call.result.shape
    if left is None or not left.shape or not result or len(result) != 2 or left.shape[-1] is None or None in result:
        return None
    return int(result[0] or 0), int(result[1] or 0), int(left.shape[-1])


def _arithmetic(trace: Trace, steps: int) -> tuple[float, float]:
    """Return elementwise operations and transcendental functions per step, in elements; address arithmetic (integers) is not counted."""
    simd = sum(_elements(item.result) * (trips(item.loops) or 1) for item in trace.operations if _is_arithmetic(item.result))
    functions = 0.0
    for call in trace.calls:
        name = call.name.lstrip(".")
        count = _elements(call.arguments.get("x") or call.arguments.get("input") or call.result) * (trips(call.loops) or 1)
        if name in FLOAT_MATH:
            functions += count
        elif name in REDUCTIONS or name in ("where", "maximum", "minimum", "abs") or "libdevice" in name:
            simd += count
    return simd / steps, functions / steps


def _is_arithmetic(value: Value) -> bool:
    """Tell values that are computed with from addresses, masks and indices."""
    if value.kind == "pointer" or value.dtype in ("int1", "int32", "int64"):
        return False
    return value.has("loaded") or not value.has("arange")


def _elements(value: Value) -> float:
    return float(math.prod(extent or 1 for extent in value.shape)) if value.shape else 0.0


def _width(value: Value, default: int = 4) -> int:
    return max(1, DTYPES[value.dtype] // 8) if value.dtype in DTYPES else default


def _tensor_bytes(launch: LaunchRecord) -> float:
    return float(
        sum(math.prod(item["shape"]) * _BYTES.get(str(item["dtype"]), 4) for value in launch.arguments.values() for item in _tensors(value))
    )


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:  # Any: JSON
    if isinstance(value, Mapping) and "dtype" in value:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)
