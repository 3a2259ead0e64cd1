"""Evaluate one candidate on one problem and one target. This process decides; it runs neither the problem's nor the candidate's code.

Construction is cheap; the first evaluation of a problem starts a warm process (the import of torch), opens the problem in a reference process and compiles
the baseline, which later evaluations share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tools.check.composition import agreed, composition_of, confirmed, kernel_times
from tools.check.floor import accelerator_peak, floor_ms, processor_peak
from tools.check.phase import CheckRecord, check_candidate, sanitize_candidate
from tools.check.sanitizers import CHEAP_BYTES, builds_cpp, libraries
from tools.check.sanitizers import environment as sanitizer_environment
from tools.check.stress import as_json as stress_as_json
from tools.check.stress import labels as stress_labels
from tools.check.vendored import copied_libraries
from tools.check.verdict import Crowded, Rejected, Unmeasurable
from tools.errors import HarnessError, MachineError
from tools.hangs import Hangs
from tools.receipts import environment_facts, host_facts, write_receipt
from tools.sandbox.caches import cache_directory
from tools.sandbox.environment import NO_DEVICES, base_environment, private_environment
from tools.sandbox.landlock import abi_version
from tools.sandbox.layers import NAMES as SANDBOX_LAYERS
from tools.sandbox.leftovers import remove_tree
from tools.sandbox.memory import memory_allowance_bytes
from tools.slots import Slot
from tools.targets.base import Limit, TargetInfo
from tools.targets.cpu import cpu_features
from tools.targets.registry import get_target
from tools.timing.calibration import read_spread, widen
from tools.timing.device_state import DeviceState, state_labels
from tools.timing.exclusive import Alone, Hold, exclusive_device, shared_device
from tools.timing.pair import FreshPair
from tools.timing.parts import part
from tools.timing.phase import TimingRecord, WorkloadTimer, num_slots
from tools.timing.residence import Residence, residence
from tools.timing.stats import combine_speedups, geometric_mean
from tools.timing.turns import Turns
from tools.types import (
    FULL,
    QUICK,
    UNMEASURABLE,
    Candidate,
    Composition,
    Effort,
    Evaluation,
    Evidence,
    Feedback,
    Interval,
    Problem,
    Status,
    WorkloadEvaluation,
)
from tools.worker.attempt import CandidateProcess, Deadline, DeviceNotOpenedError
from tools.worker.processes import WorkerDiedError, WorkerHostileError, WorkerTimeoutError, Zygote
from tools.worker.session import ReferenceSession, Survey

_log = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parent.parent
_MAX_SESSIONS = (1, 2)
"""Reference processes kept: on an accelerator, whose memory each fills, and on the CPU."""
_PROBE_S = 60.0
_REFERENCE_S = 900.0
_FILE_LIMIT_BYTES = 16 << 30
_PRELOAD = ("triton", "torch._inductor.config")
"""What the warm process of an accelerator imports besides torch. The second takes a second and is what the first start of PyTorch's profiler, a first operator
trace and torch.compile wait for in every process that lacks it; should it ever touch the device, which a fork could not use then, it is left out."""
_MOST_IDLE_BYTES = 1 << 30
"""Of inputs and outputs of one call: a problem of more leaves an accelerator's memory between its evaluations."""
_DOUBTFUL_LAYERS = ("landlock", "privileges", "seccomp")
"""Sandbox layers under which an accelerator's driver may not come up; as few as possible are left out then."""
_AHEAD_S = 60.0
"""What compiling ahead may take; what is not ready then is compiled when it is launched."""
_ADDRESS_SPACE_BYTES = 8 << 30
_ADDRESS_SPACE_FACTOR = 24
"""A CPU candidate may reserve 8 GiB plus this many times the bytes of one call's inputs, outputs and weights. CUDA reserves terabytes, so no limit there."""
_PAIR_BYTES = 1 << 30
"""What a candidate's process of a pair may need for one call, in bytes; its code is ours."""
_LIBRARY_CLASS = "class ModelLibrary"
"""By which a problem names a library's operator (`tools.worker.library`, which imports torch)."""
_WATCHED_MS = 0.05
"""In a shorter call the interpreter and PyTorch's dispatch are found as often as the kernel."""
_FLOOR_MARGIN = 0.9
"""A time below this share of the physical floor cannot be true."""


