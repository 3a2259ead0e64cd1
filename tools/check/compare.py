"""Numbers that describe how far an output is from the float64 reference. Imports torch; runs in the trusted reference process only.

All arithmetic is in float64, chunk by chunk, on the reference's device.
"""

from __future__ import annotations

import dataclasses
import math
import secrets

import torch

from tools.check.decision import EPSILON, LOST

_CHUNK = 1 << 24
_SAMPLE = 1 << 18
_BINADES = 8
"""Powers of two that count as one magnitude."""
_LEAST_SHARE, _LEAST_COUNT = 0.01, 64
"""Magnitudes with fewer elements say nothing."""
_ACCURATE_EPSILONS = {"float64": 16.0, "float32": 16.0, "bfloat16": 2.0, "float16": 2.0}
_LEAST_EXPONENT = {"float64": -900, "float32": -100, "bfloat16": -100, "float16": -14}
"""Smaller elements may be flushed to zero."""


@dataclasses.dataclass(frozen=True)
class ErrorStats:
    """Distance of one output tensor from the reference, beside the distance of PyTorch's own implementation in the output's precision."""

    dtype: str
    numel: int
    class_mismatches: int
    """Elements that are NaN, +inf, -inf or finite where the reference (and PyTorch) say otherwise."""
    rms_reference: float
    rmse: float
    """Root mean square error over the elements that are finite everywhere."""
    rmse_native: float
    rmse_allowed: float
    """The larger of PyTorch's and that of the rounding that its settings allow, where another choice of its own would round (TF32 in convolutions)."""
    max_error: float
    max_error_native: float
    max_error_allowed: float
    bad: int
    """Elements outside the elementwise bound (for integers: different elements)."""
    bad_native: int
    """The same count for PyTorch's own implementation."""
    bad_allowed: int
    first_index: int = -1
    """Flat index of the first bad element; -1 if there is none."""
    first_expected: float = math.nan
    first_actual: float = math.nan
    lost: float = 0.0
    """Share of the elements that are lost among larger ones (`lost_share`)."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Elementwise bound: |error| <= atol + rtol * |reference|, `atol` already scaled to the output."""

    atol: float
    rtol: float


BASE_TOLERANCE = {"float64": 1e-7, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1.6e-2}
"""atol and rtol per output dtype for outputs of magnitude 1. float32: KernelBench's own (v0.1, `get_tolerance_for_precision`), taken as the upper bound."""
_NATIVE_FACTOR = 6.0
_NATIVE_CAP = 1e-2


def calibrate(
    reference: torch.Tensor, native: torch.Tensor, declared: dict[str, float] | None = None, allowed: torch.Tensor | None = None
) -> Bounds:
    """Return the elementwise bound for an output; `allowed` is the output with the rounding that PyTorch's settings allow, if they allow any.

    The absolute part shrinks with outputs smaller than 1 (a zero output must not pass for a softmax over 16,384 columns) and grows to six times the largest error of PyTorch's own
    implementation, at most to 1 % of the output's root mean square, so that cancellation does not fail an honest kernel.
    """
    base = BASE_TOLERANCE.get(str(native.dtype).removeprefix("torch."), 1e-4)
    rtol = min(base, declared.get("rtol", base)) if declared else base
    atol = min(base, declared.get("atol", base)) if declared else base
    rms, worst = _rms_and_worst(reference, native)
    if allowed is not None:
        worst = max(worst, _rms_and_worst(reference, allowed)[1])
    return Bounds(atol=max(atol * min(1.0, rms), min(_NATIVE_FACTOR * worst, _NATIVE_CAP * rms)), rtol=rtol)


