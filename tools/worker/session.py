"""The parent's handle on one reference process: opened once per problem and device, kept between candidates."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.check.decision import passing_nulls, reject
from tools.check.operators import arithmetic, reads_all_inputs
from tools.check.verdict import Crowded, Rejected, Unmeasurable
from tools.errors import HarnessError, ProblemError
from tools.timing.turns import Interruption
from tools.types import Problem, Status
from tools.worker.processes import Reply, Worker, WorkerDiedError, WorkerHostileError, WorkerTimeoutError, Zygote

Answer = dict[str, Any]  # Any: JSON
_OPEN_S = 120.0
_COMPILE_S = 900.0
_PINGS = 15
_CONTEXT_BYTES = 3 << 30
"""Contexts of three processes with the workspaces of their libraries, and room for intermediate results; chosen generously, what does not fit is tried alone."""
_CALL_COPIES = 6
"""Of what a call reads and writes: in the reference's process as drawn and in float64, with PyTorch's own result, and in the candidate's."""


@dataclass
class Arenas:
    """Descriptors of the shared memory, to be passed on to candidates' processes."""

    names: list[str] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    serial: int = 0


@dataclass(frozen=True)
class Survey:
    """What is known about a workload before any candidate is tried."""

    untestable: str
    """Why no verdict is possible; empty if one is."""
    mutates_inputs: bool
    outputs_alias_inputs: bool
    operators: tuple[str, ...]
    """Arithmetic operators that the reference runs."""
    reads_all_inputs: bool
    """True if no operator can skip input elements, so that their bytes bound the time from below."""
    call_bytes: int
    """Inputs, outputs and weights of one call, in bytes."""
    flops: float
    """Operations that no implementation can do without; 0.0 where that is not known."""
    varied: tuple[str, ...] = ()
    """Labels for what had to differ from the problem's own for its outputs to depend on its inputs: `weights_amplified`, `inputs_contrasted`."""


