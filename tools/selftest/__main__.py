"""`python -m tools.selftest`: try every exploit and control on this machine and print the verdicts by family."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

from tools.evaluator import LocalEvaluator
from tools.hangs import Hangs
from tools.selftest.fixtures import load_fixtures
from tools.selftest.runner import Finding, in_order, record_findings, table


def main(arguments: list[str] | None = None) -> int:
    """Run the self-test; returns 0 if every fixture ran and every verdict is as expected, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.selftest", description=__doc__)
    parser.add_argument("--target", default="cpu", help="target to evaluate on (default: cpu)")
    parser.add_argument("--only", default="", help="comma-separated fixture ids or names, for example C01,fp16_identical")
    parser.add_argument("--home", default="", help="state directory (default: a temporary one)")
    parser.add_argument(
        "--eager-only", action="store_true", help="leave out the torch.compile baseline, which takes most of the time on a CPU"
    )
    parser.add_argument("--kind", choices=("all", "own"), default="all", help="own: only the fixtures that need this target")
    parser.add_argument("--seconds", type=float, default=None, help="start no fixture after so many seconds")
    parser.add_argument(
        "--jobs", type=int, default=1, help="evaluators beside each other (on an accelerator; its timings still take turns)"
    )
    parser.add_argument("--records", type=Path, default=None, help="a .jsonl file to append one record per fixture to")
    parser.add_argument("--json", action="store_true", help="print one JSON object per fixture on stdout")
    options = parser.parse_args(arguments)
    wanted = {item for item in options.only.split(",") if item}
    family = options.target.partition(":")[0]
    fixtures = [
        item
        for item in in_order(load_fixtures(family), options.target)
        if (not wanted or {item.fixture_id, item.name} & wanted) and (options.kind == "all" or item.target == family)
    ]
    findings: list[Finding] = []
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        home = Path(options.home or stack.enter_context(tempfile.TemporaryDirectory(prefix="kevolve-selftest-")))
        Hangs(home / "hangs").forget()  # each is to hang again
        evaluators = [
            stack.enter_context(LocalEvaluator(home, use_lint=False, use_compiled_baseline=not options.eager_only))
            for _ in range(options.jobs)
        ]
        for finding in record_findings(evaluators, fixtures, options.target, options.records, seconds=options.seconds):
            findings.append(finding)
            sys.stdout.write((_as_json(finding) if options.json else _line(finding)) + "\n")
            sys.stdout.flush()
    done = {item.fixture.name for item in findings}
    left = [item.name for item in fixtures if item.name not in done]
    if not options.json:
        sys.stdout.write(f"\n{table(findings)}\n{time.monotonic() - began:.0f} s\n")
        sys.stdout.write(f"not run within the time limit: {', '.join(left)}\n" if left else "")
    return 0 if findings and not left and not any(item.complaint for item in findings) else 1


def _line(finding: Finding) -> str:
    evaluation, fixture = finding.evaluation, finding.fixture
    mark = "FAIL" if finding.complaint else "ok  "
    if evaluation is None:
        return f"{mark} {fixture.fixture_id:6} {fixture.name:26} {finding.complaint}"
    detail = finding.complaint or evaluation.reason
    if not detail:
        speedups = ", ".join(f"{name} {item.value:.2f} [{item.low:.2f}, {item.high:.2f}]" for name, item in evaluation.speedup.items())
        detail = f"{evaluation.latency_ms:.4f} ms; {speedups}; {evaluation.composition.value}, {evaluation.precision_class}"
    return f"{mark} {fixture.fixture_id:6} {fixture.name:26} {evaluation.status.value:15} {finding.seconds:6.1f} s  {detail[:220]}"


def _as_json(finding: Finding) -> str:
    evaluation = finding.evaluation.to_json() if finding.evaluation else None
    if evaluation:
        evaluation.pop("workloads")
    return json.dumps(
        {
            "id": finding.fixture.fixture_id,
            "name": finding.fixture.name,
            "family": finding.fixture.family,
            "complaint": finding.complaint,
            "evaluation": evaluation,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
