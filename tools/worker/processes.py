"""The parent's side: start the warm process, fork workers from it, talk to them within time limits, kill them whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.errors import HarnessError
from tools.sandbox.leftovers import read_tail
from tools.worker.channel import Channel, ChannelClosedError, ChannelTimeoutError, ProtocolViolationError
from tools.worker.sampling import Whereabouts

_START_S = 120.0
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kevolve-starter")
_KILL_S = 25.0
_IDLE_S = 2.0
_PROCESS_CLOCK = 2
"""A process's own clock is numbered by its complement and this (linux/posix-timers.h: CPUCLOCK_SCHED)."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_S, _STOP_LOOK_S = 5.0, 0.0002
"""How long processes of a tree are told to stop: a ready one does so once it gets a processor."""
_STOPPED = frozenset("TtZXx")
"""Stopped, traced, or no more."""
_STOP_ROUNDS = 20
"""Looks for processes that came into being while others were being stopped; whoever is quicker than that is told by the processor time of the tree."""
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent


class WorkerDiedError(Exception):
    """A worker's process ended while an answer was awaited."""


class WorkerTimeoutError(Exception):
    """A worker did not answer in time."""


class WorkerHostileError(Exception):
    """A worker sent something that is no honest answer (malformed, unsolicited, wrong number)."""


@dataclass(frozen=True)
class Reply:
    """A worker's answer with the parent's clock."""

    data: dict[str, Any]  # Any: JSON
    fds: tuple[int, ...]
    seconds: float
    """From sending the command to receiving the answer, by the parent's monotonic clock."""

    @property
    def is_ok(self) -> bool:
        """True if the command ran without an exception."""
        return self.data.get("ok") is True


class Worker:
    """One forked process. Use as a context manager; leaving kills its whole tree."""

    def __init__(self, zygote: Zygote, pid: int, channel: Channel, log: Path, *, owns_strays: bool) -> None:
        self._zygote = zygote
        self._owns_strays = owns_strays
        self._channel = channel
        self._is_dead = False
        self._posted: int | None = None
        self.pid = pid
        self.log = log
        self.exit_status: int | None = None
        """The wait status, known after `kill`."""
        self.excess = ""
        """What it took too much of, in words, if that is why it was killed; known after `kill`."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def post(self, op: str, **fields: Any) -> None:  # Any: JSON
        """Send a command whose answer the next request, or `settle`, waits for.

        Raises:
            WorkerDiedError: The process ended.
        """
        number = secrets.randbits(53)
        try:
            self._channel.send({"op": op, "id": number, **fields})
        except (ChannelClosedError, ChannelTimeoutError) as err:
            raise WorkerDiedError("the process ended") from err
        self._posted = number

    def is_busy(self) -> bool:
        """True while a posted command has no answer yet."""
        return self._posted is not None and not self._channel.is_readable()

    def await_answer(self, timeout_s: float) -> None:
        """Wait until an answer comes in, or the process is gone, for so long at most; nothing is read."""
        self._channel.is_readable(timeout_s)

    def settle(self, timeout_s: float) -> dict[str, Any]:  # Any: JSON
        """Wait for the answer to a posted command and return it, nothing if none is due; errors are those of `request`."""
        if self._posted is None:
            return {}
        number, self._posted = self._posted, None
        return self._answer(number, timeout_s)[0]

    def _answer(self, number: int, timeout_s: float) -> tuple[dict[str, Any], list[int]]:  # Any: JSON
        try:
            data, received = self._channel.receive(max(timeout_s, 0.001))
        except ChannelClosedError as err:
            raise WorkerDiedError("the process ended") from err
        except ChannelTimeoutError as err:
            raise WorkerTimeoutError(f"no answer within {timeout_s:.1f} s") from err
        except ProtocolViolationError as err:
            raise WorkerHostileError(str(err)) from err
        if data.get("id") != number:
            raise WorkerHostileError("the process answered with a wrong message number")
        return data, received

    def request(
        self,
        op: str,
        timeout_s: float,
        fds: Sequence[int] = (),
        meanwhile: Callable[[], float] | None = None,
        start: Callable[[], None] | None = None,
        **fields: Any,
    ) -> Reply:  # Any: JSON
        """Send a command and wait for its answer.

        Args:
            op: The command.
            timeout_s: Limit for the answer, in s.
            fds: Descriptors that travel with it.
            meanwhile: Called again and again until something comes in; returns for how long it held the process still, in s, by which the limit moves.
            start: Lets the process go if it is held still; called, maybe twice, once the clock runs and the command is on its way.
            fields: What the command needs.

        Raises:
            WorkerDiedError: The process ended.
            WorkerTimeoutError: No answer in time; the process still runs.
            WorkerHostileError: It sent something else than one answer to this command.
        """
        self.settle(timeout_s)
        number = secrets.randbits(53)
        if self._channel.has_data():
            raise WorkerHostileError("the process sent a message that nobody asked for")
        began = time.perf_counter()
        try:
            self._channel.send({"op": op, "id": number, **fields}, fds, start=start)
        except ChannelClosedError as err:
            raise WorkerDiedError("the process ended") from err
        except ChannelTimeoutError as err:
            raise WorkerTimeoutError("the process does not read") from err
        limit = began + timeout_s
        while meanwhile is not None and time.perf_counter() < limit and not self._channel.is_readable():
            limit += meanwhile()
        data, received = self._answer(number, limit - time.perf_counter())
        return Reply(data, tuple(received), time.perf_counter() - began)

    def finds_idle(self) -> bool:
        """True if the process sees nothing else at work on its device; False, too, where it cannot tell soon. For processes whose code is ours."""
        try:
            if self._posted is None:
                self.post("idle")
            self.await_answer(_IDLE_S)  # of an earlier look, if that one has not come to its end
            return not self.is_busy() and self.settle(_IDLE_S).get("idle") is True
        except (WorkerDiedError, WorkerTimeoutError, WorkerHostileError):
            return False  # the next command says so

    def cpu_seconds(self) -> float:
        """Return the processor time of the process and everything it started so far, in s; 0.0 once it is gone."""
        return cpu_seconds(self._tree())

    def waits(self) -> dict[int, float] | None:
        """Return how long each thread was ready and had no processor so far, in s, by its number; None where the kernel does not say."""
        return waits(self._tree())

    def is_still(self) -> bool:
        """Return whether no thread is running or ready to."""
        return not any("R" in _thread_states(pid) for pid in self._tree())

    def executing(self, whereabouts: Whereabouts) -> list[str]:
        """Stop everything for a moment and return the file that each running thread was in."""
        with self.stopped():
            return whereabouts.look(self._tree())

    def _tree(self) -> list[int]:
        """Return the process and what it started, also what detached itself and so came back to the warm process."""
        return [*descendants(self.pid), *(self._zygote.strays() if self._owns_strays else ())]

    @contextlib.contextmanager
    def stopped(self) -> Iterator[float]:
        """Hold the process and its descendants still inside the context, so that whoever is timed there has the machine to itself.

        OpenMP's workers spin for milliseconds after a parallel region: without this the arm that was timed last would take a core from the next one.
        Gives the moment since which everything was held, by `time.perf_counter`.

        Raises:
            WorkerHostileError: Processes make each other go on again and again.
        """
        held: list[int] = []
        try:
            found, since = [self.pid], 0.0
            for _ in range(_STOP_ROUNDS):
                for pid in found:
                    _signal(pid, signal.SIGSTOP)
                held += found
                since = time.perf_counter()
                found = [pid for pid in self._tree() if pid not in held]
                if not found:
                    break
            if len(held) > 1:
                since = max(since, _stay_stopped(held))
            yield since
        finally:
            for pid in held:
                _signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process, everything it started, and close its channel. Safe to call twice."""
        if self._is_dead:
            return
        self._is_dead = True
        self._channel.close()
        self.exit_status, self.excess = self._zygote.kill(self.pid)

    def log_tail(self, limit: int = 4000) -> str:
        """Return the end of what the process printed."""
        return read_tail(self.log, limit).decode(errors="replace")


