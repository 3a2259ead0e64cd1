"""Problem source to captured graphs, one for each workload, by way of a child process with a time limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agents.coders.library.errors import CaptureError
from agents.coders.library.graph import Graph, graph_from_json

_WORKER = Path(__file__).with_name("capture_worker.py")
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@dataclass(frozen=True)
class Capture:
    """The graphs of a problem."""

    workloads: tuple[tuple[str, Graph], ...]
    """Name and graph of each workload; never empty."""


def capture(source: str, timeout_s: float = 120.0) -> Capture:
    """Capture what a problem computes, as ATen operators with shapes, dtypes and strides.

    Construction, inputs and forward run under fake tensors, so the size of the inputs costs nothing.

    Args:
        source: The problem's Python source (`Model`, `get_inputs`, `get_init_inputs`).
        timeout_s: Wall-clock limit for the child process, in s.

    Raises:
        CaptureError: The source raises, cannot be exported, or takes too long; the message says which.
    """
    outcome = _captured(source, timeout_s)
    if isinstance(outcome, str):
        raise CaptureError(outcome)
    return outcome


@lru_cache(maxsize=64)
def _captured(source: str, timeout_s: float) -> Capture | str:
    """Return the graphs, or why there are none: both are remembered, since a child process takes seconds."""
    with tempfile.TemporaryDirectory(prefix="kevolve-capture-") as folder:
        problem, result = Path(folder, "problem.py"), Path(folder, "graph.json")
        problem.write_text(source, encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in _SECRETS)}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [sys.executable, str(_WORKER), str(problem), str(result)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"capturing the problem took longer than {timeout_s:g} s"
        if not result.exists():
            return f"the capture process ended with exit code {done.returncode}: {done.stderr[-500:].strip()}"
        data = json.loads(result.read_text(encoding="utf-8"))
    if "error" in data:
        return str(data["error"])
    return Capture(tuple((item["name"], graph_from_json(item["graph"])) for item in data["workloads"]))
