"""Confine the calling process before it runs a candidate."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.sandbox import landlock, privileges, seccomp
from tools.sandbox.memory import limit


def confine(options: Mapping[str, Any]) -> None:  # Any: JSON
    """Apply the layers that `options` asks for; one that the kernel lacks is left out.

    Args:
        options: `layers` (names of `tools.sandbox.layers.NAMES`), the limits `address_space_bytes` (None: unlimited; CUDA reserves terabytes), `data_bytes`, `file_bytes`,
            `processes`, `open_files`, and the paths `hidden`, `readable`, `writable`.
    """
    chosen = options["layers"]
    if "rlimits" in chosen:
        limit(resource.RLIMIT_CORE, 0)
        limit(resource.RLIMIT_FSIZE, options.get("file_bytes"))
        limit(resource.RLIMIT_AS, options.get("address_space_bytes"))
        limit(resource.RLIMIT_DATA, options.get("data_bytes"))
        limit(resource.RLIMIT_NPROC, options.get("processes"))
        limit(resource.RLIMIT_NOFILE, options.get("open_files"))
    if "landlock" in chosen:
        paths = {name: [Path(item) for item in options[name]] for name in ("hidden", "readable", "writable")}
        landlock.restrict(hidden=paths["hidden"], readable=paths["readable"], writable=paths["writable"])
    if "privileges" in chosen:
        privileges.drop()
    if "seccomp" in chosen:
        seccomp.restrict(signals_by_landlock="landlock" in chosen and landlock.abi_version() >= landlock.SIGNALS_SINCE)
