"""What earlier runs are worth for a new shape of a known operator: steps to 1.2 times the baseline without reuse, and at injection rates 0, 0.1 and 0.5.

    python -m evaluation.reuse --out evaluation/results/reuse
    python -m evaluation.reuse --out evaluation/results/reuse-cpu --measured --seeds 2 --evaluations 8 --seconds 230

Through the real outer loop, run store and knowledge base. The known tasks of a family are searched first and leave their winners; then a new one is
searched with every setting and seed, until its fitness reaches 1.2 or the budget ends, and nothing is written back.

Synthetic (default): a candidate is a point, tasks are smooth hills whose optima lie close together, as shapes of one operator do. The coder is memoryless but for
the parent: it changes one coordinate of it, or draws a point. Measured: the examples at other shapes, with the library coder and its C++ kernels on this CPU;
every candidate of a problem is measured once and shared by the searches. The command goes on where it was cut.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive
from agents.runs.store import RunStore
from agents.types import Budget
from evaluation.comparison import SharedEvaluator
from evaluation.errors import EvaluationError
from evaluation.landscapes import NUM_COORDINATES, Point, child, draft
from evaluation.search_scale import evaluation_of
from tools.types import Candidate, Effort, Evaluation, Problem

THRESHOLD = 1.2
_TARGET = "cpu"
_KERNELS = Path(__file__).resolve().parent.parent / "docs" / "kernels"


@dataclass(frozen=True)
class Setting:
    """How much a search takes from history."""

    name: str
    reuse: bool
    """True: the first candidate is the winner of a sibling."""
    rate: float
    """Injection rate."""


SETTINGS = (Setting("no reuse", False, 0.0), *(Setting(f"reuse, injection rate {rate:g}", True, rate) for rate in (0.0, 0.1, 0.5)))


@dataclass(frozen=True)
class Family:
    """Tasks of one kind."""

    name: str
    known: tuple[Problem, ...]
    new: Problem


def _hill(*optimum: int) -> Problem:
    """Return a task whose fitness falls from 1.3 at the optimum by 0.05 for every step away from it, so that 1.2 is reached two steps from it."""
    source = f"OPTIMUM = {optimum}\nclass Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n"
    return Problem(problem_id=f"synthetic/hill-{''.join(map(str, optimum))}", name="hill", source=source)


HILLS = Family("hill", (_hill(6, 6, 6, 6, 6), _hill(5, 6, 6, 6, 6), _hill(6, 6, 5, 6, 6), _hill(6, 6, 6, 6, 5)), _hill(6, 5, 6, 5, 6))
_SHAPES: Mapping[str, Sequence[Mapping[str, int]]] = {
    "masked_softmax": ({"HEADS": 4, "LENGTH": 384}, {"HEADS": 16, "LENGTH": 256}, {"HEADS": 8, "LENGTH": 320}),
    "layer_norm_gelu": ({"ROWS": 1024}, {"ROWS": 4096}, {"ROWS": 1536}),
    "row_cumsum": ({"ROWS": 512, "COLUMNS": 4096}, {"ROWS": 2048, "COLUMNS": 1024}, {"ROWS": 768, "COLUMNS": 3072}),
}
"""Constants of examples; the last shape is the new one."""


def shaped(problem: Problem, constants: Mapping[str, int]) -> Problem:
    """Return a problem with other values of the constants at the head of its module.

    Raises:
        EvaluationError: It has no such constant.
    """
    source = problem.source
    for name, value in constants.items():
        source, count = re.subn(rf"^{name} = \d+$", f"{name} = {value}", source, flags=re.MULTILINE)
        if not count:
            raise EvaluationError(f"{problem.problem_id} has no constant {name!r}")
    label = "x".join(map(str, constants.values()))
    return dataclasses.replace(problem, problem_id=f"{problem.problem_id}-{label}", source=source, path="")


def example_families() -> list[Family]:
    """Return the families of measured tasks."""
    from tools.problems import suite_problems

    examples = {problem.name: problem for problem in suite_problems("examples", ())}
    found = []
    for name, shapes in _SHAPES.items():
        *known, new = (shaped(examples[name], constants) for constants in shapes)
        found.append(Family(name, tuple(known), new))
    return found


class PointCoder:
    """Draws a point, or changes one coordinate of the parent."""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        rng = task.rng()
        parents = [_point(attempt.candidate.source) for attempt in task.parents]
        point = child(parents[-2:], rng) if parents else draft(rng)
        return Draft(Candidate(source=f"POINT = {point}\n", language="torch"), f"try {point}")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return f"hill over {NUM_COORDINATES} coordinates"


class HillEvaluator:
    """Looks the fitness up."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`."""
        far = sum(abs(a - b) for a, b in zip(_point(candidate.source), _point(problem.source), strict=True))
        return dataclasses.replace(evaluation_of(candidate, max(0.05, 1.3 - 0.05 * far)), problem_id=problem.problem_id)


def _point(source: str) -> Point:
    found = re.search(r"(?:POINT|OPTIMUM) = \(([\d, ]+)\)", source)
    assert found is not None
    return tuple(int(part) for part in found[1].split(","))


