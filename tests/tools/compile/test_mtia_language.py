"""MTIA's extensions of Triton run in the interpreter; the kernels of the MTIA documents are stable; tables, directions and barriers are judged."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from tools.compile import mtia_language
from tools.compile.perturb import perturb
from tools.docs import docs_root

HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n\n"
MAP = """
@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(y_ptr + i, BODY, mask=i < n)


def launch(x):
    y = torch.empty_like(x)
    kernel[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64, cb_multiplier=4, use_dual_core=True)
    return y
"""
LONG = {"x": {"shape": [200], "dtype": "float32"}}


@pytest.mark.parametrize("name", sorted(mtia_language.FUNCTIONS))
def test_tables_are_near_the_function_and_at_its_limits_beyond(name: str) -> None:
    x = np.linspace(0.01 if name == "log" else -20.0, 20.0, 4001)
    exact, looked_up = mtia_language.FUNCTIONS[name](x), mtia_language.table(name)(x)
    assert np.abs(looked_up - exact).max() <= 2e-3 * np.maximum(1.0, np.abs(exact)).max()
    assert np.abs(looked_up - exact).max() > 0, "a table is not the function"


def test_exact_functions_equal_those_of_the_standard_library() -> None:
    for x in (-3.0, -0.5, 0.25, 2.0):
        at = np.array([x])
        assert mtia_language.FUNCTIONS["gelu"](at)[0] == pytest.approx(x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
        assert mtia_language.FUNCTIONS["sigmoid"](at)[0] == pytest.approx(1 / (1 + math.exp(-x)))


def of_document(name: str) -> str:
    text = (docs_root() / "mtia" / f"{name}.md").read_text(encoding="utf-8")
    block = re.search(r"^```python[^\n]*\n(.*?@triton\.jit.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return "import torch\n" + ("" if "import triton" in block[1] else "import triton\nimport triton.language as tl\n\n") + block[1]


KERNELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gather_and_embedding": (
        "def launch(x, borders):\n    out = torch.zeros(x.numel(), dtype=torch.int32)\n    bucketize_by_counting_kernel[(triton.cdiv(x.numel(), 64),)](x, borders, out, x.numel(), 5, BLOCK=64)\n    return out\n",
        {"x": {"shape": [150], "dtype": "float32"}, "borders": {"shape": [5], "dtype": "float32"}},
    ),
    "programming_model": (
        "def launch(x, y):\n    out = torch.empty_like(x)\n    add_rows_kernel[(x.shape[0],)](x, y, out, x.shape[1], x.shape[1], x.shape[1], BLOCK=32)\n    return out\n",
        {"x": {"shape": [3, 50], "dtype": "float32"}, "y": {"shape": [3, 50], "dtype": "float32"}},
    ),
    "reductions_and_norms": (
        "def launch(x, w, b):\n    out = torch.empty_like(x)\n    layer_norm_rows_kernel[(x.shape[0],)](x, w, b, out, x.shape[1], x.shape[1], 1e-5, BLOCK=64)\n    return out\n",
        {"x": {"shape": [3, 50], "dtype": "float16"}, "w": {"shape": [50], "dtype": "float16"}, "b": {"shape": [50], "dtype": "float16"}},
    ),
    "vector_and_sfu": (MAP.replace("BODY", "sigmoid_fp32(x)"), LONG),
    "waves_and_launch": (
        "def launch(x):\n    out = torch.empty_like(x)\n    persistent_kernel[(2,)](x, out, x.numel(), triton.cdiv(x.numel(), 32), PROGRAMS=2, BLOCK=32)\n    return out\n",
        LONG,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_kernels_of_the_mtia_documents_are_stable_under_every_perturbation(name: str) -> None:
    launch, example = KERNELS[name]
    report = perturb(of_document(name) + "\n\n" + launch, example)
    assert (report.status, report.findings) == ("stable", ())


@pytest.mark.slow
def test_table_functions_that_a_kernel_tolerates_pass_and_a_difference_of_them_is_found() -> None:
    right = perturb(HEADER + MAP.replace("BODY", "tl.extra.libdevice.sigmoid(x) + tl.extra.libdevice.gelu(x)"), LONG)
    assert (right.status, right.findings) == ("stable", ())
    cancels = perturb(HEADER + MAP.replace("BODY", "(tl.extra.libdevice.sigmoid(x) - 1.0 / (1.0 + tl.exp(-x))) * 1e6"), LONG)
    assert cancels.status == "unstable" and "lookup tables of sigmoid change" in cancels.findings[0]


DIRECTED = """
@triton.jit
def kernel(w_ptr, x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    BEFORE
    tl.pe_runtime_barrier()
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(y_ptr + i, tl.copy(x) * w, mask=i < n)


def launch(w, x):
    y = torch.empty_like(x)
    kernel[(triton.cdiv(x.numel(), 64),)](w, x, y, x.numel(), BLOCK=64)
    return y
"""
WEIGHTED = {"w": {"shape": [4], "dtype": "float32"}, **LONG}


@pytest.mark.slow
def test_programs_that_take_part_differently_in_a_broadcast_block_each_other() -> None:
    same = perturb(HEADER + DIRECTED.replace("BEFORE", 'w = tl.load(w_ptr, direction="down")'), WEIGHTED)
    assert (same.status, same.findings) == ("stable", ())
    branch = 'w = tl.load(w_ptr)\n    if tl.program_id(0) > 0:\n        w = tl.load(w_ptr, direction="down")'
    differs = perturb(HEADER + DIRECTED.replace("BEFORE", branch), WEIGHTED)
    assert differs.status == "unstable" and "they block each other" in differs.findings[0] and "load down" in differs.findings[0]
    consumed = branch + "\n    else:\n        tl.consume()"
    assert perturb(HEADER + DIRECTED.replace("BEFORE", consumed), WEIGHTED).status == "stable", "who consumes takes part"
    wrong = perturb(HEADER + DIRECTED.replace("BEFORE", 'w = tl.load(w_ptr, direction="up")'), WEIGHTED)
    assert wrong.status == "error" and "no direction 'up'; known: down, right" in wrong.findings[0]


@pytest.mark.slow
def test_a_directional_store_adds_up() -> None:
    source = """
@triton.jit
def kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + i)
    tl.store(y_ptr + i, x, direction="down")


def launch(x):
    y = torch.zeros(x.shape[1])
    kernel[(x.shape[0],)](x, y, BLOCK=x.shape[1])
    assert torch.allclose(y, x.sum(0), atol=1e-5), (y, x.sum(0))
    return y
"""
    report = perturb(HEADER + source, {"x": {"shape": [3, 16], "dtype": "float32"}})
    assert (report.status, report.findings) == ("stable", ())
