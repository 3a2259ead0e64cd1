"""Triton's interpreter as a functional simulator: what it needs to take kernels that were written for another device, and how its outputs are judged.

Everything here changes the calling process for good, or needs `TRITON_INTERPRET=1` before Triton is imported: use it in a process of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def accept_launch_options() -> None:
    """Let the interpreter take what changes no value: launch options of other back ends (`cb_multiplier`), and every precision of products (it computes all alike)."""
    from triton.runtime import interpreter

    plain = interpreter.GridExecutor.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # Any: whatever a launch passes
        known = set(self.arg_names)
        return plain(self, *args, **{name: value for name, value in kwargs.items() if name in known})

    interpreter.GridExecutor.__call__ = call
    interpreter.InterpreterBuilder.create_inline_asm = _rounding_asm
    options = interpreter.interpreter_builder.options
    precisions = (*options.allowed_dot_input_precisions, "bf16x3", "bf16x6")
    interpreter.interpreter_builder.options = dataclasses.replace(options, allowed_dot_input_precisions=precisions)


def without_bfloat16(candidate: str, problem: str) -> str:
    """Let float16 stand in for bfloat16, whose arithmetic the interpreter lacks, unless the problem itself is about bfloat16."""
    return candidate if "bfloat16" in problem else candidate.replace("bfloat16", "float16")


def fresh(values: Any) -> Any:
    """Return inputs of their own memory, so that a forward that writes into them changes nobody else's."""
    import torch
    from torch.utils._pytree import tree_map_only

    return tree_map_only(torch.Tensor, lambda item: item.clone(), values)


def verdict(got: Any, wanted: Any, native: Any) -> dict[str, str]:
    """Compare one output with the float64 reference, by the bounds of `tools.check.compare`; empty if it is right."""
    import torch

    from tools.check.compare import calibrate, compare, compare_exact

    if not torch.is_tensor(native):
        return {} if got == native else {"status": "wrong_values", "reason": f"the output is {got!r}, not {native!r}"}
    if not torch.is_tensor(got) or got.shape != native.shape:
        shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
        return {"status": "wrong_shape", "reason": f"the output has shape {shape}, not {tuple(native.shape)}"}
    if got.dtype != native.dtype:
        return {"status": "wrong_dtype", "reason": f"the output is {got.dtype}, not {native.dtype}"}
    is_exact = not native.is_floating_point()
    found = compare_exact(got, wanted, native) if is_exact else compare(got, wanted, native, calibrate(wanted, native))
    wrong = max(found.bad, found.class_mismatches)
    if not wrong or (is_exact and found.bad <= found.bad_native):
        return {}
    mismatch = (
        f"element {found.first_index}: expected {found.first_expected:.6g}, got {found.first_actual:.6g}; {wrong} of {found.numel} are wrong; "
        f"largest error {found.max_error:.3g}, PyTorch's {found.max_error_native:.3g}"
    )
    return {"status": "wrong_values", "reason": f"{wrong} of {found.numel} elements are wrong", "first_mismatch": mismatch}


def _rounding_asm(builder: Any, asm: str, constraints: str, values: Any, types: Any, is_pure: bool, pack: int) -> Any:
    """Do what the one piece of PTX does that kernels round operands to TF32 with; refuse any other."""
    import types as python_types

    import numpy as np
    from triton.runtime.interpreter import TensorHandle

    if " ".join(asm.split()).rstrip("; ") != "cvt.rna.tf32.f32 $0, $1":
        raise NotImplementedError(f"the interpreter does not know this inline assembly: {asm!r}")
    (value,) = values
    rounded = ((value.data.astype(np.float32).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return python_types.SimpleNamespace(get_result=lambda index: TensorHandle(rounded, value.dtype))
