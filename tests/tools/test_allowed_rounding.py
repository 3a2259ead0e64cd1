"""The rounding that PyTorch's settings allow, whatever it does itself."""

from __future__ import annotations

import math

import torch

from tools.check.compare import calibrate, compare
from tools.check.decision import reject, rmse_limit
from tools.worker.allowed import Tf32Operands, to_tf32


def test_numbers_are_rounded_to_ten_bits_after_the_point_and_special_values_stay() -> None:
    values = torch.tensor([1.0, 1.0 + 2.0**-10, 1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, -3.14159265, 0.0, 1e-42, math.inf, -math.inf])
    rounded = to_tf32(values)
    assert rounded.tolist()[:4] == [1.0, 1.0 + 2.0**-10, 1.0, 1.0 + 2.0**-9]
    assert abs(float(rounded[4]) + 3.14159265) <= 2.0**-10 and bool((to_tf32(rounded) == rounded).all())
    assert rounded.tolist()[7:] == [math.inf, -math.inf] and bool(to_tf32(torch.tensor([math.nan])).isnan())
    largest = torch.tensor([torch.finfo(torch.float32).max])
    assert bool(torch.isfinite(to_tf32(largest)))


def test_only_convolutions_are_rounded_unless_products_are_allowed_too() -> None:
    torch.manual_seed(0)
    image, weight, matrix = torch.randn(2, 8, 12, 12), torch.randn(16, 8, 3, 3), torch.randn(32, 32)
    with torch.no_grad(), Tf32Operands() as mode:
        product = matrix @ matrix
    assert not mode.used and torch.equal(product, matrix @ matrix)
    with torch.no_grad(), Tf32Operands() as mode:
        made = torch.nn.functional.conv2d(image, weight)
    assert mode.used and torch.equal(made, torch.nn.functional.conv2d(to_tf32(image), to_tf32(weight)))
    with torch.no_grad(), Tf32Operands(matmul=True) as mode:
        product = matrix @ matrix
    assert mode.used and not torch.equal(product, matrix @ matrix)


def test_output_at_the_accuracy_that_the_settings_allow_is_right_though_pytorch_itself_was_closer() -> None:
    torch.manual_seed(0)
    image, weight = torch.randn(4, 8, 24, 24), 0.1 * torch.randn(32, 8, 3, 3)
    image[0, 0, 3, 3] = 1e4  # what it touches is far off beside all others, by PyTorch's settings, too
    convolution = torch.nn.functional.conv2d
    reference, native = convolution(image.double(), weight.double()), convolution(image, weight)
    rounded = convolution(to_tf32(image), to_tf32(weight))
    half = convolution(image.bfloat16().float(), weight.bfloat16().float()).bfloat16().float()

    def reason(actual: torch.Tensor, allowed: torch.Tensor | None) -> str:
        return reject(vars(compare(actual, reference, native, calibrate(reference, native, None, allowed), allowed)))

    assert reason(rounded, None) and not reason(rounded, rounded)
    assert reason(half, rounded), "bfloat16 is not TF32"
    assert not reason(native, rounded)
    stats = vars(compare(native, reference, native, calibrate(reference, native, None, rounded), rounded))
    assert stats["rmse_native"] < stats["rmse_allowed"] < rmse_limit(stats)
