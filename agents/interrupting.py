"""Ctrl-C and SIGTERM cancel a coroutine, once.

`asyncio.run` cancels at the first Ctrl-C and raises KeyboardInterrupt wherever its loop is at the second, which can lose the wake-up of a task that it then waits for
without end. A second signal is no rare thing: `timeout` sends one to the process and one to its group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

IMPATIENT_S = 2.0
"""A signal that comes so long after the first one ends the process at once; what was stored stays, as after a kill."""
EXIT_CODE = 130
LEFT_S = 3.0
"""How long calls in threads may take to tidy up after they were interrupted, in s."""
_LEFT_CHILDREN = ("capture_worker.py",)
"""Programs that a blocking call waits for, and that write nothing but a temporary folder: they end with an interrupted run."""
Result = TypeVar("Result")


def run_interruptible(work: Coroutine[Any, Any, Result]) -> Result:  # Any: what a coroutine yields and is sent, which nobody sees
    """Run a coroutine in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and the work was cancelled.
    """

    executor = _DaemonThreads()

    async def watched() -> Result:
        asyncio.get_running_loop().set_default_executor(executor)
        if threading.current_thread() is threading.main_thread():
            _watch()
        return await work

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        executor.leave()
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: set by something that is not Python
                    signal.signal(number, handler)


class _DaemonThreads(ThreadPoolExecutor):
    """Runs what `asyncio.to_thread` is given in daemon threads, so that neither the loop's end nor the process's waits for a call under way."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._started: list[threading.Thread] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # Any: as in the base class
        """Start a thread for one call."""
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=work, daemon=True, name="kevolve-to-thread")
        self._started = [item for item in self._started if item.is_alive()] + [thread]
        thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nothing: what is under way ends with its call or with the process."""

    def leave(self) -> None:
        """End the programs that calls under way wait for, and give those calls a moment to tidy up."""
        waiting = [thread for thread in self._started if thread.is_alive()]
        if not waiting:
            return
        for child in _children():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
                if any(name in command for name in _LEFT_CHILDREN):
                    os.kill(child, signal.SIGKILL)
            except OSError:
                continue  # it has ended
        for thread in waiting:
            thread.join(LEFT_S / len(waiting))


def _children() -> list[int]:
    """Return the processes that this one started; none where the system does not say."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        if parent == str(os.getpid()):
            found.append(int(path.parent.name))
    return found


def _watch() -> None:
    """Let signals cancel the current task; the loop forgets the handlers when it closes. A signal that is ignored (a job in the background) stays so."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "called by a task"
    first: list[float] = []

    def stop() -> None:
        if not first:
            first.append(loop.time())
            task.cancel()
        elif loop.time() - first[0] > IMPATIENT_S:
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # a live display hides the cursor
                sys.stderr.flush()
            os._exit(EXIT_CODE)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop)
