"""Forty kernels of all shapes for five chips: compiled without a device, their resource reports held against independent readers of the binaries.

`python -m evaluation.compiler_suite --out FILE.jsonl` writes one record per kernel and chip; with `--report FILE.md` also the table. Twenty kernels are
documents of the knowledge base, twenty are the files of `suites/compiler`, each a module with `launch` and its arguments (`EXAMPLE`).
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.binary_reader import BinaryFacts, read_binary
from tools.compile.bindings import bindings
from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.compile.toolchain import numbers, read_kernel_document
from tools.docs import docs_root
from tools.errors import ToolsError
from tools.lint.engine import lint
from tools.targets.base import CompileReport, KernelResources
from tools.targets.profile import Profile, load_profiles

TARGETS = ("cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "rocm:gfx942", "rocm:gfx950")
FILES = Path(__file__).with_name("suites") / "compiler"
DOCUMENTS = (
    "attention/attention_forward",
    "convolution/conv2d_depthwise",
    "convolution/conv2d_implicit_gemm",
    "gemm/linear_fp32",
    "gemm/matmul_fp32",
    "gemm/matvec_split",
    "indexing/map_id_transform",
    "indexing/merge_bucketized_dense",
    "losses/cross_entropy_rows",
    "normalisation/batch_norm_training",
    "normalisation/group_norm_rows",
    "normalisation/layer_norm_rows",
    "normalisation/rms_norm_rows",
    "pointwise/pointwise_stream",
    "pooling/max_pool",
    "reductions/extreme_along_dim",
    "reductions/reduce_columns",
    "reductions/reduce_rows",
    "scans/cumulative_rows",
    "softmax/softmax_rows",
)
"""Below `docs/kernels`: every document here compiles for NVIDIA and AMD."""


@dataclass(frozen=True)
class SuiteKernel:
    """One kernel of the suite."""

    name: str
    source: str
    example: Mapping[str, Any] | None  # Any: JSON arguments of `launch`
    """None: the source states them as `EXAMPLE`."""


def kernels() -> list[SuiteKernel]:
    """Return the forty kernels, documents first.

    Raises:
        ToolsError: A document is missing or is no kernel.
    """
    found = []
    for place in DOCUMENTS:
        document = read_kernel_document(docs_root() / "kernels" / f"{place}.md")
        if document is None:
            raise ToolsError(f"docs/kernels/{place}.md is no kernel document; mend the list in evaluation/compiler_suite.py")
        found.append(SuiteKernel(document.name, document.source, document.example))
    found += [SuiteKernel(path.stem, path.read_text(encoding="utf-8"), None) for path in sorted(FILES.glob("*.py"))]
    return found


def job_of(kernel: SuiteKernel, profile: Profile) -> Job:
    """Return the job that compiles a kernel and hands its binary out."""
    binary = "cubin" if profile.target.startswith("cuda") else "hsaco"
    return Job(kernel.source, profile.target, numbers(profile), example=kernel.example, emit=binary)


def compile_all(
    jobs: Sequence[tuple[SuiteKernel, Profile]], processes: int, *, timeout_s: float = 120.0, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[SuiteKernel, Profile, CompileReport]]:
    """Compile with several compiler processes; yields as they finish, and leaves out what was not begun when `stop` turned true."""
    local = threading.local()
    servers: list[CompileServer] = []

    def work(kernel: SuiteKernel, profile: Profile) -> CompileReport | None:
        if stop():
            return None
        if not hasattr(local, "server"):
            local.server = CompileServer()
            servers.append(local.server)
        try:
            report: CompileReport = local.server.compile(job_of(kernel, profile), timeout_s=timeout_s)
        except ToolsError as error:  # the set-up failed, not the kernel: say so in the record of this one
            report = CompileReport(profile.target, "error", error=f"{type(error).__name__}: {error}")
        return report

    with ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(work, kernel, profile): (kernel, profile) for kernel, profile in jobs}
        try:
            for future in as_completed(futures):
                report = future.result()
                if report is not None:
                    yield *futures[future], report
        finally:
            for server in servers:
                server.close()


def binaries(report: CompileReport) -> Iterator[tuple[KernelResources, bytes]]:
    """Yield each kernel of a report with its binary."""
    for resources, item in zip(report.kernels, report.emitted, strict=True):
        yield resources, base64.b64decode(item.text)


def disagreements(resources: KernelResources, facts: BinaryFacts) -> list[str]:
    """Return each figure in which a report and another reader of the same binary differ; a figure that the reader does not know is no difference."""
    pairs = {
        "registers": (resources.registers, facts.registers),
        "spill_bytes": (resources.spill_bytes, facts.local_bytes),
        "shared_bytes": (resources.shared_bytes, facts.shared_bytes),
    }
    return [
        f"{name}: report {ours}, {facts.reader} {theirs}" for name, (ours, theirs) in pairs.items() if theirs is not None and ours != theirs
    ]


def record(kernel: SuiteKernel, profile: Profile, report: CompileReport) -> dict[str, Any]:  # Any: JSON
    """Return what is known about one kernel on one chip."""
    known = [{launch.kernel: bindings(launch)} for launch in report.launches]
    findings = [
        item for values in [{}, *known] for item in lint(kernel.source, target=profile.target, limits=profile.limits, bindings=values)
    ]
    errors = list(dict.fromkeys(str(item) for item in findings if item.severity == "error"))
    row: dict[str, Any] = {
        "kernel": kernel.name,
        "target": profile.target,
        "status": report.status,
        "error": report.error,
        "seconds": round(report.seconds, 2),
        "versions": dict(report.versions),
        "warnings": list(report.warnings),
        "lint_errors": errors,
        "launches": [],
    }
    for resources, binary in binaries(report):
        facts = read_binary(binary)
        row["launches"].append(
            {**dataclasses.asdict(resources), "independent": dataclasses.asdict(facts), "disagreements": disagreements(resources, facts)}
        )
    return row


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    """Return the report of a suite's records."""
    launches = [launch for row in rows for launch in row["launches"]]
    wrong = [
        f"{row['kernel']} on {row['target']}: {text}" for row in rows for launch in row["launches"] for text in launch["disagreements"]
    ]
    failed = [f"{row['kernel']} on {row['target']}: {row['error'][:200]}" for row in rows if row["status"] != "compiled"]
    linted = [f"{row['kernel']} on {row['target']}: {text}" for row in rows for text in row["lint_errors"]]
    checked = {
        name: sum(launch["independent"][name] is not None for launch in launches) for name in ("registers", "local_bytes", "shared_bytes")
    }
    versions = rows[0]["versions"] if rows else {}
    lines = [
        "# Forty kernels for five chips, compiled without a device",
        "",
        f"`python -m evaluation.compiler_suite` with torch {versions.get('torch')} and Triton {versions.get('triton')}: {len({row['kernel'] for row in rows})} kernels, "
        f"{len(rows)} compilations, {len(launches)} launches; {len(failed)} failed, {len(linted)} errors of the linter (each would be false where the kernel compiles).",
        f"Checked against independent readers of the same binaries: registers of {checked['registers']} launches, local memory of {checked['local_bytes']}, "
        f"shared memory of {checked['shared_bytes']}; {len(wrong)} disagreements.",
        "",
        *[f"- {text}" for text in (*failed, *linted, *wrong)],
        "",
        "Per launch: registers, bytes spilled (if any), shared memory in KB, occupancy in per cent, matrix instruction. Several launches of a kernel are set off by `;`.",
        "",
        "| kernel | " + " | ".join(TARGETS) + " |",
        "|---" * (len(TARGETS) + 1) + "|",
    ]
    cells = {(row["kernel"], row["target"]): _cell(row) for row in rows}
    for name in dict.fromkeys(row["kernel"] for row in rows):
        lines.append(f"| {name} | " + " | ".join(cells.get((name, target), "–") for target in TARGETS) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any]) -> str:  # Any: JSON
    if row["status"] != "compiled":
        return str(row["status"])
    parts = []
    for launch in row["launches"][:4]:
        spilled = f" spill {launch['spill_bytes']}" if launch["spill_bytes"] else ""
        kinds = f" {launch['mma'][0]}" if launch["mma"] else ""
        parts.append(
            f"{launch['registers']}{spilled} / {launch['shared_bytes'] / 1024:.3g} / {100 * (launch['occupancy_fraction'] or 0):.0f}{kinds}"
        )
    return "; ".join(parts) + (" …" if len(row["launches"]) > 4 else "")


