"""The timing phase: the candidate and the baselines, each in its own process, in interleaved blocks commanded from here.

On `cpu` the clock that counts is this process's, around each block, less the cost of an empty command. On `cuda` device events time each call inside the
worker, and this process's clock around the block must agree with them.
"""

from __future__ import annotations

import contextlib
import math
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.check.composition import LEAST_FOUND, found_at_work
from tools.check.decision import describe_mismatch, reject
from tools.check.verdict import Rejected
from tools.errors import HarnessError
from tools.timing.device_state import DeviceState, summarise
from tools.timing.exclusive import Alone
from tools.timing.fresh import MOST_BYTES, FreshCalls, Sweeps, num_draws
from tools.timing.parts import part
from tools.timing.stats import median_ms, paired_speedup
from tools.timing.sweeps import REFERENCE_S, FreshSweeps
from tools.types import FULL, Effort, Feedback, Interval, Status, Timing, WorkloadEvaluation
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.processes import Reply
from tools.worker.sampling import Whereabouts
from tools.worker.session import ReferenceSession

Answer = dict[str, Any]  # Any: JSON
_MIN_PAIRS = 5
_LOOKS = (12, 20, 30)
"""After so many pairs a measurement may end: when every interval is narrow, whatever it says (an end that depends on a win would favour wins)."""
_NARROW = 0.004
"""Width of an interval as a share of its low end; an A/A comparison on an H100 spreads by 0.4 % between processes, which more pairs cannot mend."""
_MAX_CALLS = {"cpu": 20_000, "cuda": 100}
_WARM_CALLS = 8
"""Calls before the first timed one, for every arm alike: on the CPU a new process still takes page faults in its first six or seven calls."""
_BLOCK_FACTOR = {"cpu": 4.0, "cuda": 1.0}
"""Blocks on the CPU are longer: other work on the host disturbs single calls by a factor of two and more, which a mean over several calls evens out."""
_SLOT_BYTES = {3: 256 << 20, 2: 2 << 30}
"""How many input sets rotate, by the size of one set in bytes."""
_IDLE_SHARE = 0.25
_IDLE_FLOOR_S = 0.05
_LONG_S, _VERIFIED_BYTES_PER_S = 0.25, 0.5e9
"""Verifying that takes longer is done beside others; how long it takes is known from the last one, and guessed from the bytes of a call before the first."""
_VERIFY_MORE_S = 0.06
"""What comparing outputs of further blocks may take, in s, on `cpu`."""
_MEASUREMENTS, _DOUBTFUL_MEASUREMENTS = 3, 4
"""So often does a claim have to fail on fresh inputs before it is called false: a host that was quieter during the blocks than afterwards accuses nobody.
Where others may be all that speaks against it, more often, and then nothing is said."""
_WATCH_SAMPLES = 40
_WATCH_S = 10.0
"""A candidate is watched until threads were found executing so often, which takes 0.1 s on a quiet machine, at most about so long."""
_WATCH_MORE_S = 4.0
"""… and so long at the most for those of them that are at work."""
_CLOCK_SHARE = 0.8
_CLOCK_FLOOR_MS = (0.02, 0.05)
"""What device events may fall short of the evaluator's clock, per call: for calls below 0.1 ms, and for longer ones."""
_SHORT_MS = 0.1
_CLOCK_CALLS = 60
"""Calls in the shorter of two blocks whose difference is one clock's word: 2 ms of disturbance then come to 0.02 ms a call."""
_AHEAD_CALLS = 40
"""The same where all calls of the longer block are launched ahead: a stream takes about 1,000 launches before the host has to wait."""
_PROFILED_CALLS, _PROFILER_SHARE = 8, 0.5
_AHEAD, _AHEAD_LIMIT_MS = 1.5, 200.0
"""How much longer the device is kept busy than the host is expected to launch, at most for so long."""


@dataclass
class Arm:
    """One implementation being timed."""

    name: str
    calls: int = 1
    samples_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    """Parent's clock per call, in ms, one per block."""
    processor_ms: list[float] = field(default_factory=list)
    """Processor time per call, in ms, one per block; on `cpu` only."""


