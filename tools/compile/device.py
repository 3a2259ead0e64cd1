"""Stand in for a GPU that is not here, so that host code which asks for its properties runs and Triton compiles for it. Nothing executes on it.

Used only in the compiler's own process: it replaces functions of `torch.cuda` and Triton's driver for good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class AbsentDevice:
    """The properties of the device that is stood in for."""

    backend: str
    """Triton's backend name: `cuda` or `hip`."""
    arch: str
    """`sm_90`, `gfx942`."""
    limits: Mapping[str, float]

    @classmethod
    def of_target(cls, target: str, limits: Mapping[str, float]) -> AbsentDevice:
        """Return the device of a target such as `cuda:sm_90` or `rocm:gfx942`."""
        toolchain, _, arch = target.partition(":")
        return cls("hip" if toolchain == "rocm" else "cuda", arch, limits)

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability (major, minor); for AMD as torch reports it."""
        digits = self.arch.removeprefix("sm_").removeprefix("gfx")
        return (int(digits[:-1]), int(digits[-1])) if self.backend == "cuda" else (int(digits[0]), int(digits[1]))

    @property
    def warp_size(self) -> int:
        """Threads of one warp."""
        return int(self.limits["warp_size"])

    def triton_target(self) -> Any:  # Any: triton has no types
        """Return Triton's description of the target."""
        from triton.backends.compiler import GPUTarget

        arch = int(self.arch.removeprefix("sm_")) if self.backend == "cuda" else self.arch
        return GPUTarget(self.backend, arch, self.warp_size)


class AbsentDriver:
    """What Triton asks of a driver before a launch; answers from the device's limits."""

    def __init__(self, device: AbsentDevice) -> None:
        self._device = device
        self.utils = SimpleNamespace(get_device_properties=self._properties)

    def _properties(self, index: int) -> dict[str, int]:
        limits = self._device.limits
        return {
            "max_shared_mem": int(limits["shared_memory_per_block_bytes"]),
            "multiprocessor_count": int(limits["multiprocessors"]),
            "warpSize": self._device.warp_size,
            "max_num_regs": int(limits.get("registers_per_multiprocessor", 65536)),
            "sm_clock_rate": 0,
            "mem_clock_rate": 0,
            "mem_bus_width": 0,
        }

    def get_current_device(self) -> int:
        """Return the only index."""
        return 0

    def set_current_device(self, index: int) -> None:
        """Accept any index."""

    def get_current_stream(self, index: int | None = None) -> int:
        """Return the default stream."""
        return 0

    def get_current_target(self) -> Any:  # Any: triton has no types
        """Return Triton's description of the target."""
        return self._device.triton_target()

    def get_active_torch_device(self) -> Any:  # Any: torch.device
        """Return the torch device that tensors are on."""
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:  # Any: the torch.cuda module
        """Return torch's module for the device."""
        import torch

        return torch.cuda


def stand_in(device: AbsentDevice) -> None:
    """Make torch and Triton believe, for the rest of this process, that the device is here."""
    import torch
    from torch._subclasses import fake_tensor
    from triton.runtime.driver import driver

    driver.set_active(AbsentDriver(device))
    limits = device.limits
    properties = SimpleNamespace(
        name=device.arch,
        multi_processor_count=int(limits["multiprocessors"]),
        total_memory=int(limits["dram_bytes"]),
        major=device.capability[0],
        minor=device.capability[1],
        warp_size=device.warp_size,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=int(limits["shared_memory_per_block_bytes"]),
        shared_memory_per_multiprocessor=int(limits["shared_memory_per_multiprocessor_bytes"]),
        max_threads_per_multi_processor=int(limits["max_warps_per_multiprocessor"]) * device.warp_size,
        regs_per_multiprocessor=int(limits.get("registers_per_multiprocessor", 65536)),
        L2_cache_size=int(limits["l2_bytes"]),
        gcnArchName=device.arch,
    )
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None, wait_stream=lambda other: None)
    replacements = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda index: None,
        "synchronize": lambda device=None: None,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda index=None: device.capability,
        "get_device_name": lambda device=None: device.arch if device else "",
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "device": lambda device=None: contextlib.nullcontext(),
        "stream": lambda stream=None: contextlib.nullcontext(),
        "is_current_stream_capturing": lambda: False,
    }
    for name, function in replacements.items():
        setattr(torch.cuda, name, function)
    fake_tensor.FakeTensor.data_ptr = lambda self: 0
    fake_tensor.init_gpu_context = lambda device: None
    torch.cuda._lazy_init = lambda: None
    _name_the_index(torch)
    torch.compile = lambda model=None, **options: model if model is not None else lambda function: function


def _name_the_index(torch: Any) -> None:  # Any: the torch module
    """Without a device (or CUDA) torch accepts `cuda:0` for tensors without memory, but not `cuda`: name the index for the caller."""
    tensor, module = torch.Tensor, torch.nn.Module
    device = torch.device("cuda", 0)
    plain_to, plain_module_to = tensor.to, module.to

    def named(value: Any) -> Any:
        is_device = isinstance(value, str | torch.device) and str(value) == "cuda"
        return device if is_device else value

    def to(plain: Any) -> Any:
        return lambda self, *values, **options: plain(self, *map(named, values), **{name: named(value) for name, value in options.items()})

    tensor.to, module.to = to(plain_to), to(plain_module_to)
    tensor.cuda = lambda self, *values, **options: plain_to(self, device)
    module.cuda = lambda self, *values: plain_module_to(self, device)
