"""What the accelerator did while it was timed: clocks, power, temperature, and who else was on it. By NVML through ctypes; empty where that is missing.

Sampling takes about 0.1 ms and disturbs no kernel. Processes of other containers may be invisible here, or show up with numbers that mean nothing.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.worker.processes import descendants

_SM_CLOCK, _MEMORY_CLOCK, _GPU_TEMPERATURE = 1, 2, 0  # nvml.h: nvmlClockType_t, nvmlTemperatureSensors_t
_MAX_PROCESSES = 64
_UNKNOWN = 1 << 62
"""nvml.h: `NVML_VALUE_NOT_AVAILABLE` is all bits set."""
_UNSTEADY = 0.05


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class DeviceState:
    """One device, by its uuid as torch tells it."""

    def __init__(self, uuid: str) -> None:
        """Find the device; without NVML or without such a device every sample is empty.

        Args:
            uuid: With or without the prefix `GPU-`.
        """
        self._nvml = _library()
        self._handle = ctypes.c_void_p()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        if self._nvml is not None and (not uuid or self._nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle)) != 0):
            self._nvml = None

    def sample(self) -> dict[str, float]:
        """Return `sm_mhz`, `memory_mhz`, `watts`, `celsius` and `throttled` (NVML's bit mask), as far as they can be read."""
        readings = (
            ("sm_mhz", "nvmlDeviceGetClockInfo", (_SM_CLOCK,), ctypes.c_uint(), 1.0),
            ("memory_mhz", "nvmlDeviceGetClockInfo", (_MEMORY_CLOCK,), ctypes.c_uint(), 1.0),
            ("watts", "nvmlDeviceGetPowerUsage", (), ctypes.c_uint(), 1e-3),
            ("celsius", "nvmlDeviceGetTemperature", (_GPU_TEMPERATURE,), ctypes.c_uint(), 1.0),
            ("throttled", "nvmlDeviceGetCurrentClocksThrottleReasons", (), ctypes.c_ulonglong(), 1.0),
        )
        found = {}
        for name, function, arguments, value, scale in readings:
            read = getattr(self._nvml, function, None)
            if read is not None and read(self._handle, *arguments, ctypes.byref(value)) == 0:
                found[name] = value.value * scale
        return found

    def used_bytes(self, root: int) -> int:
        """Return the device memory that a process and its descendants have; 0 where that is not known."""
        tree = {root, *descendants(root)}
        return sum(item.used_bytes for item in self._processes() if item.pid in tree and item.used_bytes < _UNKNOWN)

    def others(self) -> list[int]:
        """Return the numbers of processes that compute on the device and do not belong to this program."""
        parent = multiprocessing.parent_process()  # a worker's siblings take turns with it by the device's lock
        ours = set(descendants((parent.pid if parent else None) or os.getpid()))
        return sorted(pid for pid in {item.pid for item in self._processes()} - ours if not is_ending(pid))

    def _processes(self) -> list[_Process]:
        listed = getattr(self._nvml, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        count, block = ctypes.c_uint(_MAX_PROCESSES), (_Process * _MAX_PROCESSES)()
        if listed is None or listed(self._handle, ctypes.byref(count), block) != 0:
            return []
        return list(block[: count.value])


def is_ending(pid: int) -> bool:
    """True if a process has given its memory back and only its device's memory is still to go, which takes seconds: it computes no more.

    What was killed with its parent is nobody's descendant by then. A process that is not seen here at all may be another container's, and is not ending for all one
    knows.
    """
    try:
        return not Path("/proc", str(pid), "statm").read_text(encoding="ascii").strip("0 \n")
    except OSError:
        return False


def summarise(samples: Sequence[Mapping[str, float]], others: Sequence[int]) -> dict[str, Any]:  # Any: JSON
    """Return least, median and most of each reading, and the other processes; empty without samples."""
    names = sorted({name for sample in samples for name in sample})
    found: dict[str, Any] = {}
    for name in names:
        values = [sample[name] for sample in samples if name in sample]
        found[name] = {"least": min(values), "median": statistics.median(values), "most": max(values)}
    return {**found, "other_processes": list(others)} if found or others else {}


def state_labels(states: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:  # Any: JSON of `summarise`
    """Return `shared_device` if others computed on the device, `unsteady_clocks` if the clock moved by more than 5 % of its median while timing."""
    found = []
    if any(state.get("other_processes") for state in states):
        found.append("shared_device")
    clocks = [state["sm_mhz"] for state in states if "sm_mhz" in state]
    if any(item["most"] - item["least"] > _UNSTEADY * item["median"] for item in clocks):
        found.append("unsteady_clocks")
    return tuple(found)


@functools.cache
def _library() -> Any:  # Any: ctypes library
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None
