"""`python -m tools.compile`: compile kernel documents for chips that need not be here, with a resource report each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.compile.server import CompileServer
from tools.compile.toolchain import compile_document, read_kernel_document
from tools.errors import ToolsError, UnknownTargetError
from tools.targets.base import CompileReport, lineage
from tools.targets.profile import Profile, survey_profiles

_DEFAULT = "sm_80,sm_90,sm_100,gfx942,gfx950"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if everything compiled, 1 if something did not, 2 for misuse, 3 if the machine lacks something."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compile",
        description="Compile kernel documents and report registers, spills, shared memory, occupancy and instruction mix.",
        epilog="example: python -m tools.compile docs/kernels --targets sm_90,gfx942 --json",
    )
    parser.add_argument("paths", nargs="+", type=Path, help="kernel documents, or directories of them")
    parser.add_argument("--targets", default=_DEFAULT, help=f"comma-separated architectures or exact targets (default: {_DEFAULT})")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds per kernel and target (default: 120)")
    parser.add_argument("--cache", type=Path, help="directory that remembers reports by content")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        profiles = [_profile(name.strip()) for name in options.targets.split(",")]
        results = list(_compile_all(options.paths, profiles, options.timeout, options.cache))
    except UnknownTargetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except ToolsError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    if options.json:
        sys.stdout.write(
            json.dumps(
                {"reports": [{"document": str(path), "kernel": name, **dataclasses.asdict(report)} for path, name, report in results]},
                indent=1,
            )
            + "\n"
        )
    else:
        for path, name, report in results:
            sys.stdout.write(_line(path, name, report))
    return int(any(report.status in ("error", "timeout") for _, _, report in results))


def _profile(name: str) -> Profile:
    profiles = survey_profiles()[0]
    exact = name if ":" in name else f"{'rocm' if name.startswith('gfx') else 'cuda'}:{name}"
    if exact not in profiles or exact.partition(":")[0] not in ("cuda", "rocm"):
        known = [target for target in profiles if target.partition(":")[0] in ("cuda", "rocm")]
        raise UnknownTargetError(f"cannot compile for {name!r}; known: {', '.join(sorted(known))}")
    return profiles[exact]


def _compile_all(
    paths: list[Path], profiles: list[Profile], timeout_s: float, cache: Path | None
) -> Iterator[tuple[Path, str, CompileReport]]:
    files = [file for path in paths for file in (sorted(path.rglob("*.md")) if path.is_dir() else [path])]
    with CompileServer(cache) as server:
        for file in files:
            if not file.exists():
                raise UnknownTargetError(f"no such document: {file}")
            document = read_kernel_document(file)
            if document is None or document.language != "triton":
                continue
            for profile in profiles:
                if not set(document.targets) & set(lineage(profile.target)):
                    continue
                sys.stderr.write(f"{document.name} for {profile.target}\n")
                yield file, document.name, compile_document(document, profile, server, timeout_s=timeout_s)


def _line(path: Path, name: str, report: CompileReport) -> str:
    lines = [f"{name:32} {report.target:13} {report.status} in {report.seconds:.1f} s{': ' + report.error if report.error else ''}"]
    for kernel in report.kernels:
        facts: dict[str, Any] = {
            "registers": kernel.registers,
            "spilled": kernel.spill_bytes,
            "shared": kernel.shared_bytes,
            "warps": kernel.num_warps,
        }
        text = ", ".join(f"{key} {value}" for key, value in facts.items())
        occupancy = f"{kernel.occupancy_fraction:.2f} ({kernel.limiter})" if kernel.occupancy_fraction is not None else "unknown"
        lines.append(
            f"    {kernel.kernel}: {text}, occupancy {occupancy}, loads up to {kernel.load_vector_bytes} B, {', '.join(kernel.mma) or 'no matrix unit'}"
        )
    lines += [f"    warning: {warning}" for warning in report.warnings]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
