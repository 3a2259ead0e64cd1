"""Whole searches through the spool with a model in every role: what was asked and answered, kept as replay fixtures, and what came of it.

`freeze` copies the exchanges of one finished search into a folder (`ITEM.ARM.jsonl`, for `--model replay:FILE`) and adds its row to `rows.jsonl`; `run` drives a
search for a chip that is not here (`kevolve run` refuses it: nothing can be measured), with the compiler's rules, Triton's interpreter and the timing model.
`python -m evaluation.spool_study measure` times the candidates of such rows as it does for every other round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.spool_study import SUITE, best_candidate, read_rows

ROLES = ("planner", "diagnosis", "deep_search", "coder", "reflection")
_WAIT_S = 6 * 3600.0


def row_of(home: Path, item: str, arm: str) -> dict[str, Any]:  # Any: JSON
    """Return what became of the one run under a home."""
    from agents.runs.store import RunStore

    with RunStore(home) as store:
        (record,) = store.runs()
        run_id = record.run_id
        calls = [event.data for event in store.events(run_id, "model_call")]
        advice = Counter((event.data["role"], event.data["outcome"]) for event in store.events(run_id, "advice"))
        attempts = [one for session in store.sessions(run_id) for one in store.attempts(run_id, session.session_id)]
        plan = [event.data for event in store.events(run_id, "divided")]
        reflected = [event.data for event in store.events(run_id, "reflected")]
        tokens = store.spent(run_id).tokens
    verdicts = [
        (one, one.evaluation) for one in attempts if one.evaluation is not None and not one.duplicate_of and one.candidate is not None
    ]
    candidates = [
        {"attempt": number, "source": one.candidate.source, "fitness": evaluation.fitness, "notes": one.notes}
        for number, (one, evaluation) in enumerate(verdicts, start=1)
        if evaluation.status.value == "passed" and one.candidate is not None
    ]
    best = best_candidate(candidates)
    roles = {}
    for role in ROLES:
        mine = [call for call in calls if call["role"] == role]
        if mine:
            roles[role] = {
                "requests": len(mine),
                "input_tokens": sum(call["input_tokens"] for call in mine),
                "output_tokens": sum(call["output_tokens"] for call in mine),
            }
    statuses = [evaluation.status.value for _, evaluation in verdicts]
    passed = [number for number, status in enumerate(statuses, start=1) if status == "passed"]
    return {
        "item": item,
        "arm": arm,
        "target": record.target,
        "strategy": record.config["strategy"],
        "passed_first": statuses[:1] == ["passed"],
        "attempts_to_pass": passed[0] if passed else None,
        "attempts": len(statuses),
        "statuses": statuses,
        "repeats": sum(bool(one.duplicate_of) for one in attempts),
        "simulated_ms": [evaluation.latency_ms for _, evaluation in verdicts] if record.target.startswith("mtia") else None,
        "tokens": tokens,
        "roles": roles,
        "advice": {f"{role}: {outcome}": count for (role, outcome), count in sorted(advice.items())},
        "plan": plan[0]["items"] if plan else [],
        "lessons": len(reflected[0]["lessons"]) if reflected else 0,
        "candidates": candidates,
        "source": best["source"] if best else "",
        "problem": record.problem.source,
        "finished": record.result is not None,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON rows
    """Return the searches as Markdown."""
    lines = [
        "| problem | target | strategy | candidates | repeats | tokens | requests (planner, diagnosis, deep search, coder, reflection) | simulated time of each |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        requests = ", ".join(str(row["roles"].get(role, {}).get("requests", 0)) for role in ROLES)
        simulated = ", ".join(f"{1000 * value:.2f} us" for value in row["simulated_ms"] or [] if value) or "–"
        lines.append(
            f"| {row['item']} | {row['target']} | {row['strategy']} | {', '.join(row['statuses'])} | {row['repeats']} | {row['tokens']:,} | {requests} | {simulated} |"
        )
    return "\n".join(lines) + "\n"


def freeze(given: argparse.Namespace) -> None:
    """Copy a search into the folder; rows of others that are there stay."""
    given.out.mkdir(parents=True, exist_ok=True)
    row = row_of(given.home, given.item, given.arm)
    texts = [path.read_text(encoding="utf-8") for path in sorted((given.home / "transcripts").glob("*.jsonl"))]
    lines = sorted(dict.fromkeys(line for text in texts for line in text.splitlines()), key=_order)
    cleaned = (re.sub(r'"model": "spool:[^"]*"', '"model": "spool"', line) for line in lines)
    (given.out / f"{given.item}.{given.arm}.jsonl").write_text("".join(f"{line}\n" for line in cleaned), encoding="utf-8")
    path = given.out / "rows.jsonl"
    rows = {(known["item"], known["arm"]): known for known in (read_rows(path) if path.exists() else [])}
    rows[given.item, given.arm] = row
    path.write_text("".join(f"{json.dumps(known)}\n" for _, known in sorted(rows.items())), encoding="utf-8")


def _order(line: str) -> tuple[str, int, int, int]:
    entry = json.loads(line)
    role = {"planner": -1, "reflection": len(ROLES)}.get(entry["role"], ROLES.index(entry["role"]))
    session = str(entry.get("session_id", "")) or ("" if role < 0 else "~")
    return session, int(entry.get("attempt", 0)), role, int(entry.get("step", 0))


def run(given: argparse.Namespace) -> None:
    """Drive one search for a chip that is not here, with a model in every role, through the spool."""
    from agents.coders.registry import create_advisers, create_coder
    from agents.config import ModelOptions, RunConfig
    from agents.driver import Machinery, create_run, drive
    from agents.profiles import CheapProfiler
    from agents.runs.store import RunStore
    from agents.types import Budget
    from agents.workbench import lint_errors
    from evaluation.deviceless import DevicelessEvaluator
    from kb.store import KnowledgeBase
    from tools.problems import load_problem
    from tools.targets.registry import get_target

    problem, chip = load_problem(str(SUITE / f"{given.item}.py")), get_target(given.target)
    options = ModelOptions(name=f"spool:{given.spool}", timeout_s=_WAIT_S, retries=0)
    config = RunConfig(
        strategy=given.strategy,
        coder="llm",
        model=options,
        role_models={role: options for role in ROLES if role != "coder"},
        budget=Budget(evaluations=given.evaluations),
        finalists=0,
        profiles=given.evaluations,
    )
    with RunStore(given.home) as store, KnowledgeBase.open(given.home) as base:
        machinery = Machinery(
            coder=create_coder("llm", options, given.home),
            evaluator=DevicelessEvaluator({problem.source_hash: problem.source}, given.home / "cache" / "compile"),
            lint=lambda candidate: lint_errors(chip, candidate),
            base=base,
            advisers=create_advisers(config, given.home),
            profiler=CheapProfiler(),
        )
        open_runs = [record.run_id for record in store.runs() if record.result is None]
        if open_runs:
            store.acquire(open_runs[0])
        run_id = open_runs[0] if open_runs else create_run(store, problem, given.target, config)
        result = asyncio.run(drive(store, run_id, machinery))
    sys.stdout.write(f"{run_id}: {result['status']}\n")


def main() -> None:
    """Entry point of `python -m evaluation.spool_searches`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="search for a chip that is not here; answers come through the spool")
    one.add_argument("item", help="name of a problem of the suite")
    one.add_argument("--target", required=True)
    one.add_argument("--home", type=Path, required=True, help="state directory of its own, with the knowledge base ingested")
    one.add_argument("--spool", type=Path, required=True)
    one.add_argument("--strategy", default="linear")
    one.add_argument("--evaluations", type=int, default=6)
    two = commands.add_parser("freeze", help="copy a search into a folder of fixtures")
    two.add_argument("item")
    two.add_argument("arm", help="what sets this search apart, for example `first` or `mended`")
    two.add_argument("--home", type=Path, required=True)
    two.add_argument("--out", type=Path, required=True)
    three = commands.add_parser("table", help="print what came of the searches of a folder")
    three.add_argument("fixtures", type=Path)
    given = parser.parse_args()
    if given.command == "table":
        sys.stdout.write(table(read_rows(given.fixtures / "rows.jsonl")))
    else:
        {"run": run, "freeze": freeze}[given.command](given)


if __name__ == "__main__":
    main()
