"""Correctness of the library coder's candidates without their device: each problem is made small, written for, and run in Triton's interpreter against float64.

`python -m evaluation.shrunken --root CHECKOUT --out FILE.jsonl` appends a record for each problem the moment it is known and goes on where an earlier call ended.
Candidates are those that the coder would try first at the small sizes, and the first one at the full sizes carried over (`--carried`), since the choice of kernels
depends on sizes. What passes here may still fail on the device: no race, no hardware rounding and no size beyond the small ones is seen.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.dry_run import _MEMORY_BYTES, Options, arguments_of, chosen, kernels, read_rows, run_all
from evaluation.forked import Outcome, call
from tools.expressions import Expression
from tools.types import Problem


@dataclass(frozen=True)
class Small:
    """What one call does."""

    basic: Options
    carried: bool = False
    """Put the first structure at the full sizes onto the small ones, as the first candidate."""
    interpret_s: float = 240.0
    """For one candidate, in s."""


def check_small(problem: Problem, options: Small) -> dict[str, Any]:  # Any: JSON
    """Return the record of one problem: shrink, write and run, each in a child with a time limit."""
    began = time.monotonic()
    row: dict[str, Any] = {"problem": problem.problem_id, "target": options.basic.target}  # Any: JSON

    def told(status: str, outcome: Outcome | None = None, **more: Any) -> dict[str, Any]:  # Any: JSON
        failure = (
            {"error": outcome.error, "message": outcome.message[:400], "where": list(outcome.where[-4:])}
            if outcome and outcome.error
            else {}
        )
        return row | {"status": status} | failure | more | {"seconds": round(time.monotonic() - began, 1)}

    small = call(lambda: _shrunk(problem.source), timeout_s=options.basic.timeout_s, memory_bytes=_MEMORY_BYTES)
    if small.error:
        return told("not_shrunken", small)
    row["is_shrunken"] = small.value["fits"]
    made = call(lambda: _written(problem, small.value["source"], options), timeout_s=options.basic.timeout_s, memory_bytes=_MEMORY_BYTES)
    if made.error:
        return told("not_captured", made)
    if not made.value:
        return told("no_candidate")
    results = []
    for candidate in made.value:
        request = {"candidate": candidate["source"], "problem": small.value["source"], "seeds": [11]}
        verdict = call(lambda request=request: _judged(request), timeout_s=options.interpret_s, memory_bytes=_MEMORY_BYTES)  # type: ignore[misc]
        answer = verdict.value or {"status": verdict.error, "reason": verdict.message[:300]}
        results.append({"note": candidate["note"], "kernels": candidate["kernels"], **answer})
    statuses = [item["status"] for item in results]
    worst = next((status for status in statuses if status not in ("passed", "timeout")), statuses[0])
    reason = next((str(item.get("reason", "")) for item in results if item["status"] == worst), "")
    return told(worst, results=results, reason_class="".join(mark for mark in reason.split(":")[0] if not mark.isdigit())[:60])


def _shrunk(source: str) -> dict[str, Any]:  # Any: JSON
    from evaluation.shrink import shrink

    return dataclasses.asdict(shrink(source))


def _written(problem: Problem, source: str, options: Small) -> list[dict[str, Any]]:  # Any: JSON
    """Return the candidates for a problem's small form."""
    from agents.coders.library.coder import seeds
    from kb.types import Winner

    basic = options.basic
    own = kernels(basic.docs, basic.target)
    small = tuple(dataclasses.replace(kernel, requires=tuple(filter(_is_needed, kernel.requires))) for kernel in own)
    winners: tuple[Winner, ...] = ()
    if options.carried:
        large = seeds(problem, basic.target, own, _captured(problem.source)).candidates[:1]
        winners = tuple(
            Winner(problem.problem_id, "", "", basic.target, item.candidate_id, item.source, item.language, item.provenance, {}, "")
            for item in large
        )
    made = seeds(dataclasses.replace(problem, source=source), basic.target, small, _captured(source), basic.num_candidates, winners)
    return [
        {"source": item.source, "note": item.provenance["note"], "kernels": item.provenance.get("kernels", [])} for item in made.candidates
    ]


def _is_needed(requirement: Expression) -> bool:
    """Say whether a requirement is about more than speed: a least size from 64 on is where a kernel starts to pay, and would hide it here."""
    threshold = re.fullmatch(r"[^<>=]+ >= (\d+)", requirement.text)
    return threshold is None or int(threshold[1]) < 64


def _captured(source: str) -> Any:  # Any: a Capture, imported late
    from agents.coders.library import capture_worker
    from agents.coders.library.capture import Capture
    from agents.coders.library.graph import graph_from_json

    return Capture(tuple((item["name"], graph_from_json(item["graph"])) for item in capture_worker.capture(source)["workloads"]))


def _judged(request: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON
    import tempfile

    from evaluation.interpreted import judge

    return judge(request, Path(tempfile.mkdtemp()))


def summary(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:  # Any: JSON
    """Return how many problems have each status, by part."""
    rows = list(rows)
    parts: dict[str, Sequence[Mapping[str, Any]]] = {part: [row for row in rows if row["part"] == part] for part in ("seen", "held")}
    return {
        part: dict(Counter(row["status"] for row in own)) | {"problems": len(own)} for part, own in (parts | {"all": rows}).items() if own
    }


def main(arguments: list[str] | None = None) -> int:
    """Run or report; 0 if every problem has a record and no candidate is wrong."""
    parser = arguments_of(__doc__, "shrunken")
    parser.add_argument("--carried", action="store_true", help="begin with the first structure at the full sizes")
    parser.add_argument("--interpret-timeout", type=float, default=240.0, help="for one candidate, in s")
    options = parser.parse_args(arguments)
    problems, held = chosen(options)
    left = 0
    if not options.report:
        settings: Any = Small(Options(options.target, options.candidates, options.timeout), options.carried, options.interpret_timeout)
        try:
            left = run_all(
                problems,
                check_small,
                settings,
                options.out,
                held=held,
                processes=options.processes,
                seconds=options.seconds,
                interpret=True,
            )
        except BrokenProcessPool as error:
            sys.stderr.write(f"a process died: {error}; call again, the records are kept\n")
            return 2
    rows = read_rows(options.out)
    sys.stdout.write(json.dumps(summary(rows), indent=1) + "\n")
    return int(left > 0 or any(row["status"] in ("wrong_values", "wrong_shape", "wrong_dtype", "runtime_error") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
