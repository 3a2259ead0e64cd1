"""Confine the calling process before it runs a candidate: resource limits first, then file and system-call layers where the kernel has them."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any


def confine(options: Mapping[str, Any]) -> None:  # Any: JSON
    """Apply the layers that `options` asks for.

    Args:
        options: `address_space_bytes` (None: unlimited; CUDA reserves terabytes of address space), `file_bytes`, `processes`.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, options.get("file_bytes"))
    _limit(resource.RLIMIT_AS, options.get("address_space_bytes"))
    _limit(resource.RLIMIT_NPROC, options.get("processes"))
    _limit(resource.RLIMIT_NOFILE, options.get("open_files"))


def _limit(kind: int, value: int | None) -> None:
    if value is None:
        return
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
