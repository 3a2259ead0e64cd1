"""What the library coder makes of a suite for a chip that is not here: captured, covered by which kernels, linted and compiled, problem by problem.

`python -m evaluation.dry_run --root CHECKOUT --out FILE.jsonl` appends a record for each problem the moment it is known and goes on where an earlier call ended;
`--seconds N` ends it in time, `--report` only reads the records. Nothing is run or timed: records say nothing about speed, and values are
another matter (`evaluation.shrunken`).

Problems named by `--held FILE` (numbers like `1-8`) were not looked at while the kernels were written. Their records hold counts and classes only: no operator, no
source, no message that could quote one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.forked import call, preload
from tools.types import Candidate, Problem

if TYPE_CHECKING:
    from agents.coders.library.documents import Kernel

DOMINANT = 0.5
"""Least part of the estimated time in custom kernels for them to do a problem's dominant work."""
_MEMORY_BYTES = 12 << 30


@dataclass(frozen=True)
class Options:
    """What one call does."""

    target: str
    num_candidates: int = 1
    """Structures compiled per problem, the most promising first."""
    timeout_s: float = 180.0
    """For capturing and composing, and again for each compilation, in s."""
    docs: str = "docs/kernels"


def look(problem: Problem, options: Options) -> dict[str, Any]:  # Any: JSON
    """Capture, cover and compose one problem in this process; return what is known, with the candidates' sources."""
    from agents.coders.library import capture_worker
    from agents.coders.library.capture import Capture
    from agents.coders.library.coder import seeds
    from agents.coders.library.graph import graph_from_json
    from tools.targets.registry import get_target

    data = capture_worker.capture(problem.source)
    captured = Capture(tuple((item["name"], graph_from_json(item["graph"])) for item in data["workloads"]))
    made = seeds(problem, options.target, kernels(options.docs, options.target), captured, options.num_candidates)
    target = get_target(options.target)
    return {
        "share": dict(made.share),
        "left": dict(made.left),
        "sources": [candidate.source for candidate in made.candidates],
        "notes": [candidate.provenance["note"] for candidate in made.candidates],
        "lint_errors": [str(item) for candidate in made.candidates for item in target.lint(candidate) if item.severity == "error"],
    }


@lru_cache(maxsize=2)
def kernels(folder: str, target: str) -> tuple[Kernel, ...]:
    """Return the kernel documents for a target."""
    from agents.coders.library.documents import kernels_from_folder
    from tools.targets.base import lineage

    return kernels_from_folder(Path(folder), lineage(target))


def dry_run(problem: Problem, options: Options) -> dict[str, Any]:  # Any: JSON
    """Return the record of one problem: `look` in a child with a time limit, then every candidate through the compiler."""
    began = time.monotonic()
    outcome = call(lambda: look(problem, options), timeout_s=options.timeout_s, memory_bytes=_MEMORY_BYTES)
    row: dict[str, Any] = {"problem": problem.problem_id, "target": options.target}  # Any: JSON
    if outcome.error:
        row |= {"is_captured": False, "error": outcome.error, "message": outcome.message[:600], "where": list(outcome.where[-4:])}
        return row | {"seconds": round(time.monotonic() - began, 1)}
    found = outcome.value
    row |= {"is_captured": True, "share": _rounded(found["share"]), "left": _rounded(found["left"]), "lint_errors": found["lint_errors"]}
    row["custom_share"] = round(sum(found["share"].values()), 4)
    row["candidates"] = [_compiled(source, note, problem, options) for source, note in zip(found["sources"], found["notes"], strict=True)]
    return row | {"seconds": round(time.monotonic() - began, 1)}


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in sorted(shares.items(), key=lambda item: -item[1])}


def _compiled(source: str, note: str, problem: Problem, options: Options) -> dict[str, Any]:  # Any: JSON
    from tools.compile.job import Job
    from tools.compile.toolchain import numbers

    report = _server().compile(
        Job(source, options.target, numbers(_profile(options.target)), problem=problem.source), timeout_s=options.timeout_s
    )
    kernels_ = report.kernels
    return {
        "candidate_id": Candidate(source, "triton").candidate_id,
        "note": note,
        "status": report.status,
        "error": report.error[:600],
        "num_kernels": len(kernels_),
        "shared_bytes": max((item.shared_bytes for item in kernels_), default=0),
        "registers": max((item.registers for item in kernels_), default=0),
        "spills": {item.kernel: item.spill_bytes for item in kernels_ if item.spill_bytes},
        "seconds": round(report.seconds, 1),
    }


@lru_cache(maxsize=1)
def _server() -> Any:  # Any: a CompileServer, imported late
    from tools.compile.server import CompileServer

    return CompileServer()


@lru_cache(maxsize=4)
def _profile(target: str) -> Any:  # Any: a Profile, imported late
    from tools.targets.profile import load_profiles

    return load_profiles()[target]


