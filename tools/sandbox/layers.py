"""Which protections this machine offers a candidate's process, and which are off, with the reason."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tools.sandbox import landlock, seccomp

NAMES = ("rlimits", "landlock", "privileges", "seccomp")
"""Layers that can be chosen; the others (own process, session, environment, directories, sealed memory) are always on."""


@dataclass(frozen=True)
class LayerStatus:
    """One layer of the sandbox on this machine."""

    name: str
    is_on: bool
    detail: str
    """What it does here, or why it is off."""


def layers() -> list[LayerStatus]:
    """Return every layer with its state on this machine; for `kevolve doctor`."""
    version = landlock.abi_version()
    added = [text for needed, text in ((1, "files"), (4, "TCP"), (6, "signals")) if version >= needed]
    has_seccomp = seccomp.is_supported() and Path("/proc/sys/kernel/seccomp").exists()
    return [
        LayerStatus("process", True, "own session, killed with everything it started, also what detached itself"),
        LayerStatus("environment", True, "allow-listed variables; own HOME, TMPDIR and caches"),
        LayerStatus("memory", True, "inputs and outputs in sealed shared memory; no pickle; JSON messages with bounded size"),
        LayerStatus("privileges", True, "no capabilities, not even for root"),
        LayerStatus("rlimits", True, "address space (cpu), file size, open files, no core dumps"),
        LayerStatus(
            "landlock", version > 0, f"version {version}: {', '.join(added)}" if version else f"not in this kernel ({platform.release()})"
        ),
        LayerStatus(
            "seccomp",
            has_seccomp,
            "no tracing, other memory, priorities, clocks, namespaces, mounts or internet sockets"
            if has_seccomp
            else f"not available on {platform.machine()}",
        ),
        LayerStatus(
            "user",
            os.geteuid() != 0,
            "not root"
            if os.geteuid() != 0
            else "running as root: candidates have its user id, though none of its capabilities; prefer an ordinary user",
        ),
    ]
