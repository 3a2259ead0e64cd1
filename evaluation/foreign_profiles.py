"""Profilers' files from public repositories, ingested and asked about: `python -m evaluation.foreign_profiles --mirrors DIR --out DIR`.

DIR of `--mirrors` holds bare git directories `OWNER+NAME/repo`. Nothing of the files is kept but figures and the questions' outcome. A question is answered if one of the
first hits is of the right file and its text holds the expected words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest
from tools.profiling.formats.registry import format_of, read_profile_bytes
from tools.profiling.source import Report

TOP_K = 3


@dataclass(frozen=True)
class Foreign:
    """A file of a public repository and what may be asked about it."""

    tool: str
    repository: str
    path: str
    name: str
    """What it is called in the base."""
    questions: tuple[tuple[str, str], ...]
    """A question, and words that the right passage holds."""


FILES = (
    Foreign("Nsight Compute, CSV of metrics", "Olajide-Badejo/GPU-Roofline-Profiler", "results/sample_run/ncu/transpose_naive.csv", "transpose_naive.csv", (
        ("which transpose kernel writes uncoalesced", "uncoalesced access"),
        ("sectors per store request of transpose_naive_kernel", "sectors per store request 32"),
    )),
    Foreign("Nsight Compute, CSV of metrics", "Olajide-Badejo/GPU-Roofline-Profiler", "results/sample_run/ncu/transpose_tiled.csv", "transpose_tiled.csv", (
        ("how long does transpose_tiled_kernel take", "85.82 µs"),
    )),
    Foreign("Nsight Compute, CSV of metrics", "Olajide-Badejo/GPU-Roofline-Profiler", "results/sample_run/ncu/gemm_naive.csv", "gemm_naive.csv", (
        ("device time of gemm_naive_kernel", "9,589"),
        ("how busy are the multiprocessors in gemm_naive_kernel", "works at 97% of its peak"),
    )),
    Foreign("Nsight Compute, CSV of metrics", "Olajide-Badejo/GPU-Roofline-Profiler", "results/sample_run/ncu/gemm_vectorized.csv", "gemm_vectorized.csv", (
        ("gemm_vectorized kernel device memory bytes", "dram bytes"),
    )),
    Foreign("torch.profiler, Chrome trace (A100)", "facebookresearch/HolisticTraceAnalysis", "tests/data/critical_path/alexnet/benchmark_result_2869224_1695835535_trace.json.gz", "alexnet.json.gz", (
        ("alexnet on A100: how much is copied from host to device", "Memcpy HtoD"),
        ("how many device gaps has the alexnet profile", "num device gaps 95"),
    )),
    Foreign("torch.profiler, Chrome trace (MI250)", "facebookresearch/HolisticTraceAnalysis", "tests/data/amd_trace/mi250_minitoy_train_ROCm6_2_kineto.json.gz", "mi250.json.gz", (
        ("profile with mse_loss_backward on an AMD GPU: how long is the device idle", "device idle 8,762.84"),
    )),
    Foreign("rocprofiler-compute, CSV of counters", "ROCm/rocprofiler-compute", "tests/workloads/device_filter/MI300X_A1/pmc_perf.csv", "mi300x_pmc_perf.csv", (
        ("vecCopy achieved bandwidth GB/s", "1,167.26 GB/s"),
        ("L2 hit rate of vecCopy on an AMD GPU", "l2 hit 33.4%"),
    )),
    Foreign("Proton, tree", "intel/intel-xpu-backend-for-triton", "third_party/proton/test/examples/triton.json", "proton_triton.json", (
        ("proton profile: time of triton_kernel and cuda_kernel", "triton_kernel"),
    )),
    Foreign("Proton, tree", "intel/intel-xpu-backend-for-triton", "third_party/proton/test/examples/hip.json", "proton_hip.json", (
        ("proton profile on gfx90a: device time of foo0", "gfx90a"),
    )),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `report.json` and `report.md`; return 1 if a file was not read or a question not answered."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.foreign_profiles", description=__doc__)
    parser.add_argument("--mirrors", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    result = measure(chosen.mirrors)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "report.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (chosen.out / "report.md").write_text(to_markdown(result), encoding="utf-8")
    sys.stdout.write(f"{chosen.out / 'report.md'}\n")
    return 0 if result["files_read"] == len(FILES) and result["answered"] == result["asked"] else 1


def measure(mirrors: Path) -> dict[str, Any]:  # Any: JSON
    """Return what became of the files and of the questions, in a base that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="foreign-profiles-") as name, KnowledgeBase.open(Path(name) / "home") as base:
        folder = Path(name) / "profiles"
        folder.mkdir()
        files = [_copied(item, mirrors, folder) for item in FILES]
        report = ingest([folder / item.name for item in FILES], base, with_details=True)
        questions = [_asked(base, item, question, words) for item in FILES for question, words in item.questions]
        return {
            "files": files,
            "documents": len(report.documents),
            "files_read": sum(1 for item in files if item["format"]),
            "questions": questions,
            "asked": len(questions),
            "answered": sum(1 for item in questions if item["rank"]),
        }


def _copied(item: Foreign, mirrors: Path, folder: Path) -> dict[str, Any]:  # Any: JSON
    git = ["git", f"--git-dir={mirrors / item.repository.replace('/', '+') / 'repo'}"]
    shown = subprocess.run([*git, "show", f"HEAD:{item.path}"], capture_output=True, check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
    (folder / item.name).write_bytes(shown.stdout)
    profile = read_profile_bytes(shown.stdout, item.name)
    with (folder / item.name).open("rb") as stream:
        found = format_of(Report(item.name, stream).head)
    return {
        "tool": item.tool, "repository": item.repository, "commit": commit, "path": item.path, "name": item.name, "bytes": len(shown.stdout), "format": found.name if found else "",
        "kernels": sum(1 for kernel in profile.kernels if kernel.kind == "kernel"), "figures": sum(len(kernel.figures) for kernel in profile.kernels), "device_time_us": round(profile.device_time_us, 3),
        "missing": [f"{missing.what}: {missing.kind}" for missing in profile.missing],
    }  # fmt: skip


def _asked(base: KnowledgeBase, item: Foreign, question: str, words: str) -> dict[str, Any]:  # Any: JSON
    hits = base.query(question, top_k=TOP_K).hits
    ranks = [rank for rank, hit in enumerate(hits, 1) if item.name in hit.source.path and words.lower() in hit.text.lower()]
    return {"question": question, "file": item.name, "words": words, "rank": ranks[0] if ranks else None, "first": Path(hits[0].source.path).name if hits else ""}  # fmt: skip


def to_markdown(result: dict[str, Any]) -> str:  # Any: JSON
    """Return the report."""
    lines = [
        "# Profilers' files from public repositories",
        "",
        f"{result['files_read']} of {len(result['files'])} files were read; {result['answered']} of {result['asked']} questions are answered among the first {TOP_K} hits. Nothing of the files is kept here.",
        "",
        "| tool | repository at commit | file | read as | kernels | figures | device time, µs |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {item['tool']} | {item['repository']} at {item['commit'][:12]} | {item['path']} | {item['format']} | {item['kernels']} | {item['figures']} | {item['device_time_us']:,.5g} |" for item in result["files"]]  # fmt: skip
    lines += ["", "| question | file | expected words | rank |", "|---|---|---|---|"]
    lines += [f"| {item['question']} | {item['file']} | {item['words']} | {item['rank'] or 'not found'} |" for item in result["questions"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
