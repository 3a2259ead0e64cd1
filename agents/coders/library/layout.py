"""Where the elements of a reshaped tensor lie."""

from __future__ import annotations

from collections.abc import Sequence

from tools.expressions import TensorSpec


def reshaped(spec: TensorSpec, shape: Sequence[int]) -> TensorSpec:
    """Return what `reshape` gives: a view with its strides where dimensions can be walked as one, a contiguous copy elsewhere.

    Runs of dimensions without gaps between them are one run of memory; each run has to be cut into whole dimensions of the new shape.
    """
    copy = TensorSpec(tuple(shape), spec.dtype, ()).contiguous()
    if spec.numel == 0 or spec.is_contiguous:
        return copy
    runs: list[tuple[int, int]] = []  # elements and the stride of the last dimension, innermost first
    for size, stride in zip(reversed(spec.shape), reversed(spec.stride), strict=True):
        if size == 1:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = (runs[-1][0] * size, runs[-1][1])
        else:
            runs.append((size, stride))
    strides: list[int] = []
    place, done = 0, 1
    for size in reversed(shape):
        if size > 1 and done == runs[place][0]:
            place, done = place + 1, 1
        strides.append(runs[place][1] * done)
        done *= size
        if runs[place][0] % done:
            return copy
    return TensorSpec(tuple(shape), spec.dtype, tuple(reversed(strides)))
