"""Call the candidate or the reference, nothing else: python run_calls.py [candidate|reference] [CALLS]. The program that ncu, rocprofv3 and perf look at."""

from __future__ import annotations

import sys
import time

import torch
from workload import SETTINGS, build, synchronize, turn, turn_is_over, warm  # type: ignore[import-not-found]  # stands beside this file where it is run


def main(which: str, calls: int) -> None:
    """Warm up, then make the calls between the marks that `ncu --profile-from-start off` waits for."""
    call = build(which)
    warm(call)
    turn()
    if SETTINGS["device"] == "cuda":
        torch.cuda.cudart().cudaProfilerStart()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    seconds = time.perf_counter() - began
    if SETTINGS["device"] == "cuda":
        torch.cuda.cudart().cudaProfilerStop()
    turn_is_over()
    print(f"{calls} calls in {seconds * 1e6:.3f} us")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "candidate", int(sys.argv[2]) if len(sys.argv) > 2 else SETTINGS["calls"])
