"""Hold the rules against the planted faults: `python -m tools.profiling.planted --target cuda:sm_90`. Where the device is, kernels also run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools.profiling.causes import ProfileDiagnosis
from tools.profiling.collect import Request, collect
from tools.profiling.planted.kernels import PLANTED, Planted
from tools.profiling.rules import diagnose_profile
from tools.profiling.static import static_profile
from tools.profiling.types import Profile
from tools.targets.registry import get_target


def main() -> int:
    """Print a table; exit code 0 if every fault that the chosen passes can show is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--passes", default="compile", help="compile: nothing runs; torch,ncu,compile: on the device")
    parser.add_argument("--only", action="append", default=[], help="name of a kernel; may be repeated")
    parser.add_argument("--out", type=Path, help="folder for the records")
    chosen = parser.parse_args()
    passes = tuple(chosen.passes.split(","))
    limits = {name: limit.value for name, limit in get_target(chosen.target).limits().items()}
    wrong = 0
    for planted in PLANTED:
        if chosen.only and planted.name not in chosen.only:
            continue
        profile = _profile(planted, chosen.target, passes)
        found = diagnose_profile(profile, limits)
        if chosen.out is not None:
            chosen.out.mkdir(parents=True, exist_ok=True)
            (chosen.out / f"{planted.name}.json").write_text(json.dumps(profile.to_json(), indent=1), encoding="utf-8")
        expected = planted.is_static or passes != ("compile",)
        place = place_of(planted.cause, found)
        wrong += expected and place is None
        print(line(planted, found, place, expected), flush=True)
    return 1 if wrong else 0


def _profile(planted: Planted, target: str, passes: tuple[str, ...]) -> Profile:
    if passes == ("compile",):
        return static_profile(planted.candidate, planted.problem, get_target(target))
    return collect(Request(planted.candidate, planted.problem, target, passes, calls=2))


def place_of(cause: str, found: ProfileDiagnosis) -> int | None:
    """Return the rank of a cause from 1, None if it was not named."""
    names = list(dict.fromkeys(item.name for item in found.causes))
    return names.index(cause) + 1 if cause in names else None


def line(planted: Planted, found: ProfileDiagnosis, place: int | None, expected: bool) -> str:
    """Return one row."""
    state = (
        f"named, rank {place}"
        if place
        else "MISSED"
        if expected
        else "cannot be told"
        if planted.cause in found.cannot_tell or planted.cause == "launch_bound"
        else "not named"
    )
    others = ", ".join(dict.fromkeys(item.name for item in found.causes if item.name != planted.cause))
    return f"{planted.name:16} {planted.cause:24} {'seen without running' if planted.is_static else 'needs a run':22} {state:18} {others}"


if __name__ == "__main__":
    sys.exit(main())
