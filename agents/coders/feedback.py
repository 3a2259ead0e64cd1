"""An evaluation in the words that a writer of kernels is told."""

from __future__ import annotations

from tools.targets.mtia_model import TIME_MODEL
from tools.types import Evaluation, Evidence, Status


def describe(evaluation: Evaluation) -> str:
    """Return status, numbers and feedback, one fact a line."""
    lines = [f"status: {evaluation.status.value}"]
    if evaluation.status is Status.PASSED:
        lines.append("not timed: the device is not here" if evaluation.latency_ms is None else f"latency_ms: {evaluation.latency_ms:.6g}")
        is_simulated = evaluation.evidence is Evidence.SIMULATED
        if is_simulated and evaluation.latency_ms is not None:
            lines.append(f"times are simulated by {TIME_MODEL}, not measured")
        for name, interval in evaluation.speedup.items():
            kind = "the model's interval" if is_simulated else "95 % interval"
            lines.append(f"speedup over {name}: {interval.value:.3f} ({kind} {interval.low:.3f} to {interval.high:.3f})")
        if evaluation.speedup:
            lines.append(f"fitness (the smaller speedup): {evaluation.fitness:.3f}")
        if len(evaluation.workloads) > 1:
            lines += [f"workload {item.workload}: {item.candidate.latency_ms:.6g} ms" for item in evaluation.workloads]
        if evaluation.latency_ms is not None:
            lines.append(f"the work is done by: {evaluation.composition.value}; precision class: {evaluation.precision_class or 'unknown'}")
        if evaluation.roofline_fraction is not None:
            lines.append(f"fraction of the physical floor: {evaluation.roofline_fraction:.2f} (1.00 cannot be beaten)")
        lines += [f"{name}: {value:.4g}" for name, value in sorted(evaluation.feedback.profile.items()) if name != "roofline_fraction"]
    else:
        feedback = evaluation.feedback
        lines += [f"reason: {evaluation.reason}"] if evaluation.reason else []
        lines += list(feedback.lint)
        lines += [text for text in (feedback.first_mismatch, feedback.error) if text and text not in evaluation.reason]
    return "\n".join(lines)
