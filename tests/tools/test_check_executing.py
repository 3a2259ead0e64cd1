"""What a CPU candidate says of its own work is believed as far as the kernel finds its threads there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tools.check.composition import agreed, confirmed
from tools.timing.phase import has_seen_enough
from tools.types import Composition
from tools.worker.sampling import Whereabouts

CACHE = Path("/state/cache/candidates/x")
OWN, INDUCTOR = f"{CACHE}/extensions/kernel/kernel.so", f"{CACHE}/inductor/ab/c.so"
TORCH, LIBC, NO_FILE = "/lib/torch/lib/libtorch_cpu.so", "/lib/libc.so.6", ""


@pytest.mark.parametrize(
    ("said", "executing", "expected"),
    [
        ("custom", {OWN: 30, LIBC: 10}, "custom"),
        ("custom", {OWN: 20, TORCH: 10}, "custom"),  # its own work beside copies
        ("custom", {OWN: 5, TORCH: 30}, "mixed"),
        ("custom", {TORCH: 38, LIBC: 2}, "library"),
        ("custom", {NO_FILE: 30}, "library"),  # code that was made at run time: a vendor's, for all one knows
        ("mixed", {TORCH: 20, "/lib/libmkl.so": 10}, "library"),
        ("custom", {INDUCTOR: 30}, "compiler"),
        ("custom", {TORCH: 8, LIBC: 30}, "custom"),  # too little seen
        ("custom", {}, "custom"),
        ("library", {OWN: 30}, "library"),
    ],
)
def test_own_code_counts_where_it_executes(said: str, executing: dict[str, int], expected: str) -> None:
    assert confirmed(Composition(said), executing, CACHE) is Composition(expected)


def test_own_code_on_one_workload_and_a_librarys_on_another_is_a_mixture() -> None:
    assert agreed([Composition.CUSTOM, Composition.LIBRARY]) is Composition.MIXED
    assert agreed([Composition.LIBRARY, Composition.LIBRARY]) is Composition.LIBRARY


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_stopped_process_is_found_in_the_library_that_it_executes() -> None:
    code = "import zlib\ndata = bytes(1 << 24)\nprint(flush=True)\nwhile True: zlib.crc32(data)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline()
            found: list[str] = []
            whereabouts, deadline = Whereabouts(), time.monotonic() + 60.0
            while not found and time.monotonic() < deadline:
                time.sleep(0.01)
                os.kill(child.pid, signal.SIGSTOP)
                found = whereabouts.look([child.pid])
                os.kill(child.pid, signal.SIGCONT)
        finally:
            child.kill()
    assert found and all(Path(path).name for path in found)


def test_a_candidate_is_watched_until_it_was_found_at_work_or_for_a_while() -> None:
    spins, works = Counter({"/lib/libgomp.so.1": 40}), Counter({"/lib/libgomp.so.1": 400, "/lib/libtorch_cpu.so": 15, "": 1})
    assert not has_seen_enough(Counter(), 9.9) and has_seen_enough(Counter(), 10.0)
    assert not has_seen_enough(spins, 3.9) and has_seen_enough(spins, 4.0) and has_seen_enough(works, 0.1)
