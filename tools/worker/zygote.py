"""A warm process that has imported torch and forks the others, so that a fresh process costs milliseconds.

It never initialises a device, never runs an operator (so no OpenMP thread exists to be lost in a fork) and never runs a candidate's code itself. It is the
sub-reaper of everything it forks: what a candidate detaches comes back to it and is killed with the candidate.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from tools.sandbox.memory import memory_allowance_bytes
from tools.worker.bounds import excess, resident_bytes, usage
from tools.worker.channel import Channel, ChannelClosedError, ChannelTimeoutError
from tools.worker.processes import children

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_S = 15.0
LOG_BYTES = 64 << 20
"""What a worker may print before the beginning of its log goes; looked at ten times a second, so that a quick printer exceeds it for a moment."""
_LOG_TAIL_BYTES = 1 << 20
_LOOK_S = 0.1
_LONGEST_PAUSE_S = 0.01
"""Between two looks at what is being killed: the next evaluation waits for it."""


def main(control_fd: int, preload: tuple[str, ...], warm_trace: bool) -> None:
    """Serve fork and kill requests on an inherited socket until it closes, then kill what is left.

    Args:
        control_fd: The socket.
        preload: Modules to import before the first fork.
        warm_trace: Import what a first operator trace needs, too; not for `cuda`, whose libraries must stay untouched before the fork.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    control = Channel(socket.socket(fileno=control_fd))
    for name in preload:
        with contextlib.suppress(Exception):  # what cannot be imported here is imported by whoever needs it, and fails there
            __import__(name)
    import numpy  # noqa: F401
    import torch
    import torch.utils._python_dispatch

    from tools.worker import candidate, reference, trace  # noqa: F401

    if warm_trace:
        trace.warm_up()
    active: set[int] = set()
    logs: dict[int, int] = {}
    bounded: dict[int, int | None] = {}
    ended: dict[int, dict[str, Any]] = {}  # Any: JSON
    control.send({"ready": os.getpid(), "torch": torch.__version__, "touched": touched_device()})
    while True:
        try:
            message, fds = control.receive(_LOOK_S if logs else 24 * 3600.0)
        except ChannelTimeoutError:
            for log in logs.values():
                bound_log(log)
            ended |= end_excess(bounded, active)
            continue
        except ChannelClosedError:
            break
        if message["op"] == "fork":
            log = os.dup(fds[1])
            pid = _fork(message, fds, control)
            active.add(pid)
            logs[pid] = log
            if message["role"] == "candidate":
                bounded[pid] = memory_allowance_bytes()
            control.send({"pid": pid})
        elif message["op"] == "kill":
            answer = ended.pop(message["pid"], None) or kill_tree(message["pid"], active - {message["pid"]})
            active.discard(message["pid"])
            bounded.pop(message["pid"], None)
            if (log_of_dead := logs.pop(message["pid"], None)) is not None:
                bound_log(log_of_dead)
                os.close(log_of_dead)
            control.send(answer)
        else:
            control.send({"alive": True})
    for pid in list(active):
        active.discard(pid)
        kill_tree(pid, active)


def end_excess(bounded: dict[int, int | None], active: set[int]) -> dict[int, dict[str, Any]]:  # Any: JSON
    """Kill candidates' processes if they, with all that they started and detached, take too much; both arguments lose those that were killed.

    Args:
        bounded: Candidates' processes with the memory that each may take.
        active: All workers.

    Returns:
        What `kill_tree` says of each, with the `reason`.
    """
    if not bounded:
        return {}
    me = os.getpid()
    strays = [pid for pid in children(me) if pid not in active]
    known = [value for value in bounded.values() if value is not None]
    reason = excess(usage([*bounded, *strays], resident_bytes(me)), max(known, default=None))
    if not reason:
        return {}
    found = {}
    for pid in list(bounded):
        found[pid] = {**kill_tree(pid, active - {pid}), "reason": reason}
        active.discard(pid)
        del bounded[pid]
    return found


