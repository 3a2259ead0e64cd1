"""Profile with torch.profiler: python profile_torch.py [candidate|reference]. Writes torch-WHICH.json.gz (open in Perfetto) and prints averages."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from workload import HERE, SETTINGS, build, synchronize, turn, turn_is_over, warm  # type: ignore[import-not-found]  # stands beside this file where it is run


def main(which: str) -> Path:
    """Record some calls and return the trace's path."""
    call = build(which)
    warm(call)
    turn()
    warm(call)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if SETTINGS["device"] == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        for index in range(SETTINGS["calls"]):
            with record_function(f"call {index}"):
                call()
        synchronize()
    turn_is_over()
    path: Path = HERE / f"torch-{which}.json.gz"
    profiler.export_chrome_trace(str(path))
    order = "self_cuda_time_total" if SETTINGS["device"] == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=30))
    print(f"torch {torch.__version__}: {SETTINGS['calls']} calls; trace: {path}")
    return path


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "candidate")
