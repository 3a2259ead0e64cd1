"""Tolerances: honest rounding passes, lower precision and shortcuts do not, null outputs never."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from tools.check.compare import calibrate, compare, compare_exact
from tools.check.composition import composition_of, kernel_times
from tools.check.decision import describe_mismatch, native_precision_class, precision_class, reject, reject_beside
from tools.check.nulls import null_outputs
from tools.types import Composition


def verdict(actual: torch.Tensor, reference: torch.Tensor, native: torch.Tensor) -> str:
    return reject(dataclasses.asdict(compare(actual, reference, native, calibrate(reference, native))))


def product(seed: int, size: int = 192) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(size, size, generator=generator), torch.randn(size, size, generator=generator)
    return a, b, a.double() @ b.double(), a @ b


def test_another_summation_order_passes() -> None:
    a, b, reference, native = product(0)
    blocked = sum((a[:, k : k + 7] @ b[k : k + 7] for k in range(0, a.shape[1], 7)), torch.zeros_like(native))
    assert verdict(blocked, reference, native) == ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_silent_down_cast_is_wrong(dtype: torch.dtype) -> None:
    a, b, reference, native = product(1)
    assert "exceeds" in verdict((a.to(dtype) @ b.to(dtype)).float(), reference, native) or "outside" in verdict(
        (a.to(dtype) @ b.to(dtype)).float(), reference, native
    )


def test_rounding_inputs_to_tf32_is_wrong_and_named() -> None:
    a, b, reference, native = product(2)
    rounded = [((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32) for tensor in (a, b)]
    stats = dataclasses.asdict(compare(rounded[0] @ rounded[1], reference, native, calibrate(reference, native)))
    assert reject(stats)
    assert precision_class([stats]) == "tf32"


def test_pytorchs_own_output_passes_and_is_ieee() -> None:
    _, _, reference, native = product(3)
    stats = dataclasses.asdict(compare(native, reference, native, calibrate(reference, native)))
    assert reject(stats) == "" and precision_class([stats]) == "ieee_fp32"


def test_products_from_bfloat16_parts_are_a_class_of_their_own() -> None:
    a, b, reference, native = product(3)
    high = [tensor.bfloat16().float() for tensor in (a, b)]
    low = [(tensor - part).bfloat16().float() for tensor, part in zip((a, b), high, strict=True)]
    three_products = high[0] @ high[1] + high[0] @ low[1] + low[0] @ high[1]
    stats = dataclasses.asdict(compare(three_products, reference, native, calibrate(reference, native)))
    stats["rmse"] = min(stats["rmse"], 20 * 2.0**-23 * stats["rms_reference"])
    assert precision_class([stats]) == "split_fp32"


def test_where_pytorch_rounds_to_tf32_truncation_passes_and_bfloat16_does_not() -> None:
    a, b, reference, native = product(4)
    bits = [tensor.view(torch.int32) for tensor in (a, b)]
    rounded = [((tensor + 0x1000) & ~0x1FFF).view(torch.float32) for tensor in bits]
    truncated = [(tensor & ~0x1FFF).view(torch.float32) for tensor in bits]
    halves = [tensor.bfloat16().float() for tensor in (a, b)]
    allowed = rounded[0] @ rounded[1]
    bounds = calibrate(reference, native, allowed=allowed)
    for operands, is_right in ((rounded, True), (truncated, True), (halves, False)):
        stats = dataclasses.asdict(compare(operands[0] @ operands[1], reference, native, bounds, allowed))
        assert (reject({**stats, "bad": 0}) == "") is is_right
        assert not is_right or precision_class([stats]) == "tf32"


def test_a_deep_network_in_tf32_has_the_class_of_pytorchs_own() -> None:
    stats = {"dtype": "float32", "numel": 10_000, "rms_reference": 0.25, "rmse": 2.08e-3, "rmse_native": 2.07e-3, "rmse_allowed": 2.07e-3}
    assert precision_class([stats]) == "tf32"
    assert precision_class([{**stats, "rmse": 1.2e-2}]) == "bf16"


def test_small_elements_are_not_lost_among_large_ones() -> None:
    x = torch.randn(200, 300, generator=torch.Generator().manual_seed(3))
    reference, native = torch.exp(x.double() * 6), torch.exp(x * 6)
    assert verdict(torch.exp2(x * (6 / math.log(2))), reference, native) == ""
    assert "all small ones" in verdict(torch.where(x > -1.5, native, 0.0), reference, native)


def test_small_elements_that_cancellation_made_may_be_as_far_off_as_large_ones() -> None:
    _, _, reference, native = product(6)
    noisy = native + 20 * 2.0**-23 * native.std() * torch.randn(native.shape, generator=torch.Generator().manual_seed(7))
    assert verdict(noisy, reference, native) == ""


def test_every_null_output_fails_for_a_wide_softmax() -> None:
    x = torch.rand(16, 16384)
    reference, native = torch.softmax(x.double(), -1), torch.softmax(x, -1)
    for name, outputs in null_outputs([native], [x], [torch.softmax(torch.rand(16, 16384), -1)]).items():
        assert verdict(outputs[0], reference, native), name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_element_is_wrong(value: float) -> None:
    _, _, reference, native = product(4)
    actual = native.clone()
    actual[3, 5] = value
    assert "NaN or infinite" in verdict(actual, reference, native)


def test_nan_is_no_wildcard_where_the_reference_has_it() -> None:
    reference = torch.tensor([1.0, math.nan, 3.0], dtype=torch.float64)
    native = reference.float()
    assert verdict(native.clone(), reference, native) == ""
    assert verdict(torch.tensor([1.0, 2.0, 3.0]), reference, native)


def test_the_first_wrong_element_is_named() -> None:
    _, _, reference, native = product(5)
    actual = native.clone()
    actual[2, 7] += 1.0
    stats = dataclasses.asdict(compare(actual, reference, native, calibrate(reference, native)))
    assert describe_mismatch(stats, [192, 192], "output").startswith("output[2, 7]: expected")


def test_one_different_integer_is_wrong() -> None:
    values = torch.arange(100)
    changed = values.clone()
    changed[40] += 1
    assert reject(dataclasses.asdict(compare_exact(values, values, values))) == ""
    assert reject(dataclasses.asdict(compare_exact(changed, values, values)))


def test_denormals_may_be_flushed_among_larger_values_only() -> None:
    small = torch.full((100,), 1e-40)
    mixed = torch.cat([small, torch.ones(100)])
    assert verdict(torch.cat([torch.zeros(100), torch.ones(100)]), mixed.double(), mixed) == ""
    assert verdict(torch.zeros(100), small.double(), small)


def test_a_kernel_of_unknown_origin_is_never_custom(tmp_path: Path) -> None:
    blob = {"kernels": {"loaded_from_a_blob": 90.0, "Memset (Device)": 5.0}, "launches": {"decoy": 1}}
    assert composition_of([blob], [], tmp_path) is Composition.LIBRARY
    both = {"kernels": {"loaded_from_a_blob": 50.0, "mine": 50.0}, "launches": {"mine": 1}}
    assert composition_of([both], [], tmp_path) is Composition.MIXED


def test_a_kernel_that_the_candidates_own_library_defines_is_its_own(tmp_path: Path) -> None:
    library = tmp_path / "extensions" / "mine" / "mine.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF....\0_Z4reluPKfPfl\0_Z22ampere_sgemm_128x64_nnv\0_ZN3own5scaleIfEEvPT_\0")
    for name in ("relu(float const*, float*, long)", "void own::scale<float>(float*)"):
        assert composition_of([{"kernels": {name: 9.0}}], [str(library)], tmp_path) is Composition.CUSTOM
    for name in ("ampere_sgemm_128x64_nn", "void at::native::relu(float const*)", "elu(float*)"):
        assert composition_of([{"kernels": {name: 9.0}}], [str(library)], tmp_path) is Composition.LIBRARY
    assert composition_of([{"kernels": {"relu(float const*, float*, long)": 9.0}}], ["/usr/lib/mine.so"], tmp_path) is Composition.LIBRARY


@pytest.mark.parametrize("said", [None, 7, [1], {"k": "x"}, {"k": math.nan}, {"k": True}, {"k": -1.0}, {"k": 1e400}])
def test_what_a_process_says_of_its_kernels_cannot_break_the_decision(said: object, tmp_path: Path) -> None:
    trace = {"kernels": said, "launches": said, "operators": said}
    assert kernel_times([trace]) == {}
    assert composition_of([trace], [], tmp_path) is Composition.LIBRARY


def test_an_output_beside_pytorchs_own_is_right_or_of_another_draw() -> None:
    a, b, reference, native = product(5)
    judged = dataclasses.asdict(compare(native, reference, native, calibrate(reference, native)))
    blocked = sum((a[:, k : k + 7] @ b[k : k + 7] for k in range(0, a.shape[1], 7)), torch.zeros_like(native))
    for output, is_right in ((blocked, True), (native.flip(0), False), (native * 1.001, False), (native.bfloat16().float(), False)):
        stats = dataclasses.asdict(compare(output, native.double(), native, calibrate(native.double(), native)))
        assert (reject_beside(stats, judged) == "") is is_right


def test_the_baselines_class_is_its_own_whatever_the_candidates_is() -> None:
    stats = {"dtype": "float32", "numel": 9, "rms_reference": 1.0, "rmse": 3e-4, "rmse_native": 1e-7, "rmse_allowed": 3e-4}
    assert (precision_class([stats]), native_precision_class([stats])) == ("tf32", "ieee_fp32")
    assert native_precision_class([{**stats, "rmse": 1e-7, "rmse_native": 3e-4}]) == "tf32"
    assert native_precision_class([{**stats, "dtype": "bfloat16"}]) == "bfloat16" and native_precision_class([]) == "exact"
