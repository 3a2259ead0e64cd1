"""Does the knowledge base help a capable writer? The same problems twice, with it and without, through files that anybody may answer.

`run` writes each prompt into `SPOOL/` (one folder for all: requests are named by their content) and waits for the answers; killed, it goes on where it was. A
problem ends at its first correct candidate (with `--improve`: so many attempts later) or after `--attempts`. Correctness is judged here: by the evaluator on the CPU, by Triton's interpreter and the
compiler (or the rules of the simulated chip) elsewhere. `freeze` copies what was said into a folder of replay fixtures, `table` prints the comparison,
`measure` evaluates the candidates of a target on this machine's device for their speed, `report` makes the tables of a folder's README anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import random
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.types import QUICK, Candidate, Evaluation, Interval, Problem

logger = logging.getLogger(__name__)

SUITE = Path(__file__).resolve().parent / "suites" / "spool"
ARMS = ("knowledge", "none")
_WAIT_S = 6 * 3600.0
_FIRST_SESSION = "r00000-000"


@dataclass(frozen=True)
class Item:
    """One problem of the study."""

    name: str
    target: str
    spec: str = ""
    """What `tools.problems.load_problem` reads; empty: the file of this name in the suite."""
    small: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Module-level sizes of a version that the interpreter can run."""
    round: int = 1
    """Problems of a later round are fresh: they were chosen after the round before was read."""


ITEMS = (
    Item("cpu_rotary", "cpu"),
    Item("cpu_leaky_integrator", "cpu"),
    Item("cpu_pairwise_l1", "cpu"),
    Item("mtia_weighted_bag", "mtia:2i"),
    Item("mtia_masked_pool", "mtia:2i"),
    Item("mtia_row_cumsum", "mtia:2i"),
    Item("kb1_93_masked_cumsum", "cuda:sm_90", "kernelbench:1/93", {"batch_size": "6", "input_shape": "(5000,)"}),
    Item("kb1_100_hinge_loss", "cuda:sm_90", "kernelbench:1/100", {"batch_size": "300", "input_shape": "(300,)"}),
    Item("kb2_14_gemm_divide_sum", "cuda:sm_90", "kernelbench:2/14", {"batch_size": "64", "input_size": "200", "hidden_size": "136"}),
    Item("mtia_rms_rows", "mtia:2i", round=2),
    Item("mtia_rotate_half", "mtia:2i", round=2),
    Item("mtia_segment_sum", "mtia:2i", round=2),
    Item("cpu_haar_rows", "cpu", round=2),
    Item("kb1_12_diagonal_matmul", "cuda:sm_90", "kernelbench:1/12", {"M": "70", "N": "90"}, round=2),
    Item("cpu_diffusion_steps", "cpu", round=4),
    Item("cpu_gated_projection", "cpu", round=4),
    Item("cpu_additive_scores", "cpu", round=4),
    Item("mtia_jagged_softmax", "mtia:2i", round=4),
    Item("mtia_feature_gram", "mtia:2i", round=4),
    Item("mtia_window_max", "mtia:2i", round=4),
    Item(
        "kb2_86_matmul_divide_gelu", "cuda:sm_90", "kernelbench:2/86", {"batch_size": "256", "input_size": "512", "output_size": "512"}, 4
    ),
    Item(
        "kb2_45_gemm_sigmoid_logsumexp",
        "cuda:sm_90",
        "kernelbench:2/45",
        {"batch_size": "256", "input_size": "256", "hidden_size": "512", "output_size": "1024"},
        4,
    ),
    Item("kb2_57_conv_relu_hardswish", "cuda:sm_90", "kernelbench:2/57", {"batch_size": "2", "height, width": "32, 128"}, 4),
)


def problem_of(item: Item, kernelbench: Path | None) -> Problem:
    """Return the problem of an item."""
    from tools.problems import load_problem

    return load_problem(item.spec or str(SUITE / f"{item.name}.py"), kernelbench_root=kernelbench)


