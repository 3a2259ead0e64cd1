"""A process of ours that answers one JSON line for each line it reads: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.sandbox.environment import NO_DEVICES

_PACKAGES = Path(__file__).resolve().parent.parent
_END_S = 5.0
"""How long a process that closed its output is given to end."""


def start(module: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start `python -m module` in an environment, without accelerators and with these packages on its path."""
    path = os.pathsep.join(filter(None, [str(_PACKAGES), environment.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "PYTHONPATH": path, **NO_DEVICES},
    )


def ask(process: subprocess.Popen[str], job: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Send a job and return the answer.

    Raises:
        OSError: It ended, or closed its output.
        ValueError: It answered something else than JSON.
    """
    assert process.stdin is not None and process.stdout is not None, "started with pipes"
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise OSError(f"it ended with code {process.wait(_END_S)}")
        raise OSError("it closed its output")
    answer: dict[str, Any] = json.loads(line)
    return answer


def end(process: subprocess.Popen[str] | None) -> None:
    """Kill the process, if there is one, and close its pipes."""
    if process is None:
        return
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
