"""Decide from error statistics whether an output is right, and name its precision class. Standard library only: the parent runs this."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Distance from 1 to the next number, per dtype (IEEE 754; bfloat16: 8 significand bits)."""
RMSE_FACTOR = 8.0
"""An output may have this many times the root mean square error of PyTorch's own implementation, or of the rounding that PyTorch's settings allow."""
_ROUNDED_FROM = 2.0**-14
"""A root mean square error above this share of a float32 output's is that of rounded operands (TF32 is 2^-12 off, float32 2^-24)."""
_ROUNDED_FACTOR = 4.0
"""What takes the place of `RMSE_FACTOR` there: TF32 by truncation is twice as far off as TF32 by rounding, bfloat16 eight times."""
RMSE_FLOOR_EPSILONS = {"float64": 64.0, "float32": 24.0, "bfloat16": 1.0, "float16": 1.0}
"""… or this many epsilons of the output's root mean square, whichever is larger: another summation order is no mistake (TF32 is 500 or more epsilons away)."""
_IEEE_EPSILONS = 4.0
_IEEE_FACTOR = 4.0
LOST = {"float64": 1e-4, "float32": 1e-2, "bfloat16": 0.25, "float16": 0.25}
"""Elements of one magnitude that are further off than this share of it are lost, however large others are: see `tools.check.compare.lost_share`."""
HARD_CAP = {"float64": 1e-6, "float32": 2e-2, "bfloat16": 0.25, "float16": 0.25}
"""Where PyTorch itself has elements outside the bound (an operator with jumps), no error may exceed this share of the output's root mean square, or eight times PyTorch's largest."""

_FAR_FACTOR = 2.0
_FAR_SHARE = 1e-2
"""A null output is far off from these multiples of what is allowed, and of the output, on."""
_BESIDE_FACTOR = 4.0
_BESIDE_SHARE = 1e-3
_BESIDE_TOLERANCE = {"float64": 1e-7, "float32": 1e-4, "bfloat16": 1.6e-2, "float16": 1e-2}
"""Bounds for an output that is compared with PyTorch's own: wide, since both sides err; another draw's output is a thousandth or more away."""


def reject(stats: Mapping[str, Any]) -> str:  # Any: JSON numbers of ErrorStats
    """Return why an output is wrong, in one sentence; empty if it is right."""
    numel, dtype = int(stats["numel"]), str(stats["dtype"])
    if numel == 0:
        return ""
    if stats["class_mismatches"] > 0:
        return f"{_share(stats['class_mismatches'], numel)} of the elements are NaN or infinite where the reference is not, or the other way round"
    if not all(math.isfinite(float(stats[name])) for name in ("rmse", "rms_reference", "max_error")):
        return "the error is not a finite number"
    allowed_bad = 2 * int(stats["bad_allowed"])
    if int(stats["bad"]) > allowed_bad:
        return f"{_share(stats['bad'], numel)} of the elements are outside the tolerance"
    if dtype not in EPSILON:
        return ""
    limit = rmse_limit(stats)
    if float(stats["rmse"]) > limit:
        relative = float(stats["rmse"]) / max(float(stats["rms_reference"]), 1e-300)
        return f"the root mean square error, {relative:.2g} of the output's, exceeds the {limit / max(float(stats['rms_reference']), 1e-300):.2g} that this precision allows"
    cap = max(HARD_CAP[dtype] * float(stats["rms_reference"]), RMSE_FACTOR * float(stats["max_error_allowed"]))
    if allowed_bad and float(stats["max_error"]) > cap:
        return f"the largest error, {float(stats['max_error']):.3g}, exceeds the cap of {cap:.3g}"
    if float(stats.get("lost", 0.0)) > 0.0:
        return f"{float(stats['lost']):.1%} of the elements, all small ones, are more than {LOST[dtype]:g} of their size off, where PyTorch's are right to the last digits"
    return ""


def rmse_limit(stats: Mapping[str, Any]) -> float:  # Any: JSON numbers of ErrorStats
    """Return the largest root mean square error that is accepted."""
    dtype = str(stats["dtype"])
    rms = float(stats["rms_reference"])
    floor = RMSE_FLOOR_EPSILONS[dtype] * EPSILON[dtype] * rms
    return max(_rmse_factor(dtype, float(stats["rmse_allowed"]), rms) * float(stats["rmse_allowed"]), floor)


def _rmse_factor(dtype: str, rmse: float, rms: float) -> float:
    return _ROUNDED_FACTOR if dtype == "float32" and rmse >= _ROUNDED_FROM * rms else RMSE_FACTOR


