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
from collections.abc import Coroutine
from typing import Any, TypeVar

IMPATIENT_S = 2.0
"""A signal that comes so long after the first one ends the process at once; what was stored stays, as after a kill."""
EXIT_CODE = 130
Result = TypeVar("Result")


def run_interruptible(work: Coroutine[Any, Any, Result]) -> Result:  # Any: what a coroutine yields and is sent, which nobody sees
    """Run a coroutine in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and the work was cancelled.
    """

    async def watched() -> Result:
        if threading.current_thread() is threading.main_thread():
            _watch()
        return await work

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: set by something that is not Python
                    signal.signal(number, handler)


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