def bound_log(fd: int) -> None:
    """Leave out the beginning of a log that has grown too long. Whoever prints appends, and so neither waits nor fails; what is printed at that very moment may be lost.

    Args:
        fd: Opened for reading and appending.
    """
    with contextlib.suppress(OSError):
        size = os.fstat(fd).st_size
        if size <= LOG_BYTES:
            return
        tail = os.pread(fd, _LOG_TAIL_BYTES, size - _LOG_TAIL_BYTES)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"[{size - len(tail)} bytes left out]\n".encode() + tail, 0)


def touched_device() -> str:
    """Return why a fork of this process could not initialise an accelerator any more; empty if it can."""
    import torch.cuda

    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - links, some of which lead nowhere by now
        with contextlib.suppress(OSError):
            if (opened := os.readlink(f"/proc/self/fd/{entry}")).startswith("/dev/nvidia"):  # noqa: PTH115
                return f"an import opened {opened}"
    pid = os.fork()
    if pid == 0:
        os._exit(1 if torch.cuda._is_in_bad_fork() else 0)
    return "an import asked for accelerators" if os.waitpid(pid, 0)[1] else ""


def kill_tree(pid: int, spare: set[int]) -> dict[str, Any]:  # Any: JSON
    """Kill a child, its process group, its descendants and every orphan that came back to this sub-reaper; spare the other children's trees.

    Returns:
        `killed`: how many processes were signalled; `exit`: the child's wait status, None if it could not be reaped.
    """
    killed: set[int] = set()
    status: int | None = None
    me = os.getpid()
    deadline, pause_s = time.monotonic() + _KILL_S, 0.001
    while time.monotonic() < deadline:  # a process with a GPU context can take seconds to die
        doomed = _descendants(me, spare)
        for victim in doomed:  # stop all before killing any, so that a fork bomb cannot outrun the loop
            _signal(victim, signal.SIGSTOP)
        _signal_group(pid, signal.SIGKILL)
        for victim in doomed:
            _signal(victim, signal.SIGKILL)
        killed |= doomed
        for victim in doomed | {pid}:
            with contextlib.suppress(ChildProcessError):
                done, code = os.waitpid(victim, os.WNOHANG)
                if done == pid:
                    status = code
        if not _descendants(me, spare):
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return {"killed": len(killed), "exit": status}


def _descendants(root: int, spare: set[int]) -> set[int]:
    """Return the live descendants of a process, without the trees of spared ones and without zombies that are not its own children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path("/proc", entry, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: set[int] = set()
    stack = [root]
    while stack:
        for child in children.get(stack.pop(), ()):
            if child not in spare and child not in found:
                found.add(child)
                stack.append(child)
    return found


def _fork(message: dict[str, Any], fds: list[int], control: Channel) -> int:  # Any: JSON
    """Fork a worker; returns its pid in the parent and never returns in the child."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    code = 1
    try:
        control.close()
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if os.getppid() != parent:
            os._exit(1)
        _become(message, fds)
        code = 0
    except BaseException:  # the child must never fall back into the zygote's loop
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become(message: dict[str, Any], fds: list[int]) -> None:  # Any: JSON
    """Turn the fresh child into a worker: descriptors, environment, directory, limits, role."""
    channel_fd, log_fd = fds
    null = os.open(os.devnull, os.O_RDONLY)
    for source, destination in ((null, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, destination)
    high = os.dup(channel_fd) if channel_fd < 3 else channel_fd
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - listed before closing
        if int(entry) > 2 and int(entry) != high:
            with contextlib.suppress(OSError):
                os.close(int(entry))
    config = message["config"]
    os.environ.update(config["environment"])
    _reset_directories()
    os.chdir(config["directory"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if message["role"] == "candidate":
        from tools.sandbox.apply import confine
        from tools.worker import candidate

        confine(config["confinement"])
        candidate.main(Channel(socket.socket(fileno=high)), config)
    else:
        from tools.worker import reference

        reference.main(Channel(socket.socket(fileno=high)), config)


def _reset_directories() -> None:
    """Forget directories that libraries remembered before the environment changed."""
    import tempfile

    tempfile.tempdir = None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
