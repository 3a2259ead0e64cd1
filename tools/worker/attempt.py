"""The parent's handle on one candidate process: every answer is checked against what the reference process said, and every failure becomes a status."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tools.check.verdict import Rejected, digest_error, failure
from tools.errors import HarnessError
from tools.timing.fresh import SweepMode
from tools.timing.turns import Interruption
from tools.types import Feedback, Status
from tools.worker.bounds import is_memory
from tools.worker.processes import Reply, Worker, WorkerDiedError, WorkerHostileError, WorkerTimeoutError, Zygote
from tools.worker.sampling import Whereabouts
from tools.worker.session import Arenas

Answer = dict[str, Any]  # Any: JSON
_Start = Callable[[], None] | None
_POISON_LIMIT_BYTES = 1 << 30
_OPEN_S = 60.0
_COMPILING_PRIORITY = 10
"""Compiling goes on beside others' timings, which come first where cores are few (setpriority(2))."""
_WATCH_S = 0.0015
"""Mean time between two looks at a running block."""


class DeviceNotOpenedError(HarnessError):
    """A process ended, or hung, while it initialised its device, before it had loaded anything of the candidate."""


class Deadline:
    """A limit on the time that a candidate's process may take; what the reference process does in between does not count."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    def remaining_s(self) -> float:
        """Return the seconds left, at least 0."""
        return max(0.0, self._left_s)

    def spend(self, seconds: float) -> None:
        """Count time that the candidate took."""
        self._left_s -= seconds

    def renew(self, seconds: float) -> None:
        """Begin again with so many seconds, for code that is trusted."""
        self._left_s = seconds


class CandidateProcess:
    """One process of one candidate. Use as a context manager; leaving kills it with everything it started."""

    def __init__(self, zygote: Zygote, source: Path, directory: Path, config: Answer) -> None:
        self.source = source
        self._serial = 0
        self._fault = ""
        self._is_loaded = False
        self.opened: Answer = {}
        """What the process said when it had initialised its device: `profiler`, why that does not start (empty if it does), and `profiler_s`."""
        self.turn: Callable[[], AbstractContextManager[Interruption | None]] = contextlib.nullcontext
        """What each command of the process is wrapped in; its time limit does not run before, nor while it is interrupted."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        # The log lies beside the directory, not in it: the candidate must not be able to put a link or a pipe in its place.
        log = directory.with_name(f"{directory.name}.log")
        self._worker: Worker = zygote.fork("candidate", {**config, "directory": str(directory)}, log)

    def __enter__(self) -> CandidateProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.kill()

    def open_device(self, *, profiler: bool = False) -> None:
        """Have the process initialise its device, in which no code of the candidate has a part; returns before it has.

        Args:
            profiler: Start the profiler once, too.
        """
        try:
            self._worker.post("open", profiler=profiler)
        except WorkerDiedError as err:
            self._fault = str(err)

    def is_opening(self) -> bool:
        """True while the device is being initialised."""
        return self._worker.is_busy()

    def await_device(self) -> None:
        """Wait until the device is initialised. What goes wrong is the next command's error, and not the candidate's."""
        try:
            settled = self._worker.settle(_OPEN_S)
            self.opened = settled if "profiler" in settled else self.opened
        except (WorkerDiedError, WorkerTimeoutError, WorkerHostileError) as err:
            self._worker.kill()
            self._fault = f"{err}; its log ends with: {self._worker.log_tail(1500)}"

    def compile(self, target: str, limits: Mapping[str, float], init: Answer, calls: Sequence[Answer], deadline: Deadline) -> Answer:
        """Have a process without a device compile what the model launches; nothing else can be asked of it afterwards.

        Args:
            target: For example `cuda:sm_90`.
            limits: The chip's numbers.
            init: Specification of the constructor's arguments.
            calls: Of each workload's inputs.
            deadline: Limits it.

        Returns:
            `kernels`, how many compiled, and `error`, what ended it early, both by the process's own word.

        Raises:
            Rejected: It takes too long, or the process ends.
        """
        self._is_loaded = True
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._worker.pid, _COMPILING_PRIORITY)
        said = self._request(
            "compile", deadline, "compiling", path=str(self.source), target=target, limits=dict(limits), init=init, calls=calls
        ).data
        return {"kernels": said.get("kernels") if isinstance(said.get("kernels"), int) else 0, "error": str(said.get("error", ""))[:300]}

    def is_idle(self) -> bool:
        """True if the device does nothing, as far as this process can see, into which nothing of the candidate has been loaded; False if it cannot tell."""
        if self._is_loaded or self.is_opening():
            return False
        self.await_device()
        return bool(self.opened) and not self._fault and self._worker.finds_idle()

    def load(self, init: Answer, arenas: Arenas, state: Answer, deadline: Deadline, *, source: Path | None = None) -> None:
        """Import the source, construct the model, give it the reference's weights; `source`: another one than the process was made for.

        Raises:
            Rejected: Any of that fails.
        """
        self._serial = arenas.serial
        self._is_loaded = True
        reply = self._request("load", deadline, "the import", arenas.fds, path=str(source or self.source), init=init, arenas=arenas.names)
        theirs = reply.data.get("state")
        _require_same_state(theirs if isinstance(theirs, dict) else {}, state)
        self.load_state(state, deadline)

    def load_state(self, state: Answer, deadline: Deadline, *, in_memory: bool = False) -> None:
        """Copy weights into the model, in place; `in_memory`: where they lie, of which no hook and no version counter tells."""
        self._request("state", deadline, "loading the weights", state=state, in_memory=in_memory)

    def share(self, arenas: Arenas, deadline: Deadline) -> None:
        """Hand over the arenas if they were replaced since the last time."""
        if arenas.serial != self._serial:
            self._serial = arenas.serial
            self._request("arenas", deadline, "mapping memory", arenas.fds, arenas=arenas.names)

    def call(self, draw: Answer, deadline: Deadline, where: str, *, echo: bool, poison_bytes: int, late: bool = False) -> Answer:
        """Call the model on a draw; the output lies in the output arena afterwards.

        With `late`, an accelerator's inputs get their values only in stream order, after the call was made.

        Raises:
            Rejected: It fails, or structure, shape, dtype or device of the output are wrong.
        """
        answer = self._request("call", deadline, where, args=draw["args"], echo=echo, poison_bytes=poison_bytes, late=late).data
        self._check_outputs(answer, draw["outputs"])
        if answer.get("guards_intact") is not True:
            raise Rejected(
                Status.WRONG_VALUES,
                "the candidate writes outside its inputs' memory (guard bands were overwritten)",
                Feedback(error="out-of-bounds write next to an input tensor"),
            )
        return answer

    def rewrite(self, outputs: Answer, deadline: Deadline) -> None:
        """Have the last output written once more."""
        self._check_outputs(self._request("rewrite", deadline, "writing the output").data, outputs)

    def trace(self, draw: Answer, deadline: Deadline) -> Answer:
        """Return what one call runs, as the process itself observes it."""
        return self._request("trace", deadline, "a traced call", args=draw["args"]).data

    def repeat(self, draw: Answer, deadline: Deadline, *, calls: int, seconds: float) -> Answer:
        """Call on the same inputs again; the output that differs most is the last one afterwards."""
        nbytes = min(draw["outputs_bytes"], _POISON_LIMIT_BYTES)
        return self._request(
            "repeat", deadline, "a repeated call", args=draw["args"], calls=calls, seconds=seconds, poison_bytes=nbytes
        ).data

    def ghost(self, draw: Answer, deadline: Deadline) -> Answer:
        """Call with the Triton launches left out, and say how many were and whether the output is the same without them."""
        nbytes = min(draw["outputs_bytes"], _POISON_LIMIT_BYTES)
        return self._request("ghost", deadline, "a call without its kernels", args=draw["args"], poison_bytes=nbytes).data

    def prepare(self, slots: Sequence[Answer], layout: Sequence[Sequence[int]], deadline: Deadline, *, restore: bool) -> None:
        """Load the timed input sets; `layout`: strides of the reference's outputs; `restore`: the operator works in place, so every call gets its inputs back first."""
        self._request("prepare", deadline, "loading the timed inputs", slots=list(slots), layout=list(layout), restore=restore)

    def warm(self, calls: int, deadline: Deadline) -> None:
        """Call the model a few times untimed."""
        self._request("warm", deadline, "a warm-up call", calls=calls)

    def block(self, calls: int, seed: int, deadline: Deadline, ahead_ms: float = 0.0) -> Reply:
        """Run one timed block; `ahead_ms` as for `tools.worker.devices.Device.timed_loop`."""
        return self._request("block", deadline, "a timed call", calls=calls, seed=seed, ahead_ms=ahead_ms)

    def watched_block(self, calls: int, seed: int, deadline: Deadline, whereabouts: Whereabouts) -> Counter[str]:
        """Run one timed block like any other and count the files that its threads were found executing in, at random moments."""
        found: Counter[str] = Counter()

        def look() -> float:
            time.sleep(_WATCH_S * (0.5 + secrets.randbelow(1000) / 1000.0))
            found.update(self._worker.executing(whereabouts))
            return 0.0

        self._request("block", deadline, "a timed call", meanwhile=look, calls=calls, seed=seed, ahead_ms=0.0)
        return found

    def profile(self, calls: int, deadline: Deadline) -> Answer:
        """Return `busy_ms` and `span_ms` of some calls on the timed inputs together, by the process's own word; empty where no profiler works."""
        return self._request("profile", deadline, "a profiled call", calls=calls).data

    def announce(self, draws: Sequence[Answer], outputs: Sequence[Answer], deadline: Deadline) -> None:
        """Say where the inputs of sweeps in place will lie and where their outputs go, while the inputs are not there yet."""
        self._request("announce", deadline, "preparing for fresh inputs", draws=list(draws), outputs=list(outputs))

    def sweep(self, draws: Sequence[Answer], outputs: Sequence[Answer], mode: SweepMode, deadline: Deadline, start: _Start = None) -> Reply:
        """Call once on each of several draws that were not seen before, of those announced if none are given; `start` as for `Worker.request`."""
        return self._request("sweep", deadline, "a call on fresh inputs", start=start, draws=list(draws), outputs=list(outputs), mode=mode)

    def store(self, deadline: Deadline, start: _Start = None) -> Reply:
        """Have the outputs of a sweep in place written to the output arena."""
        return self._request("store", deadline, "writing the outputs for fresh inputs", start=start)

    def log_tail(self, limit: int) -> str:
        """Return the end of what the process printed."""
        return self._worker.log_tail(limit)

    def cpu_seconds(self) -> float:
        """Return the processor time of the process tree so far, in s."""
        return self._worker.cpu_seconds()

    def waits(self) -> dict[int, float] | None:
        """Return how long each thread was ready and had no processor so far, in s, by its number; None where the kernel does not say."""
        return self._worker.waits()

    def is_still(self) -> bool:
        """Return whether none of its threads is running or ready to."""
        return self._worker.is_still()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[float]:
        """Hold the process tree still inside the context; gives the moment since which it is, by `time.perf_counter`.

        Raises:
            Rejected: Its processes make each other go on.
        """
        with contextlib.ExitStack() as stack:
            try:
                since = stack.enter_context(self._worker.stopped())
            except WorkerHostileError as err:
                raise Rejected(Status.REWARD_HACK, f"the candidate interfered with the evaluator: {err}") from err
            yield since

    def mapped_libraries(self) -> list[str]:
        """Return the shared objects that the process has mapped, as the kernel reports them."""
        try:
            text = Path("/proc", str(self._worker.pid), "maps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return sorted({match[0] for match in re.findall(r"(/\S+\.so(\.\d+)*)$", text, flags=re.MULTILINE)})

    def _check_outputs(self, answer: Answer, expected: Answer) -> None:
        invalid = answer.get("invalid")
        if invalid:
            kind = str(invalid).partition(":")[0]
            if kind in ("subclass", "lazy"):
                raise Rejected(Status.REWARD_HACK, f"the output is not a plain tensor ({str(invalid)[:200]})")
            raise Rejected(
                Status.WRONG_SHAPE, f"the output cannot be compared: {str(invalid)[:300]}", Feedback(first_mismatch=str(invalid)[:500])
            )
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise Rejected(Status.REWARD_HACK, "the process answered without describing its output")
        _require_same_outputs(outputs, expected)
        if answer.get("written") is not True:
            raise Rejected(
                Status.WRONG_SHAPE,
                f"the output lies on {answer.get('devices')!r}, not on the target's device",
                Feedback(first_mismatch="output on the wrong device"),
            )

    def _request(
        self,
        op: str,
        deadline: Deadline,
        where: str,
        fds: Sequence[int] = (),
        meanwhile: Callable[[], float] | None = None,
        start: _Start = None,
        **fields: Any,
    ) -> Reply:  # Any: JSON
        held_s = 0.0
        self.await_device()  # before the turn: what initialises keeps the device as it is
        with self.turn() as interruption:

            def look() -> float:
                nonlocal held_s
                held_now_s = interruption.look(self._worker) if interruption is not None else 0.0
                held_s += held_now_s
                return held_now_s

            return self._request_now(op, deadline, where, fds, meanwhile if interruption is None else look, start, fields, lambda: held_s)

    def _request_now(
        self,
        op: str,
        deadline: Deadline,
        where: str,
        fds: Sequence[int],
        meanwhile: Callable[[], float] | None,
        start: _Start,
        fields: Answer,
        held_s: Callable[[], float],
    ) -> Reply:
        if self._fault:
            raise DeviceNotOpenedError(f"a process did not initialise its device: {self._fault}")
        limit_s = deadline.remaining_s()
        began = time.monotonic()
        try:
            reply = self._worker.request(op, limit_s, fds, meanwhile, start, **fields)
        except WorkerTimeoutError as err:
            raise Rejected(Status.TIMEOUT, f"{where} did not finish within its time limit ({limit_s:.0f} s were left)") from err
        except WorkerHostileError as err:
            raise Rejected(Status.REWARD_HACK, f"the candidate interfered with the evaluator's channel: {err}") from err
        except WorkerDiedError as err:
            raise self._death(where) from err
        finally:
            deadline.spend(time.monotonic() - began - held_s())
        if not reply.is_ok:
            raise failure(str(reply.data.get("kind", "error")), str(reply.data.get("text", "")), where)
        return reply

    def _death(self, where: str) -> Rejected:
        self._worker.kill()
        status, log = self._worker.exit_status, self._worker.log_tail()
        feedback = Feedback(error=digest_error(log))
        if self._worker.excess:
            kind = Status.OUT_OF_MEMORY if is_memory(self._worker.excess) else Status.RUNTIME_ERROR
            return Rejected(kind, f"the candidate's processes were ended during {where}: they took {self._worker.excess}", feedback)
        if status is not None and os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            kind = Status.OUT_OF_MEMORY if number == signal.SIGKILL else Status.RUNTIME_ERROR
            return Rejected(kind, f"the candidate's process was ended by {name} during {where}", feedback)
        code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        return Rejected(Status.RUNTIME_ERROR, f"the candidate's process ended by itself (exit code {code}) during {where}", feedback)


def _require_same_state(theirs: Mapping[str, Any], state: Answer) -> None:  # Any: JSON
    """Compare the state dict's names and shapes with the reference's."""
    expected = {name: item["tensor"] for name, item in state.get("dict", {}).items() if "tensor" in item}
    missing, extra = sorted(set(expected) - set(theirs)), sorted(set(theirs) - set(expected))
    different = [
        f"{name}: {theirs[name].get('shape') if isinstance(theirs[name], dict) else 'something else'} instead of {expected[name]['shape']}"
        for name in sorted(set(expected) & set(theirs))
        if not isinstance(theirs[name], dict) or theirs[name].get("shape") != expected[name]["shape"]
    ]
    if missing or extra or different:
        parts = (
            [f"missing {', '.join(missing)}"] * bool(missing)
            + [f"unexpected {', '.join(extra)}"] * bool(extra)
            + [f"shapes differ: {'; '.join(different)}"] * bool(different)
        )
        text = "; ".join(parts)[:800]
        hint = "ModelNew must have the same parameters and buffers, under the same names, as Model; weights are loaded by name"
        raise Rejected(Status.RUNTIME_ERROR, f"the state dict differs from the reference's: {text}", Feedback(error=f"{text}. {hint}."))


def _require_same_outputs(actual: Answer, expected: Answer, name: str = "output") -> None:
    """Compare structure, dtype and shape; offsets and strides do not matter."""
    kind = next(iter(expected))
    if not isinstance(actual, dict):
        raise Rejected(Status.REWARD_HACK, "the process described its output in a wrong form")
    alike = {"list": ("list", "tuple"), "tuple": ("list", "tuple")}.get(kind, (kind,))
    if not any(item in actual for item in alike):
        found = next(iter(actual), "nothing")
        raise Rejected(
            Status.WRONG_SHAPE,
            f"{name} should be a {kind}, got a {found}",
            Feedback(first_mismatch=f"{name}: expected a {kind}, got a {found}"),
        )
    if kind == "tensor":
        mine, theirs = expected["tensor"], actual["tensor"]
        if not isinstance(theirs, dict):
            raise Rejected(Status.REWARD_HACK, "the process described its output in a wrong form")
        if theirs.get("shape") != mine["shape"]:
            shape = theirs.get("shape")
            text = f"{name}: expected shape {tuple(mine['shape'])}, got {tuple(shape) if isinstance(shape, list) else shape!r}"[:400]
            raise Rejected(Status.WRONG_SHAPE, text, Feedback(first_mismatch=text))
        if theirs.get("dtype") != mine["dtype"]:
            text = f"{name}: expected dtype {mine['dtype']}, got {theirs.get('dtype')}"[:400]
            raise Rejected(Status.WRONG_DTYPE, text, Feedback(first_mismatch=text))
    elif kind == "value":
        if type(actual["value"]) is not type(expected["value"]) or actual["value"] != expected["value"]:
            text = f"{name}: expected {expected['value']!r}, got {actual['value']!r}"[:400]
            raise Rejected(Status.WRONG_VALUES, text, Feedback(first_mismatch=text))
    elif kind in ("list", "tuple"):
        mine_items, their_items = expected[kind], next(actual[item] for item in alike if item in actual)
        if not isinstance(their_items, list) or len(mine_items) != len(their_items):
            text = f"{name}: expected {len(mine_items)} items, got {len(their_items) if isinstance(their_items, list) else 'none'}"
            raise Rejected(Status.WRONG_SHAPE, text, Feedback(first_mismatch=text))
        for number, (mine_item, their_item) in enumerate(zip(mine_items, their_items, strict=True)):
            _require_same_outputs(their_item, mine_item, f"{name}[{number}]")
    elif kind == "dict":
        their_named = actual["dict"]
        if not isinstance(their_named, dict) or set(their_named) != set(expected["dict"]):
            text = (
                f"{name}: expected keys {sorted(expected['dict'])}, got {sorted(their_named) if isinstance(their_named, dict) else 'none'}"
            )
            raise Rejected(Status.WRONG_SHAPE, text, Feedback(first_mismatch=text))
        for key, item in expected["dict"].items():
            _require_same_outputs(their_named[key], item, f"{name}[{key!r}]")
