"""The environment variables that worker processes get: an allow-list from ours plus private directories."""

from __future__ import annotations

import os
from pathlib import Path

_KEEP = (
    "PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CC", "CXX", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES", "TRITON_PTXAS_PATH", "TRITON_LIBCUDA_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE",
)  # fmt: skip
NO_DEVICES = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
"""A process with these takes neither memory nor time of a device that measures."""
_RECYCLED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""The C library keeps freed memory instead of giving each large tensor back to the system: a new 16 MB output otherwise costs thousands of page
faults, more than many kernels and more variable than any. It is the state that a long-running process, or one with a caching allocator, is in; candidates and
baselines get it alike."""


def base_environment(home: Path, accelerator: str = "") -> dict[str, str]:
    """Return the environment of the warm process: what toolchains need, nothing that changes how kernels run."""
    kept = {name: os.environ[name] for name in _KEEP if name in os.environ}
    if accelerator:
        kept["CUDA_VISIBLE_DEVICES"] = accelerator
    return {
        **kept, **_RECYCLED_MEMORY, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip


def private_environment(directory: Path, cache: Path) -> dict[str, str]:
    """Return the variables that give one worker its own home, temporary and cache directories."""
    return {
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "XDG_CACHE_HOME": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCH_EXTENSIONS_DIR": str(cache / "extensions"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
    }
