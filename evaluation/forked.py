"""Run a function in a forked child with a time limit: it finds everything imported, and whatever it does to its process dies with it."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.sandbox.memory import limit_allocations

_ROOT = str(Path(__file__).resolve().parent.parent)
_POLL_S = 0.02


@dataclass(frozen=True)
class Outcome:
    """What became of a call in a child: a value, or how it failed."""

    value: Any = None  # Any: JSON
    error: str = ""
    """Type of what was raised, `timeout`, or how the process ended; empty if it returned."""
    message: str = ""
    """What was raised, in words. It may quote the user's source."""
    where: tuple[str, ...] = ()
    """Frames in this repository that it passed through, `module.py:line`, innermost last. They quote no source."""


def call(function: Callable[[], Any], *, timeout_s: float, memory_bytes: int | None = None) -> Outcome:  # Any: JSON
    """Return what a function returns, from a child of its own. Fork from a process with one thread only.

    Args:
        function: Returns something JSON can hold.
        timeout_s: Wall-clock limit; the child is killed beyond it.
        memory_bytes: Limit of the child's data segment; None: none.
    """
    with tempfile.TemporaryDirectory(prefix="kevolve-forked-") as folder:
        answer = Path(folder) / "answer.json"
        child = os.fork()
        if child == 0:
            _serve(function, answer, memory_bytes)
        status = _wait(child, time.monotonic() + timeout_s)
        if status is None:
            return Outcome(error="timeout", message=f"still running after {timeout_s:g} s")
        if not answer.exists():
            return Outcome(error="crash", message=f"the process ended with status {status}")
        told = json.loads(answer.read_text(encoding="utf-8"))
    return Outcome(told["value"], told["error"], told["message"], tuple(told["where"]))


def _serve(function: Callable[[], Any], answer: Path, memory_bytes: int | None) -> None:  # Any: JSON
    """Run, write the answer and leave; never returns."""
    try:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        limit_allocations(memory_bytes)
        told = {"value": function(), "error": "", "message": "", "where": []}
        text = json.dumps(told)
    except BaseException as error:  # the process boundary: whatever went wrong must reach the parent
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_ROOT)]
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if frame.filename != __file__]
        text = json.dumps({"value": None, "error": type(error).__name__, "message": str(error)[:2000], "where": where})
    part = answer.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.rename(answer)
    os._exit(0)


def _wait(child: int, deadline: float) -> int | None:
    """Return the child's wait status, None if it was killed at the deadline. What it started dies with it."""
    status: int | None = None
    while status is None and time.monotonic() < deadline:
        done, found = os.waitpid(child, os.WNOHANG)
        status = found if done else None
        if not done:
            time.sleep(_POLL_S)
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    if status is None:
        os.waitpid(child, 0)
    return status


def preload(*, interpret: bool = False) -> None:
    """Import what the children need, once: torch, the exporter, Triton and the coder.

    Args:
        interpret: Triton's kernels are to run in its interpreter; this must be decided before Triton is imported.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in ("torch.export", "torch._subclasses.fake_tensor", "triton", "triton.language.extra.cuda", "agents.coders.library.coder"):
        importlib.import_module(name)
    sys.modules["torch._subclasses.fake_tensor"].FakeTensorMode()  # its first use imports a thousand modules


__all__ = ["Outcome", "call", "preload"]
