"""Time the candidate and variants of it, interleaved in one process.

python time_variants.py OUT.json NAME… . Each NAME is a module NAME.py with ModelNew.

A variant that reads clocks (its module has `kevolve_buffer`) is called some more times for them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from workload import SETTINGS, build, load, synchronize, turn, turn_is_over  # type: ignore[import-not-found]  # stands beside this file where it is run

ROUNDS = 15
CLOCK_ROUNDS = 5


def timer(call: Any) -> float:
    """Return the time of one block of calls in µs per call: device events where there is a device."""
    calls = SETTINGS["calls"]
    if SETTINGS["device"] == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end) * 1e3 / calls)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return float((time.perf_counter() - started) * 1e6 / calls)


def clocks(name: str, call: Any) -> dict[str, Any] | None:
    """Return the cycles that programs spent between a variant's marks and as a whole, summed over programs, for each of some calls; None if it has no marks."""
    module = sys.modules[f"profiled_{name}"]
    if not hasattr(module, "kevolve_buffer"):
        return None
    spent, whole, programs = [], [], 0
    for _ in range(CLOCK_ROUNDS):
        module.kevolve_buffer().zero_()
        call()
        synchronize()
        values = module.kevolve_buffer().view(-1, 2)
        ran = values[values[:, 1] > 0].double()
        programs = int(ran.shape[0])
        spent.append(float(ran[:, 0].sum()))
        whole.append(float(ran[:, 1].sum()))
    return {"spent": spent, "whole": whole, "programs": programs}


def main(out: Path, names: list[str]) -> None:
    """Write {"base": […], "again": […], NAME: […]} in µs, the clocks of the variants that read them, and the reason for each variant that does not run."""
    import workload

    calls: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in ["candidate", *names]:
        workload.load = lambda wanted, name=name: load(name if wanted == "candidate" else wanted)
        try:
            calls[name] = build("candidate")
            calls[name]()
            synchronize()
        except Exception as error:  # a variant that does not compile is an answer
            if name == "candidate":
                raise
            failed[name] = f"{type(error).__name__}: {error}"[:500]
            calls.pop(name, None)
    turn()
    samples: dict[str, list[float]] = {"base": [], "again": [], **{name: [] for name in calls if name != "candidate"}}
    for _ in range(ROUNDS):
        samples["base"].append(timer(calls["candidate"]))
        for name, call in calls.items():
            if name != "candidate":
                samples[name].append(timer(call))
        samples["again"].append(timer(calls["candidate"]))
    whole = []  # one call with its synchronisation, as the instrumented run is timed
    for _ in range(ROUNDS):
        began = time.perf_counter()
        calls["candidate"]()
        synchronize()
        whole.append((time.perf_counter() - began) * 1e6)
    marked = {name: found for name, call in calls.items() if name != "candidate" and (found := clocks(name, call)) is not None}
    turn_is_over()
    found = {"samples_us": samples, "clocks": marked, "failed": failed, "synchronised_us": sorted(whole)[len(whole) // 2]}
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