def passing_nulls(nulls: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:  # Any: JSON numbers of ErrorStats
    """Return the names of the null outputs that would pass on every draw they were tried on; statistics by name, draw and output."""
    return [
        name
        for name, draws in nulls.items()
        if draws and all(not reject(stats) for draw in draws for stats in draw) and _covers(name, len(draws))
    ]


def doubtful_nulls(nulls: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:  # Any: as above
    """Return the names of the null outputs that pass, or would with bounds a little wider, so that chance decides from draw to draw."""
    return [
        name
        for name, draws in nulls.items()
        if draws and all(_is_doubtful(stats) for draw in draws for stats in draw) and _covers(name, len(draws))
    ]


def _is_doubtful(stats: Mapping[str, Any]) -> bool:  # Any: JSON numbers of ErrorStats
    if not reject(stats):
        return True
    return (
        str(stats["dtype"]) in EPSILON and int(stats["class_mismatches"]) == 0 and float(stats["rmse"]) <= _FAR_FACTOR * rmse_limit(stats)
    )


def far_off(nulls: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], names: Collection[str]) -> bool:  # Any: as above
    """True if no null output passes on any draw, those named by far: wider bounds, such as those beside PyTorch's own results, would refuse them as well."""
    return all(
        any(_is_far(item) if name in names else bool(reject(item)) for item in draw) for name, draws in nulls.items() for draw in draws
    )


def _is_far(stats: Mapping[str, Any]) -> bool:  # Any: JSON numbers of ErrorStats
    if not reject(stats):
        return False
    if str(stats["dtype"]) not in EPSILON:
        return int(stats["bad"]) > _FAR_SHARE * int(stats["numel"])
    return float(stats["rmse"]) > max(_FAR_FACTOR * rmse_limit(stats), _FAR_SHARE * float(stats["rms_reference"]))


def _covers(name: str, draws: int) -> bool:
    """True if the null was tried on every draw (a replay: on the second one)."""
    return draws >= (1 if name == "replay" else 2)


def reject_beside(stats: Mapping[str, Any], judged: Mapping[str, Any]) -> str:  # Any: JSON numbers of ErrorStats
    """Return why an output that was compared with PyTorch's own in place of the float64 reference is wrong; empty if it may be right.

    Args:
        stats: The output's, with PyTorch's result in the place of the reference.
        judged: Those of another output of the same series, compared with the float64 reference and found right: they say how far PyTorch itself is off.
    """
    numel, dtype = int(stats["numel"]), str(stats["dtype"])
    if numel == 0:
        return ""
    if stats["class_mismatches"] > 0 or not math.isfinite(float(stats["rmse"])):
        return f"{_share(stats['class_mismatches'], numel)} of the elements are NaN or infinite where PyTorch's are not, or the other way round"
    if dtype not in EPSILON:
        allowed = _BESIDE_FACTOR * max(int(judged["bad_allowed"]), int(judged["bad"])) + _BESIDE_SHARE * numel
        return f"{_share(stats['bad'], numel)} of the elements differ from PyTorch's" if int(stats["bad"]) > allowed else ""
    limit = max(_BESIDE_FACTOR * rmse_limit(judged), _BESIDE_TOLERANCE[dtype] * float(stats["rms_reference"]))
    return (
        f"the root mean square difference from PyTorch's, {float(stats['rmse']):.3g}, exceeds {limit:.3g}"
        if float(stats["rmse"]) > limit
        else ""
    )


def describe_mismatch(stats: Mapping[str, Any], shape: Sequence[int], name: str) -> str:  # Any: JSON numbers of ErrorStats
    """Return index, expected and actual value of the first bad element with the share of bad elements."""
    if int(stats["first_index"]) < 0:
        return f"{name}: no single element is far off; root mean square error {float(stats['rmse']):.3g}, PyTorch's own {float(stats['rmse_native']):.3g}"
    index, rest = [], int(stats["first_index"])
    for size in reversed(shape):
        index.append(rest % size)
        rest //= size
    place = ", ".join(str(item) for item in reversed(index))
    return (
        f"{name}[{place}]: expected {float(stats['first_expected']):.7g}, got {float(stats['first_actual']):.7g}; "
        f"{_share(stats['bad'], int(stats['numel']))} of {int(stats['numel'])} elements wrong; shape {tuple(shape)}"
    )


def precision_class(stats: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON numbers of ErrorStats
    """Return the class of the worst relative error among outputs: for float32 `ieee_fp32`, `split_fp32`, `tf32` or `bf16`; otherwise the output dtype; `exact` for integers.

    `ieee_fp32`: at most 4 float32 epsilons of relative root mean square error, or 4 times PyTorch's own; `split_fp32`: accepted as float32 but further off, as
    products from bfloat16 or TF32 parts and long plain sums are; `tf32`: below 2^-10, or at most 4 times what TF32, or PyTorch's own, comes to in this problem (a
    deep network adds up its layers' errors); `bf16`: above.
    """
    floating = [item for item in stats if str(item["dtype"]) in EPSILON]
    if not floating:
        return "exact"
    if any(str(item["dtype"]) != "float32" for item in floating):
        return str(floating[0]["dtype"])
    relative = max(float(item["rmse"]) / max(float(item["rms_reference"]), 1e-300) for item in floating)
    native = max(float(item["rmse_native"]) / max(float(item["rms_reference"]), 1e-300) for item in floating)
    if relative <= max(_IEEE_EPSILONS * EPSILON["float32"], _IEEE_FACTOR * native) and native < _ROUNDED_FROM:
        return "ieee_fp32"
    if relative <= RMSE_FLOOR_EPSILONS["float32"] * EPSILON["float32"] or (relative <= RMSE_FACTOR * native and native < _ROUNDED_FROM):
        return "split_fp32"
    allowed = max(float(item.get("rmse_allowed", item["rmse_native"])) / max(float(item["rms_reference"]), 1e-300) for item in floating)
    return "tf32" if relative <= max(2.0**-10, _ROUNDED_FACTOR * allowed) else "bf16"


def native_precision_class(stats: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON numbers of ErrorStats
    """Return the class of PyTorch's own outputs, the eager baseline's, by the same measure."""
    return precision_class([{**item, "rmse": item["rmse_native"]} for item in stats])


def _share(count: float, total: int) -> str:
    share = count / total
    return f"{share:.2%}" if share >= 0.0001 else f"{int(count)} of {total}"
