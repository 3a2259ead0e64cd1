"""Our winners before KernelBench's own scorer: `eval_kernel_against_ref` of a checkout, unchanged, in a process of its own per winner.

`python -m evaluation.scorer_agreement RESULTS.jsonl --kernelbench CHECKOUT --records FILE` takes the passed records of results files (`kevolve bench`) and appends
one JSON line per winner: what KernelBench says beside what we said. Where it rejects a winner, the problem's own model is scored too: if that is
rejected as well, the scorer cannot judge the problem (it casts integer inputs to floats, for example).

Needs what KernelBench's evaluation imports: torch, numpy, requests, pydantic, tqdm. Its package also imports clients of language models (openai, litellm, dotenv) that
scoring never calls: where one is not installed, an empty module stands in and the record says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.records import Record, latest, read
from tools.errors import ProblemError
from tools.problems import load_problem
from tools.receipts import finite, host_facts
from tools.selftest.runner import append_record
from tools.types import Status

_CLIENTS = {"openai": ("OpenAI",), "litellm": ("completion",), "dotenv": ("load_dotenv",)}
"""What KernelBench's `utils` imports besides what scoring needs."""
_LIMIT_S = 300.0
_TAIL = 1500


@dataclass(frozen=True)
class Winner:
    """One passed record with its problem's source."""

    record: Record
    reference: str


def winners(records: Sequence[Record], kernelbench: Path | None) -> list[Winner]:
    """Return one winner per problem: the best passed record that keeps its source; problems without a readable reference are left out."""
    best: dict[str, Record] = {}
    for record in latest(records).values():
        if record.evaluation.status is not Status.PASSED or not record.source:
            continue
        known = best.get(record.problem_id)
        if known is None or record.evaluation.fitness > known.evaluation.fitness:
            best[record.problem_id] = record
    found = []
    for record in best.values():
        with contextlib.suppress(ProblemError):
            found.append(Winner(record, load_problem(record.problem_id, kernelbench_root=kernelbench).source))
    return found


def agreement(found: Sequence[Winner], checkout: Path, *, seconds: float, trials: int, calls: int) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Score each winner and yield its record.

    Args:
        found: Winners.
        checkout: KernelBench checkout whose `src` holds the scorer.
        seconds: Start no winner after so many seconds.
        trials: Inputs that KernelBench checks (its default is 5).
        calls: Calls that it times (its default is 100).
    """
    began = time.monotonic()
    for winner in found:
        left_s = seconds - (time.monotonic() - began)
        if left_s <= 0:
            return
        job = {
            "reference": winner.reference,
            "candidate": winner.record.source,
            "checkout": str(checkout),
            "trials": trials,
            "calls": calls,
        }
        theirs = score_apart(job, min(_LIMIT_S, max(left_s, 30.0)))
        control: dict[str, Any] = {}
        left_s = seconds - (time.monotonic() - began)
        if theirs.get("correctness") is not True and left_s > 0:
            own = winner.reference + "\n\nModelNew = Model\n"
            control = score_apart({**job, "candidate": own, "calls": 3}, min(_LIMIT_S, max(left_s, 30.0)))
        yield compared(winner, theirs, control)


def compared(winner: Winner, theirs: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the record of one winner: our numbers, theirs, and whether they agree (None: their scorer cannot judge the problem)."""
    ours = winner.record.evaluation
    is_right = theirs.get("correctness") is True
    agrees = True if is_right else None if not theirs or (control and control.get("correctness") is not True) else False
    runtime, reference = theirs.get("runtime_ms"), theirs.get("ref_runtime_ms")
    eager = ours.speedup.get("eager")
    return {
        "suite": "scorer-agreement", "problem_id": winner.record.problem_id, "candidate_id": ours.candidate_id, "agrees": agrees,
        "theirs": dict(theirs), "their_speedup": reference / runtime if runtime and reference and runtime > 0 and reference > 0 else None,
        "ours": {"latency_ms": ours.latency_ms, "speedup_over_eager": eager.value if eager else None, "composition": ours.composition.value},
        "control_reference_as_candidate": dict(control), "host": host_facts() | {"command": ["python", "-m", "evaluation.scorer_agreement"]},
    }  # fmt: skip