def compare(
    actual: torch.Tensor, reference: torch.Tensor, native: torch.Tensor, bounds: Bounds, allowed: torch.Tensor | None = None
) -> ErrorStats:
    """Return the statistics of `actual` against `reference` (float64, or equal dtype for integers), all of one shape; `allowed` as for `calibrate`."""
    totals = dict.fromkeys(
        ("classes", "square_ref", "square", "square_native", "square_allowed", "finite", "bad", "bad_native", "bad_allowed"), 0.0
    )
    worst = worst_native = worst_allowed = 0.0
    first = (-1, math.nan, math.nan)
    flat = [tensor.reshape(-1) for tensor in (actual, reference, native)]
    for start in range(0, actual.numel(), _CHUNK):
        a, r, n = (tensor[start : start + _CHUNK].to(reference.device).to(torch.float64) for tensor in flat)
        rounded = r.to(native.dtype).to(torch.float64) if native.dtype.is_floating_point else r
        settled = _classes(rounded) == _classes(n)
        wrong_class = settled & (_classes(a) != _classes(n))
        finite = torch.isfinite(a) & torch.isfinite(r) & torch.isfinite(n)
        error = torch.where(finite, (a - r).abs(), 0.0)
        error_native = torch.where(finite, (n - r).abs(), 0.0)
        limit = bounds.atol + bounds.rtol * torch.where(finite, r.abs(), 0.0)
        bad = wrong_class | (error > limit)
        totals["classes"] += int(wrong_class.sum())
        totals["finite"] += int(finite.sum())
        totals["square_ref"] += float(torch.where(finite, r * r, 0.0).sum())
        totals["square"] += float((error * error).sum())
        totals["square_native"] += float((error_native * error_native).sum())
        totals["bad"] += int(bad.sum())
        totals["bad_native"] += int((error_native > limit).sum())
        worst, worst_native = max(worst, float(error.max())), max(worst_native, float(error_native.max()))
        if allowed is not None:
            w = allowed.reshape(-1)[start : start + _CHUNK].to(reference.device).to(torch.float64)
            error_allowed = torch.where(finite & torch.isfinite(w), (w - r).abs(), 0.0)
            totals["square_allowed"] += float((error_allowed * error_allowed).sum())
            totals["bad_allowed"] += int((error_allowed > limit).sum())
            worst_allowed = max(worst_allowed, float(error_allowed.max()))
        if first[0] < 0 and bool(bad.any()):
            place = int(bad.to(torch.uint8).argmax())
            first = (start + place, float(r[place]), float(a[place]))
    count = max(totals["finite"], 1.0)
    return ErrorStats(
        dtype=str(native.dtype).removeprefix("torch."),
        numel=actual.numel(),
        class_mismatches=int(totals["classes"]),
        rms_reference=math.sqrt(totals["square_ref"] / count),
        rmse=math.sqrt(totals["square"] / count),
        rmse_native=math.sqrt(totals["square_native"] / count),
        rmse_allowed=math.sqrt(max(totals["square_native"], totals["square_allowed"]) / count),
        max_error=worst,
        max_error_native=worst_native,
        max_error_allowed=max(worst_native, worst_allowed),
        bad=int(totals["bad"]),
        bad_native=int(totals["bad_native"]),
        bad_allowed=int(max(totals["bad_native"], totals["bad_allowed"])),
        first_index=first[0],
        first_expected=first[1],
        first_actual=first[2],
        lost=lost_share(flat[0], flat[1], flat[2] if allowed is None else allowed.reshape(-1)),
    )


