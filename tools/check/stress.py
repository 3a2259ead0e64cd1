"""What a candidate that is right goes through besides: repeats, kernels left out, a broken copy, other shapes. Runs in the check's process, decided here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.check.composition import arithmetic_names, kernel_times, launched_names
from tools.check.decision import reject
from tools.check.verdict import Rejected
from tools.errors import HarnessError
from tools.types import FULL, Effort, Feedback, Status
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.session import ReferenceSession

Answer = dict[str, Any]  # Any: JSON
_REFERENCE_S = 600.0
_REPEATS = {"quick": (4, 0.05), "full": (24, 2.0)}
"""Calls with the same inputs, and after how many seconds no further one starts (two are made always)."""
_OTHER_SHAPE_S = 30.0
_OVERHEAD_BOUND_MS = 0.010
"""Below this a call is mostly launch and timer."""


@dataclass
class StressRecord:
    """What the stress found, for the receipt."""

    repeats: int = 0
    differing: int = 0
    """Repeats whose output was not bitwise the first one's."""
    reuses_output: bool = False
    """The outputs of two calls share memory."""
    launches_left_out: int = 0
    is_fig_leaf: bool = False
    """The output is the same, bit for bit, without the Triton kernels."""
    broken_copy: str = ""
    """Why the broken copy was rejected; empty if none was tried."""
    varied: list[str] = field(default_factory=list)
    """What had to differ from the problem's own for outputs to depend on inputs, as labels: `weights_amplified`, `inputs_contrasted`."""
    held_out: Answer = field(default_factory=dict)
    """Values of the problem's sizes that were tried besides, with the outcome; empty if none was."""


def repeat(
    process: CandidateProcess,
    session: ReferenceSession,
    workload: int,
    draw: Answer,
    effort: Effort,
    deadline: Deadline,
    record: StressRecord,
) -> None:
    """Call with the same inputs again, under other conditions, and judge the output that differs most.

    Raises:
        Rejected: It is wrong.
    """
    if session.survey(workload, _REFERENCE_S).mutates_inputs:
        return
    calls, seconds = _REPEATS.get(effort.name, _REPEATS["quick"])
    answer = process.repeat(draw, deadline, calls=calls, seconds=seconds)
    record.repeats += _count(answer.get("calls"))
    record.differing += _count(answer.get("differing"))
    record.reuses_output |= answer.get("reused") is True
    if not answer.get("differing"):
        return
    process.rewrite(draw["outputs"], deadline)
    for item in session.ask("compare", _REFERENCE_S, echoed=False)["stats"]:
        reason = reject(item)
        if reason:
            differing, of = _count(answer.get("differing")), _count(answer.get("calls"))
            text = f"right at first, but not each time for the same inputs ({differing} of {of} repeats differ): {reason}"
            raise Rejected(
                Status.WRONG_VALUES, text, Feedback(error="results differ between calls with the same inputs: a race or unwritten memory")
            )


def leave_kernels_out(process: CandidateProcess, draw: Answer, deadline: Deadline, record: StressRecord) -> None:
    """Call without the Triton launches; whoever returns the same output had its work done elsewhere."""
    answer = process.ghost(draw, deadline)
    record.launches_left_out = _count(answer.get("left_out"))
    record.is_fig_leaf = record.launches_left_out > 0 and answer.get("same") is True


def try_broken_copy(
    process: CandidateProcess, session: ReferenceSession, source: Path, draw: Answer, deadline: Deadline, record: StressRecord
) -> None:
    """Send the same source, broken on purpose, through the same checks; it must be rejected.

    Raises:
        HarnessError: It passes: the checks do not look at the candidate.
    """
    broken = source.with_name(f"broken_{source.name}")
    broken.write_text(source.read_text(encoding="utf-8") + _BROKEN, encoding="utf-8")
    try:
        process.load(draw["init"], session.arenas, draw["state"], deadline, source=broken)
        process.call(draw, deadline, "a call of the broken copy", echo=False, poison_bytes=0)
        stats = session.ask("compare", _REFERENCE_S, echoed=False)["stats"]
    except Rejected as rejected:
        record.broken_copy = f"{rejected.status.value}: {rejected.reason}"[:300]
        return
    finally:
        broken.unlink(missing_ok=True)
    record.broken_copy = next((reason for item in stats if (reason := reject(item))), "")
    if not record.broken_copy and any(int(item["numel"]) for item in stats):
        raise HarnessError(
            "a copy of the candidate that was broken on purpose passed the check, so the check says nothing about the candidate"
        )


