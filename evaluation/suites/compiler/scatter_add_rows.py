# mypy: ignore-errors
"""Rows added atomically to the rows that an index names."""

import torch
import triton
import triton.language as tl


@triton.jit
def scatter_add_rows(x_ptr, index_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    to = tl.load(index_ptr + row)
    for start in range(0, columns, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row.to(tl.int64) * columns + c, mask=c < columns, other=0.0)
        tl.atomic_add(out_ptr + to * columns + c, x, mask=c < columns, sem="relaxed")


def launch(x, index, rows):
    out = torch.zeros((rows, x.shape[1]), device=x.device, dtype=x.dtype)
    scatter_add_rows[(x.shape[0],)](x, index, out, x.shape[1], BLOCK=512, num_warps=4)
    return out


EXAMPLE = {"x": {"shape": [5000, 768], "dtype": "float32"}, "index": {"shape": [5000], "dtype": "int64"}, "rows": 1000}