def score_apart(job: Mapping[str, Any], limit_s: float) -> dict[str, Any]:  # Any: JSON
    """Score one candidate in a process of its own; a process that fails or hangs is an answer with `error`."""
    with tempfile.TemporaryDirectory(prefix="kevolve-scorer-") as folder:
        question, answer = Path(folder, "job.json"), Path(folder, "answer.json")
        question.write_text(json.dumps({**job, "answer": str(answer), "build": folder}), encoding="utf-8")
        command = [sys.executable, "-m", "evaluation.scorer_agreement", "--job", str(question)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit_s, cwd=Path(__file__).resolve().parent.parent, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {limit_s:.0f} s"}
        try:
            return dict(json.loads(answer.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {"error": f"exit code {done.returncode}: {(done.stderr or done.stdout)[-_TAIL:]}"}


def score(job: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Call the checkout's `eval_kernel_against_ref` in this process."""
    absent = stand_in(_CLIENTS)
    sys.path.insert(0, str(Path(job["checkout"], "src")))
    scorer = importlib.import_module("kernelbench.eval")
    backend = "triton" if "import triton" in job["candidate"] else "cuda"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = scorer.eval_kernel_against_ref(
            original_model_src=job["reference"], custom_model_src=job["candidate"], num_correct_trials=job["trials"], num_perf_trials=job["calls"],
            measure_performance=True, timing_method="cuda_event", build_dir=job["build"], backend=backend,
        )  # fmt: skip
    if result is None:
        return {"error": f"no result; it printed: {printed.getvalue()[-_TAIL:]}", "stand_ins": absent}
    return {
        "compiled": result.compiled, "correctness": result.correctness, "runtime_ms": result.runtime, "ref_runtime_ms": result.ref_runtime,
        "runtime_stats": _plain(result.runtime_stats), "ref_runtime_stats": _plain(result.ref_runtime_stats),
        "metadata": {str(name): str(value)[:600] for name, value in result.metadata.items()}, "backend": backend, "stand_ins": absent,
    }  # fmt: skip


def stand_in(clients: Mapping[str, Sequence[str]]) -> list[str]:
    """Put an empty module in the place of each one that is not installed; return their names."""
    absent = []
    for name, attributes in clients.items():
        if importlib.util.find_spec(name) is None:
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            for attribute in attributes:
                setattr(module, attribute, _not_installed)
            sys.modules[name] = module
            absent.append(name)
    return absent


def _not_installed(*arguments: object, **named: object) -> None:
    """Stand for a function of a client; loading an absent `.env` file is the only one that is called."""


def _plain(stats: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    return {str(name): value if isinstance(value, (int, float, str)) else str(value) for name, value in stats.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the winners of results files; returns 0 if KernelBench's scorer accepts all that it can judge."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.scorer_agreement", description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="results files of `kevolve bench`")
    parser.add_argument("--kernelbench", type=Path, default=None, help="a KernelBench checkout")
    parser.add_argument("--records", type=Path, default=None, help="a .jsonl file to append to")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--trials", type=int, default=5, help="inputs that KernelBench checks")
    parser.add_argument("--calls", type=int, default=100, help="calls that it times")
    parser.add_argument("--job", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job is not None:
        job = json.loads(options.job.read_text(encoding="utf-8"))
        Path(job["answer"]).write_text(json.dumps(finite(score(job))), encoding="utf-8")
        return 0
    if options.kernelbench is None or options.records is None or not options.results:
        parser.error("results files, --kernelbench and --records are needed")
    found, disagreements = winners(read(options.results), options.kernelbench), 0
    for record in agreement(found, options.kernelbench.resolve(), seconds=options.seconds, trials=options.trials, calls=options.calls):
        append_record(options.records, dict(finite(record)))
        disagreements += record["agrees"] is False
        theirs = record["theirs"]
        speed = f"{record['their_speedup']:.2f}x" if record["their_speedup"] else theirs.get("error", "")[:160] or "not timed"
        sys.stdout.write(
            f"{record['problem_id']}: correct {theirs.get('correctness')}, {speed}; ours {record['ours']['speedup_over_eager'] or 0:.2f}x\n"
        )
        sys.stdout.flush()
    return 1 if disagreements else 0


if __name__ == "__main__":
    raise SystemExit(main())