@dataclass(frozen=True)
class Outcome:
    """One search of a family's new task."""

    family: str
    setting: str
    seed: int
    strategy: str
    budget: int
    """Evaluations that it was given."""
    steps: int | None
    """Evaluations until fitness reached 1.2; None: not within the budget."""
    first_from_history: bool
    """True if the first candidate that was evaluated is an earlier winner."""
    first_passed: bool
    fitness: float
    """Best of the search."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.family, self.setting, self.seed


def learn(family: Family, store: RunStore, machinery: Machinery, coder: str, evaluations: int) -> None:
    """Search the known tasks that have no finished run yet, each on its own, and keep their winners."""
    done = {record.problem.problem_id for record in store.runs() if record.result is not None}
    for problem in family.known:
        if problem.problem_id not in done:
            config = RunConfig(coder=coder, seed=97, budget=Budget(evaluations), max_seeds=0, use_siblings=False, deep_search=False)
            asyncio.run(drive(store, create_run(store, problem, _TARGET, config), machinery))


def search(
    family: Family, store: RunStore, machinery: Machinery, coder: str, setting: Setting, seed: int, strategy: str, evaluations: int
) -> Outcome:
    """Search the new task in one setting; nothing is written back."""
    config = RunConfig(
        strategy=strategy,
        coder=coder,
        seed=seed,
        budget=Budget(evaluations),
        fitness_threshold=THRESHOLD,
        reuse=setting.reuse,
        injection_rate=setting.rate,
        use_siblings=setting.reuse,
        deep_search=False,
        write_back=False,
        finalists=1,
    )
    run_id = create_run(store, family.new, _TARGET, config)
    asyncio.run(drive(store, run_id, machinery))
    nodes = store.nodes(run_id)
    return Outcome(
        family=family.name,
        setting=setting.name,
        seed=seed,
        strategy=strategy,
        budget=evaluations,
        steps=next((node.step + 1 for node in nodes if node.fitness >= THRESHOLD), None),
        first_from_history=bool(nodes and nodes[0].candidate.provenance.get("winner_id")),
        first_passed=bool(nodes and nodes[0].fitness > 0),
        fitness=max((node.fitness for node in nodes), default=0.0),
    )


def report(outcomes: Sequence[Outcome], command: str) -> str:
    """Return the report as Markdown: searches that ended without reaching 1.2 count with the whole budget."""
    first = outcomes[0]
    lines = [
        f"# Steps to {THRESHOLD} for a new task of a known kind",
        "",
        f"{first.strategy}, at most {first.budget} evaluations a search. Made by `{command}`; every number comes from `outcomes.jsonl`.",
        "",
        "| task | setting | searches | first candidate from history | of these passed | reached | median steps | mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in dict.fromkeys(outcome.family for outcome in outcomes):
        for setting in SETTINGS:
            mine = [outcome for outcome in outcomes if (outcome.family, outcome.setting) == (family, setting.name)]
            if not mine:
                continue
            steps = [outcome.steps or outcome.budget for outcome in mine]
            old = [outcome for outcome in mine if outcome.first_from_history]
            reached = sum(outcome.steps is not None for outcome in mine)
            lines.append(
                f"| {family} | {setting.name} | {len(mine)} | {len(old)} | {sum(outcome.first_passed for outcome in old)} | {reached} | "
                f"{statistics.median(steps):g} | {statistics.mean(steps):.1f} |"
            )
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Outcome]:
    """Read the records; none if there is no file."""
    return [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _machinery(stack: ExitStack, folder: Path, home: Path, is_measured: bool) -> Machinery:
    from kb.store import KnowledgeBase

    if not is_measured:
        base = stack.enter_context(KnowledgeBase.open(home / "kb", embedder="hashing"))
        return Machinery(PointCoder(), HillEvaluator(), lambda _: (), base)
    from agents.workbench import workbench
    from evaluation.measuring import BRIEF
    from kb_ingest.pipeline import ingest

    made = stack.enter_context(workbench(home, _TARGET, RunConfig(), lambda _: None))
    if made.base is not None:
        ingest([_KERNELS], made.base)
    return dataclasses.replace(made, evaluator=SharedEvaluator(made.evaluator, folder / "evaluations.jsonl", BRIEF))


def main() -> int:
    """Run the study and write records and table; exit code 1 if the time ended first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", action="store_true", help="the examples on this CPU in place of synthetic tasks")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=60, help="budget of every search")
    parser.add_argument("--strategy", default="greedy")
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no search after so long")
    parser.add_argument("--home", type=Path, help="state directory, kept; default: one that is deleted. Needed to go on")
    parser.add_argument("--out", type=Path, required=True, help="directory; searches that its records hold already are not made again")
    options = parser.parse_args()
    ends = time.monotonic() + options.seconds
    coder, families = ("library", example_families()) if options.measured else ("point", [HILLS])
    path = options.out / "outcomes.jsonl"
    outcomes = read(path)
    options.out.mkdir(parents=True, exist_ok=True)
    done = {outcome.key for outcome in outcomes}
    wanted = [(family, setting, seed) for family in families for seed in range(options.seeds) for setting in SETTINGS]
    missing = [item for item in wanted if (item[0].name, item[1].name, item[2]) not in done]
    with ExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        machinery = _machinery(stack, options.out, home, options.measured)
        store = stack.enter_context(RunStore(home))
        for family, setting, seed in missing:
            if time.monotonic() > ends:
                break
            learn(family, store, machinery, coder, options.evaluations)
            outcome = search(family, store, machinery, coder, setting, seed, options.strategy, options.evaluations)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            outcomes.append(outcome)
            sys.stderr.write(f"{family.name}, {setting.name}, seed {seed}: steps {outcome.steps}, best {outcome.fitness:.3f}\n")
    if outcomes:
        command = " ".join(["python -m evaluation.reuse", *sys.argv[1:]])
        (options.out / "report.md").write_text(report(outcomes, command), encoding="utf-8")
    left = len(wanted) - len(outcomes)
    if left > 0:
        sys.stderr.write(f"{left} searches are left; the same command goes on\n")
    return 1 if left > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
