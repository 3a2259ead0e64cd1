"""What a candidate's work is made of, from its trace and from what its process has mapped. Standard library only."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.check.operators import arithmetic
from tools.types import Composition

_COMPILER_PREFIXES = ("triton_poi_", "triton_red_", "triton_per_", "triton_tem_", "triton_for_", "triton_mm", "triton_bmm")
_IGNORED = ("Memcpy", "Memset", "memcpy", "memset", "FillFunctor", "Activity Buffer")
_VENDORS = (
    "cublas",
    "cudnn",
    "cutlass",
    "sgemm",
    "hgemm",
    "gemv",
    "gemm_",
    "xmma",
    "cub::",
    "at::native",
    "at_cuda",
    "flash_fwd",
    "nccl",
    "nvjet",
)
"""Parts of the names of kernels of vendors' libraries and of PyTorch."""
_SMALL_SHARE = 0.02
_NEUTRAL = (
    "libc.",
    "libc-",
    "ld-",
    "libpthread",
    "libm.",
    "libm-",
    "libmvec",
    "libgomp",
    "libomp",
    "libiomp",
    "libstdc++",
    "libgcc",
    "libpython",
    "python",
    "[vdso]",
    "libc10.",
)
"""Files in which any program spends time: mathematics of the C library, threads that wait, the interpreter, the allocator."""
LEAST_FOUND = 16
_NO_SHARE = 0.02
_OWN_SHARE = 0.25
"""Own code found in fewer cases is not what the time goes to; copies and fills, which PyTorch may do for a custom kernel, are foreign code, too."""


def composition_of(
    traces: Sequence[Mapping[str, Any]], libraries: Sequence[str], cache: Path, copied: Collection[str] = ()
) -> Composition:  # Any: JSON
    """Return what the compute is made of.

    Args:
        traces: Answers of the traced calls: `operators`, `launches`, and on a GPU `kernels` (device time by kernel name, in µs).
        libraries: Shared objects that the candidate's process has mapped, as the parent reads them.
        cache: The candidate's cache directory; a library below its `extensions` is the candidate's own, one below `inductor` a compiler's.
        copied: Libraries below it that are copies of installed ones, and so nobody's own.
    """
    libraries = [path for path in libraries if path not in copied]
    operators = arithmetic_names(traces)
    own_kernels = launched_names(traces)
    times = kernel_times(traces)
    if times:
        return _by_time(times, own_kernels | _native_kernels(times, [path for path in libraries if _is_below(path, cache / "extensions")]))
    has_own = bool(own_kernels - {name for name in own_kernels if name.startswith(_COMPILER_PREFIXES)}) or any(
        _is_below(path, cache / "extensions") for path in libraries
    )
    has_compiler = any(name.startswith(_COMPILER_PREFIXES) for name in own_kernels) or any(
        _is_below(path, cache / "inductor") for path in libraries
    )
    if has_own:
        return Composition.MIXED if operators or has_compiler else Composition.CUSTOM
    if has_compiler:
        return Composition.COMPILER
    return (
        Composition.LIBRARY if traces else Composition.UNKNOWN
    )  # custom is what was seen to be; work that shows nowhere is somebody else's


def confirmed(composition: Composition, executing: Mapping[str, int], cache: Path, copied: Collection[str] = ()) -> Composition:
    """Return what the files in which a CPU candidate was found executing leave of what its process says of itself.

    Args:
        composition: By the process's own account.
        executing: How often a thread was found in a file, as the kernel says; `""`: code of no file.
        cache: The candidate's cache directory; what is built lies below it.
        copied: Libraries below it that are copies of installed ones.
    """
    kinds: Counter[str] = Counter()
    for path, count in executing.items():
        kinds["foreign" if path in copied else _kind_of(path, cache)] += count
    working = kinds["own"] + kinds["compiler"] + kinds["foreign"]
    if composition not in (Composition.CUSTOM, Composition.MIXED) or working < LEAST_FOUND:
        return composition
    if kinds["own"] < _NO_SHARE * working:
        return Composition.COMPILER if kinds["compiler"] > kinds["foreign"] else Composition.LIBRARY
    return Composition.MIXED if kinds["own"] < _OWN_SHARE * working else composition


