"""Receipts: everything that is needed to repeat an evaluation, as one JSON file each."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.errors import MachineError

SCHEMA = 1
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")


def write_receipt(directory: Path, candidate_id: str, content: Mapping[str, Any]) -> Path:  # Any: JSON
    """Write the next receipt of a candidate, never over an existing one, and return its path.

    Raises:
        OSError: The directory cannot be written.
        MachineError: The id is none: it may come from another machine, and becomes part of a path.
    """
    if not _ID.fullmatch(candidate_id):
        raise MachineError(f"a receipt for {candidate_id[:80]!r} is refused: that is no candidate's id")
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(finite({"schema": SCHEMA, **content}), indent=1, default=str, allow_nan=False)
    number = len(list(directory.glob(f"{candidate_id}-*.json"))) + 1
    while True:
        path = directory / f"{candidate_id}-{number}.json"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text + "\n")
            return path
        except FileExistsError:
            number += 1


def finite(value: Any) -> Any:  # Any: JSON
    """Return JSON data with infinities and NaN, which JSON does not have, written as text (`"inf"`, `"nan"`)."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def host_facts() -> dict[str, Any]:  # Any: JSON
    """Return what identifies this machine and the software of this process."""
    from tools.targets.cpu import cpu_model

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": cpu_model(),
        "compiler": compiler_version(),
        "packages": _packages(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": sys.argv,
        "commit": source_commit(),
    }


def environment_facts() -> dict[str, Any]:  # Any: JSON
    """Return what compiled code depends on, for a key under which it may be kept: processor, toolchain, packages, driver and models of the devices."""
    driver = Path("/proc/driver/nvidia/version")
    gpus = Path("/proc/driver/nvidia/gpus")
    names = [
        line
        for path in sorted(gpus.glob("*/information"))
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith("Model:")
    ]
    kept = ("python", "machine", "processor", "compiler", "packages")
    return {
        **{name: value for name, value in host_facts().items() if name in kept},
        "driver": driver.read_text(errors="replace").splitlines()[:1] if driver.exists() else [],
        "devices": names,
        "libraries": os.environ.get("LD_LIBRARY_PATH", ""),
    }


@functools.cache
def compiler_version() -> str:
    """Return the first line of what the C++ compiler says of itself, empty where there is none."""
    program = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not program:
        return ""
    try:
        done = subprocess.run([*shlex.split(program), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return (done.stdout.splitlines() or [""])[0][:200]


def _packages() -> dict[str, str]:
    found = {}
    for name in ("torch", "triton", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def source_commit() -> str:
    """Return the commit of the checkout that this code runs from, with `+` if files are changed; empty outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "tools"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if changed.strip() else "")


def read_receipt(path: Path) -> dict[str, Any]:  # Any: JSON
    """Return a receipt as written.

    Raises:
        MachineError: There is no readable receipt at `path`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise MachineError(f"no readable receipt at {path}: {err}") from err
    if not isinstance(data, dict):
        raise MachineError(f"{path} is not a receipt")
    return data
