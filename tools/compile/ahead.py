"""Compile what a model launches before it has a device: the kernels lie in Triton's cache when it comes to run on one.

Compiling takes seconds of one core, in which a process that has the device's memory and its turn there would hold up its neighbours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from tools.compile.device import AbsentDevice, stand_in
from tools.compile.launches import Launch, record_launches

_MESSAGE_CHARACTERS = 300


def compile_ahead(call: Callable[[str], None], target: str, limits: Mapping[str, float]) -> dict[str, Any]:  # Any: JSON
    """Compile every kernel that a call launches, into the cache of this process. Replaces parts of torch and Triton for good: call it in a process of its own.

    Args:
        call: Makes the model and calls it, given the device that its tensors are to be on.
        target: For example `cuda:sm_90`.
        limits: The chip's numbers.

    Returns:
        `kernels`, how many compiled, and `error`, what ended it early: no verdict, since the device will show.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = AbsentDevice.of_target(target, limits)
    stand_in(device)
    launches: list[Launch] = []
    error = ""
    with record_launches() as recorder, torch.no_grad():
        for place in ("cuda:0", "cpu"):
            if place == "cpu":
                # What asks a device for more than its name, or looks for one, is to find a torch that knows none, and launches all the same.
                torch.version.cuda = torch.version.hip = None
            error = ""
            recorder.start(launches)
            try:
                with FakeTensorMode(allow_non_fake_inputs=True):
                    call(place)
            except Exception as raised:  # the candidate's code may raise anything
                cause = raised.__cause__ or raised
                error = f"{type(cause).__name__}: {cause}"[:_MESSAGE_CHARACTERS]
            if launches and not error:
                break
    compiled = [launch.compiled for launch in launches if launch.error is None]
    if device.backend == "cuda":
        _build_launchers(compiled)
    return {"kernels": len(compiled), "error": error}


def _build_launchers(compiled: list[Any]) -> None:  # Any: triton's CompiledKernel
    """Compile the C code by which Triton reaches the driver and, in versions up to 3.6, starts a kernel of each signature."""
    from triton.backends.nvidia.driver import CudaLauncher, CudaUtils

    with contextlib.suppress(Exception):  # no driver library to link with: the process that has the device does it
        CudaUtils()
        for kernel in compiled:
            CudaLauncher(kernel.src, kernel.metadata)
