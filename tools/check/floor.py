"""Times that physics rules out: the arithmetic that a problem cannot do without, over the fastest rate at which this precision could be had. Standard library only.

Only contractions whose result nothing reduces further are counted: a sum over a product, a product of three matrices or a convolution can be rewritten to take far
fewer operations, so their count bounds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tools.check.operators import CONTRACTIONS, ELEMENTWISE, arithmetic, base_name

_FEWER = (8.0 / 7.0) ** 2
"""Two levels of Strassen's algorithm do with this many times fewer operations; more lose the accuracy that is asked for."""
_CYCLES_PER_S = 6.5e9
"""Above the clock of any processor there is."""
_LANES = {"avx512f": 64.0, "avx2": 32.0, "asimd": 32.0}
"""Single-precision operations per cycle and core: two fused multiply-adds per cycle on 16 or 8 lanes (ARM: four on 4)."""
_MATRIX_UNIT = 2048.0
"""Operations per cycle and core of AMX in bfloat16 (Intel architecture manual, `amx_bf16`: 16 x 16 x 32 products in 16 cycles, two operations each, doubled for safety)."""


def needed_flops(operators: Mapping[str, int], flops: Mapping[str, float]) -> float:
    """Return the operations that no implementation can do without; 0.0 where that is not known.

    Args:
        operators: What the reference dispatches, with counts.
        flops: Operations by operator, as `torch.utils.flop_counter` counts them.
    """
    if not may_be_needed(operators):
        return 0.0
    return sum(count for name, count in flops.items() if base_name(name) in CONTRACTIONS)


def may_be_needed(operators: Mapping[str, int]) -> bool:
    """True if the reference is one contraction with nothing but elementwise operators around it."""
    names = {base_name(name): count for name, count in arithmetic(operators).items()}
    contractions = [count for name, count in names.items() if name in CONTRACTIONS]
    return sum(contractions) == 1 and not set(names) - CONTRACTIONS - ELEMENTWISE


def accelerator_peak(limits: Mapping[str, float], precision: str) -> float:
    """Return the fastest rate at which a precision class can be had on a chip, in FLOP/s; 0.0 if unknown.

    float32 can be put together from three half-precision products, float64 from many of 8-bit integers, so those rates count where they are higher.

    Args:
        limits: The chip's numbers.
        precision: As `tools.check.decision.precision_class` names it.
    """
    rate = {name.removeprefix("flops_per_s_"): value for name, value in limits.items() if name.startswith("flops_per_s_")}
    half = max(rate.get("float16", 0.0), rate.get("bfloat16", 0.0))
    if precision in ("ieee_fp32", "split_fp32"):
        return max(rate.get("float32", 0.0), half / 3.0)
    if precision == "float64":
        return max(2.0 * rate.get("float64", 0.0), rate.get("int8", 0.0) / 20.0)
    if precision == "tf32":
        return max(rate.get("tf32", 0.0), half)
    return half if precision in ("bf16", "float16", "bfloat16") else 0.0


def processor_peak(features: Collection[str], cores: int, precision: str) -> float:
    """Return a rate in FLOP/s that so many cores cannot exceed; 0.0 if unknown."""
    lanes = max((value for name, value in _LANES.items() if name in features), default=0.0)
    if "amx_bf16" in features:
        lanes = max(lanes, _MATRIX_UNIT / 3.0 if precision in ("ieee_fp32", "split_fp32") else _MATRIX_UNIT)
    elif precision not in ("ieee_fp32", "split_fp32", "float64"):
        lanes *= 4.0  # dot products of short types
    return lanes * _CYCLES_PER_S * cores


def floor_ms(flops: float, peak_flops_per_s: float) -> float:
    """Return the least time that so many operations take, in ms; 0.0 if the rate is unknown."""
    return flops / _FEWER / peak_flops_per_s * 1000.0 if peak_flops_per_s > 0 else 0.0
