"""Hold our resource reports against NVIDIA's driver: the kernels of the compiler suite, compiled for the device here and loaded on it.

`python -m evaluation.driver_comparison --out FILE.jsonl --seconds 60` writes one record per kernel, with one entry per launch, as soon as it is known;
`--report FILE.md` makes a table of records that exist. Nothing is launched. Where there is no driver, the records say so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.binary_reader import entry_points
from evaluation.compiler_suite import binaries, compile_all, kernels
from evaluation.cuda_driver import Driver, DriverFacts
from tools.errors import MachineError
from tools.targets.base import CompileReport, KernelResources
from tools.targets.profile import Profile, load_profiles


def differences(ours: KernelResources, facts: DriverFacts, profile: Profile) -> list[str]:
    """Return each figure of a report that the driver states otherwise; empty if all are equal."""
    blocks = round((ours.occupancy_fraction or 0.0) * profile.limits["max_warps_per_multiprocessor"].value / ours.num_warps)
    pairs = {
        "registers": (ours.registers, facts.registers),
        "spill_bytes": (ours.spill_bytes, facts.local_bytes),
        "shared_bytes": (ours.shared_bytes, facts.static_shared_bytes + facts.dynamic_shared_bytes),
        "blocks_per_multiprocessor": (blocks, facts.blocks_per_multiprocessor),
    }
    return [f"{name}: report {a}, driver {b}" for name, (a, b) in pairs.items() if a != b]


def compare(name: str, profile: Profile, report: CompileReport, driver: Driver | None) -> dict[str, Any]:  # Any: JSON
    """Return the record of one kernel; `driver` is None where there is none."""
    row: dict[str, Any] = {
        "kernel": name,
        "target": profile.target,
        "status": report.status,
        "error": report.error,
        "seconds": round(report.seconds, 2),
        "versions": dict(report.versions),
        "launches": [],
    }
    warp = int(profile.limits["warp_size"].value)
    for resources, binary in binaries(report):
        entry: dict[str, Any] = {"report": dataclasses.asdict(resources), "driver": None, "differences": None, "error": ""}
        try:
            if driver is None:
                raise MachineError("no NVIDIA driver on this machine")
            symbols = entry_points(binary)
            symbol = resources.kernel if resources.kernel in symbols else symbols[0]
            facts = driver.facts(binary, symbol, threads=resources.num_warps * warp, shared_bytes=resources.shared_bytes)
            entry |= {"driver": dataclasses.asdict(facts), "differences": differences(resources, facts, profile)}
        except (MachineError, IndexError, AttributeError) as error:
            entry["error"] = f"{type(error).__name__}: {error}"
        row["launches"].append(entry)
    return row


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    """Return the table of a comparison."""
    launches = [(row["kernel"], launch) for row in rows for launch in row["launches"]]
    known = [launch for _, launch in launches if launch["differences"] is not None]
    figures = ("registers", "spill_bytes", "shared_bytes", "blocks_per_multiprocessor")
    equal = {name: sum(not any(text.startswith(f"{name}:") for text in launch["differences"]) for launch in known) for name in figures}
    first: Mapping[str, Any] = next((row for row in rows if row["versions"]), {"versions": {}, "target": "?"})  # Any: JSON
    lines = [
        "# Resource reports against the driver",
        "",
        f"`python -m evaluation.driver_comparison` on {first.get('device', 'the device')} ({first['target']}, driver {first.get('driver_version')}), "
        f"Triton {first['versions'].get('triton')}: {len(rows)} kernels, {len(launches)} launches compiled by us, {len(known)} loaded by the driver.",
        "Equal to what `cuFuncGetAttribute` and the driver's occupancy calculation say: "
        + ", ".join(f"{name} {equal[name]} of {len(known)}" for name in figures)
        + ".",
        "",
        "| kernel | registers | spilled bytes | shared bytes | blocks per multiprocessor | differences |",
        "|---|---|---|---|---|---|",
    ]
    for name, launch in launches:
        facts, ours = launch["driver"], launch["report"]
        shown = (
            [str(facts["registers"]), str(facts["local_bytes"]), str(facts["static_shared_bytes"] + facts["dynamic_shared_bytes"])]
            if facts
            else [f"({ours['registers']})", f"({ours['spill_bytes']})", f"({ours['shared_bytes']})"]
        )
        blocks = str(facts["blocks_per_multiprocessor"]) if facts else "–"
        lines.append(f"| {name} | {' | '.join(shown)} | {blocks} | {'; '.join(launch['differences'] or []) or launch['error'] or 'none'} |")
    lines += [f"| {row['kernel']} | | | | | {row['status']}: {row['error'][:150]} |" for row in rows if row["status"] != "compiled"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare; 0 if every launch was loaded and equals, 1 if something differs, 3 where nothing could be compared."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.driver_comparison", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="records, one JSON line per kernel; written anew unless --report reads them"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="begin no compilation after this time")
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--only", default="", help="comma-separated names of kernels")
    parser.add_argument("--report", type=Path, help="do not compare: write the table of the records in --out")
    options = parser.parse_args(arguments)
    if options.report:
        options.report.write_text(
            markdown([json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]), encoding="utf-8"
        )
        return 0
    profile = load_profiles()[options.target]
    wanted = set(filter(None, options.only.split(",")))
    jobs = [(kernel, profile) for kernel in kernels() if not wanted or kernel.name in wanted]
    driver, about = _open_driver()
    started = time.monotonic()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with options.out.open("w", encoding="utf-8") as file:
        ends = compile_all(jobs, options.processes, timeout_s=options.seconds, stop=lambda: time.monotonic() - started > options.seconds)
        for kernel, _, report in ends:
            row = about | compare(kernel.name, profile, report, driver)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            said = [
                text for launch in row["launches"] for text in (launch["differences"] or ([launch["error"]] if launch["error"] else []))
            ]
            sys.stderr.write(
                f"[{time.monotonic() - started:5.1f} s] {kernel.name}: {report.status} {report.error[:150]} {'; '.join(said) or 'equal'}\n"
            )
    if driver is not None:
        driver.close()
    compared = [launch for row in rows for launch in row["launches"] if launch["differences"] is not None]
    sys.stderr.write(
        f"{len(rows)} of {len(jobs)} kernels, {len(compared)} launches loaded, {sum(bool(item['differences']) for item in compared)} differ\n"
    )
    if not compared:
        return 3
    return int(any(row["status"] != "compiled" for row in rows) or any(item["differences"] for item in compared) or len(rows) < len(jobs))


def _open_driver() -> tuple[Driver | None, dict[str, Any]]:  # Any: JSON
    about: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        driver = Driver()
        about["driver_version"] = driver.version()
        about["device"] = driver.name()
    except (MachineError, AttributeError) as error:
        about["device"] = f"none: {error}"
        return None, about
    return driver, about


if __name__ == "__main__":
    sys.exit(main())
