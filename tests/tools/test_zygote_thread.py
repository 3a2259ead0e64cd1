"""The warm process must outlive the thread that happened to ask for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tools.sandbox.environment import base_environment
from tools.worker.processes import Zygote


def test_the_warm_process_survives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    made: list[Zygote] = []
    thread = threading.Thread(target=lambda: made.append(Zygote(tmp_path, base_environment(tmp_path))))
    thread.start()
    thread.join()
    time.sleep(0.2)
    try:
        assert made[0].is_alive()
    finally:
        made[0].close()