class ReferenceSession:
    """One live reference process. `close` ends it."""

    def __init__(self, zygote: Zygote, problem: Problem, device: str, directory: Path, config: Answer) -> None:
        """Fork the process and open the problem in it.

        Raises:
            ProblemError: The problem cannot be used; the message says why.
            HarnessError: The process failed.
        """
        self.problem = problem
        self.device = device
        self.arenas = Arenas()
        self.turn: Callable[[], AbstractContextManager[Interruption | None]] = contextlib.nullcontext
        """What each command of the process is wrapped in; its time limit does not run while it is interrupted."""
        self._surveys: dict[int, Survey] = {}
        self._compiled: dict[tuple[int, str], str] = {}
        source = directory / "problem.py"
        source.write_text(problem.source, encoding="utf-8")
        self._worker: Worker = zygote.fork(
            "reference", {**config, "device": device, "directory": str(directory)}, directory / "reference.log"
        )
        try:
            opened = self.ask("open", _OPEN_S, path=str(source), seed=secrets.randbits(62))
        except (ProblemError, HarnessError, Rejected):
            self.close()
            raise
        self.workloads: list[str] = opened["workloads"]
        self.facts: Answer = opened["facts"]
        self._model_bytes, self._inputs_bytes = int(opened["model_bytes"]), int(opened["inputs_bytes"])
        self.init: Answer = opened["init"]
        """Specification of the constructor's arguments, to be used without memory."""
        self.calls: list[Answer | None] = opened["calls"]
        """Of each workload's inputs, likewise; None where they cannot be told without making them."""
        self.round_trip_s = 0.0
        """Median time of an empty command, in s."""
        self.measure_round_trip()

    def ask(self, op: str, timeout_s: float, **fields: Any) -> Answer:  # Any: JSON
        """Send a command to the trusted process and return its answer.

        Raises:
            ProblemError: The problem itself is at fault.
            Rejected: The reference does not fit into memory (`Unmeasurable` where that will not change).
            HarnessError: Anything else that goes wrong there.
        """
        return self.request(op, timeout_s, **fields).data

    def request(self, op: str, timeout_s: float, start: Callable[[], None] | None = None, **fields: Any) -> Reply:  # Any: JSON
        """Like `ask`, with the parent's clock; `start`: as for `tools.worker.processes.Worker.request`."""
        try:
            with self.turn() as interruption:
                meanwhile = functools.partial(interruption.look, self._worker) if interruption is not None else None
                reply = self._worker.request(op, timeout_s, meanwhile=meanwhile, start=start, **fields)
        except (WorkerDiedError, WorkerTimeoutError, WorkerHostileError) as err:
            if self.device != "cpu" and "out of memory" in self._worker.log_tail(1500):
                raise Crowded(Status.NOT_MEASURED, f"the reference process found no memory on the device at {op!r}") from err
            raise HarnessError(f"the reference process failed at {op!r}: {err}; its log ends with: {self._worker.log_tail(1500)}") from err
        self._keep_arenas(reply)
        if not reply.is_ok:
            text = str(reply.data.get("text", ""))
            if reply.data.get("kind") == "problem":
                raise ProblemError(f"{self.problem.path or self.problem.problem_id}: {text}")
            if reply.data.get("kind") == "oom":
                reason = f"the reference does not fit into the device's memory; smaller inputs may: {text[-500:]}"
                # Neighbours come and go on an accelerator; this machine's memory was asked for a moment ago.
                raise Unmeasurable(reason) if self.device == "cpu" else Crowded(Status.NOT_MEASURED, reason)
            raise HarnessError(f"the reference process failed at {op!r}: {text[-1500:]}")
        return reply

    def survey(self, workload: int, timeout_s: float) -> Survey:
        """Return what is known about a workload; found out once per process."""
        if workload not in self._surveys:
            answer = self.ask("survey", timeout_s, workload=workload, seeds=[secrets.randbits(62), secrets.randbits(62)])
            self._surveys[workload] = Survey(
                untestable=_untestable(answer),
                mutates_inputs=bool(answer["mutates_inputs"]),
                outputs_alias_inputs=bool(answer["outputs_alias_inputs"]),
                operators=tuple(arithmetic(answer["operators"])),
                reads_all_inputs=reads_all_inputs(answer["operators"]),
                call_bytes=int(answer["call_bytes"]),
                flops=float(answer["flops"]),
                varied=tuple(answer["varied"]),
            )
        return self._surveys[workload]

    @property
    def call_bytes(self) -> int:
        """Bytes of inputs, outputs and weights of a call of the largest workload; before a survey a guess, with outputs as large as the inputs."""
        return max((item.call_bytes for item in self._surveys.values()), default=2 * self._inputs_bytes + self._model_bytes)

    @property
    def needed_bytes(self) -> int:
        """Memory that an evaluation of this problem takes on an accelerator at the most, as far as is known."""
        return _CONTEXT_BYTES + _CALL_COPIES * self.call_bytes

    def compile(self, workload: int, arm: str = "compiled") -> str:
        """Compile the reference for the prepared workload; returns an error text, empty if that baseline works. Done once per workload.

        Args:
            workload: Which one is prepared.
            arm: `compiled` (default mode), `max_autotune`, which takes minutes where there is much to try, or `library` (`tools.worker.library`).
        """
        key = (workload, arm)
        if key not in self._compiled:
            try:
                self.ask("compile", _COMPILE_S, workload=workload, arm=arm)
                self._compiled[key] = ""
            except (HarnessError, Rejected) as err:
                self._compiled[key] = err.reason if isinstance(err, Rejected) else str(err)
                if not self.is_alive():
                    raise
        return self._compiled[key]

    def cpu_seconds(self) -> float:
        """Return the processor time of the process so far, in s."""
        return self._worker.cpu_seconds()

    def is_still(self) -> bool:
        """Return whether none of its threads is running or ready to."""
        return self._worker.is_still()

    def stopped(self) -> AbstractContextManager[float]:
        """Hold the process still inside the context."""
        return self._worker.stopped()

    def measure_round_trip(self) -> None:
        """Measure the cost of an empty command, which block times are corrected by."""
        self.round_trip_s = statistics.median(self.request("ping", 30.0).seconds for _ in range(_PINGS))

    def is_idle(self) -> bool:
        """True if the device does nothing, as far as the process can see; False if it cannot tell."""
        return self._worker.finds_idle()

    def is_alive(self) -> bool:
        """True if the process answers."""
        try:
            self._worker.request("ping", 10.0)
        except (WorkerDiedError, WorkerTimeoutError, WorkerHostileError):
            return False
        return True

    def close(self) -> None:
        """End the process."""
        arenas, self.arenas = self.arenas, Arenas()  # first: whoever is interrupted here may come again
        self._worker.kill()
        for fd in arenas.fds:
            os.close(fd)

    def _keep_arenas(self, reply: Reply) -> None:
        if not reply.fds:
            return
        if reply.data.get("serial") == self.arenas.serial:
            for fd in reply.fds:
                os.close(fd)
            return
        for fd in self.arenas.fds:
            os.close(fd)
        self.arenas = Arenas(list(reply.data["arenas"]), list(reply.fds), int(reply.data["serial"]))


def _untestable(answer: Answer) -> str:
    if any(reject(stats) for stats in answer["repeat"]):
        return (
            "untestable: the reference gives different outputs for the same inputs, so no candidate can be compared with it; "
            "draw random numbers in get_inputs, and switch dropout off (p=0 or self.eval())"
        )
    if any(reject(stats) for stats in answer["carried"]):
        return (
            "untestable: outputs depend on what earlier calls left in the model's buffers, and calls are repeated to be checked and timed; "
            "take that state as an input and return it"
        )
    for name in passing_nulls(answer["nulls"]):
        return f"untestable: an output of {_NULL_WORDS[name]} would pass for this problem's inputs; change the inputs or the weights so that outputs vary"
    return ""


_NULL_WORDS = {
    "zeros": "zeros", "ones": "ones", "mean": "row means", "input copy": "a copy of an input", "replay": "the result for other inputs",
}  # fmt: skip
