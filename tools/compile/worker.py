"""The compiler's process: imports torch and Triton once, then forks one child per job, so that a crash or a hang costs one job.

Started by `server.CompileServer` as `python -m tools.compile.worker`; reads one JSON job per line on stdin and writes one JSON report per line on stdout.
The child runs the candidate's host code (not its kernels), so it is confined as one that evaluates: it writes to a folder of its own, reads neither the state nor
this checkout nor other temporary files, and has no network. What it reports about itself is evidence of compiling, never a verdict; its output is kept off the channel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.compile.job import Job, digest, run_job
from tools.sandbox.apply import confine
from tools.sandbox.layers import NAMES
from tools.targets.base import CompileReport

_POLL_S = 0.01
_FILE_BYTES = 1 << 30
_ROOT = Path(__file__).resolve().parent.parent.parent
_STATE = Path(os.environ["KEVOLVE_HOME"]).resolve() if os.environ.get("KEVOLVE_HOME") else None
_PRELOADED = (
    "torch._subclasses.fake_tensor",
    "triton.backends.amd.compiler",
    "triton.backends.nvidia.compiler",
    "triton.compiler.code_generator",
    "triton.language.extra.cuda",
    "triton.runtime.autotuner",
    "triton.runtime.cache",
    "yaml",
)
"""Imported once, so that every fork has them."""


def main() -> int:
    """Serve jobs until stdin closes."""
    import torch

    for name in _PRELOADED:
        with contextlib.suppress(ImportError):  # warming up only: a version without the module does its job later
            importlib.import_module(name)
    sys.modules["torch._subclasses.fake_tensor"].FakeTensorMode()  # its first use imports a thousand modules
    getattr(sys.modules.get("triton.runtime.cache"), "triton_key", int)()  # its first use hashes the compiler
    torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        report = _in_child(Job(**request["job"]), float(request["timeout_s"]))
        channel.write(json.dumps(report) + "\n")
        channel.flush()
    return 0


def _in_child(job: Job, timeout_s: float) -> dict[str, Any]:  # Any: JSON of a report
    with tempfile.TemporaryDirectory(prefix="kevolve-compile-") as folder:
        answer = Path(folder) / "report.json"
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(job, Path(folder), answer)
        status = wait_for(child, started + timeout_s)
        seconds = time.monotonic() - started
        if status is None:
            message = f"the compiler was still running after {timeout_s:g} s and was killed: use smaller tiles, or unroll less"
            return dataclasses.asdict(CompileReport(job.target, "timeout", error=message, seconds=seconds))
        if answer.exists():
            report: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return report
        cause = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"
        message = f"the compiler's process ended with {cause}: the source crashes it; see whether a simpler form of the kernel compiles"
        return dataclasses.asdict(CompileReport(job.target, "error", error=message, seconds=seconds))


def _child(job: Job, folder: Path, answer: Path) -> None:
    """Run the job and leave; never returns."""
    try:
        os.setpgid(0, 0)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), TRITON_CACHE_DIR=str(folder / "cache"))
        tempfile.tempdir = None  # ask the environment again
        confine(confinement(folder))
        report = dataclasses.asdict(run_job(job))
    except Exception as error:  # the process boundary: whatever went wrong must reach the parent
        report = dataclasses.asdict(CompileReport(job.target, "error", error=digest(error)))
    part = answer.with_suffix(".part")
    part.write_text(json.dumps(report), encoding="utf-8")
    part.rename(answer)
    os._exit(0)


def confinement(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Return what a compiling child may touch."""
    libraries = [Path(entry) for entry in sys.path if entry and Path(entry).is_absolute() and Path(entry).resolve() != _ROOT]
    return {
        "layers": NAMES,
        "hidden": [str(path) for path in (_STATE, Path("/tmp"), Path("/var/tmp"), _ROOT) if path is not None],
        "readable": [str(path) for path in (Path(sys.prefix), Path(sys.base_prefix), _ROOT / "tools", *libraries)],
        "writable": [str(folder)],
        "file_bytes": _FILE_BYTES,
    }


def wait_for(child: int, deadline: float) -> int | None:
    """Return the child's wait status, None if it was killed at the deadline."""
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _kill_group(child)
            return status
        time.sleep(_POLL_S)
    _kill_group(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    sys.exit(main())