@dataclass
class _Attempt:
    """Everything about one evaluation in progress."""

    candidate: Candidate
    problem: Problem
    info: TargetInfo
    effort: Effort
    seed: int
    check: CheckRecord = field(default_factory=CheckRecord)
    timings: list[TimingRecord] = field(default_factory=list)
    workloads: list[WorkloadEvaluation] = field(default_factory=list)
    composition: Composition = Composition.UNKNOWN
    copied: frozenset[str] = frozenset()
    """Libraries in the candidate's directories that are copies of installed ones, on `cpu`."""
    executing: dict[str, dict[str, int]] = field(default_factory=dict)
    """By workload, the files in which a CPU candidate was found executing, with counts."""
    roofline_fraction: float | None = None
    profile: dict[str, float] = field(default_factory=dict)
    phases_s: dict[str, float] = field(default_factory=dict)
    spread: float = 0.0
    """Calibrated spread between sessions on this device."""
    turns_s: dict[str, float] = field(default_factory=dict)
    """Waiting for the device, as `tools.timing.turns.Turns` counts it, and `waited_for_timing`."""
    room: Residence | None = None
    """Memory on the accelerator; None on the CPU."""
    opened: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    """What the check's process said of its device, before it loaded the candidate."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes on the accelerator: `reserved`, and what the evaluation's processes had after the check and after the timing; less than at their peak only if they gave
    some back."""
    compiled: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    """What the process said that compiled ahead; empty if none did."""

    def start_again(self) -> None:
        """Forget what was found; the phases' times add up."""
        self.check, self.timings, self.workloads = CheckRecord(), [], []
        self.profile.clear()
        self.executing.clear()

    def parts(self) -> dict[str, float]:
        """Return the wall time of every phase and of the parts of the longer ones, in s."""
        inside = {f"check.{name}": seconds for name, seconds in self.check.parts_s.items()}
        for record in self.timings:
            for name, seconds in record.parts_s.items():
                inside[f"timing.{name}"] = inside.get(f"timing.{name}", 0.0) + seconds
        inside |= {f"turns.{name}": seconds for name, seconds in self.turns_s.items()}
        return {name: round(seconds, 4) for name, seconds in {**self.phases_s, **inside}.items()}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the wall time of a phase."""
        began = time.monotonic()
        try:
            with part(self.phases_s, name):
                yield
        finally:
            _log.debug("%s: %.3f s", name, time.monotonic() - began)


class LocalEvaluator:
    """Evaluates on this machine. A context manager: leaving ends its processes. Not thread-safe; one evaluation at a time."""

    def __init__(
        self,
        home: Path | str,
        *,
        num_threads: int | None = None,
        use_lint: bool = True,
        use_compiled_baseline: bool = True,
        use_max_autotune: bool = False,
        use_library: bool = False,
        sandbox: Sequence[str] = SANDBOX_LAYERS,
        use_calibration: bool = True,
        sanitizers: Literal["cheap", "always", "never"] = "cheap",
        slot: Slot | None = None,
    ) -> None:
        """Remember where state goes; nothing is started yet.

        Args:
            home: State directory; receipts go to `home/receipts`, compiled code to `home/cache` (see `tools.sandbox.caches`).
            num_threads: CPU threads for candidates and baselines alike; default: the cores this process may use.
            use_lint: Refuse candidates with lint errors before running them; the self-test goes without, so that what it shows are the mechanisms.
            sandbox: Optional layers for candidates' processes (`tools.sandbox.layers.NAMES`); those that the machine lacks are left out.
            slot: Where its processes run; default: anywhere that this process may.
            use_calibration: Widen intervals by the spread that `kevolve calibrate` found on the device; a calibration itself goes without.
            sanitizers: When C++ candidates run once with AddressSanitizer and UBSan; `cheap`: for finalists (effort `full`) with small inputs.
            use_max_autotune: Time against torch.compile's mode max-autotune (without graphs) as well, as the baseline `max_autotune`; compiling it can take minutes.
            use_library: Time against a library's operator where there is one that eager does not call as it is (`tools.worker.library`); a problem that names one
                is always timed against it.
            use_compiled_baseline: Time against torch.compile too; without it an evaluation says nothing about fitness, but a first one starts sooner.
        """
        unknown = set(sandbox) - set(SANDBOX_LAYERS)
        if unknown:
            raise MachineError(f"unknown sandbox layers {sorted(unknown)}; known: {', '.join(SANDBOX_LAYERS)}")
        self._sandbox = list(sandbox)
        self._working_layers: dict[str, Sequence[str]] = {}
        self._use_lint = use_lint
        self._use_calibration = use_calibration
        self._sanitizers = sanitizers
        self._use_compiled_baseline = use_compiled_baseline
        self._use_max_autotune = use_max_autotune
        self._use_library = use_library
        self._home = Path(home).resolve()
        self._slot = slot or Slot()
        self._num_threads = num_threads or len(self._slot.cores) or _usable_cores()
        self._scratch: Path | None = None
        self._zygotes: dict[str, Zygote] = {}
        self._sessions: OrderedDict[tuple[str, str], ReferenceSession] = OrderedDict()
        self._is_alone = False
        self._profiler_fault = ""
        """Why the profiler is not started ahead any more."""
        self._import_fault = ""
        """Why the warm process imports less than it could."""
        self._facts: dict[str, dict[str, Any]] = {}  # Any: JSON
        self._hangs = Hangs(self._home / "hangs")
        self._compiled: set[tuple[str, str]] = set()
        """Candidates whose kernels were compiled ahead, by problem."""
        self._host: dict[str, Any] | None = None  # Any: JSON

    def __enter__(self) -> LocalEvaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove scratch files. Safe to call twice."""
        while self._sessions:
            self._sessions.popitem()[1].close()
        while self._zygotes:  # one may still be starting when an interrupt arrives here
            self._zygotes.popitem()[1].close()
        if self._scratch is not None:
            remove_tree(self._scratch)
            self._scratch = None

    def evaluate(
        self,
        candidate: Candidate,
        problem: Problem,
        target: str,
        effort: Effort = QUICK,
        *,
        seed: int = 0,
        previous: Evaluation | None = None,
    ) -> Evaluation:
        """Check and time a candidate.

        Args:
            candidate: What to evaluate.
            problem: What it must compute.
            target: A name that `tools.targets.registry` knows.
            effort: How much to spend.
            seed: Seeds the bootstrap; the seeds of inputs are secret, drawn after the candidate is fixed, and recorded in the receipt.
            previous: An earlier evaluation of the same candidate, named in the receipt (a finalist that is measured again).

        Returns:
            The evaluation; what the candidate does wrong is its status.

        Raises:
            ProblemError: The problem itself cannot be used.
            UnknownTargetError: There is no such target.
            MachineError: The state directory cannot be written.
        """
        began = time.monotonic()
        resolved = get_target(target)
        info = resolved.describe()
        attempt = _Attempt(candidate, problem, info, effort, seed)
        try:
            with attempt.phase("lint"):
                if self._use_lint:
                    self._lint(resolved.lint(candidate))
            self._require_measurable(info)
            self._run(attempt, dict(resolved.limits()))
            outcome = self._passed(attempt)
        except Rejected as rejected:
            feedback = dataclasses.replace(rejected.feedback, profile=attempt.profile)
            labels = (UNMEASURABLE,) if isinstance(rejected, Unmeasurable) else ()
            outcome = dataclasses.replace(_evaluation(attempt, rejected.status, rejected.reason, feedback), labels=labels)
        except HarnessError as err:
            _log.warning("harness error: %s", err)
            self._drop_session(problem, info)
            outcome = _evaluation(attempt, Status.HARNESS_ERROR, str(err)[:1500], Feedback())
        outcome = dataclasses.replace(outcome, seconds=time.monotonic() - began, phases_s=attempt.parts())
        return dataclasses.replace(outcome, receipt=str(self._write_receipt(attempt, outcome, previous)))

    @contextlib.contextmanager
    def fresh_pair(self, problem: Problem, target: str, effort: Effort, *, seed: int = 0) -> Iterator[FreshPair]:
        """Yield a new reference process and a new candidate process, for trusted code that is timed against the eager baseline many times.

        Args:
            problem: What both compute.
            target: Where.
            effort: How much a comparison takes.
            seed: Seeds the bootstrap; also tells pairs of one problem apart.

        Raises:
            UnknownTargetError: There is no such target.
            MachineError: It cannot be measured on this machine.
        """
        info = get_target(target).describe()
        if info.torch_device is None or info.evidence is not Evidence.MEASURED:
            raise MachineError(f"{info.name} cannot be measured on this machine: {info.summary}")
        attempt = _Attempt(Candidate(problem.source, language="torch", provenance={"pair": seed}), problem, info, effort, seed)
        device = str(info.torch_device)
        directory = Path(tempfile.mkdtemp(prefix="pair-", dir=self._scratch_directory()))
        self._drop_session(problem, info)
        session = self._session(problem, device, contextlib.nullcontext)
        try:
            with (
                exclusive_device(device, self._slot.accelerator),
                self._candidate_process(attempt, device, directory, _PAIR_BYTES) as process,
            ):
                yield FreshPair(process, session, effort, self._cache_of(attempt.candidate), seed)
        finally:
            self._drop_session(problem, info)
            remove_tree(directory)

    def device_facts(self, target: str) -> dict[str, Any]:  # Any: JSON
        """Return what the process that measured last on a target said about the device: name, uuid, driver, versions; empty before any measurement.

        Raises:
            UnknownTargetError: There is no such target.
        """
        device = str(get_target(target).describe().torch_device)
        return dict(self._facts.get(device, {}))

    # --- the phases ------------------------------------------------------------------------------------------------------------------------

    def _lint(self, findings: Any) -> None:  # Any: a sequence of LintFinding
        lines = tuple(str(item) for item in findings)
        errors = [item for item in findings if item.severity == "error"]
        if errors:
            raise Rejected(Status.LINT_ERROR, f"{errors[0]}", Feedback(lint=lines))

    def _require_measurable(self, info: TargetInfo) -> None:
        if info.torch_device is None or info.evidence is not Evidence.MEASURED:
            raise Rejected(Status.NOT_MEASURED, f"{info.name} cannot be measured on this machine: {info.summary}")

    def _run(self, attempt: _Attempt, limits: dict[str, Limit]) -> None:
        device = str(attempt.info.torch_device)
        key = (attempt.candidate.candidate_id, attempt.problem.source_hash, device)
        if (hung_s := self._hangs.limit_s(*key)) >= attempt.effort.timeout_s:
            raise Rejected(Status.TIMEOUT, f"this candidate did not finish within {hung_s:.0f} s before")
        try:
            self._run_with_room(attempt, limits, device)
        except Rejected as rejected:
            if rejected.status is Status.TIMEOUT:
                self._hangs.remember(*key, attempt.effort.timeout_s)
            raise

    def _run_with_room(self, attempt: _Attempt, limits: dict[str, Limit], device: str) -> None:
        """Run beside others, and alone if the device's memory was too small for all."""
        with residence(device, self._slot.accelerator) as attempt.room:
            try:
                try:
                    self._run_beside_others(attempt, limits)
                except DeviceNotOpenedError as err:
                    if self._profiler_fault:
                        raise
                    self._profiler_fault = str(err)
                    _log.warning("once more without starting the profiler ahead: %s", err)
                    attempt.start_again()
                    self._run_beside_others(attempt, limits)
            except Rejected as rejected:
                if attempt.room is None or not (isinstance(rejected, Crowded) or rejected.status is Status.OUT_OF_MEMORY):
                    raise
                _log.info("once more with nothing beside it on the device: %s", rejected.reason)
                self._drop_session(attempt.problem, attempt.info)
                attempt.start_again()
                self._reserve(attempt, sys.maxsize)
                with exclusive_device(device, self._slot.accelerator), self._alone():
                    try:
                        self._run_beside_others(attempt, limits)
                    except Crowded as crowded:  # with nothing beside it
                        if self._fits_beside_a_candidate(attempt, device):
                            raise Rejected(
                                Status.OUT_OF_MEMORY, f"the candidate left the reference no memory: {crowded.reason}"
                            ) from crowded
                        raise Unmeasurable(f"untestable on this device: {crowded.reason}") from crowded
            finally:
                session = self._sessions.get((attempt.problem.source_hash, device))
                if attempt.room is not None and session is not None and session.call_bytes > _MOST_IDLE_BYTES:
                    self._drop_session(attempt.problem, attempt.info)

    def _fits_beside_a_candidate(self, attempt: _Attempt, device: str) -> bool:
        """True if a candidate had been loaded, and one that takes what a call needs would have left the reference enough."""
        session = self._sessions.get((attempt.problem.source_hash, device))
        total = self._facts.get(device, {}).get("memory_bytes")
        return bool(session is not None and total and attempt.check.inputs_bytes and session.needed_bytes <= int(total))

    def _reserve(self, attempt: _Attempt, num_bytes: int) -> None:
        """Have memory on the accelerator for an evaluation, all of it if it is alone there."""
        total = self._facts.get(str(attempt.info.torch_device), {}).get("memory_bytes")
        if attempt.room is not None and total and not self._is_alone:
            with part(attempt.turns_s, "waited_for_memory"):
                attempt.room.reserve(num_bytes, int(total))

    def _note_memory(self, attempt: _Attempt, session: ReferenceSession, name: str) -> None:
        if attempt.room is not None:
            used = DeviceState(str(session.facts.get("uuid", ""))).used_bytes(self._zygote(session.device).pid)
            attempt.memory |= {"reserved": attempt.room.reserved_bytes, name: used}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Ask for no turns on the device, which this evaluation holds as a whole."""
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False

    def _shared(self, device: str) -> AbstractContextManager[Hold]:
        return contextlib.nullcontext(Hold()) if self._is_alone else shared_device(device, self._slot.accelerator)

    @contextlib.contextmanager
    def _exclusive(self, attempt: _Attempt, device: str) -> Iterator[Alone]:
        with contextlib.ExitStack() as stack:
            with part(attempt.turns_s, "waited_for_timing"):
                alone = Alone() if self._is_alone else stack.enter_context(exclusive_device(device, self._slot.accelerator))
            try:
                yield alone
            finally:
                attempt.turns_s["waited_aside"] = attempt.turns_s.get("waited_aside", 0.0) + alone.waited_s

    def _run_beside_others(self, attempt: _Attempt, limits: dict[str, Limit]) -> None:
        """Check and time. Beside a timing nothing of ours may run on the device; everything else may, command by command."""
        device = str(attempt.info.torch_device)
        with attempt.phase("session"):
            if attempt.effort.name == FULL.name:  # published numbers come from processes of equal age
                self._drop_session(attempt.problem, attempt.info)
            session = self._session(attempt.problem, device, lambda: self._shared(device))
        if self._use_calibration:
            attempt.spread = read_spread(self._home, session.facts)
        self._compile_ahead(attempt, session, limits)
        self._reserve(attempt, session.needed_bytes)  # a guess before the first survey
        with attempt.phase("survey"), self._by_turns(attempt, session):
            surveys = [session.survey(number, _REFERENCE_S) for number in range(len(session.workloads))]
        self._reserve(attempt, session.needed_bytes)
        untestable = next((item.untestable for item in surveys if item.untestable), "")
        if untestable:
            raise Unmeasurable(untestable)
        directory = Path(tempfile.mkdtemp(prefix="candidate-", dir=self._scratch_directory()))
        try:
            needed = max(item.call_bytes for item in surveys)
            ready = contextlib.ExitStack()
            timed: list[CandidateProcess] = []

            with ready:
                with (
                    attempt.phase("check"),
                    self._candidate_process(attempt, device, directory / "check", needed) as process,
                    self._by_turns(attempt, session, process, waiting=timed) as turns,
                ):

                    def make_ready() -> None:
                        """Start the process for the timing while the candidate compiles: an accelerator takes a while to initialise."""
                        if device != "cpu":
                            timed.append(ready.enter_context(self._candidate_process(attempt, device, directory / "time", needed)))
                            turns.open_beside(timed[0])

                    if device != "cpu":
                        turns.open_beside(process, profiler=not self._profiler_fault)
                    constant = attempt.problem.weights_constant
                    check_candidate(process, session, attempt.effort, attempt.check, weights_constant=constant, when_loaded=make_ready)
                    self._note_memory(attempt, session, "check")
                attempt.opened = process.opened
                self._finish(attempt, session, surveys, limits, directory, needed, timed)
        finally:
            remove_tree(directory)

    def _compile_ahead(self, attempt: _Attempt, session: ReferenceSession, limits: dict[str, Limit]) -> None:
        """Compile the candidate's kernels before it takes the device's memory and its turn there, where others wait for these."""
        candidate, calls = attempt.candidate, [item for item in session.calls if item is not None]
        key = (candidate.candidate_id, attempt.problem.source_hash)
        if (
            attempt.room is None
            or candidate.language != "triton"
            or not calls
            or key in self._compiled
            or not attempt.room.has_neighbours()
        ):
            return
        self._compiled.add(key)
        directory = Path(tempfile.mkdtemp(prefix="ahead-", dir=self._scratch_directory()))
        numbers = {name: limit.value for name, limit in limits.items()}
        with attempt.phase("ahead"):
            try:
                with self._candidate_process(attempt, session.device, directory / "work", 0, sees_device=False) as process:
                    attempt.compiled = process.compile(attempt.info.name, numbers, session.init, calls, Deadline(_AHEAD_S))
            except Rejected as rejected:  # no verdict: the device shows
                attempt.compiled = {"error": rejected.reason}
            finally:
                remove_tree(directory)

    def _finish(
        self,
        attempt: _Attempt,
        session: ReferenceSession,
        surveys: Sequence[Survey],
        limits: dict[str, Limit],
        directory: Path,
        needed: int,
        ready: Sequence[CandidateProcess],
    ) -> None:
        """Say what a candidate that is right is made of, and time it; `ready`: the process for that, if it was started already."""
        device = session.device
        if self._sanitizes(attempt, device):
            with attempt.phase("sanitizers"):
                self._sanitize(attempt, session, directory / "sanitizers")
        cache = self._cache_of(attempt.candidate)
        attempt.copied = copied_libraries(attempt.check.libraries, cache) if device == "cpu" else frozenset()
        attempt.composition = composition_of(attempt.check.traces, attempt.check.libraries, cache, attempt.copied)
        if kernel_us := sum(kernel_times(attempt.check.traces).values()):  # the whole call is what counts; this tells what the host adds
            attempt.profile["kernel_ms"] = kernel_us / 1000.0 / len(attempt.check.traces)
        if attempt.check.stress.is_fig_leaf:  # its own kernels contribute nothing
            attempt.composition = Composition.LIBRARY
        self._time(attempt, session, device, directory, needed, ready)
        self._compare_with_floor(attempt, surveys, limits)

    @contextlib.contextmanager
    def _by_turns(
        self, attempt: _Attempt, *sides: ReferenceSession | CandidateProcess, waiting: Sequence[CandidateProcess] = ()
    ) -> Iterator[Turns]:
        """Let each command of some processes run beside others' and never beside a timing; those in `waiting`, which may be added to, have no commands meanwhile."""
        device = next(side.device for side in sides if isinstance(side, ReferenceSession))
        with Turns(lambda: self._shared(device), attempt.turns_s) as turns:

            def is_idle(busy: ReferenceSession | CandidateProcess) -> bool:
                """While one is busy, another looks at what the device does."""
                return any(other.is_idle() for other in (*sides, *waiting) if other is not busy)

            for side in sides:
                side.turn = functools.partial(turns.turn, functools.partial(is_idle, side) if len(sides) > 1 else None)
            try:
                yield turns
            finally:
                for side in sides:
                    side.turn = contextlib.nullcontext

    def _sanitizes(self, attempt: _Attempt, device: str) -> bool:
        if device != "cpu" or self._sanitizers == "never" or not builds_cpp(attempt.candidate.source):
            return False
        if not libraries():
            attempt.check.sanitizers = "not run: the compiler has no sanitizer libraries"
            return False
        moved = sum(attempt.check.inputs_bytes.values()) + sum(attempt.check.outputs_bytes.values())
        return self._sanitizers == "always" or (attempt.effort.name == FULL.name and moved <= CHEAP_BYTES)

    def _sanitize(self, attempt: _Attempt, session: ReferenceSession, directory: Path) -> None:
        try:
            with self._candidate_process(attempt, "cpu", directory, 0, sanitize=True) as process:
                sanitize_candidate(process, session, attempt.check, attempt.effort.timeout_s)
        except HarnessError as error:  # torch under the sanitizers' libraries does not come up everywhere; the candidate is not to blame
            attempt.check.sanitizers = f"not run: {error}"[:500]

    def _time(
        self,
        attempt: _Attempt,
        session: ReferenceSession,
        device: str,
        directory: Path,
        needed: int,
        ready: Sequence[CandidateProcess],
    ) -> None:
        generator = np.random.default_rng(attempt.seed)
        deadline: Deadline | None = None
        with ready[0] if ready else self._candidate_process(attempt, device, directory / "time", needed) as process:
            for number, name in enumerate(session.workloads):
                with self._by_turns(attempt, session, process):
                    with attempt.phase("prepare"):
                        slots = num_slots(attempt.check.inputs_bytes[number])
                        seeds = [secrets.randbits(62) for _ in range(slots)]
                        survey = session.survey(number, _REFERENCE_S)
                        restore, shares = survey.mutates_inputs, survey.outputs_alias_inputs
                        prepared = session.ask("prepare", _REFERENCE_S, workload=number, seeds=seeds, restore=restore)
                    with attempt.phase("baseline"):
                        note = session.compile(number) if self._use_compiled_baseline else "not asked for"
                        asked = {
                            "max_autotune": self._use_max_autotune,
                            "library": self._use_library or _LIBRARY_CLASS in attempt.problem.source,
                        }
                        more = {name: session.compile(number, name) for name, is_wanted in asked.items() if is_wanted}
                        tuned = [name for name, fault in more.items() if not fault]
                    with attempt.phase("load"):
                        deadline = deadline or Deadline(attempt.effort.timeout_s)
                        if number == 0:
                            process.load(prepared["init"], session.arenas, prepared["state"], deadline)
                        else:
                            process.share(session.arenas, deadline)
                            process.load_state(prepared["state"], deadline)
                    record = TimingRecord(name, seeds=seeds)
                    attempt.timings.append(record)
                    record.notes.extend(f"no baseline {name}: {fault[-600:]}" for name, fault in more.items() if fault)
                    timer = WorkloadTimer(process, session, attempt.effort, deadline, record)
                    with attempt.phase("warm_up"):
                        timer.warm_up(prepared, note, restore=restore, shares_inputs=shares, more_baselines=tuned)
                with self._exclusive(attempt, device) as timer.alone, attempt.phase("timing"):
                    attempt.workloads.append(timer.run(prepared, generator))
                    if device == "cpu" and self._can_be_watched(attempt):
                        attempt.executing[name] = timer.watch()
            self._note_memory(attempt, session, "timing")
            session.ask("release", _REFERENCE_S)
        cache = self._cache_of(attempt.candidate)
        attempt.composition = agreed(
            [confirmed(attempt.composition, attempt.executing.get(name, {}), cache, attempt.copied) for name in session.workloads]
        )

    @staticmethod
    def _can_be_watched(attempt: _Attempt) -> bool:
        """True where the candidate says that its own code works, and a call is long enough to be found at it."""
        return attempt.composition in (Composition.CUSTOM, Composition.MIXED) and attempt.workloads[-1].candidate.latency_ms >= _WATCHED_MS

    def _compare_with_floor(self, attempt: _Attempt, surveys: Sequence[Survey], limits: dict[str, Limit]) -> None:
        """Set the roofline fraction; a time below the physical floor is not true."""
        bandwidth = limits.get("dram_gb_per_s")
        on_cpu, precision = attempt.info.torch_device == "cpu", attempt.check.precision
        chip = {name: limit.value for name, limit in limits.items()}
        peak = processor_peak(cpu_features(), self._num_threads, precision) if on_cpu else accelerator_peak(chip, precision)
        fractions = []
        for number, workload in enumerate(attempt.workloads):
            inputs, outputs = attempt.check.inputs_bytes[number], attempt.check.outputs_bytes[number]
            latency_ms, flops = workload.candidate.latency_ms, surveys[number].flops
            moved = (inputs if surveys[number].reads_all_inputs else 0) + outputs
            attempt.profile["achieved_gb_per_s"] = (inputs + outputs) / (latency_ms * 1e6)
            computing_ms = floor_ms(flops, peak)
            if flops:
                attempt.profile["achieved_tflops"] = flops / (latency_ms * 1e9)
            if latency_ms < _FLOOR_MARGIN * computing_ms:
                raise Rejected(
                    Status.REWARD_HACK,
                    f"{latency_ms:.4f} ms is less than the {computing_ms:.4f} ms that {flops:.3g} operations take at {peak / 1e12:.3g} TFLOP/s, more than {precision} allows here",
                )
            if bandwidth is None:
                continue
            moving_ms = max(0.0, moved - min(chip.get("l2_bytes", 0.0), outputs)) / (bandwidth.value * 1e6)
            if moving_ms and latency_ms < _FLOOR_MARGIN * moving_ms:
                raise Rejected(
                    Status.REWARD_HACK,
                    f"{latency_ms:.4f} ms is less than the {moving_ms:.4f} ms that moving the inputs and outputs takes at peak bandwidth",
                )
            fractions.append(min(1.0, max(moved / (bandwidth.value * 1e6), computing_ms) / latency_ms))
        if fractions and all(fractions):
            attempt.roofline_fraction = geometric_mean(fractions)
            attempt.profile["roofline_fraction"] = attempt.roofline_fraction

    def _passed(self, attempt: _Attempt) -> Evaluation:
        combined = combine_speedups([item.speedup for item in attempt.workloads])
        speedup: dict[str, Interval] = {name: widen(interval, attempt.spread) for name, interval in combined.items()}
        latency_ms = geometric_mean([item.candidate.latency_ms for item in attempt.workloads])
        evaluation = _evaluation(attempt, Status.PASSED, "", Feedback(profile=attempt.profile))
        return dataclasses.replace(
            evaluation,
            latency_ms=latency_ms,
            speedup=speedup,
            workloads=tuple(attempt.workloads),
            roofline_fraction=attempt.roofline_fraction,
            labels=(*stress_labels(attempt.check.stress, latency_ms), *state_labels([item.device_state for item in attempt.timings])),
        )

    # --- processes and directories -----------------------------------------------------------------------------------------------------------

    def _session(self, problem: Problem, device: str, turn: Callable[[], AbstractContextManager[object]]) -> ReferenceSession:
        """Return the live session of a problem; a new one is opened within a `turn`."""
        key = (problem.source_hash, device)
        session = self._sessions.pop(key, None)
        if session is not None and not session.is_alive():
            session.close()
            session = None
        if session is None:
            while len(self._sessions) >= _MAX_SESSIONS[device == "cpu"]:
                self._sessions.popitem(last=False)[1].close()
            zygote = self._zygote(device)
            directory = Path(tempfile.mkdtemp(prefix="reference-", dir=self._scratch_directory()))
            environment = private_environment(directory, self._baseline_cache(zygote))
            config = {"environment": environment, "num_threads": self._num_threads, "data_bytes": _allowance(device)}
            with turn():
                self._layers_for(device)
                session = ReferenceSession(zygote, problem, device, directory, config)
        self._sessions[key] = session
        self._facts[device] = session.facts
        return session

    def _drop_session(self, problem: Problem, info: TargetInfo) -> None:
        session = self._sessions.pop((problem.source_hash, str(info.torch_device)), None)
        if session is not None:
            session.close()

    def _zygote(self, device: str, *, sanitize: bool = False) -> Zygote:
        key = f"{device} with sanitizers" if sanitize else device
        zygote = self._zygotes.get(key)
        if zygote is not None and zygote.is_alive():
            return zygote
        if zygote is not None:
            zygote.close()
            if not sanitize:
                self._sessions.clear()
        scratch = self._scratch_directory()
        more = sanitizer_environment() if sanitize else {}
        environment = base_environment(scratch, self._slot.accelerator) | more
        if device == "cpu":
            started = Zygote(scratch, environment, ("torch.utils.cpp_extension",), warm_trace=True, cores=self._slot.cores)
        else:
            started = Zygote(scratch, environment, _PRELOAD[: 1 if self._import_fault else None], cores=self._slot.cores)
            if started.touched and not self._import_fault:
                self._import_fault = f"{started.touched} (importing {', '.join(_PRELOAD)})"
                _log.warning("the warm process starts once more, with fewer imports: %s", self._import_fault)
                started.close()
                started = Zygote(scratch, environment, _PRELOAD[:1], cores=self._slot.cores)
        self._zygotes[key] = started
        return started

    def _candidate_process(
        self, attempt: _Attempt, device: str, directory: Path, needed_bytes: int, *, sanitize: bool = False, sees_device: bool = True
    ) -> CandidateProcess:
        cache = self._cache_of(attempt.candidate)
        cache.mkdir(parents=True, exist_ok=True)
        # Where no candidate can write: a link in the place of its source would have us write to wherever it leads.
        source = self._cache / "sources" / attempt.candidate.candidate_id / f"candidate_{attempt.candidate.candidate_id}.py"
        if not source.exists() or source.read_text(encoding="utf-8") != attempt.candidate.source:
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(attempt.candidate.source, encoding="utf-8")
        directory.mkdir(parents=True, exist_ok=True)
        environment = {
            **private_environment(directory, cache),
            **{f"KEVOLVE_BUILD_{name.upper()}": value for name, value in attempt.candidate.build_options.items()},
        }
        if sanitize:
            environment["TORCH_EXTENSIONS_DIR"] = str(cache / "sanitized")
        if not sees_device:
            environment |= NO_DEVICES
        limited = device == "cpu" and not sanitize  # a sanitizer's shadow memory takes terabytes of addresses
        config = {
            "device": device,
            "num_threads": self._num_threads,
            "sanitize": sanitize,
            "environment": environment,
            "confinement": {
                **self._confinement(attempt.problem, cache, directory, self._layers_for(device), source.parent),
                "data_bytes": _allowance(device) if limited else None,
                "address_space_bytes": _ADDRESS_SPACE_BYTES + _ADDRESS_SPACE_FACTOR * needed_bytes if limited else None,
            },
        }
        return CandidateProcess(self._zygote(device, sanitize=sanitize), source, directory, config)

    def _confinement(
        self, problem: Problem | None, cache: Path, directory: Path, layers: Sequence[str], *sources: Path
    ) -> dict[str, Any]:  # Any: JSON
        """Return what a candidate's process may touch: everything but our state, temporary files, this checkout, KernelBench and the problem's file."""
        hidden = [self._home, self._scratch_directory(), Path(tempfile.gettempdir())]
        if (_ROOT / "pyproject.toml").exists():
            hidden.append(_ROOT)
        if os.environ.get("KEVOLVE_KERNELBENCH"):
            hidden.append(Path(os.environ["KEVOLVE_KERNELBENCH"]))
        if problem is not None and problem.path:
            hidden.append(Path(problem.path))
        # The directory that a program was started in is on the path, too: what lies above our state is no library.
        private = [_ROOT, *(path.resolve() for path in hidden)]
        libraries = [
            Path(entry)
            for entry in sys.path
            if Path(entry).is_absolute() and not any(path.is_relative_to(Path(entry).resolve()) for path in private)
        ]
        return {
            "layers": list(layers),
            "hidden": [str(path) for path in hidden],
            "readable": [str(path) for path in (Path(sys.prefix), Path(sys.base_prefix), _ROOT / "tools", *sources, *libraries)],
            "writable": [str(cache), str(directory)],
            "file_bytes": _FILE_LIMIT_BYTES,
            "processes": None,
            "open_files": 4096,
        }

    def _layers_for(self, device: str) -> Sequence[str]:
        """Return the sandbox layers under which the device works; found out once, by trying."""
        if device == "cpu":
            return self._sandbox
        if device not in self._working_layers:
            options = [
                [name for name in self._sandbox if name not in off]
                for count in range(len(_DOUBTFUL_LAYERS) + 1)
                for off in itertools.combinations(_DOUBTFUL_LAYERS, count)
            ]
            self._working_layers[device] = next((option for option in options if self._works_under(device, option)), [])
            missing = set(self._sandbox) - set(self._working_layers[device])
            if missing:
                _log.warning(
                    "%s does not work under the sandbox layers %s; candidates run without them", device, ", ".join(sorted(missing))
                )
        return self._working_layers[device]

    def _works_under(self, device: str, layers: Sequence[str]) -> bool:
        directory = Path(tempfile.mkdtemp(prefix="probe-", dir=self._scratch_directory()))
        config = {
            "device": device,
            "num_threads": 1,
            "environment": private_environment(directory, directory),
            "directory": str(directory),
            "confinement": self._confinement(None, directory, directory, layers),
        }
        worker = self._zygote(device).fork("candidate", config, directory / "output.log")
        try:
            reply = worker.request("probe", _PROBE_S)
            return reply.is_ok and reply.data.get("works") is True
        except (WorkerDiedError, WorkerTimeoutError, WorkerHostileError):
            return False
        finally:
            worker.kill()

    @functools.cached_property
    def _cache(self) -> Path:
        return cache_directory(self._home)

    def _cache_of(self, candidate: Candidate) -> Path:
        return self._cache / "candidates" / candidate.candidate_id

    def _baseline_cache(self, zygote: Zygote) -> Path:
        text = json.dumps([zygote.torch_version, self._num_threads, environment_facts()])
        path = self._cache / "baselines" / hashlib.sha256(text.encode()).hexdigest()[:16]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _scratch_directory(self) -> Path:
        if self._scratch is None:
            try:
                self._cache  # noqa: B018 - made when it is first looked up
                self._scratch = Path(tempfile.mkdtemp(prefix="kevolve-"))
            except OSError as err:
                raise MachineError(f"the evaluator needs a writable state directory and space for temporary files: {err}") from err
        return self._scratch

    def _write_receipt(self, attempt: _Attempt, outcome: Evaluation, previous: Evaluation | None) -> Path:
        self._host = self._host or host_facts()
        content = {
            "evaluation": outcome.to_json(),
            "candidate": dataclasses.asdict(attempt.candidate),
            "problem": {
                "problem_id": attempt.problem.problem_id,
                "path": attempt.problem.path,
                "source_hash": attempt.problem.source_hash,
                "source": attempt.problem.source,
            },
            "target": dataclasses.asdict(attempt.info),
            "effort": dataclasses.asdict(attempt.effort),
            "seed": attempt.seed,
            "calibrated_spread": attempt.spread,
            "previous_receipt": previous.receipt if previous else "",
            "device": dict(self._facts.get(str(attempt.info.torch_device), {})),
            "num_threads": self._num_threads,
            "sandbox": {
                "layers": list(self._working_layers.get(str(attempt.info.torch_device), self._sandbox)),
                "landlock_version": abi_version(),
            },
            "host": self._host,
            "checks": attempt.check.draws,
            "stress": stress_as_json(attempt.check.stress),
            "traces": attempt.check.traces,
            "executing": attempt.executing,
            "sanitizers": attempt.check.sanitizers,
            "timings": [dataclasses.asdict(item) for item in attempt.timings],
            "ahead": {
                "compiled": attempt.compiled,
                "opened": attempt.opened,
                "profiler_fault": self._profiler_fault,
                "import_fault": self._import_fault,
            },
            "memory_bytes": attempt.memory,
            "phases_s": attempt.parts(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            return write_receipt(self._home / "receipts", attempt.candidate.candidate_id, content)
        except OSError as err:
            raise MachineError(
                f"the receipt cannot be written below {self._home}: {err}; free some space or choose another --home"
            ) from err


def _evaluation(attempt: _Attempt, status: Status, reason: str, feedback: Feedback) -> Evaluation:
    return Evaluation(
        candidate_id=attempt.candidate.candidate_id,
        problem_id=attempt.problem.problem_id,
        target=attempt.info.name,
        evidence=attempt.info.evidence,
        status=status,
        reason=reason,
        composition=attempt.composition,
        precision_class=attempt.check.precision,
        feedback=feedback,
    )


def _allowance(device: str) -> int | None:
    """Return how much private memory a process may take; None where the tensors live elsewhere."""
    return memory_allowance_bytes() if device == "cpu" else None


def _usable_cores() -> int:
    from tools.targets.cpu import usable_cores

    return usable_cores()
