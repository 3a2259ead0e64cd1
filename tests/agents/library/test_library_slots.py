"""Addresses of broadcast tensors, against numpy's own broadcasting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.coders.library.graph import TensorSpec
from agents.coders.library.slots import address


def _offsets(spec: TensorSpec, context: tuple[int, ...], columns: int) -> list[int]:
    where = address(spec, context, columns)
    rows = math.prod(context) // columns
    text = " + ".join(part for part in (where.row, where.col) if part) or "0"
    return [eval(text, {"row": row, "col": col}) for row in range(rows) for col in range(columns)]


def _expected(spec: TensorSpec, context: tuple[int, ...]) -> list[int]:
    offsets = sum(
        (np.arange(size) * stride).reshape([-1 if i == axis else 1 for i in range(spec.ndim)])
        for axis, (size, stride) in enumerate(zip(spec.shape, spec.stride, strict=True))
    )
    return [int(item) for item in np.broadcast_to(np.asarray(offsets), context).reshape(-1)]


@st.composite
def _cases(draw: st.DrawFn) -> tuple[TensorSpec, tuple[int, ...], int]:
    context = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    own = context[draw(st.integers(0, len(context))) :]
    shape = tuple(draw(st.sampled_from([size, 1])) for size in own)
    order = draw(st.permutations(range(len(shape))))
    stride, step = [0] * len(shape), 1
    for axis in order:
        stride[axis] = step
        step *= shape[axis]
    total = math.prod(context)
    columns = draw(st.sampled_from([size for size in range(1, total + 1) if total % size == 0]))
    return TensorSpec(shape, "float32", tuple(stride)), context, columns


@given(_cases())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_address_equals_numpy_broadcasting(case: tuple[TensorSpec, tuple[int, ...], int]) -> None:
    spec, context, columns = case
    assert _offsets(spec, context, columns) == _expected(spec, context)


@pytest.mark.parametrize(
    ("shape", "context", "columns", "row", "col"),
    [
        ((128, 1, 1), (8, 128, 16, 16), 256, "(row % 128)", ""),
        ((4096,), (32, 4096), 4096, "", "col"),
        ((32, 4096), (32, 4096), 4096, "row * 4096", "col"),
        ((), (32, 4096), 4096, "", ""),
    ],
)
def test_common_broadcasts_need_no_needless_arithmetic(
    shape: tuple[int, ...], context: tuple[int, ...], columns: int, row: str, col: str
) -> None:
    where = address(TensorSpec(shape, "float32", ()).contiguous(), context, columns)
    assert (where.row, where.col) == (row, col)
