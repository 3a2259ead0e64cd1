"""One reference process and one candidate process of equal age, for trusted code that is timed against itself many times.

Starting two processes takes seconds on an accelerator; a comparison takes a fraction of one. What differs from process to process shows between pairs.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from tools.timing.phase import TimingRecord, WorkloadTimer
from tools.types import Effort, WorkloadEvaluation
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.session import ReferenceSession

_REFERENCE_S = 600.0
_SLOTS = 3


class FreshPair:
    """Times implementations that are known to be right; nothing is checked."""

    def __init__(self, process: CandidateProcess, session: ReferenceSession, effort: Effort, directory: Path, seed: int) -> None:
        """Take over a candidate process and a reference session that nothing else uses.

        Args:
            process: A new candidate process.
            session: A new session of the problem.
            effort: How much a comparison takes.
            directory: Where the process can read sources.
            seed: Seeds the bootstrap.
        """
        self._process = process
        self._session = session
        self._effort = effort
        self._directory = directory
        self._generator = np.random.default_rng(seed)
        self._deadline = Deadline(effort.timeout_s)
        self._timer: WorkloadTimer | None = None
        self._prepared: dict[str, Any] = {}  # Any: JSON
        self._loaded = ""

    def compare(self, source: str) -> WorkloadEvaluation:
        """Time an implementation against the eager baseline on the problem's first workload.

        Args:
            source: Its source; loaded into the same process where it differs from the one before.

        Raises:
            Rejected: It fails.
            HarnessError: The reference process fails.
        """
        if not self._prepared:
            seeds = [secrets.randbits(62) for _ in range(_SLOTS)]
            self._prepared = self._session.ask("prepare", _REFERENCE_S, workload=0, seeds=seeds, restore=False)
        if source != self._loaded:
            path = self._directory / f"variant_{hashlib.sha256(source.encode()).hexdigest()[:16]}.py"
            path.write_text(source, encoding="utf-8")
            self._process.load(self._prepared["init"], self._session.arenas, self._prepared["state"], self._deadline, source=path)
            self._loaded = source
            if self._timer is not None:
                self._timer.warm_candidate()
        if self._timer is None:
            self._timer = WorkloadTimer(
                self._process, self._session, self._effort, self._deadline, TimingRecord(self._session.workloads[0])
            )
            self._timer.warm_up(self._prepared, "not asked for", restore=False)
            self._timer.calibrate()
        self._deadline.renew(self._effort.timeout_s)
        return self._timer.measure(self._generator)
