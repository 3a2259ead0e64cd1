# mypy: ignore-errors
"""The gradient of a row LayerNorm with respect to its input."""

import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_backward(dy_ptr, x_ptr, w_ptr, dx_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * columns
    c = tl.arange(0, BLOCK)
    inside = c < columns
    x = tl.load(x_ptr + row + c, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + row + c, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + c, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / columns
    centred = tl.where(inside, x - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / columns + eps)
    normal, g = centred * rstd, dy * w
    dx = (g - tl.sum(g, 0) / columns - normal * (tl.sum(g * normal, 0) / columns)) * rstd
    tl.store(dx_ptr + row + c, dx.to(dx_ptr.dtype.element_ty), mask=inside)


def launch(dy, x, weight, eps=1e-5):
    dx = torch.empty_like(x)
    layer_norm_backward[(x.shape[0],)](dy, x, weight, dx, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]), num_warps=8)
    return dx


EXAMPLE = {name: {"shape": [2048, 4000], "dtype": "float16"} for name in ("dy", "x")} | {"weight": {"shape": [4000], "dtype": "float16"}}