def lost_share(actual: torch.Tensor, reference: torch.Tensor, native: torch.Tensor) -> float:
    """Return the share of the elements that are lost among larger ones: their magnitude is wrong, and PyTorch has it right to the last digits.

    A tolerance that follows the largest elements lets others be anything. So elements are taken together by magnitude; where PyTorch's have a few epsilons of relative
    error (no cancellation made them small), the candidate's may have `tools.check.decision.LOST`. A random sample of at most 2^18 elements is looked at.

    Args:
        actual: One output, flat.
        reference: The same in float64.
        native: PyTorch's own, or what its settings allow.
    """
    dtype = str(native.dtype).removeprefix("torch.")
    step = (actual.numel() // _SAMPLE + 1) | 1
    start = secrets.randbelow(min(step, max(actual.numel(), 1)))
    a, r, n = (tensor[start::step].to(reference.device).to(torch.float64) for tensor in (actual, reference, native))
    used = torch.isfinite(a) & torch.isfinite(r) & torch.isfinite(n) & (r.abs() > 2.0 ** _LEAST_EXPONENT.get(dtype, 0))
    a, r, n = a[used], r[used], n[used]
    if dtype not in LOST or r.numel() < _LEAST_COUNT:
        return 0.0
    magnitude = torch.div(torch.frexp(r)[1], _BINADES, rounding_mode="floor").to(torch.int64)
    magnitude -= magnitude.min()
    if int(magnitude.max()) == 0:
        return 0.0
    count = torch.bincount(magnitude).double()
    size, error, error_native = (torch.bincount(magnitude, weights=values.square()) for values in (r, a - r, n - r))
    counts = (count >= max(_LEAST_COUNT, _LEAST_SHARE * r.numel())) & (size > 0)
    accurate = error_native <= (_ACCURATE_EPSILONS[dtype] * EPSILON[dtype]) ** 2 * size
    lost = counts & accurate & (error > LOST[dtype] ** 2 * size)
    return float(count[lost].sum()) / float(r.numel())


def compare_exact(actual: torch.Tensor, reference: torch.Tensor, native: torch.Tensor) -> ErrorStats:
    """Return the statistics of an integer or boolean output, where every difference counts."""
    square = worst = worst_native = 0.0
    bad = bad_native = 0
    first = (-1, math.nan, math.nan)
    flat = [tensor.reshape(-1) for tensor in (actual, reference, native)]
    for start in range(0, actual.numel(), _CHUNK):
        a, r, n = (tensor[start : start + _CHUNK].to(reference.device) for tensor in flat)
        differs = a != r
        bad, bad_native = bad + int(differs.sum()), bad_native + int((n != r).sum())
        wide = r.double()
        square += float(wide.square().sum())
        worst, worst_native = max(worst, float((a.double() - wide).abs().max())), max(worst_native, float((n.double() - wide).abs().max()))
        if first[0] < 0 and bool(differs.any()):
            place = int(differs.to(torch.uint8).argmax())
            first = (start + place, float(r[place]), float(a[place]))
    return ErrorStats(
        dtype=str(native.dtype).removeprefix("torch."),
        numel=actual.numel(),
        class_mismatches=0,
        rms_reference=math.sqrt(square / max(actual.numel(), 1)),
        rmse=0.0,
        rmse_native=0.0,
        rmse_allowed=0.0,
        max_error=worst,
        max_error_native=worst_native,
        max_error_allowed=worst_native,
        bad=bad,
        bad_native=bad_native,
        bad_allowed=bad_native,
        first_index=first[0],
        first_expected=first[1],
        first_actual=first[2],
    )


def _classes(values: torch.Tensor) -> torch.Tensor:
    """Return 0 for finite, 1 for NaN, 2 for +inf, 3 for -inf."""
    return torch.isnan(values).to(torch.int8) + 2 * (values == math.inf).to(torch.int8) + 3 * (values == -math.inf).to(torch.int8)


def _rms_and_worst(reference: torch.Tensor, native: torch.Tensor) -> tuple[float, float]:
    square = count = worst = 0.0
    flat_reference, flat_native = reference.reshape(-1), native.reshape(-1)
    for start in range(0, reference.numel(), _CHUNK):
        r = flat_reference[start : start + _CHUNK].to(torch.float64)
        n = flat_native[start : start + _CHUNK].to(torch.float64).to(r.device)
        finite = torch.isfinite(r) & torch.isfinite(n)
        square += float(torch.where(finite, r * r, 0.0).sum())
        count += int(finite.sum())
        worst = max(worst, float(torch.where(finite, (n - r).abs(), 0.0).max()))
    return math.sqrt(square / max(count, 1.0)), worst