@dataclass
class TimingRecord:
    """Raw observations of one workload, for the receipt."""

    workload: str
    arms: dict[str, Arm] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    blocks: list[tuple[int, int]] = field(default_factory=list)
    """(calls, seed) of every block of the candidate."""
    verified: int = 0
    idle_cpu_s: float = 0.0
    busy_cpu_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    parts_s: dict[str, float] = field(default_factory=dict)
    """Wall time of the timing's parts, in s."""
    fresh: Answer = field(default_factory=dict)
    """Calls on inputs that nobody had seen, beside the claimed times (`tools.timing.fresh.FreshCalls`)."""
    profiler: Answer = field(default_factory=dict)
    """What the profiler saw of a call beside what is claimed (`beside_profiler`); finalists on an accelerator."""
    device_state: Answer = field(default_factory=dict)
    """Clocks, power and other processes on an accelerator while it was timed."""


class WorkloadTimer:
    """Times one workload of one candidate."""

    def __init__(
        self, process: CandidateProcess, session: ReferenceSession, effort: Effort, deadline: Deadline, record: TimingRecord
    ) -> None:
        self._process = process
        self._session = session
        self._effort = effort
        self._deadline = deadline
        self._record = record
        self._cpu_mark_s: float | None = None
        self._empty_ms = 0.0
        self.alone = Alone()
        """The use of the device, which work that is no timing gives up where it takes long."""
        self._moved_bytes = 0
        self._verifying_s = math.inf
        """What the last verification took."""
        self._has_rested = False
        self._is_restored = self._shares_inputs = False

    def run(self, prepared: Answer, generator: np.random.Generator) -> WorkloadEvaluation:
        """Interleave blocks of every arm, which are warm, and return the workload's evaluation.

        Raises:
            Rejected: The candidate fails, or its times cannot be true.
            HarnessError: The reference process fails.
        """
        with part(self._record.parts_s, "start"):
            self.calibrate()
        complaint = ""
        for number in range(_DOUBTFUL_MEASUREMENTS):
            with part(self._record.parts_s, "blocks"):
                evaluation = self.measure(generator, prepared["outputs"])
            with part(self._record.parts_s, "fresh_inputs"):
                found = self._sweep_fresh(evaluation, prepared)
            complaint = found.complaint() if found is not None else ""
            if not complaint or found is None:
                if self._session.device != "cpu" and self._effort.name == FULL.name:
                    self._compare_with_profiler(evaluation.candidate.latency_ms)
                return evaluation
            if number + 1 >= _MEASUREMENTS and not found.is_doubtful:
                raise Rejected(
                    Status.REWARD_HACK,
                    complaint,
                    Feedback(error="each call must do all of its work from its own inputs; nothing may be kept between calls"),
                )
            self._record.notes.append(f"measured again: {complaint}")
        raise Rejected(
            Status.NOT_MEASURED, f"others use the processors so much that a claim can be neither confirmed nor refuted: {complaint}"
        )

    def _compare_with_profiler(self, claimed_ms: float) -> None:
        """Set what device events say of a call beside how long the profiler saw the device at work in one.

        Raises:
            Rejected: The device worked far longer, twice.
        """
        for _ in range(2):
            with part(self._record.parts_s, "profiler"):
                self._record.profiler = beside_profiler(claimed_ms, self._process.profile(_PROFILED_CALLS, self._deadline), _PROFILED_CALLS)
            if self._record.profiler.get("agrees", True):
                return
        raise Rejected(
            Status.REWARD_HACK,
            f"the device events say {claimed_ms:.4f} ms a call, the profiler saw the device at work for {self._record.profiler['busy_ms']:.4f} ms: work is done outside the timed stream",
        )

    def warm_up(
        self, prepared: Answer, compile_note: str, *, restore: bool, shares_inputs: bool = False, more_baselines: Sequence[str] = ()
    ) -> None:
        """Load the timed inputs and call every arm a few times; needs no device of its own.

        Args:
            prepared: What the reference process prepared.
            compile_note: Why there is no compiled baseline; empty if there is one.
            restore: Calls change their inputs, which are written anew for each.
            shares_inputs: Outputs may be views of the inputs, which must then stay until the outputs are written.
            more_baselines: Further arms.
        """
        process, session = self._process, self._session
        self._is_restored, self._shares_inputs = restore, shares_inputs
        self._moved_bytes = _nbytes(prepared["slots"][0]) + _nbytes(prepared["outputs"])
        process.prepare(prepared["slots"], prepared["layout"], self._deadline, restore=restore)
        baselines = [*(["eager"] if compile_note else ["eager", "compiled"]), *more_baselines]
        if compile_note:
            self._record.notes.append(f"no compiled baseline: {compile_note[-600:]}")
        self._record.arms = {name: Arm(name) for name in ["candidate", *baselines]}
        self.warm_candidate()
        for name in baselines:
            session.ask("warm", REFERENCE_S, arm=name, calls=_WARM_CALLS)

    def calibrate(self) -> None:
        """Find how many calls of each arm fill a block."""
        if self._session.device == "cuda":
            self._empty_ms = self._measure_empty()
        for arm in self._record.arms.values():
            self._calibrate(arm)

    def watch(self) -> dict[str, int]:
        """Return in which files the candidate's threads were found executing during blocks, on `cpu`."""
        whereabouts, found = Whereabouts(), Counter[str]()
        began = time.monotonic()
        with part(self._record.parts_s, "watch"), self._alone(self._session):
            while not has_seen_enough(found, time.monotonic() - began):
                found += self._process.watched_block(
                    self._record.arms["candidate"].calls, secrets.randbits(53), self._deadline, whereabouts
                )
        return dict(found)

    def warm_candidate(self) -> None:
        """Call the candidate a few times untimed."""
        self._process.warm(_WARM_CALLS, self._deadline)

    def measure(self, generator: np.random.Generator, outputs: Answer | None = None) -> WorkloadEvaluation:
        """Interleave blocks of every arm; may be repeated.

        Args:
            generator: Source of the bootstrap.
            outputs: Specification of the outputs, by which some timed calls are verified; None: the code is trusted, and so are its clocks.
        """
        arms = self._record.arms
        for arm in arms.values():
            arm.samples_ms, arm.wall_ms, arm.processor_ms = [], [], []
        pairs = self._affordable_pairs(arms)
        verified = 0 if outputs is None else min(2 if self._effort.name == "quick" else 5, pairs)
        to_verify = set(random.Random(secrets.randbits(62)).sample(range(min(pairs, _LOOKS[0])), verified)) | {0} if verified else set()
        self._cpu_mark_s = None
        more_s, last_s = (_VERIFY_MORE_S if self._session.device == "cpu" else 0.0), math.inf
        state = DeviceState(str(self._session.facts.get("uuid", "")))
        seen, others = [], set(state.others())
        for number in range(pairs):
            order = list(arms.values()) if number % 2 == 0 else list(reversed(arms.values()))
            for arm in order:
                if self._has_rested:  # the device's clocks may have fallen meanwhile
                    self._has_rested = False
                    self._sample(arm)
                milliseconds, wall = self._sample(arm)
                arm.samples_ms.append(milliseconds)
                arm.wall_ms.append(wall)
                if arm.name != "candidate" or outputs is None:
                    continue
                # Beyond those that are due, as many as are cheap, at random: a call that is wrong now and then is to be found, too.
                is_extra = number not in to_verify and random.SystemRandom().random() * (pairs - number) * last_s < more_s
                if number in to_verify or is_extra:
                    began = time.monotonic()
                    self._verify(outputs)
                    last_s = time.monotonic() - began
                    more_s -= last_s if is_extra else 0.0
            seen.append(state.sample())
            if number + 1 in _LOOKS and number + 1 < pairs and _is_settled(arms, generator):
                break
        self._record.device_state = summarise([item for item in seen if item], sorted(others | set(state.others())))
        if outputs is not None:
            self._require_honest_clock(arms, outputs)
        candidate = arms["candidate"].samples_ms
        baselines = [name for name in arms if name != "candidate"]
        speedup: dict[str, Interval] = {name: paired_speedup(arms[name].samples_ms, candidate, generator) for name in baselines}
        return WorkloadEvaluation(
            workload=self._record.workload,
            candidate=Timing(median_ms(candidate), tuple(candidate)),
            baselines={name: Timing(median_ms(arms[name].samples_ms), tuple(arms[name].samples_ms)) for name in baselines},
            speedup=speedup,
        )

    def _calibrate(self, arm: Arm) -> None:
        """Find how many calls fill a block; costs at most about three blocks."""
        arm.calls = 1 if self._session.device == "cpu" else 4
        for _ in range(4):
            milliseconds, _ = self._sample(arm)
            per_call = max(milliseconds + self._empty_ms, 1e-4)
            wanted = max(
                1,
                min(
                    _MAX_CALLS[self._session.device], math.ceil(_BLOCK_FACTOR[self._session.device] * self._effort.min_block_ms / per_call)
                ),
            )
            is_enough = wanted <= arm.calls * 1.5
            arm.calls = max(wanted, 4 if self._session.device == "cuda" and per_call < 50 else 1)
            if is_enough:
                return

    def _sample(self, arm: Arm) -> tuple[float, float]:
        """Run one block; return the latency of one call and the parent's clock per call, both in ms."""
        jitter = secrets.randbelow(max(1, arm.calls // 5) + 1)
        calls = arm.calls + jitter
        reply = self._block(arm.name, calls)
        wall = max(reply.seconds - self._session.round_trip_s, 0.05 * reply.seconds) * 1000.0 / calls
        return (wall if self._session.device == "cpu" else self._event_ms(reply, calls, arm.name)), wall

    def _block(self, arm: str, calls: int, ahead_ms: float = 0.0) -> Reply:
        """Run one block of an arm; `ahead_ms` as for `tools.worker.devices.Device.timed_loop`."""
        seed = secrets.randbits(53)
        if arm != "candidate":
            with self._alone(self._process):
                return self._used_by(
                    self._session,
                    arm,
                    calls,
                    lambda: self._session.request("block", REFERENCE_S, arm=arm, calls=calls, seed=seed, ahead_ms=ahead_ms),
                )
        self._watch_idle()
        with self._alone(self._session):
            reply = self._used_by(self._process, arm, calls, lambda: self._process.block(calls, seed, self._deadline, ahead_ms))
        self._record.blocks.append((calls, seed))
        return reply

    def _used_by(self, side: CandidateProcess | ReferenceSession, arm: str, calls: int, work: Callable[[], Reply]) -> Reply:
        """Run a block and count the processor time that it takes, on `cpu`."""
        if self._session.device != "cpu":
            return work()
        before = side.cpu_seconds()
        reply = work()
        with side.stopped():  # a running thread's time is counted up to the last tick only
            after = side.cpu_seconds()
        if side is self._process:
            self._cpu_mark_s = after
            self._record.busy_cpu_s += after - before
        self._record.arms[arm].processor_ms.append((after - before) * 1000.0 / calls)
        return reply

    def _alone(self, other: CandidateProcess | ReferenceSession) -> AbstractContextManager[float | None]:
        """Hold the other side still on the CPU, where both would compete for the cores."""
        return other.stopped() if self._session.device == "cpu" else contextlib.nullcontext()

    def _marginal_ms(self, arm: str, calls: int, ahead_ms: float = 0.0) -> float:
        """Return what one more call costs by the parent's clock, in ms: the slope between blocks of two sizes, free of the cost of a block itself.

        The least of three, since a disturbance of the host can only add. With `ahead_ms`, in which the host launches all of the larger block, it is what the
        device takes alone.
        """
        blocks = [(self._block(arm, 3 * calls, ahead_ms), self._block(arm, calls, ahead_ms)) for _ in range(3)]
        return min((large.seconds - small.seconds) * 1000.0 / (2 * calls) for large, small in blocks)

    def _event_ms(self, reply: Reply, calls: int, arm: str) -> float:
        times = reply.data.get("device_ms")
        is_list = isinstance(times, list) and len(times) == calls
        if not is_list or not all(isinstance(item, float) and math.isfinite(item) and item > 0 for item in times or ()):
            if arm == "candidate":
                raise Rejected(Status.REWARD_HACK, "the device events of the timed calls are not positive finite numbers")
            raise HarnessError(f"the device events of the {arm} baseline are not positive finite numbers")
        return float(statistics.median(times or ()))

    def _measure_empty(self) -> float:
        """Return the time per iteration of a loop that only flushes the cache, in ms, by the parent's clock."""
        return max(0.0, self._marginal_ms("empty", 20))

    def _affordable_pairs(self, arms: Mapping[str, Arm]) -> int:
        """Return how many rounds fit into half of the remaining time, at least 5, at most the effort's."""
        round_s = sum(max(arm.calls * self._latest_guess_ms(arm), 0.1) for arm in arms.values()) / 1000.0
        return max(_MIN_PAIRS, min(self._effort.pairs, int(0.5 * self._deadline.remaining_s() / max(round_s, 1e-3))))

    def _latest_guess_ms(self, arm: Arm) -> float:
        return max(self._effort.min_block_ms / arm.calls, self._sample(arm)[1] if arm.calls == 1 else 0.0)

    def _watch_idle(self) -> None:
        """Count processor time that the candidate used between its blocks."""
        if self._cpu_mark_s is not None:
            self._record.idle_cpu_s += max(0.0, self._process.cpu_seconds() - self._cpu_mark_s)

    def _verify(self, outputs: Answer) -> None:
        """Compare the output of the block's last call with the reference on the inputs as they were then."""
        self._watch_idle()
        expected_s = self._verifying_s if math.isfinite(self._verifying_s) else self._moved_bytes / _VERIFIED_BYTES_PER_S
        with part(self._record.parts_s, "verifying"), self._aside_if_long(expected_s):
            began = time.monotonic()
            self._process.rewrite(outputs, self._deadline)
            answer = self._session.ask("verify", REFERENCE_S, history=self._record.blocks)
            self._verifying_s = time.monotonic() - began
        for number, item in enumerate(answer["stats"]):
            reason = reject(item)
            if reason:
                shapes = _shapes(outputs)
                text = describe_mismatch(item, shapes[number], f"output[{number}]" if len(shapes) > 1 else "output")
                raise Rejected(
                    Status.REWARD_HACK,
                    f"the output of a timed call is wrong though the same kernel passed the check: {reason}",
                    Feedback(first_mismatch=text, error="results must be computed from the inputs of each call"),
                )
        self._record.verified += 1
        self._cpu_mark_s = None

    @contextlib.contextmanager
    def _aside_if_long(self, expected_s: float, *, comes_back: bool = True) -> Iterator[None]:
        """Let others use the device inside the context if what is done there takes long."""
        if expected_s < _LONG_S:
            yield
            return
        with self.alone.aside(comes_back=comes_back):
            yield
        self._has_rested = True

    def _sweep_fresh(self, evaluation: WorkloadEvaluation, prepared: Answer) -> FreshCalls | None:
        """Sweep both sides over inputs that nobody has seen (`tools.timing.sweeps`).

        Returns:
            What was found; None where there is nothing to sweep over.

        Raises:
            Rejected: An output is wrong.
        """
        on_cpu, arms = self._session.device == "cpu", self._record.arms
        eager_ms = evaluation.baselines["eager"].latency_ms
        used_ms = (median_ms(arms["candidate"].processor_ms), median_ms(arms["eager"].processor_ms)) if on_cpu else None
        moved = _nbytes(prepared["slots"][0]) + _nbytes(prepared["outputs"])
        count = num_draws(
            moved,
            min(eager_ms, used_ms[1] if used_ms else eager_ms, evaluation.candidate.latency_ms),
            MOST_BYTES.get(self._effort.name, MOST_BYTES["full"]),
            self._session.device,
        )
        if count == 0:
            self._record.notes.append("no calls on fresh inputs: they are too large")
            return None
        found = FreshSweeps(self._process, self._session, self._deadline, self._aside_if_long).run(
            Sweeps(evaluation.candidate.latency_ms, eager_ms),
            Sweeps(*used_ms) if used_ms else None,
            count,
            moved,
            mode="copied" if not on_cpu or self._is_restored else "at_once" if self._shares_inputs else "in_place",
            verifying_s=count * moved / _VERIFIED_BYTES_PER_S,
        )
        if not found.rounds:
            self._record.notes.append("no calls on fresh inputs: their shapes differ from draw to draw")
            return None
        self._record.fresh = found.as_json()
        return found

    def _require_honest_clock(self, arms: Mapping[str, Arm], outputs: Answer) -> None:
        record, candidate = self._record, arms["candidate"]
        if self._session.device == "cpu":
            if record.idle_cpu_s > _IDLE_FLOOR_S + _IDLE_SHARE * record.busy_cpu_s:
                raise Rejected(
                    Status.REWARD_HACK,
                    f"the candidate used {record.idle_cpu_s:.2f} s of processor time outside its timed calls ({record.busy_cpu_s:.2f} s inside)",
                )
            return
        claimed = statistics.median(candidate.samples_ms)
        is_short = claimed < _SHORT_MS  # where a fixed allowance would be much of the claim, and more calls cost little
        allowed_ms = _CLOCK_FLOOR_MS[0 if is_short else 1]
        seen = self._marginal_ms("candidate", max(candidate.calls, _CLOCK_CALLS if is_short else 1)) - self._empty_ms
        if claimed < _CLOCK_SHARE * seen - allowed_ms:
            # A call of several kernels may take a busy host longer to launch than the device to run. Once more without the host: it launches while the device is busy.
            call_ms = seen + self._empty_ms
            calls = max(1, min(_AHEAD_CALLS, int(_AHEAD_LIMIT_MS / (_AHEAD * 3 * call_ms))))
            ahead_ms = min(_AHEAD * 3 * calls * call_ms, _AHEAD_LIMIT_MS)
            seen = self._marginal_ms("candidate", calls, ahead_ms)
            self._verify(outputs)
            seen -= self._marginal_ms("empty", calls, ahead_ms)
        if claimed < _CLOCK_SHARE * seen - allowed_ms:
            raise Rejected(
                Status.REWARD_HACK,
                f"the device events say {claimed:.4f} ms a call, the evaluator's own clock {seen:.4f} ms: work is done outside the timed stream",
            )


def _is_settled(arms: Mapping[str, Arm], generator: np.random.Generator) -> bool:
    candidate = arms["candidate"].samples_ms
    found = [paired_speedup(arm.samples_ms, candidate, generator) for name, arm in arms.items() if name != "candidate"]
    return all(item.high <= item.low * (1.0 + _NARROW) for item in found)


def has_seen_enough(found: Counter[str], seconds: float) -> bool:
    """Tell whether a candidate was watched for long enough: threads that wait for others spin, on a busy machine nearly always, and say nothing of its work."""
    if found.total() < _WATCH_SAMPLES:
        return seconds >= _WATCH_S
    return found_at_work(found) >= LEAST_FOUND or seconds >= _WATCH_MORE_S


def beside_profiler(claimed_ms: float, answer: Mapping[str, Any], calls: int) -> Answer:  # Any: JSON from the candidate's process
    """Return the profiler's times of one call in ms, `busy_ms` and `span_ms`, and whether the claim `agrees`; empty where it saw nothing.

    Profiled calls find their inputs in the cache, so that a claim below half of the time at work, less 0.05 ms, cannot be true. Between kernels the profiler itself
    takes time, so that the span, which holds that too, is recorded and decides nothing.
    """
    found = {}
    for name in ("busy_ms", "span_ms"):
        value = answer.get(name)
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            return {}
        found[name] = value / calls
    return {**found, "claimed_ms": claimed_ms, "agrees": claimed_ms >= _PROFILER_SHARE * found["busy_ms"] - _CLOCK_FLOOR_MS[1]}


def num_slots(inputs_bytes: int) -> int:
    """Return how many input sets rotate in the timing of a workload."""
    return 3 if inputs_bytes <= _SLOT_BYTES[3] else 2 if inputs_bytes <= _SLOT_BYTES[2] else 1


def _nbytes(spec: Answer) -> int:
    """Return the bytes of all tensors of a specification."""
    if "tensor" in spec:
        return int(spec["tensor"]["nbytes"])
    items = spec.get("list") or spec.get("tuple") or list((spec.get("dict") or {}).values())
    return sum(map(_nbytes, items))


def _shapes(spec: Answer) -> list[list[int]]:
    if "tensor" in spec:
        return [spec["tensor"]["shape"]]
    items = spec.get("list") or spec.get("tuple") or list(spec.get("dict", {}).values())
    return [shape for item in items for shape in _shapes(item)]
