"""Code that only a GPU's or the interpreter's habits make right is found by perturbed runs; right code is stable."""

from __future__ import annotations

import pytest

from tools.compile.perturb import perturb

pytestmark = pytest.mark.slow

HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n"
ROW_SUM = """
@triton.jit
def row_sum(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + row, tl.sum(x, axis=0))


def launch(x):
    y = torch.empty(x.shape[0])
    row_sum[(x.shape[0],)](x, y, x.shape[1], BLOCK=64)
    return y
"""
EXAMPLE = {"x": {"shape": [6, 50], "dtype": "float32"}}


def test_right_kernel_is_stable() -> None:
    report = perturb(HEADER + ROW_SUM, EXAMPLE)
    assert (report.status, report.findings) == ("stable", ())


@pytest.mark.parametrize(
    "old, new, message",
    [
        (", other=0.0", "", "masked-off lanes of a load without `other` reach 6 elements"),
        (
            "y_ptr + row, tl.sum(x, axis=0)",
            "y_ptr + row, tl.sum(x, axis=0) + tl.load(y_ptr + row - 1, mask=row > 0, other=0.0)",
            "depend on the order",
        ),
        ("y = torch.empty(x.shape[0])", "y = torch.empty(x.shape[0] + 1)", "1 elements of the output are NaN without any perturbation"),
    ],
)
def test_hidden_dependence_is_found(old: str, new: str, message: str) -> None:
    source = ROW_SUM.replace(old, new)
    if "row - 1" in new:
        source = source.replace("y = torch.empty(x.shape[0])", "y = torch.zeros(x.shape[0])")
    report = perturb(HEADER + source, EXAMPLE)
    assert report.status == "unstable" and message in report.findings[0], report


def test_error_and_hang_of_the_source_are_reported() -> None:
    assert perturb(HEADER + "def launch(x):\n    raise ValueError('no')\n", EXAMPLE).findings == ("ValueError: no (line 6 of the source)",)
    assert perturb("import time\ndef launch(x):\n    time.sleep(60)\n", EXAMPLE, timeout_s=8).status == "timeout"
