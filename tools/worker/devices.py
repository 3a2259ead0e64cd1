"""Everything that differs between devices while candidates and baselines run. Imports torch; the only module here that speaks CUDA.

A device is created in the worker process after the fork, so that no CUDA context is ever inherited.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from tools.worker.tensors import map_tensors, tensors_of

_now = time.perf_counter
_CUDA_FLUSH_MULTIPLE = 2  # of the L2 size, as in the usual recipe (Triton's do_bench clears 256 MB whatever the chip has)
_CUDA_MIN_FLUSH_BYTES = 64 << 20
_CUDA_TRIM_BYTES = 4 << 30
_CUDA_LATE_BYTES = 8 << 30
_CUDA_CYCLES_PER_MS = 2_000_000  # at 2 GHz; a slower clock only makes a wait longer
_IDLE_STEPS, _IDLE_FILLS = 200, 2
_IDLE_AHEAD_CYCLES = 10 * _CUDA_CYCLES_PER_MS
_IDLE_GAP_MS = 0.5
"""What a step may take beyond the median one; the slices of time in which contexts take turns on a GPU are longer."""
_CUDA_LATE_CYCLES = 20 * _CUDA_CYCLES_PER_MS  # longer than a model takes to launch its kernels


class Device(Protocol):
    """A place where tensors live and models run. Lifecycle: constructed once per worker process, never shared."""

    name: str
    """`cpu` or `cuda`, as `torch.device` takes it."""

    def synchronize(self) -> None:
        """Wait until everything that was started has finished."""

    def timed_loop(
        self, steps: Sequence[Callable[[], Any]], before: Callable[[int], None], ahead_ms: float = 0.0
    ) -> tuple[list[float], Any]:
        """Run each step once, `before(i)` ahead of it, and return the per-step times in ms (empty: only the wall clock counts) and the last result.

        `ahead_ms`: keep an accelerator busy for about so long first, so that the host has launched what follows before any of it runs.
        """

    def delay_values(self, inputs: list[torch.Tensor]) -> None:
        """Let the values of inputs arrive late, in stream order: whoever reads them in another order sees zeros."""

    def disturb(self) -> None:
        """Start other work that the next call has to share the device with."""

    def seen_in_order(self, result: Any) -> Any:  # Any: a tree of tensors
        """Return the tensors of a result as the stream sees them now, before any wait: what another stream has yet to write is missing."""

    def poker(self, tensor: torch.Tensor, values: torch.Tensor) -> Callable[[int, int], None]:
        """Return `poke(i, index)`, which sets storage element `index` of `tensor` to `values[i]` at least cost."""

    def reset_memory(self) -> None:
        """Give cached memory back to the device."""

    def trim(self) -> None:
        """Give cached memory back if there is a lot of it, so that other processes on the device have room."""

    def is_idle(self) -> bool:
        """True if nothing else is at work on the device now."""

    def facts(self) -> dict[str, Any]:
        """Return what a receipt records: device name, driver, library versions, numeric flags."""


_INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def flat_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a 1-D integer view of a dense tensor's elements in storage order."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(_INTEGER_OF_SIZE[tensor.element_size()])


def flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a 1-D view of a contiguous tensor's bytes."""
    return tensor.reshape(-1).view(torch.uint8)