def main(arguments: list[str] | None = None) -> int:
    """Run the suite; 0 if everything compiled, no lint error fired and no reader disagreed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.compiler_suite", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="records, one JSON line per kernel and chip; written anew")
    parser.add_argument("--report", type=Path, help="the table, in Markdown")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--only", default="", help="comma-separated names of kernels")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    profiles = [load_profiles()[name] for name in options.targets.split(",")]
    wanted = set(filter(None, options.only.split(",")))
    chosen = [(kernel, profile) for kernel in kernels() if not wanted or kernel.name in wanted for profile in profiles]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    started = time.monotonic()
    with options.out.open("w", encoding="utf-8") as file:
        for kernel, profile, report in compile_all(chosen, options.processes):
            row = record(kernel, profile, report)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            problems = [row["error"][:200], *row["lint_errors"], *(text for launch in row["launches"] for text in launch["disagreements"])]
            sys.stderr.write(
                f"[{time.monotonic() - started:5.0f} s] {kernel.name} {profile.target}: {report.status} {'; '.join(filter(None, problems))}\n"
            )
    order = {(kernel.name, profile.target): number for number, (kernel, profile) in enumerate(chosen)}
    rows.sort(key=lambda row: order[row["kernel"], row["target"]])
    if options.report:
        options.report.write_text(markdown(rows), encoding="utf-8")
    clean = all(
        row["status"] == "compiled" and not row["lint_errors"] and not any(launch["disagreements"] for launch in row["launches"])
        for row in rows
    )
    return int(not clean)


if __name__ == "__main__":
    sys.exit(main())