def try_other_shapes(process: CandidateProcess, session: ReferenceSession, seed: int, record: StressRecord, traces: list[Answer]) -> None:
    """Ask for sizes that the problem was not written for; a candidate that cannot is specialised, not wrong."""
    draw = session.ask("held_out", _REFERENCE_S, seed=seed)
    if not draw["changed"]:
        return
    deadline = Deadline(_OTHER_SHAPE_S)
    record.held_out = {"values": draw["changed"], "is_right": False}
    try:
        process.load(draw["init"], session.arenas, draw["state"], deadline)
        process.call(draw, deadline, "a call with other sizes", echo=False, poison_bytes=draw["outputs_bytes"])
        stats = session.ask("compare", _REFERENCE_S, echoed=False)["stats"]
        reason = next((reason for item in stats if (reason := reject(item))), "")
        record.held_out |= {"is_right": not reason, "reason": reason}
        if not reason:
            trace = process.trace(draw, deadline)
            record.held_out["by_library"] = _has_own(traces) and not _has_own([trace])
    except Rejected as rejected:
        record.held_out["reason"] = f"{rejected.status.value}: {rejected.reason}"[:300]


def labels(record: StressRecord, latency_ms: float) -> tuple[str, ...]:
    """Return what a reader of the result should know of it; `latency_ms` is the median time of one call."""
    found = list(record.varied)
    if record.held_out and (not record.held_out["is_right"] or record.held_out.get("by_library")):
        found.append("shape_specialised")
    if record.differing:
        found.append("not_bitwise_repeatable")
    if record.reuses_output:
        found.append("reuses_output_buffer")
    if latency_ms < _OVERHEAD_BOUND_MS:
        found.append("overhead_bound")
    return tuple(found)


def is_thorough(effort: Effort) -> bool:
    """True for finalists, which take the broken copy and other shapes, too."""
    return effort.name == FULL.name


def as_json(record: StressRecord) -> Answer:
    """Return the record for the receipt."""
    return dataclasses.asdict(record)


def _has_own(traces: list[Answer]) -> bool:
    """True if kernels of the candidate's own ran: by the profiler's names where there is a profile, else by the absence of computing operators."""
    kernels = kernel_times(traces)
    if kernels:
        return bool(set(kernels) & launched_names(traces))
    return not arithmetic_names(traces)


def _count(value: Any) -> int:  # Any: JSON from the candidate's process
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


_BROKEN = """


_kevolve_whole = ModelNew


def _kevolve_broken(value):
    import torch

    if isinstance(value, torch.Tensor):
        flat = value.clone().reshape(-1)
        part = flat[: max(1, flat.numel() // 5)]
        part.copy_(~part if value.dtype == torch.bool else part * 3 + 7)
        return flat.reshape(value.shape)
    if isinstance(value, (list, tuple)):
        return type(value)([_kevolve_broken(item) for item in value])
    return {name: _kevolve_broken(item) for name, item in value.items()} if isinstance(value, dict) else value


def ModelNew(*arguments, **named):
    model = _kevolve_whole(*arguments, **named)
    whole = model.forward if hasattr(model, "forward") else model
    broken = lambda *inputs, **more: _kevolve_broken(whole(*inputs, **more))
    if not hasattr(model, "forward"):
        return broken
    object.__setattr__(model, "forward", broken)
    return model
"""
