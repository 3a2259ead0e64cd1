"""Which protections this machine offers a candidate's process, and which are off, with the reason."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
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
    """Return every layer with its state on this machine, as far as the kernel's versions tell; `tried` finds out."""
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


_ROOT = Path(__file__).resolve().parent.parent.parent
_TRIED_S = 60.0
_CHILD = """
import json, os, resource, socket, sys
sys.path.insert(0, sys.argv[1])
from tools.sandbox import privileges
from tools.sandbox.apply import confine
limits = dict.fromkeys(("address_space_bytes", "data_bytes", "processes"))
confine({**limits, "file_bytes": 4096, "open_files": 256, "layers": sys.argv[4:], "hidden": [sys.argv[2]], "readable": [], "writable": [sys.argv[3]]})

def fails(function):
    try:
        function()
    except OSError:
        return True
    return False

print(json.dumps({
    "rlimits": resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 4096 and resource.getrlimit(resource.RLIMIT_CORE)[0] == 0,
    "landlock": fails(lambda: open(os.path.join(sys.argv[2], "secret")).close()) and fails(lambda: open(os.path.join(sys.argv[2], "new"), "w").close()),
    "privileges": privileges.held() == 0,
    "seccomp": fails(lambda: socket.socket(socket.AF_INET).close()),
}))
"""


def tried() -> list[LayerStatus]:
    """Return `layers()`, each chosen one tried: a process confines itself as a candidate's and then attempts what the layer forbids; takes about 0.1 s."""
    try:
        with tempfile.TemporaryDirectory(prefix="kevolve-layers-") as folder:
            hidden, own = Path(folder, "hidden"), Path(folder, "own")
            hidden.mkdir()
            own.mkdir()
            (hidden / "secret").write_text("x", encoding="utf-8")
            command = [sys.executable, "-I", "-c", _CHILD, str(_ROOT), str(hidden), str(own), *NAMES]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIED_S, check=False)
        held = json.loads(done.stdout) if done.returncode == 0 else {}
        fault = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    except (OSError, ValueError, subprocess.SubprocessError) as err:
        held, fault = {}, str(err)
    return [_as_tried(item, held.get(item.name), fault) if item.name in NAMES and item.is_on else item for item in layers()]


def _as_tried(item: LayerStatus, holds: bool | None, fault: str) -> LayerStatus:
    if holds is True:
        return item
    why = f"it could not be tried: {fault}" if holds is None else "the kernel says that it has it, and lets through what it should forbid"
    return dataclasses.replace(item, is_on=False, detail=f"{why} (it would give: {item.detail})")
