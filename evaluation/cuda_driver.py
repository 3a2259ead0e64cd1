"""What NVIDIA's driver says about a kernel once its cubin is loaded, through the driver API by ctypes. Needs a device; nothing is launched.

Constants: CUDA driver API, `CUfunction_attribute` and `cuOccupancyMaxActiveBlocksPerMultiprocessor`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tools.errors import MachineError

_STATIC_SHARED, _LOCAL, _REGISTERS, _DYNAMIC_SHARED = 1, 3, 4, 8


@dataclass(frozen=True)
class DriverFacts:
    """What the driver states about one loaded kernel."""

    registers: int
    """Per thread."""
    local_bytes: int
    """Local memory of one thread, in bytes."""
    static_shared_bytes: int
    dynamic_shared_bytes: int
    """What the driver lets a launch ask for after it was asked to allow `shared_bytes`."""
    blocks_per_multiprocessor: int
    """Resident blocks by the driver's own occupancy calculation."""


class Driver:
    """The driver with the primary context of device 0. Close it, or use it as a context manager.

    Raises:
        MachineError: There is no driver or no device, or a call fails.
    """

    def __init__(self) -> None:
        try:
            self._library: Any = ctypes.CDLL("libcuda.so.1")  # Any: ctypes
        except OSError as error:
            raise MachineError(f"no NVIDIA driver on this machine: {error}") from error
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._device = device
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._call("cuCtxSetCurrent", self._context)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the context back."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def version(self) -> int:
        """Return the driver's CUDA version, for example 13000."""
        value = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(value))
        return value.value

    def name(self) -> str:
        """Return the device's name."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, 256, self._device)
        return text.value.decode()

    def facts(self, cubin: bytes, kernel: str, *, threads: int, shared_bytes: int) -> DriverFacts:
        """Load a cubin, ask for one of its kernels, and unload it.

        Args:
            cubin: The binary, for this device's architecture.
            kernel: The kernel's symbol.
            threads: Threads per block.
            shared_bytes: Dynamic shared memory per block that the launch will ask for.
        """
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        image = ctypes.create_string_buffer(cubin, len(cubin))
        self._call("cuModuleLoadData", ctypes.byref(module), image)
        try:
            self._call("cuModuleGetFunction", ctypes.byref(function), module, kernel.encode())
            self._call("cuFuncSetAttribute", function, _DYNAMIC_SHARED, shared_bytes)
            blocks = ctypes.c_int()
            self._call(
                "cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(blocks), function, threads, ctypes.c_size_t(shared_bytes)
            )
            registers, local, static, dynamic = (
                self._attribute(function, name) for name in (_REGISTERS, _LOCAL, _STATIC_SHARED, _DYNAMIC_SHARED)
            )
        finally:
            self._call("cuModuleUnload", module)
        return DriverFacts(registers, local, static, dynamic, blocks.value)

    def _attribute(self, function: ctypes.c_void_p, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cuFuncGetAttribute", ctypes.byref(value), attribute, function)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:  # Any: ctypes
        code = int(getattr(self._library, name)(*arguments))
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(text))
            raise MachineError(f"{name} failed with {code}: {(text.value or b'no text').decode()}")
