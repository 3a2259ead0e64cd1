"""Search on recorded measurements: an evaluator that answers from them, and a coder that proposes the candidates they hold.

An answer is drawn from what was measured: one of the candidate's measurements, then as many timing pairs as it has, with replacement. The draw follows from the
search's seed and the candidate, so searches with one seed see the same numbers, and searches with another seed see numbers that differ as repeated measurements of
the record differ. Nothing is invented: what was never measured is answered as not measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.coders.base import CoderTask, Draft
from agents.runs.hashing import normalised_hash
from agents.types import Memory
from evaluation.errors import RecordError
from evaluation.listing import Listed
from evaluation.measuring import Measured, read_measured
from tools.types import Candidate, Effort, Evaluation, Evidence, Interval, Problem, Status, Timing, WorkloadEvaluation

_NOT_MEASURED = "not measured: the record holds no measurement of this candidate"


class Recording:
    """Measurements by problem and candidate.

    Args:
        path: A file that `evaluation.measuring` wrote.

    Raises:
        RecordError: It holds nothing, or measurements on more than one target.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.measurements = read_measured(path)
        targets = sorted({item.target for item in self.measurements})
        if len(targets) != 1:
            raise RecordError(f"{path} must hold measurements on one target, it has {', '.join(targets) or 'none'}")
        self.target: str = targets[0]
        self.digest: str = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self._by_candidate: dict[tuple[str, str], list[Measured]] = {}
        for item in self.measurements:
            if item.evaluation.status not in (Status.HARNESS_ERROR, Status.NOT_MEASURED):  # these say nothing about the candidate
                self._by_candidate.setdefault((item.problem_hash, item.source_hash), []).append(item)

    def of(self, problem: Problem, source_hash: str) -> Sequence[Evaluation]:
        """Return a candidate's evaluations; none if it was never measured."""
        return [item.evaluation for item in self._by_candidate.get((problem.source_hash, source_hash), ())]

    def best(self, problem: Problem) -> float:
        """Return the highest median fitness of the problem's candidates; 0.0 if none passed. What a search could reach at most, but for noise."""
        import statistics

        found = [
            statistics.median(item.evaluation.fitness for item in items)
            for (name, _), items in self._by_candidate.items()
            if name == problem.source_hash
        ]
        return max(found, default=0.0)

    def num_candidates(self, problem: Problem) -> int:
        """Return how many candidates of a problem were measured."""
        return sum(name == problem.source_hash for name, _ in self._by_candidate)

    def missing(self, lists: Sequence[tuple[Problem, Sequence[Listed]]]) -> list[str]:
        """Return, a line for each problem of which candidates were not measured, which; empty if the recording is whole."""
        found = []
        for problem, items in lists:
            numbers = [str(item.number) for item in items if not self.of(problem, item.source_hash)]
            if numbers:
                measured = f"{len(items) - len(numbers)} of {len(items)} candidates measured"
                what = "it is left out" if len(numbers) == len(items) else f"without {', '.join(numbers)}"
                found.append(f"{problem.problem_id}: {measured}; {what}")
        return found


class RecordedEvaluator:
    """Answers from a recording; see the module. Thread-safe, as it only reads."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.num_missing = 0
        """Questions that the recording could not answer."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`; `effort` says nothing here, the record has its own."""
        import numpy as np

        source_hash = normalised_hash(candidate)
        known = self._recording.of(problem, source_hash)
        if not known:
            self.num_missing += 1
            return Evaluation(candidate.candidate_id, problem.problem_id, target, Evidence.MEASURED, Status.NOT_MEASURED, _NOT_MEASURED)
        generator = np.random.default_rng([seed, int(source_hash, 16)])
        chosen = known[int(generator.integers(len(known)))]
        return dataclasses.replace(redrawn(chosen, generator), candidate_id=candidate.candidate_id, problem_id=problem.problem_id)


