"""Evaluate a candidate for a chip that is only simulated: legality by public rules, values in Triton's interpreter, time by the MTIA model. Nothing is measured.

A time is the sum over all launches and all operators of PyTorch in one call. The baseline `eager_simulated` is the reference, operator by operator, priced by the same
model (`operators`): its name says that it is none of the measured baselines. Evaluations carry the evidence `simulated` and the label `simulated_time`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tools import line_process
from tools.check.verdict import Rejected
from tools.errors import HarnessError, MachineError, ProblemError
from tools.receipts import host_facts, write_receipt
from tools.targets.base import CompileReport, LaunchRecord, LintFinding, TargetInfo, TimeEstimate
from tools.targets.mtia_model import TIME_MODEL, estimate
from tools.targets.operators import Operator, work_of_operator
from tools.targets.profile import Profile, survey_profiles
from tools.types import (
    QUICK,
    SIMULATED_TIME,
    Candidate,
    Composition,
    Effort,
    Evaluation,
    Evidence,
    Feedback,
    Interval,
    Problem,
    Status,
    Timing,
    WorkloadEvaluation,
)

if TYPE_CHECKING:
    from tools.targets.base import Target

BASELINE = "eager_simulated"
"""The reference as PyTorch would run it operator by operator, priced by the same model."""
_ENVIRONMENT = {
    "TRITON_INTERPRET": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",  # torch.compile would write kernels for this machine: the reference's operators are priced instead
}
_TRACE_S = 120.0
_MOST_READS = 64


@dataclass(frozen=True)
class Spent:
    """Simulated time of one call: with every constant that is not public at its favourable end, as it is, and at its unfavourable end, in us."""

    low_us: float
    value_us: float
    high_us: float

    def over(self, other: Spent) -> Interval:
        """Return how many times as long this takes as another; both at the same ends."""
        ratios = (self.low_us / other.low_us, self.value_us / other.value_us, self.high_us / other.high_us)
        return Interval(ratios[1], min(ratios), max(ratios))


class SimulationServer:
    """The process that traces and interprets, started with the first job. One job at a time; safe to share between threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def ask(self, **job: Any) -> dict[str, Any]:  # Any: JSON
        """Return the answer to a job (see `simulation_worker`).

        Raises:
            HarnessError: The process ended.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = line_process.start("tools.targets.simulation_worker", {**os.environ, **_ENVIRONMENT})
            try:
                return line_process.ask(self._process, job)
            except OSError as error:
                self._stop()
                raise HarnessError(
                    f"the simulator's process does not answer: {error}; try `python -m tools.targets.simulation_worker`"
                ) from error

    def close(self) -> None:
        """End the process. Safe to call twice."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        line_process.end(process)


