"""Run the candidate with Proton's marks inside its kernels: python profile_instrumented.py OUT. Writes OUT.hatchet with cycles for each region."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import triton.profiler as proton
import workload  # type: ignore[import-not-found]  # stands beside this file where it is run
from workload import build, load, synchronize, turn


def main(out: str) -> None:
    """Start before the first launch: kernels are instrumented when they are compiled."""
    workload.load = lambda wanted: load("instrumented" if wanted == "candidate" else wanted)
    call = build("candidate")
    proton.start(out, backend="instrumentation", data="tree")
    call()
    synchronize()
    turn()
    samples = []
    for _ in range(15):
        began = time.perf_counter()
        call()
        synchronize()
        samples.append((time.perf_counter() - began) * 1e6)
    proton.finalize()
    Path(f"{out}.json").write_text(json.dumps({"instrumented_us": statistics.median(samples)}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