def redrawn(evaluation: Evaluation, generator: object) -> Evaluation:
    """Return an evaluation whose timing pairs are drawn with replacement from those of `evaluation`; one without timings is returned as it is.

    Args:
        generator: A numpy `Generator`.
    """
    from numpy.random import Generator

    from tools.timing.stats import combine_speedups, geometric_mean, median_ms, paired_speedup

    assert isinstance(generator, Generator)
    if evaluation.status is not Status.PASSED or not evaluation.workloads:
        return evaluation
    workloads = []
    for item in evaluation.workloads:
        count = len(item.candidate.samples_ms)
        chosen = [int(index) for index in generator.integers(count, size=count)]

        def drawn(timing: Timing, chosen: Sequence[int] = chosen) -> Timing:
            samples = tuple(timing.samples_ms[index] for index in chosen)
            return Timing(median_ms(samples), samples)

        candidate = drawn(item.candidate)
        baselines = {name: drawn(timing) for name, timing in item.baselines.items()}
        speedup: dict[str, Interval] = {
            name: paired_speedup(list(timing.samples_ms), list(candidate.samples_ms), generator) for name, timing in baselines.items()
        }
        workloads.append(WorkloadEvaluation(item.workload, candidate, baselines, speedup))
    return dataclasses.replace(
        evaluation,
        workloads=tuple(workloads),
        latency_ms=geometric_mean([item.candidate.latency_ms for item in workloads]),
        speedup=combine_speedups([item.speedup for item in workloads]),
    )


class ListedCoder:
    """Proposes, from a list of another coder's candidates, those that a recording holds: all strategies search the same finite set, without that coder.

    It walks as the library coder does: drafts in the order of the list; when they are used up, what is nearest to the candidate that is expanded and of the same
    structure; then the same for the best. A draft without memory starts from any candidate that passed, since it knows no fitness.

    Args:
        lists: As `evaluation.listing.read_list` gives them.
    """

    def __init__(self, lists: Sequence[tuple[Problem, Sequence[Listed]]], recording: Recording) -> None:
        self._lists = {problem.source_hash: [item for item in items if recording.of(problem, item.source_hash)] for problem, items in lists}

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        written = {attempt.candidate.candidate_id for attempt in (*task.history, *task.parents)}
        left = [item for item in self._proposals(task) if item.candidate.candidate_id not in written]
        if task.sibling >= len(left):
            return Draft(None, "Every measured candidate near what is expanded has been tried.", exhausted=True)
        chosen = left[task.sibling]
        return Draft(chosen.candidate, chosen.note)

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`; a list knows none."""
        return ""

    def _proposals(self, task: CoderTask) -> list[Listed]:
        items = self._lists.get(task.problem.source_hash, [])
        by_id = {item.candidate.candidate_id: item for item in items}
        found = [item for item in items if item.base is None]
        for base in _bases(task, by_id):
            near = [(distance, item) for item in items if 0 < (distance := steps_between(base, item)) <= _REACH and item not in found]
            task.rng().shuffle(near)
            found += [item for _, item in sorted(near, key=lambda pair: pair[0])]
        return found


_REACH = 3
"""Steps that a proposal may lie away from what is expanded, as in `agents.coders.library.tunables`."""


def _bases(task: CoderTask, by_id: Mapping[str, Listed]) -> list[Listed]:
    passed = [
        (attempt.evaluation.fitness, item)
        for attempt in task.history
        if attempt.evaluation.status is Status.PASSED and (item := by_id.get(attempt.candidate.candidate_id)) is not None and item.setting
    ]
    if not passed:
        return []
    expanded = [
        item
        for attempt in reversed(task.parents)
        if attempt.evaluation.status is Status.PASSED and (item := by_id.get(attempt.candidate.candidate_id)) is not None and item.setting
    ][:1]
    if not expanded and task.memory is Memory.CLEAN:
        expanded = [task.rng().choice([item for _, item in passed])]
    best = max(passed, key=lambda pair: pair[0])[1]
    return [*expanded, *([] if best in expanded else [best])]


def steps_between(first: Listed, second: Listed) -> int:
    """Return how many steps of their numbers two candidates of one structure lie apart, a doubling being one; a large number for other structures."""
    if first.structure != second.structure or first.setting.keys() != second.setting.keys():
        return 1000
    total = 0
    for name, one in first.setting.items():
        other = second.setting[name]
        if one == other:
            continue
        is_size = all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in (one, other))
        total += max(1, round(abs(math.log2(one / other)))) if is_size else 1
    return total