class Zygote:
    """The warm process. Start costs the import of torch once; each fork a few milliseconds."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        preload: Sequence[str] = (),
        *,
        warm_trace: bool = False,
        cores: Sequence[int] = (),
    ) -> None:
        """Start the process.

        Args:
            directory: Where its log goes.
            environment: Its whole environment.
            preload: Modules to import besides torch.
            cores: Cores that it and its forks are bound to; empty: all that this process may use.
            warm_trace: Prepare operator traces before forking (`cpu` only).

        Raises:
            HarnessError: It does not come up.
        """
        ours, theirs = socket.socketpair()
        self.log = directory / "zygote.log"
        paths = [str(_PACKAGE_ROOT), *(entry for entry in sys.path if entry and Path(entry).is_absolute() and Path(entry).exists())]
        bind = f"import os; os.sched_setaffinity(0, {list(cores)!r}); " if cores else ""
        program = f"{bind}import sys; sys.path[:] = {list(dict.fromkeys(paths))!r}; from tools.worker.zygote import main; main({theirs.fileno()}, {tuple(preload)!r}, {warm_trace!r})"
        with self.log.open("ab") as log:
            # The kernel kills the process when the thread that started it ends (PR_SET_PDEATHSIG), so a thread that stays starts it.
            self._process = _STARTER.submit(
                subprocess.Popen,
                [sys.executable, "-I", "-c", program],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), cwd=directory, start_new_session=True,
            ).result()  # fmt: skip
        theirs.close()
        self._control = Channel(ours)
        self._workers: set[int] = set()
        try:
            ready = self._control.receive(_START_S)[0]
            self.torch_version = str(ready.get("torch"))
            self.touched = str(ready.get("touched", ""))
            """Why its forks could not use an accelerator; empty if they can."""
        except (ChannelClosedError, ChannelTimeoutError, ProtocolViolationError) as err:
            tail = self.log.read_text(errors="replace")[-2000:]
            self.close()
            raise HarnessError(f"the worker process does not start: {err}; its log ends with: {tail}") from err

    def fork(self, role: str, config: Mapping[str, Any], log: Path) -> Worker:  # Any: JSON
        """Fork a worker.

        Raises:
            HarnessError: The warm process is gone.
        """
        ours, theirs = socket.socketpair()
        log_fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            answer = self._ask({"op": "fork", "role": role, "config": dict(config)}, [theirs.fileno(), log_fd], _START_S)
        finally:
            theirs.close()
            os.close(log_fd)
        is_candidate = role == "candidate"
        worker = Worker(self, answer["pid"], Channel(ours, accepts_fds=not is_candidate), log, owns_strays=is_candidate)
        self._workers.add(worker.pid)
        return worker

    def kill(self, pid: int) -> tuple[int | None, str]:
        """Kill a worker's tree; return its wait status, None if unknown, and what it had been killed for before, if it had."""
        self._workers.discard(pid)
        try:
            answer = self._ask({"op": "kill", "pid": pid}, [], _KILL_S)
        except HarnessError:
            return None, ""
        status = answer.get("exit")
        return (status if isinstance(status, int) else None), str(answer.get("reason", ""))

    @property
    def pid(self) -> int:
        """Its number, that of the parent of all it forks."""
        return self._process.pid

    def strays(self) -> list[int]:
        """Return processes that detached themselves from a worker, with their descendants: children of the warm process that it did not fork as workers."""
        return [found for child in children(self._process.pid) if child not in self._workers for found in descendants(child)]

    def is_alive(self) -> bool:
        """True if the process runs and answers."""
        if self._process.poll() is not None:
            return False
        with contextlib.suppress(HarnessError):
            return bool(self._ask({"op": "ping"}, [], 10.0))
        return False

    def close(self) -> None:
        """End the process and everything forked from it."""
        self._control.close()
        try:
            self._process.wait(timeout=_KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, message: Mapping[str, Any], fds: Sequence[int], timeout_s: float) -> dict[str, Any]:  # Any: JSON
        try:
            self._control.send(message, fds)
            return self._control.receive(timeout_s)[0]
        except (ChannelClosedError, ChannelTimeoutError, ProtocolViolationError) as err:
            raise HarnessError(f"the warm worker process is gone ({err}); its log is {self.log}") from err


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return processor time used by some processes, in s: all their threads, those that have ended too, and children that ended and were waited for."""
    total = 0.0
    for current in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += time.clock_gettime(~current << 3 | _PROCESS_CLOCK)
            fields = Path("/proc", str(current), "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) / _TICKS_PER_S
    return total


def waits(pids: Sequence[int]) -> dict[int, float] | None:
    """Return how long each living thread of some processes was ready and had no processor, in s, by its number; None where the kernel does not say.

    Second field of `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst).
    """
    found: dict[int, float] = {}
    for current in pids:
        with contextlib.suppress(OSError):
            for task in Path("/proc", str(current), "task").iterdir():
                waited = _waited(task)
                if waited is not None:
                    found[int(task.name)] = waited
    return found or None


def own_wait() -> float | None:
    """Return how long the calling thread was ready and had no processor, in s; None where the kernel does not say."""
    return _waited(Path("/proc", "thread-self"))


def threads_ready() -> int | None:
    """Return how many threads of this machine run or are ready to, the caller included; None where the kernel does not say (proc_stat(5): procs_running)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/stat").read_text(encoding="ascii", errors="replace").partition("\nprocs_running ")[2].split()[0])
    return None


def _waited(task: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((task / "schedstat").read_text().split()[1]) / 1e9
    return None


def descendants(pid: int) -> list[int]:
    """Return a process and its live descendants."""
    found: list[int] = []
    stack = [pid]
    while stack:
        current = stack.pop()
        if current in found:
            continue
        found.append(current)
        stack.extend(children(current))
    return found


def children(pid: int) -> list[int]:
    """Return the live children of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def _stay_stopped(pids: Sequence[int]) -> float:
    """Stop several processes until two looks find none of them running: each may have made another go on before it was stopped itself.

    Returns:
        When the last signal was sent to one that ran.
    """
    deadline, since, quiet_looks = time.monotonic() + _STOP_S, 0.0, 0
    while quiet_looks < 2:
        if time.monotonic() > deadline:
            raise WorkerHostileError("its processes cannot be held still: they make each other go on")
        states = {pid: _thread_states(pid) for pid in pids}
        for pid in pids:
            if states[pid] - _STOPPED:
                _signal(pid, signal.SIGSTOP)
        if any(found - _STOPPED - {"D"} for found in states.values()):  # what waits in the kernel stops when it leaves it
            quiet_looks = 0
            if any("R" in found for found in states.values()):
                since = time.perf_counter()
            time.sleep(_STOP_LOOK_S)
        else:
            quiet_looks += 1
    return since


def _thread_states(pid: int) -> set[str]:
    """Return the states of a process's threads (proc_pid_stat(5)); a dead first thread says nothing of the others."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            with contextlib.suppress(OSError, IndexError):
                found.add((task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0])
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
