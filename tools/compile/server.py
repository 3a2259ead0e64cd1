"""Keep one compiler process for many jobs, and remember reports by content."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tools import line_process
from tools.compile.job import Job
from tools.errors import HarnessError, MachineError
from tools.targets.base import CompileReport, EmittedStage, KernelResources, LaunchRecord, TimeEstimate
from tools.types import Evidence


class CompileServer:
    """A compiler process, started with the first job. One job at a time; safe to share between threads. Close it, or use it as a context manager."""

    def __init__(self, cache: Path | None = None) -> None:
        """Args: cache: directory that remembers reports (timeouts and crashes too) by content; None: nothing is remembered.

        Raises:
            MachineError: The cache directory cannot be written.
        """
        self._cache = _writable(cache) if cache is not None else None
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> CompileServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process; a later job starts a new one."""
        with self._lock:
            self._stop()

    def compile(self, job: Job, *, timeout_s: float = 120.0) -> CompileReport:
        """Return the report of a job, from memory if the same source was compiled for the same target and versions before.

        Raises:
            HarnessError: The compiler's process cannot be started or broke twice.
        """
        remembered = self._remembered(job, timeout_s)
        if remembered is not None:
            return remembered
        with self._lock:
            try:
                report = self._ask(job, timeout_s)
            except (OSError, ValueError):
                self._stop()
                try:
                    report = self._ask(job, timeout_s)
                except (OSError, ValueError) as error:
                    self._stop()
                    raise HarnessError(f"the compiler's process does not answer: {error}; try `python -m tools.compile.worker`") from error
        self._remember(job, timeout_s, report)
        return report

    def _ask(self, job: Job, timeout_s: float) -> CompileReport:
        if self._process is None or self._process.poll() is not None:
            environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
            self._process = line_process.start("tools.compile.worker", environment)
        return report_from_json(line_process.ask(self._process, {"job": dataclasses.asdict(job), "timeout_s": timeout_s}))

    def _stop(self) -> None:
        process, self._process = self._process, None
        line_process.end(process)

    def _path(self, job: Job, timeout_s: float) -> Path | None:
        if self._cache is None:
            return None
        versions = [importlib.metadata.version(name) for name in ("torch", "triton")]
        text = json.dumps([dataclasses.asdict(job), timeout_s, versions], sort_keys=True)
        return self._cache / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def _remembered(self, job: Job, timeout_s: float) -> CompileReport | None:
        path = self._path(job, timeout_s)
        try:
            return report_from_json(json.loads(path.read_text(encoding="utf-8"))) if path is not None else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _remember(self, job: Job, timeout_s: float, report: CompileReport) -> None:
        path = self._path(job, timeout_s)
        if path is None:
            return
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(dataclasses.asdict(report)), encoding="utf-8")
        part.replace(path)


def report_from_json(data: Mapping[str, Any]) -> CompileReport:  # Any: JSON
    """Rebuild a report from its JSON."""
    values = dict(data)
    kernels = tuple(KernelResources(**{**item, "mma": tuple(item["mma"])}) for item in values["kernels"])
    launches = tuple(
        LaunchRecord(**{**item, "constexprs": tuple(item["constexprs"]), "grid": tuple(item["grid"])}) for item in values["launches"]
    )
    values |= {
        "kernels": kernels,
        "launches": launches,
        "estimates": tuple(TimeEstimate(**item) for item in values["estimates"]),
        "emitted": tuple(EmittedStage(**item) for item in values.get("emitted", ())),
        "warnings": tuple(values["warnings"]),
        "evidence": Evidence(values["evidence"]),
    }
    return CompileReport(**values)


def _writable(folder: Path) -> Path:
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise MachineError(f"the cache directory {folder} cannot be written: {error}; pass another one") from error
    return folder
