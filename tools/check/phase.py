"""The check phase: fresh draws through the candidate's process, statistics from the reference process, the decision here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tools.check import stress
from tools.check.composition import launched_names
from tools.check.decision import describe_mismatch, native_precision_class, precision_class, reject
from tools.check.sanitizers import finding
from tools.check.stress import StressRecord
from tools.check.variation_kinds import draw_kinds
from tools.check.verdict import Rejected
from tools.timing.parts import part
from tools.types import Effort, Feedback, Status
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.session import ReferenceSession

Answer = dict[str, Any]  # Any: JSON
_ECHO_LIMIT_BYTES = 1 << 30
_POISON_LIMIT_BYTES = 1 << 30
_LATE_S = 0.02
_REFERENCE_S = 600.0
_REPORT_BYTES = 64 << 10


@dataclass
class CheckRecord:
    """What the check phase found, for the receipt and for the timing phase."""

    draws: list[Answer] = field(default_factory=list)
    precision: str = ""
    traces: list[Answer] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    inputs_bytes: dict[int, int] = field(default_factory=dict)
    outputs_bytes: dict[int, int] = field(default_factory=dict)
    sanitizers: str = ""
    """`clean`, or why they did not run; empty if they were not asked for."""
    stress: StressRecord = field(default_factory=StressRecord)
    parts_s: dict[str, float] = field(default_factory=dict)
    """Wall time of the check's parts, in s."""


def check_candidate(
    process: CandidateProcess,
    session: ReferenceSession,
    effort: Effort,
    record: CheckRecord,
    *,
    weights_constant: bool,
    when_loaded: Callable[[], None] = lambda: None,
) -> None:
    """Load the candidate and compare its outputs on fresh draws of every workload; fills `record`.

    `when_loaded` is called before its first call, which compiles: what comes after the check may be made ready beside it.

    Raises:
        Rejected: The candidate fails.
        HarnessError: The reference process fails.
    """
    compile_deadline, deadline = Deadline(effort.timeout_s), Deadline(effort.timeout_s)
    is_loaded = False
    all_stats: list[Answer] = []
    for workload, name in enumerate(session.workloads):
        for number, kind in enumerate(draw_kinds(effort.value_seeds)):
            fresh = not weights_constant and (number > 0 or workload > 0)
            seed = secrets.randbits(62)
            with part(record.parts_s, "draw"):
                # The first of several is what the problem itself draws, where others need variation to be telling.
                plain = number == 0 and effort.value_seeds > 1
                draw = session.ask("draw", _REFERENCE_S, workload=workload, seed=seed, kind=kind, fresh_weights=fresh, plain=plain)
            record.inputs_bytes[workload], record.outputs_bytes[workload] = draw["inputs_bytes"], draw["outputs_bytes"]
            record.stress.varied = list(dict.fromkeys([*record.stress.varied, *draw["varied"]]))
            limit = compile_deadline if number == 0 else deadline
            with part(record.parts_s, "load"):
                if not is_loaded:
                    process.load(draw["init"], session.arenas, draw["state"], compile_deadline)
                    is_loaded = True
                    when_loaded()
                else:
                    process.share(session.arenas, deadline)
                    process.load_state(draw["state"], deadline, in_memory=fresh)
            where = f"the first call on workload {name!r}" if number == 0 else "a call"
            with part(record.parts_s, "first_call" if number == 0 else "calls"):
                stats = _check_draw(process, session, workload, draw, limit, where, first=number == 0)
            all_stats.extend(stats)
            classes = {"candidate": precision_class(stats), "eager": native_precision_class(stats)}
            record.draws.append(
                {"workload": name, "seed": seed, "kind": draw["kind"], "varied": draw["varied"], "precision": classes, "statistics": stats}
            )
            _require_right(stats, draw, record.draws[-1])
        with part(record.parts_s, "trace"):
            record.traces.append(process.trace(draw, deadline))
        with part(record.parts_s, "repeat"):
            stress.repeat(process, session, workload, draw, effort, deadline, record.stress)
    record.libraries = process.mapped_libraries()
    record.precision = precision_class(all_stats)
    if launched_names(record.traces):
        with part(record.parts_s, "ghost"):
            stress.leave_kernels_out(process, draw, deadline, record.stress)
    if stress.is_thorough(effort):
        stress.try_broken_copy(process, session, process.source, draw, deadline, record.stress)
        stress.try_other_shapes(process, session, secrets.randbits(62), record.stress, record.traces)


