"""Every profiler over our kernels, in one run on a device: `python -m evaluation.profile_study --out FILE.jsonl --seconds 200`.

Parts: `kernels` (eight kernels by torch.profiler, Nsight Compute, Proton and the multi-pass profiler), `regions` (region times of a GEMM and a LayerNorm, each also slowed
in one place), `conv1d` (the kernels that each route of one convolution launches). A record is written as soon as a candidate is done; the tools' own files go to
FILE.raw/. `evaluation.profiling.report` reads the records.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.profiling.cases import Case, conv_cases, kernel_cases, region_cases
from tools.profiling.batch import Batch, profile_batch
from tools.profiling.collect import Request, collect
from tools.profiling.planted.__main__ import keep_raw
from tools.profiling.types import Profile

PARTS = {
    "conv1d": (conv_cases, ("torch", "ncu")),
    "kernels": (kernel_cases, ("torch", "compile", "ncu", "proton", "regions", "marks")),
    "regions": (region_cases, ("regions",)),
}
"""In the order in which they run: cases and passes."""
CALLS = 10
NCU_LAUNCHES = 12
CONFINED_S = 20.0
"""Time that must be left for the confined run at the end."""


def main() -> int:
    """Write a record for each candidate; exit code 0 if every one was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0, help="time for everything")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--passes", default="", help="only these of a part's passes, separated by commas")
    parser.add_argument("--only", action="append", default=[], help="name of a case; may be repeated")
    parser.add_argument("--parallel", type=int, default=40, help="programs that are prepared at once")
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    cases = [case for part, (made, _) in PARTS.items() if part in parts for case in made() if not chosen.only or case.name in chosen.only]
    began = time.monotonic()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write(chosen.out, {"part": "machine", **machine(chosen.target)})
    done = 0
    with tempfile.TemporaryDirectory(prefix="kevolve-study-") as folder:
        batch = Batch(
            requests=_requests(cases, chosen.target, tuple(filter(None, chosen.passes.split(",")))),
            folder=Path(folder),
            seconds=max(1.0, chosen.seconds - 5.0),
            parallel=chosen.parallel,
            say=lambda text: print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True),
            passed=lambda index, name, profile: _passed(chosen.out, cases[index], index, name, profile, Path(folder)),
        )
        for index, profile in profile_batch(batch):
            case = cases[index]
            seconds = round(time.monotonic() - began, 2)
            write(chosen.out, {"part": case.part, "name": case.name, "least_bytes": case.least_bytes, "seconds": seconds, "profile": profile.to_json()})  # fmt: skip
            done += 1
            failed = ", ".join(f"{item.what}: {item.kind}" for item in profile.missing)
            print(f"[{seconds:6.1f} s] {case.part}/{case.name}: {len(profile.kernels)} kernels, {len(profile.regions)} regions; {failed}", flush=True)  # fmt: skip
        left = chosen.seconds - (time.monotonic() - began)
        if "kernels" in parts and not chosen.passes and left > CONFINED_S:
            _confined(chosen.out, chosen.target, left)
    return 0 if done == len(cases) else 1


def _passed(out: Path, case: Case, index: int, name: str, profile: Profile, folder: Path) -> None:
    """Keep a pass at once, so that a study that is cut short loses little."""
    write(out, {"part": case.part, "name": case.name, "pass": name, "profile": profile.to_json()})
    keep_raw(folder, index, out.with_suffix(".raw"))


def _confined(out: Path, target: str, seconds: float) -> None:
    """Profile one kernel as `kevolve profile` does, confined, to see which layers of the sandbox the profiler works under."""
    case = next(case for case in kernel_cases() if case.name == "gather")
    profile = collect(Request(case.candidate, case.problem, target, ("torch",), calls=CALLS, timeout_s=seconds / 3))
    write(out, {"part": "confined", "name": case.name, "profile": profile.to_json()})
    print(f"confined: {'; '.join(record.detail for record in profile.passes)}", flush=True)


def _requests(cases: Sequence[Case], target: str, only: tuple[str, ...]) -> tuple[Request, ...]:
    return tuple(
        Request(
            case.candidate,
            case.problem,
            target,
            tuple(name for name in PARTS[case.part][1] if not only or name in only),
            calls=CALLS,
            timeout_s=60.0,
            ncu_launches=NCU_LAUNCHES,
        )
        for case in cases
    )


def write(path: Path, record: dict[str, Any]) -> None:  # Any: JSON
    """Append a record at once."""
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def machine(target: str) -> dict[str, Any]:  # Any: JSON
    """Return what the numbers were taken on."""
    found: dict[str, Any] = {"target": target, "python": platform.python_version(), "calls": CALLS}
    try:
        import torch
        import triton

        found |= {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda}
        if torch.cuda.is_available():
            found["device"] = torch.cuda.get_device_name()
    except Exception as error:  # the record says what is missing; the study goes on
        found["error"] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    sys.exit(main())
