"""Run kernels of the documents in Triton's interpreter against PyTorch and print one JSON line per check. Started by `test_doc_kernel_values.py`.

A script of its own: the interpreter must be chosen before triton is imported, and cannot share a process with the compiler.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import torch
from test_doc_kernels import KERNELS, load_module

DIRECTORY = Path(tempfile.mkdtemp())


def kernel(name: str) -> Any:  # Any: triton's interpreted function
    return getattr(load_module(next(k for k in KERNELS if k.kernel == name), DIRECTORY), name)


def report(name: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    error = (actual.double() - expected.double()).abs().max().item()
    sys.stdout.write(json.dumps({"check": name, "error": error, "tolerance": tolerance}) + "\n")


def rows() -> None:
    x, y = torch.randn(5, 701), torch.randn(5, 701)
    out = torch.empty_like(x)
    kernel("add_rows_kernel")[(5,)](x, y, out, 701, 701, 701, BLOCK=256)
    report("add_rows", out, x + y, 0.0)
    h, weight, bias = torch.randn(3, 700).half(), torch.randn(700).half(), torch.randn(700).half()
    normed = torch.empty_like(h)
    kernel("layer_norm_rows_kernel")[(3,)](h, weight, bias, normed, 700, 700, 1e-5, BLOCK=1024)
    report("layer_norm", normed, torch.nn.functional.layer_norm(h.double(), (700,), weight.double(), bias.double()), 8e-3)
    total = torch.empty(3, 1000)
    values = torch.randn(3, 1000)
    kernel("cumsum_rows_kernel")[(3,)](values, total, 1000, BLOCK=256)
    report("cumsum", total, values.double().cumsum(1), 1e-4)


def reductions() -> None:
    x = torch.randn(10007)
    partials, out = torch.empty(3), torch.empty(1)
    kernel("partial_sums_kernel")[(3,)](x, partials, 10007, BLOCK=256, STEPS=16)
    kernel("final_sum_kernel")[(1,)](partials, out, 3, BLOCK=16)
    report("sum", out[0], x.double().sum(), 1e-3)
    matrix, columns = torch.randn(77, 150), torch.empty(3, 150)
    kernel("column_sum_kernel")[(2, 3)](matrix, columns, 77, 150, 26, BLOCK_R=8, BLOCK_C=128)
    report("column_sum", columns.sum(0), matrix.double().sum(0), 1e-4)


def lookups() -> None:
    values, borders = torch.randn(1000), torch.sort(torch.randn(9)).values
    out = torch.empty(1000, dtype=torch.int32)
    kernel("bucketize_by_counting_kernel")[(4,)](values, borders, out, 1000, 9, BLOCK=256)
    report("bucketize", out, torch.bucketize(values, borders), 0.0)
    mapping = torch.sort(torch.randperm(5000)[:777]).values
    ids = torch.cat([mapping[:100], torch.randint(0, 5000, (500,))])
    mapped = torch.empty(600, dtype=torch.int64)
    kernel("map_ids_kernel")[(3,)](ids, mapping, mapped, 600, 777, STEPS=10, BLOCK=256)
    position = torch.bucketize(ids, mapping).clamp(max=776)
    report("map_ids", mapped, torch.where(mapping[position] == ids, position + 1, 0), 0.0)


def products() -> None:
    a, b = torch.randn(70, 50).half(), torch.randn(50, 90).half()
    c = torch.empty(70, 90).half()
    kernel("matmul_kernel")[(9,)](a, b, c, 70, 90, 50, 50, 90, 90, BM=32, BN=32, BK=16, GROUP_M=2)
    report("matmul", c, a.double() @ b.double(), 2e-2)
    x, y = (torch.randn(2, 24, 40) * 0.2).half(), torch.randn(2, 24, 100).half()
    fused = torch.empty_like(y)
    kernel("fm_gram_kernel")[(2, 1)](x, y, fused, 24, 40, 100, BN=32, BD=32, BK=128)
    report("fm", fused, x.double() @ x.double().transpose(1, 2) @ y.double(), 2e-2)
    for causal in (True, False):
        q, k, v = (torch.randn(2, 100, 64).half() for _ in range(3))
        out = torch.empty_like(q)
        kernel("attention_kernel")[(2, 2)](q, k, v, out, 100, 0.125, D=64, BM=64, BN=64, CAUSAL=causal)
        expected = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=causal)
        report(f"attention causal={causal}", out, expected, 5e-3)
    matrix, flipped = torch.randn(100, 70).half(), torch.empty(70, 100).half()
    kernel("transpose_kernel")[(2, 2)](matrix, flipped, 100, 70, BLOCK=64)
    report("transpose", flipped, matrix.T, 0.0)


if __name__ == "__main__":
    torch.manual_seed(0)
    rows()
    reductions()
    lookups()
    products()