def small_source(source: str, sizes: Mapping[str, str]) -> str:
    """Return a problem's source with module-level sizes replaced.

    Raises:
        ValueError: A size is assigned nowhere, or more than once.
    """
    for name, value in sizes.items():
        source, count = re.subn(rf"^{name}\s*=.*$", f"{name} = {value}", source, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{name} is assigned {count} times at the top level")
    return source


# --- run -----------------------------------------------------------------------------------------------------------------


def run(given: argparse.Namespace) -> None:
    """Drive every run of the study at the same time until all have ended."""
    from agents.runs.store import RunStore
    from evaluation.deviceless import DevicelessEvaluator, OneAtATime
    from kb.store import KnowledgeBase
    from tools.evaluator import LocalEvaluator

    items = [item for item in ITEMS if item.round == given.round and re.search(given.only, item.name)]
    problems = {item.name: problem_of(item, given.kernelbench) for item in items}
    small = {problems[item.name].source_hash: small_source(problems[item.name].source, item.small) for item in items}
    arms = given.arms.split(",")
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(RunStore(given.home))
        base = stack.enter_context(KnowledgeBase.open(given.home)) if "knowledge" in arms else None
        local = stack.enter_context(LocalEvaluator(given.home, use_compiled_baseline=False))
        here = OneAtATime(local)
        elsewhere = OneAtATime(DevicelessEvaluator(small, given.home / "cache" / "compile"))

        async def drive_all() -> list[Any]:  # Any: a result or what went wrong
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * len(items) + 8))
            calls = [
                _drive(
                    store,
                    base if arm == "knowledge" else None,
                    here if item.target == "cpu" else elsewhere,
                    item,
                    arm,
                    problems[item.name],
                    given,
                )
                for item in items
                for arm in arms
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

        for outcome in asyncio.run(drive_all()):
            if isinstance(outcome, BaseException):
                logger.error("a run did not end: %s: %s", type(outcome).__name__, outcome)


async def _drive(
    store: Any, base: Any, evaluator: Any, item: Item, arm: str, problem: Problem, given: argparse.Namespace
) -> None:  # Any: see `run`
    from agents.chat_models.registry import create_client
    from agents.chat_models.transcript import Transcript
    from agents.coders.llm import LlmCoder
    from agents.config import ModelOptions, RunConfig
    from agents.driver import Machinery, create_run, drive
    from agents.types import Budget, Limits
    from agents.workbench import lint_errors
    from tools.targets.registry import get_target

    chip = get_target(item.target)
    improve = 0 if item.target.startswith("mtia") else given.improve
    options = ModelOptions(name=f"spool:{given.spool}", timeout_s=_WAIT_S, context_tokens=given.context_tokens, retries=0)
    client = create_client(options, "coder", given.home, Transcript(given.home / "transcripts" / f"{item.name}.{arm}.jsonl"))
    coder = LlmCoder(client, lint=lambda candidate, target: tuple(str(found) for found in chip.lint(candidate)))
    config = RunConfig(
        strategy="one_shot",
        strategy_options={"drafts": "1"},
        coder="llm",
        model=options,
        budget=Budget(evaluations=given.attempts + improve),
        limits=Limits(attempts=given.attempts, polish=improve),
        use_knowledge=base is not None,
        finalists=0,
        max_seeds=0,
        use_siblings=False,
        write_back=False,
    )
    machinery = Machinery(coder=coder, evaluator=evaluator, lint=lambda candidate: lint_errors(chip, candidate), base=base)
    names = given.home / "runs.json"
    known: dict[str, str] = json.loads(names.read_text()) if names.exists() else {}
    key = f"{item.name}.{arm}"
    if key in known:
        if store.run(known[key]).result is not None:
            return
        store.acquire(known[key])
    else:
        known[key] = create_run(store, problem, item.target, config)
        names.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    result = await drive(store, known[key], machinery)
    logger.info("%s: %s", key, result["status"])


# --- what came of it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One problem in one arm."""

    item: str
    arm: str
    target: str
    passed_first: bool
    attempts_to_pass: int | None
    """None: no attempt passed."""
    attempts: int
    statuses: tuple[str, ...]
    simulated_ms: float | None
    tokens: int
    prompt_chunks: int
    """Passages of the knowledge base in the prompts."""
    cited: int
    """Of them, those that the answers name."""


def rows_of(home: Path) -> list[dict[str, Any]]:  # Any: JSON
    """Return what became of every run under a home, also of unfinished ones, with the candidates that passed."""
    from agents.runs.store import RunStore

    known: dict[str, str] = json.loads((home / "runs.json").read_text())
    with RunStore(home) as store:
        return [_row_of(store, home, key, run_id) for key, run_id in sorted(known.items())]


def _row_of(store: Any, home: Path, key: str, run_id: str) -> dict[str, Any]:  # Any: an `agents.runs.store.RunStore`; JSON
    name, arm = key.rsplit(".", 1)
    record = store.run(run_id)
    sessions = [session.session_id for session in store.sessions(run_id)] or [_FIRST_SESSION]  # a session is recorded when it has ended
    attempts = [item for session_id in sessions for item in store.attempts(run_id, session_id)]
    verdicts = [(item, item.evaluation) for item in attempts if item.evaluation is not None]
    statuses = [evaluation.status.value for _, evaluation in verdicts]
    passed = [index for index, status in enumerate(statuses, start=1) if status == "passed"]
    candidates = [
        {"attempt": index, "source": verdicts[index - 1][0].candidate.source, "fitness": verdicts[index - 1][1].fitness} for index in passed
    ]
    best = best_candidate(candidates)
    waiting = [item for item in attempts if item.evaluation is None and item.candidate is not None and not item.duplicate_of]
    candidates += [{"attempt": item.attempt, "source": item.candidate.source, "fitness": 0.0, "is_unjudged": True} for item in waiting]
    chunks = {chunk for item in attempts for chunk in item.chunk_ids}
    answers = "\n".join(str(entry["answer"]["data"]["content"]) for entry in _exchanges(home / "transcripts" / f"{key}.jsonl"))
    row = Row(
        item=name,
        arm=arm,
        target=record.target,
        passed_first=bool(statuses) and statuses[0] == "passed",
        attempts_to_pass=passed[0] if passed else None,
        attempts=len(statuses),
        statuses=tuple(statuses),
        simulated_ms=verdicts[passed[0] - 1][1].latency_ms if passed and record.target.startswith("mtia") else None,
        tokens=store.spent(run_id).tokens,
        prompt_chunks=len(chunks),
        cited=sum(chunk in answers for chunk in chunks),
    )
    return {
        **dataclasses.asdict(row),
        "reasons": [evaluation.reason for _, evaluation in verdicts],
        "source": best["source"] if best else "",
        "candidates": candidates,
        "problem": record.problem.source,
        "finished": record.result is not None,
    }


def best_candidate(candidates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:  # Any: JSON
    """Return the fittest of the correct candidates; the last of those that are equal, as where nothing was timed. None: there is none."""
    return max(candidates, key=lambda item: (item["fitness"], item["attempt"]), default=None)


def _exchanges(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def freeze(given: argparse.Namespace) -> None:
    """Copy the transcripts (replay fixtures) and rows of a round into a folder; rows of other runs that are there stay."""
    given.out.mkdir(parents=True, exist_ok=True)
    names = {item.name for item in ITEMS if item.round == given.round}
    path = given.out / "rows.jsonl"
    rows = {(row["item"], row["arm"]): row for row in (read_rows(path) if path.exists() else [])}
    for home in given.home:
        for row in rows_of(home):
            if (row["finished"] or given.unfinished) and row["item"] in names and re.search(given.only, row["item"]):
                key = f"{row['item']}.{row['arm']}"
                text = (home / "transcripts" / f"{key}.jsonl").read_text(encoding="utf-8")
                (given.out / f"{key}.jsonl").write_text(re.sub(r'"model": "spool:[^"]*"', '"model": "spool"', text), encoding="utf-8")
                rows[row["item"], row["arm"]] = {"round": given.round, **row}
    path.write_text("".join(f"{json.dumps(row)}\n" for _, row in sorted(rows.items())), encoding="utf-8")


def paired(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:  # Any: JSON rows
    """Yield (with, without) for every problem that has both arms."""
    by_key = {(row["item"], row["arm"]): row for row in rows}
    for (name, arm), row in sorted(by_key.items()):
        if arm == "knowledge" and (name, "none") in by_key:
            yield row, by_key[name, "none"]


def bootstrap(differences: Sequence[float], seed: int = 0, draws: int = 10_000) -> Interval:
    """Return the mean of paired differences with its 95 % percentile bootstrap interval over problems."""
    rng = random.Random(seed)
    mean = sum(differences) / len(differences)
    means = sorted(sum(rng.choices(differences, k=len(differences))) / len(differences) for _ in range(draws))
    low, high = means[int(0.025 * draws)], means[int(0.975 * draws) - 1]
    return Interval(mean, min(low, mean), max(high, mean))


def best_speeds(speeds: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:  # Any: JSON records
    """Return the record of the fastest correct candidate for each problem and arm, of those that `measure` wrote.

    A candidate that was measured again counts with its latest record.
    """
    latest = {(item["item"], item["arm"], item.get("attempt")): item for item in speeds}
    found: dict[tuple[str, str], Mapping[str, Any]] = {}  # Any: JSON
    for (name, arm, _), record in latest.items():
        if record["status"] == "passed" and record["speedup"]:
            known = found.get((name, arm))
            if known is None or _fitness(record) > _fitness(known):
                found[name, arm] = record
    return found


def _fitness(record: Mapping[str, Any]) -> float:  # Any: JSON
    return min(float(interval["value"]) for interval in record["speedup"].values())


def with_equal_tries(
    rows: Iterable[Mapping[str, Any]], speeds: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:  # Any: JSON rows and records
    """Return the records without those of attempts that the other arm of the problem did not have: the best of three beats the best of two by chance."""
    attempts: dict[str, int] = {}
    for a, b in paired(rows):
        attempts[a["item"]] = min(len(a["statuses"]), len(b["statuses"]))
    return [item for item in speeds if (item.get("attempt") or 1) <= attempts.get(item["item"], sys.maxsize)]


def speed_ratio(with_it: Mapping[str, Any], without: Mapping[str, Any]) -> Interval:  # Any: JSON records
    """Return how many times faster the candidate of the arm with knowledge is; both were timed in turns with the same eager reference.

    The interval is that of the quotient at the unfavourable and favourable ends of both, so it is on the wide side. 1.0: equally fast; above: knowledge is faster.
    """
    a, b = with_it["speedup"]["eager"], without["speedup"]["eager"]
    if a == b:  # one measurement for the one candidate that both arms wrote
        return Interval(1.0, 1.0, 1.0)
    return Interval(a["value"] / b["value"], a["low"] / b["high"], a["high"] / b["low"])


def table(rows: Sequence[Mapping[str, Any]], speeds: Sequence[Mapping[str, Any]] = (), attempts: int = 4) -> str:  # Any: JSON rows
    """Return the comparison as Markdown.

    Args:
        rows: Of one round, from `rows_of`.
        speeds: Records of `measure`; of each problem the best correct candidate of each arm counts, among as many attempts as both arms had.
        attempts: Most attempts; a problem that never passed counts one more.
    """
    speeds = with_equal_tries(rows, speeds)
    best = best_speeds(speeds)
    tried = {(item["item"], item["arm"]): item for item in speeds}
    lines = [
        "| problem | target | arm | statuses | attempts to pass | time or speed | tokens | passages shown | cited |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["target"], row["item"], row["arm"])):
        key = row["item"], row["arm"]
        shown = f"{row['simulated_ms'] * 1000:.1f} us (simulated)" if row["simulated_ms"] else "not measured"
        if key in best:
            shown = ", ".join(f"{value['value']:.2f}x {name}" for name, value in sorted(best[key]["speedup"].items()))
        elif key in tried:
            shown = f"{tried[key]['status']} on the device"
        lines.append(
            f"| {row['item']} | {row['target']} | {row['arm']} | {', '.join(row['statuses'])} | {row['attempts_to_pass'] or 'never'} | {shown} "
            f"| {row['tokens']:,} | {row['prompt_chunks']} | {row['cited']} |"
        )
    lines.append("")
    pairs = list(paired(rows))
    groups = {"all": pairs} | {
        target: [pair for pair in pairs if pair[0]["target"] == target] for target in sorted({pair[0]["target"] for pair in pairs})
    }
    lines += [
        "| group | pairs | passed at first, with | without | attempts to pass, with − without | tokens, with / without | simulated time, without / with |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        if not group:
            continue
        difference = bootstrap([(a["attempts_to_pass"] or attempts + 1) - (b["attempts_to_pass"] or attempts + 1) for a, b in group])
        first = [sum(pair[side]["passed_first"] for pair in group) for side in (0, 1)]
        tokens = [sum(pair[side]["tokens"] for pair in group) for side in (0, 1)]
        times = [b["simulated_ms"] / a["simulated_ms"] for a, b in group if a["simulated_ms"] and b["simulated_ms"]]
        lines.append(
            f"| {name} | {len(group)} | {first[0]} | {first[1]} | {difference.value:+.2f} ({difference.low:+.2f} to {difference.high:+.2f}) "
            f"| {tokens[0] / max(1, tokens[1]):.2f} | {', '.join(f'{value:.2f}' for value in times) or '–'} |"
        )
    return "\n".join([*lines, *_speed_lines(groups, best)]) + "\n"


def filled_in(text: str, folder: Path) -> str:
    """Return a report with the tables of every round made anew between its marks `<!-- table of NAME -->` and `<!-- end -->`.

    Args:
        text: Markdown.
        folder: Holds the fixtures of the rounds, each in a folder of that name, and the records of `measure` (`*.jsonl`).
    """
    speeds = [record for path in sorted(folder.glob("*.jsonl")) for record in read_rows(path)]

    def made(mark: re.Match[str]) -> str:
        return f"{mark[1]}\n\n{table(read_rows(folder / mark[2] / 'rows.jsonl'), speeds)}\n{mark[3]}"

    return re.sub(r"(<!-- table of (\w+) -->)\n.*?(<!-- end -->)", made, text, flags=re.DOTALL)


def report(given: argparse.Namespace) -> None:
    """Make the tables in the folder's README anew."""
    path = given.folder / "README.md"
    path.write_text(filled_in(path.read_text(encoding="utf-8"), given.folder), encoding="utf-8")


def _speed_lines(
    groups: Mapping[str, Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]], best: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[str]:  # Any: JSON rows and records
    """Return the paired ratios of measured speeds, and their geometric mean for each group; nothing if no pair was measured."""
    ratios = {
        a["item"]: (a["target"], speed_ratio(best[a["item"], "knowledge"], best[a["item"], "none"]))
        for a, b in groups["all"]
        if (a["item"], "knowledge") in best and (a["item"], "none") in best
    }
    if not ratios:
        return []
    lines = ["", "| measured on the device | pairs | speed, with / without (interval) |", "|---|---|---|"]
    lines += [
        f"| {name} ({target}) | 1 | {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
        for name, (target, ratio) in sorted(ratios.items())
    ]
    for name, group in groups.items():
        logs = [math.log(ratios[a["item"]][1].value) for a, _ in group if a["item"] in ratios]
        if logs:
            mean = bootstrap(logs)
            low, high = math.exp(mean.low), math.exp(mean.high)
            lines.append(f"| {name}, geometric mean over problems | {len(logs)} | {math.exp(mean.value):.2f} ({low:.2f} to {high:.2f}) |")
    return lines


# --- speed on a device ---------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> None:
    """Evaluate the correct candidates of a target on this machine, in turn, and append a record for each the moment it is known.

    A candidate that both arms wrote is measured once, and its record stands for both. Of every problem and arm first the one that counts as best so far, then
    the others, as time allows; what has a record of a pass is left out, so the same command goes on where it was.
    """
    from tools.evaluator import LocalEvaluator

    began = time.monotonic()
    rows = [row for folder in given.fixtures for row in read_rows(folder / "rows.jsonl")]
    chosen = to_measure([row for row in rows if row["target"].split(":")[0] == given.target.split(":")[0]])
    done = {_key_of(item) for item in read_rows(given.out) if item["status"] == "passed"} if given.out.exists() else set()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known: dict[tuple[str, str], dict[str, Any]] = {}  # Any: JSON
    with LocalEvaluator(given.home, use_compiled_baseline=not given.eager_only) as evaluator:
        for row, candidate in chosen:
            about = {"item": row["item"], "arm": row["arm"], "attempt": candidate["attempt"], "target": given.target}
            key = (row["item"], candidate["source"])
            left = given.seconds - (time.monotonic() - began)
            if _key_of(about) in done or (key not in known and left < given.least):
                continue
            if key not in known:
                known[key] = _measured(evaluator, {**row, "source": candidate["source"]}, given.target, left)
            record = {**about, **known[key]}
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            sys.stdout.write(
                f"{record['item']} {record['arm']} {record['attempt']}: {record['status']} {record.get('latency_ms')} {record.get('reason', '')}\n"
            )
            sys.stdout.flush()


def _key_of(record: Mapping[str, Any]) -> tuple[Any, ...]:  # Any: JSON
    return record["item"], record["arm"], record.get("attempt")


def to_measure(
    rows: Iterable[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:  # Any: JSON rows and their candidates
    """Return rows with candidates in the order of measuring: problems of the latest round first, both arms of a problem together, the best candidates of all first."""
    order = {item.name: -number for number, item in enumerate(ITEMS)}  # the large problems of the first round come last
    found = []
    for row in rows:
        first = {"attempt": row["attempts_to_pass"], "source": row["source"], "fitness": 0.0}
        candidates = row.get("candidates", [first] if row["source"] else [])
        best = best_candidate(candidates)
        found += [(item is not best, order.get(row["item"], 0), row["arm"], row, item) for item in candidates]
    return [(row, item) for *_, row, item in sorted(found, key=lambda entry: entry[:3])]


def _measured(evaluator: Any, row: Mapping[str, Any], target: str, left: float) -> dict[str, Any]:  # Any: an evaluator; JSON
    from tools.problems import problem_from_source

    record: dict[str, Any] = {"written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}  # Any: JSON
    try:
        problem = problem_from_source(row["problem"], problem_id=row["item"], name=row["item"])
        language = "cpp" if target == "cpu" else "triton"
        effort = dataclasses.replace(QUICK, timeout_s=max(5.0, min(QUICK.timeout_s, left / 2)))
        found: Evaluation = evaluator.evaluate(Candidate(row["source"], language=language), problem, target, effort)
    except Exception as error:  # a record for each, whatever the machine does
        return record | {"status": "harness_error", "reason": f"{type(error).__name__}: {error}"[:500]}
    return record | {
        "status": found.status.value,
        "reason": found.reason,
        "evidence": found.evidence.value,
        "latency_ms": found.latency_ms,
        "speedup": {name: dataclasses.asdict(value) for name, value in found.speedup.items()},
        "roofline_fraction": found.roofline_fraction,
        "precision_class": found.precision_class,
        "seconds": round(found.seconds, 2),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Entry point of `python -m evaluation.spool_study`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="drive the runs; answers come through the spool")
    one.add_argument("--home", type=Path, required=True, help="state directory, with the knowledge base ingested")
    one.add_argument("--spool", type=Path, required=True)
    one.add_argument("--kernelbench", type=Path)
    one.add_argument("--attempts", type=int, default=4)
    one.add_argument(
        "--improve", type=int, default=0, help="further attempts after the first correct one, to make it faster; not for simulated chips"
    )
    one.add_argument("--context-tokens", type=int, default=32_768)
    one.add_argument("--arms", default=",".join(ARMS))
    one.add_argument("--round", type=int, default=1)
    one.add_argument("--only", default="", help="a regular expression for names of problems")
    two = commands.add_parser("freeze", help="copy transcripts and rows into a folder of fixtures")
    two.add_argument("--home", type=Path, required=True, nargs="+")
    two.add_argument("--round", type=int, default=1)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--only", default="", help="a regular expression for names of problems")
    two.add_argument("--unfinished", action="store_true", help="also runs that still wait for answers, as they are")
    three = commands.add_parser("table", help="print the comparison made from a folder of fixtures")
    three.add_argument("fixtures", type=Path)
    three.add_argument(
        "--speeds", type=Path, nargs="*", default=[], help="records of `measure`; left out: every *.jsonl beside the fixtures"
    )
    five = commands.add_parser("report", help="make the tables of all rounds anew in a folder's README, with the speeds measured so far")
    five.add_argument("folder", type=Path)
    four = commands.add_parser("measure", help="time the candidates of a target on this machine")
    four.add_argument("fixtures", type=Path, nargs="+")
    four.add_argument("--target", required=True)
    four.add_argument("--home", type=Path, required=True)
    four.add_argument("--out", type=Path, required=True)
    four.add_argument("--seconds", type=float, default=3600.0)
    four.add_argument("--least", type=float, default=12.0, help="with fewer seconds left nothing is started")
    four.add_argument("--eager-only", action="store_true", help="leave the compiled baseline out")
    given = parser.parse_args()
    if given.command == "table":
        rows = read_rows(given.fixtures / "rows.jsonl")
        paths = given.speeds or sorted(given.fixtures.resolve().parent.glob("*.jsonl"))
        sys.stdout.write(table(rows, [record for path in paths for record in read_rows(path)]))
    else:
        {"run": run, "freeze": freeze, "measure": measure, "report": report}[given.command](given)


if __name__ == "__main__":
    main()