def without_content(row: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the record of a problem that nobody is to look at: classes and counts."""
    kept = (
        "problem",
        "target",
        "part",
        "is_captured",
        "error",
        "where",
        "custom_share",
        "seconds",
        "status",
        "reason_class",
        "is_shrunken",
    )
    told = {name: row[name] for name in kept if name in row}
    if "lint_errors" in row:
        told["lint_errors"] = [text.split(":")[0][:40] for text in row["lint_errors"]]
    if "candidates" in row:
        told["candidates"] = [
            {name: item[name] for name in ("status", "num_kernels", "shared_bytes", "registers", "seconds")}
            | {"error_class": item["error"].split(":")[0][:60], "num_spilling": len(item["spills"])}
            for item in row["candidates"]
        ]
    return told


def run_all(
    problems: Sequence[Problem],
    work: Any,  # Any: a function of a problem and options that another process can import
    options: Options,
    out: Path,
    *,
    held: frozenset[str],
    processes: int,
    seconds: float | None,
    interpret: bool = False,
) -> int:
    """Run `work(problem, options)` over the problems that the file has no record of, and append each record at once.

    Args:
        problems: The suite.
        work: Importable function that returns a record.
        options: Handed to it.
        out: The `.jsonl` file.
        held: Problems whose records are stripped of content.
        processes: Problems at a time.
        seconds: Begin none after so long; None: no limit.
        interpret: Triton's kernels run in its interpreter.

    Returns:
        How many problems still have no record.
    """
    done = {row["problem"] for row in read_rows(out)}
    todo = [problem for problem in problems if problem.problem_id not in done]
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    out.parent.mkdir(parents=True, exist_ok=True)
    left = len(todo)
    with out.open("a", encoding="utf-8") as file, _pool(processes, context, interpret) as pool:
        waiting = iter(todo)
        running: dict[Future[dict[str, Any]], Problem] = {pool.submit(work, item, options): item for item in islice(waiting, processes)}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                problem = running.pop(future)
                row = future.result()
                part = "held" if short(problem) in held else "seen"
                row = without_content(row | {"part": part}) if part == "held" else row | {"part": part}
                file.write(json.dumps(row) + "\n")
                file.flush()
                left -= 1
                sys.stderr.write(f"[{time.monotonic() - began:5.0f} s] {len(todo) - left}/{len(todo)} {problem.problem_id} {part}\n")
            if seconds is None or time.monotonic() - began < seconds:
                running |= {pool.submit(work, item, options): item for item in islice(waiting, len(finished))}
    return left


def _pool(processes: int, context: Any, interpret: bool) -> ProcessPoolExecutor:  # Any: a multiprocessing context
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_open, initargs=(interpret,))


def _open(interpret: bool) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    preload(interpret=interpret)


def read_rows(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    """Return the records of a file; a line cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def short(problem: Problem) -> str:
    """Return `1-8` for `kernelbench:1/8`."""
    return problem.problem_id.rpartition(":")[2].replace("/", "-")


def summary(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:  # Any: JSON
    """Return the counts by part (`seen`, `held`, `all`)."""
    told = {}
    rows = list(rows)
    for part in ("seen", "held", "all"):
        own = [row for row in rows if part in (row["part"], "all")]
        if own:
            told[part] = _counts(own)
    return told


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # Any: JSON
    candidates = [item for row in rows for item in row.get("candidates", ())]
    captured = [row for row in rows if row["is_captured"]]
    first = [row["candidates"][0] for row in captured if row["candidates"]]
    return {
        "problems": len(rows),
        "captured": len(captured),
        "not_captured": dict(Counter(row["error"] for row in rows if not row["is_captured"])),
        "with_custom_kernels": sum(row["custom_share"] > 0 for row in captured),
        "dominated_by_custom_kernels": sum(row["custom_share"] >= DOMINANT for row in captured),
        "first_candidate_compiled": sum(item["status"] == "compiled" for item in first),
        "dominated_and_compiled": sum(
            row["custom_share"] >= DOMINANT and bool(row["candidates"]) and row["candidates"][0]["status"] == "compiled" for row in captured
        ),
        "no_candidate": sum(not row["candidates"] for row in captured),
        "candidates": len(candidates),
        "statuses": dict(Counter(item["status"] for item in candidates)),
        "with_lint_errors": sum(bool(row["lint_errors"]) for row in captured),
        "with_spills": sum(bool(item.get("spills") or item.get("num_spilling")) for item in candidates),
        "most_shared_bytes": max((item["shared_bytes"] for item in candidates), default=0),
    }


def arguments_of(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return the arguments that runs over a suite share."""
    parser = argparse.ArgumentParser(prog=f"python -m evaluation.{name}", description=description)
    parser.add_argument("--root", type=Path, help="a checkout of KernelBench; default: the examples of this repository")
    parser.add_argument("--levels", default="1,2,3")
    parser.add_argument("--only", default="", help="comma-separated problems like 1-8")
    parser.add_argument("--held", type=Path, help="file with the problems (1-8 …) whose records are to hold counts only")
    parser.add_argument("--part", choices=("seen", "held"), help="only those named by --held, or only the others")
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, help="begin no problem after so long")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=180.0, help="for each step of a problem, in s")
    parser.add_argument("--report", action="store_true", help="only count the records that are there")
    return parser


def chosen(options: argparse.Namespace) -> tuple[list[Problem], frozenset[str]]:
    """Return the problems that the arguments name, and those of the suite that are held out."""
    from tools.problems import suite_problems

    suite, levels = ("kernelbench", tuple(map(int, options.levels.split(",")))) if options.root else ("examples", ())
    held = frozenset(options.held.read_text(encoding="utf-8").split()) if options.held else frozenset()
    wanted = frozenset(filter(None, options.only.split(",")))
    problems = [
        problem
        for problem in suite_problems(suite, levels, kernelbench_root=options.root)
        if (not wanted or short(problem) in wanted) and (options.part is None or (short(problem) in held) == (options.part == "held"))
    ]
    return problems, held


def main(arguments: list[str] | None = None) -> int:
    """Run or report; 0 if every problem has a record."""
    options = arguments_of(__doc__, "dry_run").parse_args(arguments)
    problems, held = chosen(options)
    left = 0
    if not options.report:
        settings = Options(options.target, options.candidates, options.timeout)
        try:
            left = run_all(problems, dry_run, settings, options.out, held=held, processes=options.processes, seconds=options.seconds)
        except BrokenProcessPool as error:
            sys.stderr.write(f"a process died: {error}; call again, the records are kept\n")
            return 2
    sys.stdout.write(json.dumps(summary(read_rows(options.out)), indent=1) + "\n")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
