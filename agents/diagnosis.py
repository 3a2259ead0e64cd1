"""What stands in the way: rules that read evaluations and name one dominant bottleneck, the questions it raises, and the ideas that already failed.

The rules state what was observed and never more: where no counter supports a claim the bottleneck is `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from agents.explain_diagnosis import sharpened
from agents.subject import TUNING, family, questions, subject
from agents.types import Attempt, Diagnosis
from tools.profiling.causes import ProfileDiagnosis
from tools.types import Composition, Evaluation, Evidence, Problem, Status

_NEAR_FLOOR = 0.8
"""From this roofline fraction on, a kernel is as good as its design allows; 1.0 is the physical floor."""
_LAUNCH_BOUND_MS = 0.02
"""Below this latency a call is mostly overhead: launching a kernel takes in the order of 5 to 10 µs."""
_MAX_FAILED_IDEAS = 12
_WIDE = 1.5
"""An interval whose ends differ by more than this factor is called wide."""

_FAILURES: dict[Status, tuple[str, str]] = {
    Status.LINT_ERROR: ("lint", "The candidate breaks rules that are checked before it runs."),
    Status.COMPILE_ERROR: ("compile", "The candidate does not compile."),
    Status.WRONG_SHAPE: ("correctness", "The output has the wrong shape."),
    Status.WRONG_DTYPE: ("correctness", "The output has the wrong dtype."),
    Status.WRONG_VALUES: ("correctness", "The output values are wrong."),
    Status.RUNTIME_ERROR: ("runtime", "The candidate raises or crashes when it runs."),
    Status.TIMEOUT: ("timeout", "The candidate does not finish in time."),
    Status.OUT_OF_MEMORY: ("runtime", "The candidate runs out of memory."),
    Status.REWARD_HACK: ("correctness", "The candidate was caught not doing the work it is timed for."),
    Status.NOT_MEASURED: ("unknown", "The candidate was not measured on the device."),
    Status.HARNESS_ERROR: ("unknown", "The evaluator failed; the candidate is not to blame."),
}


def diagnose(
    problem: Problem,
    target: str,
    parents: Sequence[Attempt],
    remembered: Sequence[Attempt],
    *,
    profiled: ProfileDiagnosis | None = None,
    ancestors: Set[str] = frozenset(),
) -> Diagnosis:
    """Return what to work on next, judged from the latest parent.

    Args:
        problem: What is to be computed.
        target: Exact target.
        parents: What is expanded; none for a draft.
        remembered: Earlier attempts that may be mentioned, in logical order.
        profiled: What the rules found in a profile of the latest parent; sharpens the diagnosis of one that passed.
        ancestors: Ids of what the parents descend from: what passed among them is in the parents, so it did not fail, however slow it was.
    """
    failed = _failed_ideas(
        parents, [item for item in remembered if item.node_id not in ancestors or item.evaluation.status is not Status.PASSED]
    )
    if not parents:
        return Diagnosis(
            bottleneck="none_yet",
            summary=f"Nothing has been measured yet for {problem.name} on {target}: write a first correct candidate.",
            questions=questions(problem, target),
            failed_ideas=failed,
        )
    latest = parents[-1].evaluation
    if latest.status is Status.PASSED:
        found = _diagnose_passed(problem, target, latest, failed)
        return sharpened(found, profiled) if profiled is not None else found
    bottleneck, sentence = _FAILURES[latest.status]
    evidence = latest.feedback.error or latest.feedback.first_mismatch or "; ".join(latest.feedback.lint) or latest.reason
    first_line = next((line.strip() for line in reversed(evidence.splitlines()) if line.strip()), "")
    return Diagnosis(
        bottleneck=bottleneck,
        summary=f"{sentence} {evidence}".strip(),
        questions=(f"{bottleneck} error: {first_line[:200]}", f"{problem.name} numerics and correctness")
        if first_line
        else (f"how to fix a {bottleneck} error in a kernel for {problem.name}",),
        failed_ideas=failed,
    )


def features(evaluation: Evaluation) -> dict[str, str]:
    """Return the descriptors by which a strategy tells kinds of kernels apart: status or composition, precision class and roofline quarter."""
    if evaluation.status is not Status.PASSED:
        return {"status": evaluation.status.value}
    fraction = evaluation.roofline_fraction
    return {
        "composition": evaluation.composition.value,
        "precision": evaluation.precision_class,
        "roofline": "unknown" if fraction is None else str(min(3, int(fraction * 4))),
    }


def _diagnose_passed(problem: Problem, target: str, evaluation: Evaluation, failed: tuple[str, ...]) -> Diagnosis:
    counters = ", ".join(f"{name} {value:.4g}" for name, value in sorted(evaluation.feedback.profile.items()))
    fraction = evaluation.roofline_fraction
    about = subject(problem, target)
    questions: tuple[str, ...]
    if evaluation.latency_ms is None:
        measured = "It passes; it was not timed, as the device is not here."
    else:
        how = "takes" if evaluation.evidence is Evidence.MEASURED else f"takes by the model ({evaluation.evidence.value}, not measured)"
        speed = f" with fitness {evaluation.fitness:.3f}" if evaluation.speedup else ""
        measured = f"It passes{speed} and {how} {evaluation.latency_ms:.4g} ms."
        wide = [item for item in evaluation.speedup.values() if item.low > 0 and item.high / item.low > _WIDE]
        if wide:
            measured += " Its intervals are wide: differences within them mean nothing."
    if counters:
        measured += f" Counters: {counters}."
    if evaluation.composition in (Composition.LIBRARY, Composition.COMPILER):
        bottleneck, advice = "unknown", f"The work is still done by the {evaluation.composition.value}: there is no kernel of its own yet."
        questions = (about, f"which operators to fuse: {about}")
    elif fraction is not None and fraction >= _NEAR_FLOOR:
        bottleneck, advice = "memory_bandwidth", f"It reaches {fraction:.0%} of its physical floor; little is left with this design."
        questions = (f"less memory traffic: {about}", f"which operators to fuse: {about}")
    elif evaluation.latency_ms is not None and evaluation.latency_ms < _LAUNCH_BOUND_MS:
        bottleneck = "latency"
        if family(target) == "cpu":
            advice = "One call is so short that the call itself counts: work in Python around it, checks and copies, the fork and join of threads."
            questions = ("overhead of a parallel region, when one thread is faster", f"what makes it faster: {about}")
        else:
            advice = "One call is so short that launching and the way of the first bytes dominate: one launch if there are several, then less waiting in it."
            questions = ("reduce kernel launch overhead", f"one launch for everything: {about}")
    elif fraction is not None:
        bottleneck, advice = "memory_bandwidth", f"It reaches {fraction:.0%} of its physical floor."
        questions = (f"what makes it faster: {about}", *TUNING.get(family(target), ()))
    else:
        bottleneck, advice = "unknown", "No physical floor is known for it."
        questions = (f"what makes it faster: {about}", *TUNING.get(family(target), ()))
    return Diagnosis(bottleneck=bottleneck, summary=f"{measured} {advice}", questions=questions, failed_ideas=failed)


def _failed_ideas(parents: Sequence[Attempt], remembered: Sequence[Attempt]) -> tuple[str, ...]:
    reference = max((parent.evaluation.fitness for parent in parents), default=0.0)
    known = {parent.node_id for parent in parents}
    lines = []
    for attempt in remembered:
        if attempt.node_id in known and attempt.evaluation.fitness >= reference:
            continue
        status = attempt.evaluation.status
        is_timed = bool(attempt.evaluation.speedup)  # what was not compared with anything has not failed
        if status is not Status.PASSED or (is_timed and attempt.evaluation.fitness <= reference):
            outcome = (
                f"fitness {attempt.evaluation.fitness:.3f}" if status is Status.PASSED else f"{status.value}: {attempt.evaluation.reason}"
            )
            lines.append(f"{attempt.notes or attempt.candidate.candidate_id} → {outcome}"[:300])
    return tuple(dict.fromkeys(lines))[-_MAX_FAILED_IDEAS:]