def found_at_work(executing: Mapping[str, int]) -> int:
    """Return how often threads were found in files that are not neutral."""
    return sum(count for path, count in executing.items() if not _is_neutral(path))


def _is_neutral(path: str) -> bool:
    return bool(path) and Path(path).name.startswith(_NEUTRAL)


def agreed(compositions: Sequence[Composition]) -> Composition:
    """Return what a candidate is made of over all workloads: a mixture where they differ."""
    return compositions[0] if len(set(compositions)) == 1 else Composition.MIXED


def _kind_of(path: str, cache: Path) -> str:
    if _is_below(path, cache / "inductor"):
        return "compiler"
    if _is_below(path, cache):
        return "own"
    return "neutral" if _is_neutral(path) else "foreign"


def kernel_times(traces: Sequence[Mapping[str, Any]]) -> dict[str, float]:  # Any: JSON
    """Return device time by kernel name over traced calls, in µs; what is no positive number is left out, since a candidate's process says it."""
    times: dict[str, float] = {}
    for trace in traces:
        kernels = trace.get("kernels")
        for name, value in kernels.items() if isinstance(kernels, dict) else ():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
                times[str(name)] = times.get(str(name), 0.0) + float(value)
    return times


def launched_names(traces: Sequence[Mapping[str, Any]]) -> set[str]:  # Any: JSON
    """Return the names of the Triton kernels that were launched."""
    return {name for trace in traces for name in _counts(trace.get("launches"))}


def arithmetic_names(traces: Sequence[Mapping[str, Any]]) -> list[str]:  # Any: JSON
    """Return the operators that traced calls dispatched and that compute."""
    return [name for trace in traces for name in arithmetic(_counts(trace.get("operators")))]


def _by_time(times: Mapping[str, float], own_kernels: set[str]) -> Composition:
    shares = {Composition.CUSTOM: 0.0, Composition.COMPILER: 0.0, Composition.LIBRARY: 0.0}
    for name, value in times.items():
        if any(word in name for word in _IGNORED):
            continue
        kind = (
            Composition.COMPILER
            if name.startswith(_COMPILER_PREFIXES)
            else Composition.CUSTOM
            if name in own_kernels
            else Composition.LIBRARY
        )
        shares[kind] += value
    total = sum(shares.values())
    if total <= 0:
        return Composition.UNKNOWN
    big = [kind for kind, value in shares.items() if value > _SMALL_SHARE * total]
    return big[0] if len(big) == 1 else Composition.MIXED


def _native_kernels(times: Mapping[str, float], libraries: Sequence[str]) -> set[str]:
    """Return the profiled kernels whose mangled name the candidate's own libraries contain; vendors' names are never its own."""
    texts = []
    for path in libraries:
        with contextlib.suppress(OSError):
            texts.append(Path(path).read_bytes())
    found = set()
    for name in times:
        if any(word in name for word in _VENDORS):
            continue
        plain = name.partition("(")[0].partition("<")[0].split("::")[-1].split(" ")[-1]
        mangled = f"{len(plain)}{plain}".encode()
        if plain and any(re.search(rb"_Z[A-Z]*(?:\d+\w+)?" + re.escape(mangled), text) for text in texts):
            found.add(name)
    return found


def _is_below(path: str, directory: Path) -> bool:
    return Path(path).is_relative_to(directory)


def _counts(value: Any) -> dict[str, int]:  # Any: JSON from the candidate's process
    return (
        {str(name): int(count) for name, count in value.items() if isinstance(count, int) and not isinstance(count, bool)}
        if isinstance(value, dict)
        else {}
    )