class CpuDevice:
    """The host's processor; the parent's wall clock around a block is what counts."""

    name = "cpu"

    def __init__(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._num_threads = num_threads

    def synchronize(self) -> None:
        """Return at once: CPU calls are synchronous."""

    def timed_loop(
        self, steps: Sequence[Callable[[], Any]], before: Callable[[int], None], ahead_ms: float = 0.0
    ) -> tuple[list[float], Any]:
        """Run the steps back to back; no per-step times."""
        result = None
        for number, step in enumerate(steps):
            before(number)
            result = step()
        return [], result

    def delay_values(self, inputs: list[torch.Tensor]) -> None:
        """Do nothing: there is one order."""

    def disturb(self) -> None:
        """Do nothing: the system's own scheduling disturbs enough."""

    def seen_in_order(self, result: Any) -> Any:  # Any: a tree of tensors
        """Return the result itself."""
        return result

    def poker(self, tensor: torch.Tensor, values: torch.Tensor) -> Callable[[int, int], None]:
        """Write through numpy views: about 0.1 µs a poke."""
        target, source = flat_bits(tensor).numpy(), values.contiguous().view(_INTEGER_OF_SIZE[values.element_size()]).numpy()

        def poke(number: int, index: int) -> None:
            target[index] = source[number]

        return poke

    def reset_memory(self) -> None:
        """Do nothing: freed CPU memory goes back by itself."""

    def trim(self) -> None:
        """Do nothing: freed CPU memory goes back by itself."""

    def is_idle(self) -> bool:
        """Return True: nobody has the cores to himself anyway."""
        return True

    def facts(self) -> dict[str, Any]:
        """Return versions and the thread count."""
        return {"device": "cpu", "torch": torch.__version__, "num_threads": self._num_threads, "numeric_flags": numeric_flags()}


class CudaDevice:
    """One NVIDIA GPU. Times by events per call, with the L2 cache flushed between calls."""

    name = "cuda"

    def __init__(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        torch.cuda.init()
        properties = torch.cuda.get_device_properties(0)
        self._properties = properties
        self._l2_bytes = int(getattr(properties, "L2_cache_size", 50 << 20))
        self._flush_buffer: torch.Tensor | None = None
        self._stream = torch.cuda.default_stream()
        self._reset_persisting = _persisting_l2_reset()
        self._other_stream: Any = None  # Any: torch.cuda.Stream
        self._other_buffer: torch.Tensor = torch.empty(0)

    def synchronize(self) -> None:
        """Wait for every stream of the device; raises what a kernel left behind."""
        torch.cuda.synchronize()

    def timed_loop(
        self, steps: Sequence[Callable[[], Any]], before: Callable[[int], None], ahead_ms: float = 0.0
    ) -> tuple[list[float], Any]:
        """Poke, flush, record, call, record; one synchronisation at the end."""
        flush_buffer = self._flush()
        torch.cuda.set_stream(self._stream)
        self._reset_persisting()
        starts = [torch.cuda.Event(enable_timing=True) for _ in steps]
        ends = [torch.cuda.Event(enable_timing=True) for _ in steps]
        result = None
        if ahead_ms > 0:
            torch.cuda._sleep(int(ahead_ms * _CUDA_CYCLES_PER_MS))
        for number, step in enumerate(steps):
            before(number)
            flush_buffer.fill_(number & 1)
            starts[number].record(self._stream)
            result = step()
            ends[number].record(self._stream)
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)], result

    def _flush(self) -> torch.Tensor:
        """Return memory that fills the L2 cache when it is written."""
        if self._flush_buffer is None:
            nbytes = max(_CUDA_MIN_FLUSH_BYTES, _CUDA_FLUSH_MULTIPLE * self._l2_bytes)
            self._flush_buffer = torch.empty(nbytes, dtype=torch.int8, device="cuda")
        return self._flush_buffer

    def delay_values(self, inputs: list[torch.Tensor]) -> None:
        """Zero the inputs, then let the stream wait for about 20 ms and restore them; returns before any of that has happened on the device."""
        if sum(tensor.numel() * tensor.element_size() for tensor in inputs) > _CUDA_LATE_BYTES:
            return
        torch.cuda.set_stream(self._stream)
        kept = [tensor.clone() for tensor in inputs]
        for tensor in inputs:
            tensor.zero_()
        torch.cuda.synchronize()
        torch.cuda._sleep(_CUDA_LATE_CYCLES)
        for tensor, values in zip(inputs, kept, strict=True):
            tensor.copy_(values)

    def disturb(self) -> None:
        """Fill a buffer again and again on a stream of its own."""
        if self._other_stream is None:
            self._other_stream, self._other_buffer = (
                torch.cuda.Stream(),
                torch.empty(_CUDA_MIN_FLUSH_BYTES, dtype=torch.int8, device="cuda"),
            )
            torch.cuda.synchronize()
        with torch.cuda.stream(self._other_stream):
            for number in range(8):
                self._other_buffer.fill_(number)

    def seen_in_order(self, result: Any) -> Any:  # Any: a tree of tensors
        """Copy the tensors on the stream that calls are made on."""
        found = list(tensors_of(result))
        if sum(tensor.numel() * tensor.element_size() for tensor in found) > _CUDA_LATE_BYTES:
            return result
        with torch.cuda.stream(self._stream):
            return map_tensors(result, torch.clone)

    def poker(self, tensor: torch.Tensor, values: torch.Tensor) -> Callable[[int, int], None]:
        """Copy one element on the device, in stream order and without a word to the tensor's version counter."""
        target = flat_bits(tensor.data)
        source = values.contiguous().view(_INTEGER_OF_SIZE[values.element_size()]).to(tensor.device)

        def poke(number: int, index: int) -> None:
            target[index : index + 1].copy_(source[number : number + 1])

        return poke

    def reset_memory(self) -> None:
        """Free the flush buffer and the allocator's cache."""
        self._flush_buffer = None
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def trim(self) -> None:
        """Empty the allocator's cache once it holds more than 4 GiB that no tensor uses."""
        if torch.cuda.memory_reserved() - torch.cuda.memory_allocated() > _CUDA_TRIM_BYTES:
            torch.cuda.empty_cache()

    def is_idle(self) -> bool:
        """Write memory steadily for about 20 ms: whoever else computes gets slices of that time, in which this stops for milliseconds."""
        buffer = self._flush()
        torch.cuda.set_stream(self._stream)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(_IDLE_STEPS + 1)]
        buffer.fill_(0)
        torch.cuda.synchronize()
        torch.cuda._sleep(_IDLE_AHEAD_CYCLES)  # all is launched before any of it runs, so that a gap is not the host's
        marks[0].record(self._stream)
        for mark in marks[1:]:
            for _ in range(_IDLE_FILLS):
                buffer.fill_(0)
            mark.record(self._stream)
        torch.cuda.synchronize()
        return is_steady([start.elapsed_time(end) for start, end in itertools.pairwise(marks)])

    def facts(self) -> dict[str, Any]:
        """Return the chip, its uuid, the driver and library versions."""
        properties = self._properties
        return {
            "device": properties.name,
            "capability": f"sm_{properties.major}{properties.minor}",
            "uuid": str(getattr(properties, "uuid", "")),
            "memory_bytes": int(properties.total_memory),
            "l2_bytes": self._l2_bytes,
            "multiprocessors": int(properties.multi_processor_count),
            "driver": _driver_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "triton": _triton_version(),
            "numeric_flags": numeric_flags(),
        }


def is_steady(steps_ms: Sequence[float]) -> bool:
    """True if no step of equal work took longer than the median by a slice of the device's time or more."""
    return max(steps_ms) < statistics.median(steps_ms) + _IDLE_GAP_MS


def open_device(name: str, num_threads: int) -> Device:
    """Return the device for a torch device type.

    Raises:
        RuntimeError: The device cannot be initialised here.
    """
    return CudaDevice(num_threads) if name == "cuda" else CpuDevice(num_threads)


def numeric_flags() -> dict[str, Any]:
    """Return the global flags that change numerics or algorithm choice."""
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "fp16_reduced_precision": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "bf16_reduced_precision": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()),
    }


def _persisting_l2_reset() -> Callable[[], None]:
    """Return a call that clears L2 lines marked as persisting; a no-op where the driver lacks it."""
    try:
        reset = ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache
    except (OSError, AttributeError):
        return lambda: None

    def call() -> None:
        reset()

    return call


def _driver_version() -> str:
    try:
        with open("/proc/driver/nvidia/version", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.readline().strip()
    except OSError:
        return os.environ.get("NVIDIA_DRIVER_VERSION", "")


def _triton_version() -> str:
    try:
        import triton
    except ImportError:
        return ""
    return str(triton.__version__)
