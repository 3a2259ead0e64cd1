"""Hold the rules against the planted faults: `python -m tools.profiling.planted --target cuda:sm_90`. Where the device is, kernels also run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.errors import ToolsError
from tools.profiling.batch import Batch, profile_batch
from tools.profiling.causes import ProfileDiagnosis
from tools.profiling.collect import Request, absent
from tools.profiling.derive import against_peaks, with_derived
from tools.profiling.formats.registry import read_profile_file
from tools.profiling.merge import merged
from tools.profiling.planted.kernels import PLANTED, Planted
from tools.profiling.rules import diagnose_profile
from tools.profiling.static import static_profile
from tools.profiling.types import Missing, Profile
from tools.targets.registry import get_target
from tools.types import Evidence

NCU_LAUNCHES = 6
RAW_BYTES = 2 << 20
"""Tool files larger than this are not kept."""


def main() -> int:
    """Print a table; exit code 0 if every fault that the chosen passes can show is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--passes", default="compile", help="compile: nothing runs; torch,ncu,compile: on the device")
    parser.add_argument("--only", action="append", default=[], help="name of a kernel; may be repeated")
    parser.add_argument("--seconds", type=float, default=600.0, help="time for everything that runs")
    parser.add_argument("--out", type=Path, help="folder for the records, the diagnoses (diagnoses.jsonl) and the tools' own files")
    parser.add_argument(
        "--records",
        type=Path,
        action="append",
        default=[],
        help="diagnose these folders' records and tool files again instead; what several say of a kernel is merged",
    )
    chosen = parser.parse_args()
    passes = tuple(chosen.passes.split(","))
    limits = {name: limit.value for name, limit in get_target(chosen.target).limits().items()}
    planted = [item for item in PLANTED if not chosen.only or item.name in chosen.only]
    wrong = 0
    began = time.monotonic()
    found_profiles = (
        recorded(planted, chosen.records, limits, chosen.target)
        if chosen.records
        else _profiles(planted, chosen.target, passes, chosen.seconds, chosen.out)
    )
    if chosen.records:
        passes = ("torch", "ncu", "compile")
    for item, profile in found_profiles:
        found = diagnose_profile(profile, limits)
        expected = item.is_static or passes != ("compile",)
        place = place_of(item.cause, found)
        wrong += expected and place is None
        if chosen.out is not None:
            _keep(chosen.out, item, profile, limits, time.monotonic() - began)
        print(line(item, found, place, expected), flush=True)
    return 1 if wrong else 0


def _profiles(
    planted: Sequence[Planted], target: str, passes: tuple[str, ...], seconds: float, out: Path | None
) -> Iterator[tuple[Planted, Profile]]:
    if passes == ("compile",):
        for item in planted:
            try:
                yield item, static_profile(item.candidate, item.problem, get_target(target))
            except ToolsError as error:
                yield item, absent(target, "compile", "failed", str(error))
        return

    def kept(index: int, name: str, profile: Profile) -> None:
        if out is not None:
            keep_raw(Path(folder), index, out / "raw")

    requests = tuple(
        Request(item.candidate, item.problem, target, passes, calls=2, timeout_s=40.0, ncu_launches=NCU_LAUNCHES) for item in planted
    )
    with tempfile.TemporaryDirectory(prefix="kevolve-planted-") as folder:
        batch = Batch(requests, Path(folder), seconds, say=lambda text: print(f"# {text}", file=sys.stderr, flush=True), passed=kept)
        for index, profile in profile_batch(batch):
            yield planted[index], profile


def recorded(
    planted: Sequence[Planted], folders: Sequence[Path], limits: Mapping[str, float], target: str
) -> Iterator[tuple[Planted, Profile]]:
    """Yield each kernel's profile from the tools' own files below `raw` of some folders, read again, and the compiled figures of the records beside them."""
    for item in planted:
        found: list[Profile] = []
        lacking = dict.fromkeys(("torch-candidate.json.gz", "ncu.csv.gz"), "no file of it was kept: it was not run, or cut off")
        for folder in folders:
            for raw in sorted((folder / "raw").glob(f"[0-9][0-9]-{item.name}")):
                for name in tuple(lacking):
                    if not (raw / name).exists():
                        continue
                    try:
                        found.append(read_profile_file(raw / name))
                        del lacking[name]
                    except ToolsError as error:
                        lacking[name] = str(error)
        for folder in folders:
            with contextlib.suppress(OSError):
                found.append(compiled_only(Profile.from_json(json.loads((folder / f"{item.name}.json").read_text(encoding="utf-8")))))
        missing = tuple(Missing(name.partition(".")[0], "empty", reason) for name, reason in lacking.items())
        yield item, dataclasses.replace(against_peaks(with_derived(merged(found)), limits, target), missing=missing)


def keep_raw(folder: Path, index: int, kept: Path) -> None:
    """Copy the tools' own files of one request, compressed, where they are small; never raises for what cannot be copied."""
    with contextlib.suppress(OSError):
        source = next(folder.glob(f"{index:02d}-*"))
        target = kept / source.name
        target.mkdir(parents=True, exist_ok=True)
        for pattern in ("ncu.csv", "*.json.gz", "*.hatchet", "variants.json", "*.log"):
            for path in source.glob(pattern):
                if path.stat().st_size > RAW_BYTES * 8:
                    continue
                data = path.read_bytes()
                packed = data if path.suffix == ".gz" else gzip.compress(data, mtime=0)
                if len(packed) <= RAW_BYTES:
                    (target / (path.name if path.suffix == ".gz" else f"{path.name}.gz")).write_bytes(packed)


def compiled_only(profile: Profile) -> Profile:
    """Return what of a record is known without running anything."""
    kernels = []
    for kernel in profile.kernels:
        figures = tuple(figure for figure in kernel.figures if figure.evidence is Evidence.COMPILED)
        if figures:
            kernels.append(dataclasses.replace(kernel, figures=figures, launches=0))
    return dataclasses.replace(profile, kernels=tuple(kernels), host=(), regions=(), timeline=None)


def verdict(planted: Planted, profile: Profile, limits: Mapping[str, float]) -> dict[str, Any]:  # Any: JSON
    """Return what the rules say of a planted kernel, blind, from everything and from the compiled evidence alone."""
    sides = {}
    for name, side in (("run", profile), ("compiled", compiled_only(profile))):
        found = diagnose_profile(side, limits)
        sides[name] = {
            "place": place_of(planted.cause, found),
            "cannot_tell": planted.cause in found.cannot_tell or (planted.cause == "launch_bound" and name == "compiled"),
            "causes": [[cause.name, round(cause.weight, 4), list(cause.evidence)] for cause in found.causes[:8]],
        }
    missing = [[item.what, item.kind, item.reason[:300]] for item in profile.missing]
    return {"kernel": planted.name, "planted": planted.cause, "is_static": planted.is_static, **sides, "missing": missing}


def _keep(out: Path, planted: Planted, profile: Profile, limits: Mapping[str, float], seconds: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{planted.name}.json").write_text(json.dumps(profile.to_json(), indent=1), encoding="utf-8")
    with (out / "diagnoses.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({**verdict(planted, profile, limits), "seconds": round(seconds, 1)}) + "\n")


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
