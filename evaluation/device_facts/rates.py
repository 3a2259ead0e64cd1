"""What the matrix units, the multiply-add and the special-function units give when memory is out of the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton.language as tl

from evaluation.device_facts import assembly, kernels
from evaluation.device_facts.groups import Arm, Group, Setting

_TILES = ((64, 64, 4), (64, 128, 4), (64, 256, 4), (128, 64, 4), (128, 128, 4), (128, 128, 8), (128, 256, 8))
"""Rows, columns, warps."""
_TYPES: dict[str, tuple[torch.dtype, int, Any, str]] = {  # Any: a type of Triton's language
    "fp16": (torch.float16, 64, tl.float32, "tf32"),
    "bf16": (torch.bfloat16, 64, tl.float32, "tf32"),
    "fp8": (torch.float8_e4m3fn, 128, tl.float32, "tf32"),
    "int8": (torch.int8, 128, tl.int32, "tf32"),
    "tf32": (torch.float32, 32, tl.float32, "tf32"),
}
"""Operand type, BLOCK_K (128 bytes a row), accumulator, precision."""


def dots(name: str) -> Callable[[Setting], Sequence[Arm]]:
    """Return the builder for one operand type: tiles of growing size."""

    def build(setting: Setting) -> Sequence[Arm]:
        dtype, depth, accumulator, precision = _TYPES[name]
        blocks, turns = setting.multiprocessors * 4, setting.size(256, 1)
        arms = []
        for rows, cols, warps in _TILES:
            a, b = _operand(setting, rows, depth, dtype), _operand(setting, cols, depth, dtype)
            target = torch.empty(blocks * rows, dtype=torch.int32 if accumulator is tl.int32 else torch.float32, device=setting.device)
            options = {"BM": rows, "BN": cols, "BK": depth, "ACC": accumulator, "PRECISION": precision, "num_warps": warps}
            flops = 2.0 * rows * cols * depth * 4 * turns * blocks
            arms.append(
                Arm(f"{rows} x {cols}, {warps} warps", "TFLOP/s", _call(kernels.dot_rate, blocks, a, b, target, turns, **options), flops)
            )
        return arms

    return build


def _operand(setting: Setting, rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    values = setting.random(rows, cols)
    return (values * 30).to(dtype) if dtype is torch.int8 else values.to(dtype)


def _call(kernel: Any, blocks: int, *arguments: object, **options: object) -> Callable[[], object]:  # Any: a Triton kernel
    return lambda: kernel[(blocks,)](*arguments, **options)


def mma_sync(setting: Setting) -> Sequence[Arm]:
    """Return the older warp-wide instruction, 8 independent products in flight in each of 16 warps an SM."""
    arms = []
    blocks, threads, turns = setting.multiprocessors * 4, 128, setting.size(2048, 1)
    for name, instruction in assembly.MMA_SYNC.items():
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32, "int8": torch.int8}[name]
        width = 4 // torch.empty((), dtype=dtype).element_size()
        values = _operand(setting, threads, width, dtype).view(torch.int32).reshape(-1).contiguous()
        target = torch.empty(blocks * threads, dtype=torch.int32, device=setting.device)
        options = {"ASM": assembly.mma_stream(instruction), "SCALE": 0, "THREADS": threads, "num_warps": 4}
        flops = float(instruction.flops * assembly.UNROLL * turns * blocks * threads // 32)
        arms.append(Arm(name, "TFLOP/s", _call(kernels.loop, blocks, values, target, turns, **options), flops))
    return arms


def vector(setting: Setting) -> Sequence[Arm]:
    """Return float32 multiply-adds and exponentials on registers."""
    blocks, block, turns = setting.multiprocessors * 8, 2048, setting.size(512, 1)
    values, target = setting.random(block).clamp(-1.0, 1.0), torch.empty(blocks * block, device=setting.device)
    count = float(16 * turns * blocks * block)
    arguments = (values, target, turns)
    return [
        Arm(
            "float32 multiply-add",
            "TFLOP/s",
            _call(kernels.arithmetic, blocks, *arguments, KIND="fma", BLOCK=block, num_warps=8),
            2 * count,
        ),
        Arm("exp2 and add", "Gop/s", _call(kernels.arithmetic, blocks, *arguments, KIND="exp2", BLOCK=block, num_warps=8), count),
    ]


def library(setting: Setting) -> Sequence[Arm]:
    """Return the vendor's matrix product, for scale."""
    size = setting.size(8192, 64)
    arms = []
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        a, b = setting.random(size, size, dtype=dtype), setting.random(size, size, dtype=dtype)
        c = torch.empty(size, size, dtype=dtype, device=setting.device)
        arms.append(Arm(f"{name}, torch.mm", "TFLOP/s", lambda a=a, b=b, c=c: torch.mm(a, b, out=c), 2.0 * size**3))  # type: ignore[misc]  # bound now
    return arms


GROUPS = (
    *(
        Group(
            f"mma_{name}",
            f"Matrix rate by tile, {name}",
            "`tl.dot` of the same two tiles in a loop: operands stay on chip, random values, four blocks an SM queued.",
            dots(name),
        )
        for name in _TYPES
    ),
    Group(
        "mma_sync",
        "Matrix rate of the warp-wide instruction",
        "`mma.sync` by inline assembly, operands and accumulators in registers.",
        mma_sync,
    ),
    Group("vector", "Vector units", "Sixteen operations a turn on values in registers.", vector),
    Group("library", "The vendor's matrix product", "8192 x 8192 x 8192, random values.", library),
)
