"""Check that this machine has what a run needs, and say how to get what is missing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.driver import versions

LEAST_FREE_BYTES = 2 * 2**30
"""Free space below which compile caches and the knowledge base soon fail: 2 GiB."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_fine: bool
    detail: str
    """What was found; if it is not fine, what to do."""
    is_needed: bool = True
    """False: good to have."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return dataclasses.asdict(self)


def examine(home: Path) -> list[Finding]:
    """Look at packages, compiler, devices, the sandbox's layers, the home directory, the knowledge base and the documents."""
    return [
        *(check(home) for check in (_packages, _compiler, _device)),
        *_sandbox(),
        *(check(home) for check in (_home, _space, _knowledge, _documents, _runs)),
    ]


def _packages(home: Path) -> Finding:
    return Finding("packages", True, ", ".join(f"{name} {version}" for name, version in versions().items()))


def _compiler(home: Path) -> Finding:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler:
        return Finding("C++ compiler", True, compiler)
    return Finding("C++ compiler", False, "none found; install g++ or clang++ (CPU kernels and torch.compile need one), or set CXX")


def _device(home: Path) -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("accelerator", True, _accelerators(), is_needed=False)
    return Finding("accelerator", False, "none that torch can use; kernels are measured on the CPU", is_needed=False)


def _accelerators() -> str:
    """Name the devices, what can be read of them, and who else computes there."""
    import torch

    from tools.timing.device_state import DeviceState

    names = []
    for number in range(torch.cuda.device_count()):
        state = DeviceState(str(getattr(torch.cuda.get_device_properties(number), "uuid", "")))
        others = state.others()
        clocks = "clocks and power can be read" if state.sample() else "clocks and power cannot be read, so that receipts lack them"
        shared = f"; processes {', '.join(map(str, others))} compute there now: results will be labelled shared_device" if others else ""
        names.append(f"{torch.cuda.get_device_name(number)} ({clocks}{shared})")
    return (
        "; ".join(names)
        + ". Layers of the sandbox that the driver does not come up under are left out; a receipt's `sandbox.layers` has those that were on"
    )


def _sandbox() -> list[Finding]:
    """Return a line for each layer between candidates and this machine; those that are off leave a candidate more than it should have."""
    from tools.sandbox.layers import NAMES, tried

    return [
        Finding(
            f"sandbox {item.name}",
            item.is_on,
            item.detail if item.is_on or item.name not in NAMES else f"off: {item.detail}",
            is_needed=False,
        )
        for item in tried()
    ]


def _home(home: Path) -> Finding:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home):
            pass
    except OSError as error:
        return Finding("state directory", False, f"cannot write {home}: {error.strerror}; choose another with --home or KEVOLVE_HOME")
    return Finding("state directory", True, str(home))


def _space(home: Path) -> Finding:
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    is_fine = free >= LEAST_FREE_BYTES
    return Finding("free space", is_fine, f"{free / 2**30:.1f} GiB at {place}" + ("" if is_fine else "; at least 2 GiB are needed"))


def _knowledge(home: Path) -> Finding:
    from kb.errors import KnowledgeError

    def count() -> str:
        from kb.store import KnowledgeBase

        with KnowledgeBase.open(home, create=False) as base:
            return f"{len(base.documents())} documents"

    return _attempt("knowledge base", count, KnowledgeError, is_needed=False, hint="; `kb ingest docs/` fills it")


def _documents(home: Path) -> Finding:
    from tools.docs import docs_root
    from tools.errors import ToolsError

    return _attempt("documents", lambda: str(docs_root()), ToolsError)


def _runs(home: Path) -> Finding:
    from agents.errors import RunStoreError
    from agents.runs.store import RunStore

    def count() -> str:
        with RunStore(home) as store:
            return f"{len(store.runs())} runs"

    return _attempt("run store", count, RunStoreError)


def _attempt(name: str, look: Callable[[], str], errors: type[Exception], *, is_needed: bool = True, hint: str = "") -> Finding:
    try:
        return Finding(name, True, look(), is_needed)
    except errors as error:
        return Finding(name, False, f"{error}{hint}", is_needed)