class SimulatedEvaluator:
    """Evaluates for simulated chips. A context manager; the evaluator of searches whose target has no device or compiler in public."""

    def __init__(self, home: Path | str, *, use_lint: bool = True) -> None:
        """Remember where receipts go; nothing is started yet.

        Args:
            home: State directory; receipts go to `home/receipts`.
            use_lint: Refuse candidates with lint errors before running them.
        """
        self._home = Path(home).resolve()
        self._use_lint = use_lint
        self._server = SimulationServer()
        self._baselines: dict[tuple[str, str], list[tuple[str, Spent, frozenset[str]]]] = {}
        self._host: dict[str, Any] | None = None  # Any: JSON

    def __enter__(self) -> SimulatedEvaluator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End its process. Safe to call twice."""
        self._server.close()

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        """Judge a candidate's legality, check its values and simulate its time.

        Args:
            candidate: Its kernels are in Triton, or it has none.
            problem: What it must compute.
            target: A simulated target, for example `mtia:2i`.
            effort: Its `value_seeds` inputs are compared; the interpreter may take its `timeout_s`.
            seed: Not used: the seeds of inputs are secret, drawn after the candidate is fixed, and recorded in the receipt; times do not vary.

        Raises:
            ProblemError: The problem itself cannot be used.
            UnknownTargetError: There is no such target.
            MachineError: The target is not a simulated one, or the state directory cannot be written.
        """
        from tools.targets.registry import get_target

        began = time.monotonic()
        chip = get_target(target)
        info = chip.describe()
        if info.evidence is not Evidence.SIMULATED:
            raise MachineError(f"{info.name} is not a simulated target; measure it, or compile for it")
        profile = survey_profiles()[0][info.name]
        told: dict[str, Any] = {}  # Any: JSON of the receipt
        try:
            outcome = self._passed(candidate, problem, chip, info, profile, effort, told)
        except Rejected as rejected:
            outcome = _evaluation(candidate, problem, info, rejected.status, rejected.reason, feedback=rejected.feedback)
        except HarnessError as error:
            outcome = _evaluation(candidate, problem, info, Status.HARNESS_ERROR, str(error)[:1500])
        outcome = dataclasses.replace(outcome, seconds=time.monotonic() - began)
        return dataclasses.replace(outcome, receipt=str(self._write_receipt(outcome, candidate, problem, info, effort, told)))

    def _passed(
        self,
        candidate: Candidate,
        problem: Problem,
        chip: Target,
        info: TargetInfo,
        profile: Profile,
        effort: Effort,
        told: dict[str, Any],
    ) -> Evaluation:
        if self._use_lint:
            _refuse(chip.lint(candidate), Status.LINT_ERROR)
        if candidate.language not in ("triton", "torch"):
            raise Rejected(Status.COMPILE_ERROR, f"its kernels are written in {candidate.language}; only Triton is simulated", Feedback())
        baselines = self._baseline(problem, profile)
        known = frozenset().union(*(names for _, _, names in baselines))
        traced = self._server.ask(
            kind="trace", problem=problem.source, candidate=candidate.source, timeout_s=min(effort.timeout_s, _TRACE_S)
        )
        _fail(traced)
        told["trace"] = traced["workloads"]
        judged = [_priced(candidate.source, item["events"], profile, known) for item in traced["workloads"]]
        seeds = [secrets.randbits(31) for _ in range(effort.value_seeds)]
        told["seeds"] = seeds
        _fail(
            self._server.ask(
                kind="values",
                problem=problem.source,
                candidate=candidate.source,
                seeds=seeds,
                timeout_s=effort.timeout_s,
                is_mtia=info.family == "mtia",
            )
        )
        workloads = tuple(
            WorkloadEvaluation(
                name, _timing(spent), {BASELINE: _timing(before)} if before else {}, {BASELINE: before.over(spent)} if before else {}
            )
            for (name, before, _), (spent, _, _) in zip(baselines, judged, strict=True)
        )
        total = Spent(*(_mean([getattr(spent, end) for spent, _, _ in judged]) for end in ("low_us", "value_us", "high_us")))
        reference = Spent(*(_mean([getattr(item, end) for _, item, _ in baselines]) for end in ("low_us", "value_us", "high_us")))
        counters = {"simulated_low_us": total.low_us, "simulated_us": total.value_us, "simulated_high_us": total.high_us}
        told["launches"] = [[dataclasses.asdict(item) for item in estimates] for _, estimates, _ in judged]
        evaluation = _evaluation(candidate, problem, info, Status.PASSED, "", feedback=Feedback(profile=counters | _shares(judged)))
        return dataclasses.replace(
            evaluation,
            latency_ms=total.value_us / 1000.0,
            workloads=workloads,
            speedup={BASELINE: reference.over(total)},
            composition=_composition(kind for _, _, kinds in judged for kind in kinds),
        )

    def _baseline(self, problem: Problem, profile: Profile) -> list[tuple[str, Spent, frozenset[str]]]:
        """Return, for each workload, the simulated time of the reference and the operators it is made of."""
        key = (problem.source_hash, profile.target)
        if key not in self._baselines:
            traced = self._server.ask(kind="trace", problem=problem.source, timeout_s=_TRACE_S)
            if "workloads" not in traced:
                raise ProblemError(f"{problem.problem_id}: the reference cannot be run: {traced.get('error', '')}")
            found = []
            for item in traced["workloads"]:
                operators = [Operator(**event["operator"]) for event in item["events"] if "operator" in event]
                if not operators:
                    raise ProblemError(f"{problem.problem_id}: the reference runs no operator of PyTorch, so there is nothing to simulate")
                spent = _sum([estimate(work_of_operator(operator, profile.limits), profile.limits) for operator in operators])
                found.append((str(item["workload"]), spent, frozenset(operator.name for operator in operators)))
            self._baselines[key] = found
        return self._baselines[key]

    def _write_receipt(
        self, outcome: Evaluation, candidate: Candidate, problem: Problem, info: TargetInfo, effort: Effort, told: Mapping[str, Any]
    ) -> Path:
        self._host = self._host or host_facts()
        content = {
            "evaluation": outcome.to_json(),
            "time_model": TIME_MODEL,
            "candidate": dataclasses.asdict(candidate),
            "problem": {
                "problem_id": problem.problem_id,
                "path": problem.path,
                "source_hash": problem.source_hash,
                "source": problem.source,
            },
            "target": dataclasses.asdict(info),
            "effort": dataclasses.asdict(effort),
            "seed": 0,
            "host": self._host,
            "simulation": told,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            return write_receipt(self._home / "receipts", candidate.candidate_id, content)
        except OSError as err:
            raise MachineError(
                f"the receipt cannot be written below {self._home}: {err}; free some space or choose another --home"
            ) from err


def _priced(
    source: str, events: Sequence[Mapping[str, Any]], profile: Profile, known: frozenset[str]
) -> tuple[Spent, list[TimeEstimate], list[str]]:  # Any: JSON
    """Return the time of one call, what it is made of, and the kind of each part (`kernel`, `movement`, `operator`).

    Raises:
        Rejected: A rule speaks against a launch, or the time of a part is not known.
    """
    estimates: list[TimeEstimate] = []
    kinds: list[str] = []
    unique: dict[str, TimeEstimate] = {}
    reads = 0
    for event in events:
        if "operator" in event:
            operator = Operator(**event["operator"])
            reads += operator.name.startswith("aten._local_scalar_dense")
            if not operator.is_known and operator.name not in known:
                raise _timeless(f"the model does not know how long `{operator.name}` takes; write it as a kernel, or leave it out")
            estimates.append(estimate(work_of_operator(operator, profile.limits), profile.limits))
            kinds.append("movement" if operator.is_movement else "operator")
            continue
        key = json.dumps(event, sort_keys=True)
        if key not in unique:
            unique[key] = _launch_time(source, event, profile)
        estimates.append(unique[key])
        kinds.append("kernel")
    if reads > _MOST_READS:
        raise _timeless(f"host code reads {reads} values from tensors in one call (at most {_MOST_READS} are simulated)")
    if not estimates:
        raise _timeless("one call launches nothing and runs no operator, so there is no time to simulate")
    return _sum(estimates), estimates, kinds


def _launch_time(source: str, event: Mapping[str, Any], profile: Profile) -> TimeEstimate:
    """Return the time of one launch; of an autotuned one that of its fastest legal configuration."""
    from tools.compile.legality import judge
    from tools.compile.workload import work_of

    choices = event.get("choices", [event])
    errors: list[str] = []
    times: list[TimeEstimate] = []
    name = "a kernel"
    for choice in choices:
        data = choice["launch"]
        launch = LaunchRecord(
            data["kernel"], data["arguments"], tuple(data["constexprs"]), data["options"], tuple(int(size) for size in data["grid"])
        )
        name = launch.kernel
        report = judge(source, CompileReport(profile.target, "compiled", launches=(launch,)), profile)
        if report.status != "compiled":
            errors.append(report.error)
            continue
        work = work_of(source, launch)
        if work is not None:
            times.append(estimate(work, profile.limits))
    if times:
        return min(times, key=lambda item: item.value_us)
    if errors:
        raise Rejected(Status.COMPILE_ERROR, errors[0].splitlines()[0][:300], Feedback(error="\n".join(errors)[:2000]))
    raise _timeless(
        f"no time can be simulated for the kernel `{name}`: the source does not prove the shapes of its blocks or the trips of its loops; "
        "make them constants (`tl.constexpr`) or arguments of the launch, in the module's own kernels"
    )


def _refuse(findings: Sequence[LintFinding], status: Status) -> None:
    errors = [str(item) for item in findings if item.severity == "error"]
    if errors:
        raise Rejected(status, errors[0], Feedback(lint=tuple(str(item) for item in findings)))


def _fail(answer: Mapping[str, Any]) -> None:  # Any: JSON
    """Raise what a job says went wrong; nothing if all is well."""
    status, error = answer.get("status", "passed"), str(answer.get("error", ""))
    if status == "problem":
        raise ProblemError(f"the reference cannot be run in the simulator: {error}")
    if status == "timeout":
        raise Rejected(
            Status.TIMEOUT,
            f"the interpreter was {error}; a problem may state smaller sizes for it: INTERPRETER_SIZES = {{'NAME': value}} of module-level names",
            Feedback(error=error),
        )
    if status != "passed":
        feedback = Feedback(error=error[:2000], first_mismatch=str(answer.get("first_mismatch", "")))
        raise Rejected(Status(status), str(answer.get("reason", "") or error)[:300], feedback)


def _timeless(reason: str) -> Rejected:
    return Rejected(Status.NOT_MEASURED, reason, Feedback(error=reason))


def _evaluation(
    candidate: Candidate, problem: Problem, info: TargetInfo, status: Status, reason: str, *, feedback: Feedback | None = None
) -> Evaluation:
    return Evaluation(
        candidate_id=candidate.candidate_id,
        problem_id=problem.problem_id,
        target=info.name,
        evidence=Evidence.SIMULATED,
        status=status,
        reason=reason,
        feedback=feedback or Feedback(),
        labels=(SIMULATED_TIME,) if status is Status.PASSED else (),
    )


def _sum(estimates: Sequence[TimeEstimate]) -> Spent:
    return Spent(sum(item.low_us for item in estimates), sum(item.value_us for item in estimates), sum(item.high_us for item in estimates))


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _timing(spent: Spent) -> Timing:
    return Timing(spent.value_us / 1000.0, ())


def _shares(judged: Sequence[tuple[Spent, Sequence[TimeEstimate], Sequence[str]]]) -> dict[str, float]:
    """Return which share of the time each unit that binds has, over all parts."""
    total = sum(spent.value_us for spent, _, _ in judged)
    found: dict[str, float] = {}
    for _, estimates, _ in judged:
        for item in estimates:
            name = f"bound_by_{item.bound_by}"
            found[name] = found.get(name, 0.0) + item.value_us / total
    return found


def _composition(kinds: Iterator[str]) -> Composition:
    """Say what the time is made of; copies and fills beside kernels are no vendor's work."""
    seen = set(kinds)
    if "kernel" not in seen:
        return Composition.LIBRARY
    return Composition.MIXED if "operator" in seen else Composition.CUSTOM
