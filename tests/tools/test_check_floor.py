"""Which times physics rules out."""

from __future__ import annotations

import pytest

from tools.check.floor import accelerator_peak, floor_ms, needed_flops, processor_peak

H100 = {
    "flops_per_s_float32": 6.69e13,
    "flops_per_s_tf32": 4.947e14,
    "flops_per_s_float16": 9.894e14,
    "flops_per_s_float64": 3.35e13,
    "dram_gb_per_s": 3350.0,
}


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ({"aten.mm.default": 1}, 100.0),
        ({"aten.addmm.default": 1, "aten.relu.default": 1, "aten.view.default": 3}, 100.0),
        ({"aten.mm.default": 2}, 0.0),  # (x a) b may be x (a b)
        ({"aten.mm.default": 1, "aten.sum.dim_IntList": 1}, 0.0),  # the sum may come first
        ({"aten.convolution.default": 1}, 0.0),  # Winograd, Fourier
        ({"aten.mm.default": 1, "aten.triu.default": 1}, 0.0),  # half of it is thrown away
        ({"aten.diag.default": 1, "aten.mm.default": 1}, 0.0),
        ({"aten.relu.default": 1}, 0.0),
    ],
)
def test_only_what_nobody_can_do_without_counts(operators: dict[str, int], expected: float) -> None:
    contraction = next((name.split(".")[1] for name in operators if "mm" in name), "mm")
    assert needed_flops(operators, {f"aten.{contraction}": 100.0, "aten.other": 7.0}) == expected


def test_rates_are_the_fastest_that_a_precision_can_be_had_at() -> None:
    assert accelerator_peak(H100, "ieee_fp32") == pytest.approx(9.894e14 / 3)  # three half-precision products
    assert accelerator_peak(H100, "tf32") == 9.894e14
    assert accelerator_peak(H100, "float64") == 6.7e13
    assert accelerator_peak(H100, "exact") == 0.0 and accelerator_peak({}, "ieee_fp32") == 0.0


def test_a_product_of_4096_takes_at_least_a_third_of_a_millisecond_in_float32() -> None:
    assert floor_ms(2 * 4096**3, accelerator_peak(H100, "ieee_fp32")) == pytest.approx(0.3191, rel=1e-3)
    assert floor_ms(1e12, 0.0) == 0.0


def test_more_cores_and_wider_vectors_allow_more() -> None:
    one = processor_peak({"avx2"}, 1, "ieee_fp32")
    assert processor_peak({"avx2"}, 8, "ieee_fp32") == 8 * one
    assert processor_peak({"avx2", "avx512f"}, 1, "ieee_fp32") == 2 * one
    assert processor_peak({"avx512f", "amx_bf16"}, 1, "bfloat16") > processor_peak({"avx512f", "amx_bf16"}, 1, "ieee_fp32") > 2 * one
    assert processor_peak(set(), 4, "ieee_fp32") == 0.0