def sanitize_candidate(process: CandidateProcess, session: ReferenceSession, record: CheckRecord, timeout_s: float) -> None:
    """Run an instrumented candidate once on a fresh draw of each workload; values are not judged again. Fills `record.sanitizers`.

    Raises:
        Rejected: A sanitizer reported something.
    """
    deadline = Deadline(timeout_s)
    try:
        for workload in range(len(session.workloads)):
            draw = session.ask(
                "draw", _REFERENCE_S, workload=workload, seed=secrets.randbits(62), kind=draw_kinds(1)[0], fresh_weights=False
            )
            if workload == 0:
                process.load(draw["init"], session.arenas, draw["state"], deadline)
            else:
                process.share(session.arenas, deadline)
            process.call(draw, deadline, "a call with sanitizers", echo=False, poison_bytes=0)
        record.sanitizers = "clean"
    except Rejected as rejected:
        found = finding(process.log_tail(_REPORT_BYTES))
        if found:
            record.sanitizers = found
            raise Rejected(Status.RUNTIME_ERROR, found, Feedback(error=found)) from rejected
        record.sanitizers = f"not run to the end: {rejected.reason}"[:500]


def _check_draw(
    process: CandidateProcess, session: ReferenceSession, workload: int, draw: Answer, deadline: Deadline, where: str, *, first: bool
) -> list[Answer]:
    survey = session.survey(workload, _REFERENCE_S)
    echo = not survey.mutates_inputs and (first or draw["inputs_bytes"] <= _ECHO_LIMIT_BYTES)
    poison_bytes = min(draw["outputs_bytes"], _POISON_LIMIT_BYTES)
    answer = process.call(draw, deadline, where, echo=echo, poison_bytes=poison_bytes, late=not first)
    echoed = echo and answer.get("echoed") is True
    began = time.monotonic()
    compared = session.ask("compare", _REFERENCE_S, echoed=echoed)
    if echo and not echoed:
        raise Rejected(Status.REWARD_HACK, "the inputs could not be read back after the call")
    if compared.get("inputs_changed"):
        raise Rejected(
            Status.REWARD_HACK,
            f"the candidate changed its input number {compared['inputs_changed'][0]}",
            Feedback(error="inputs must not be modified"),
        )
    if answer.get("aliases") is True and not survey.mutates_inputs and not survey.outputs_alias_inputs:
        raise Rejected(
            Status.REWARD_HACK,
            "the output shares memory with an input",
            Feedback(error="return a new tensor, not an input or a view of one"),
        )
    if first:
        time.sleep(max(0.0, _LATE_S - (time.monotonic() - began)))
        process.rewrite(draw["outputs"], deadline)
        if not session.ask("unchanged", _REFERENCE_S)["unchanged"]:
            raise Rejected(
                Status.REWARD_HACK, "the output changed after the call had returned: work was going on behind the evaluator's back"
            )
    for item, shape in zip(compared["stats"], compared["shapes"], strict=True):
        item["shape"] = shape
    return list(compared["stats"])


def _require_right(stats: list[Answer], draw: Answer, note: Answer) -> None:
    for number, item in enumerate(stats):
        reason = reject(item)
        if reason:
            name = "output" if len(stats) == 1 else f"output[{number}]"
            note["rejected"] = reason
            raise Rejected(Status.WRONG_VALUES, f"{name}: {reason}", Feedback(first_mismatch=describe_mismatch(item, item["shape"], name)))
