"""Compiler and evaluator in the hands of a coder, while a session goes on. See `agents.coders.base.Instruments`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.errors import BudgetExhausted
from agents.explain_diagnosis import cause_text
from agents.profiles import profiled
from agents.runs.hashing import normalised_hash
from agents.threads import in_thread
from tools.types import Candidate, Evaluation

if TYPE_CHECKING:
    from agents.context import RunContext
    from tools.targets.base import CompileReport

COMPILE_TIMEOUT_S = 120.0


class RunInstruments:
    """The instruments of one `write` of a session.

    Args:
        context: The run.
        tests: Evaluations that may be spent on tests; one must be left for the candidate that is handed in.
    """

    def __init__(self, context: RunContext, tests: int) -> None:
        self._context = context
        self._tests = tests
        self.used = 0
        """Evaluations spent on tests."""

    async def compile(self, candidate: Candidate) -> str:
        """See `Instruments.compile`."""
        from tools.errors import ToolsError
        from tools.targets.registry import get_target

        context = self._context
        cache = context.store.home / "cache" / "compile"

        def build() -> CompileReport:
            return get_target(context.target).compile(candidate, context.problem, timeout_s=COMPILE_TIMEOUT_S, cache=cache)

        try:
            return report_text(await in_thread(build))
        except ToolsError as error:
            return f"The compiler cannot be used here: {error}"

    async def test(self, candidate: Candidate) -> Evaluation | None:
        """See `Instruments.test`."""
        context = self._context
        findings = tuple(await in_thread(lambda: context.lint(candidate)))
        if findings:
            return context.refused(candidate, findings)
        source_hash = normalised_hash(candidate)
        known = context.store.evaluation(context.run_id, source_hash, "search")
        if known is None:
            if self.used >= self._tests:
                return None
            self.used += 1
        try:
            return await context.evaluate(candidate, source_hash, "search")
        except BudgetExhausted:
            return None

    async def profile(self, candidate: Candidate) -> str:
        """See `Instruments.profile`."""
        context = self._context
        found = await profiled(context, candidate)
        return (
            cause_text(found)
            if found is not None
            else "No profile: there is no profiler here, it saw nothing, or the run's profiles are used up."
        )


def report_text(report: CompileReport) -> str:
    """Return a compile report for a coder: errors and warnings, then what each kernel needs."""
    lines = [f"{report.status} for {report.target}"]
    lines += [report.error] if report.error else []
    lines += [f"warning: {warning}" for warning in report.warnings]
    for kernel in report.kernels:
        facts = {
            "warps": kernel.num_warps,
            "shared bytes": kernel.shared_bytes,
            "registers": kernel.registers,
            "spill bytes": kernel.spill_bytes,
            "occupancy": kernel.occupancy_fraction,
            "limited by": kernel.limiter or None,
            "matrix instructions": ", ".join(kernel.mma) or None,
            "widest load bytes": kernel.load_vector_bytes,
        }
        told = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
        lines.append(f"{kernel.kernel} ({kernel.specialisation[:200]}): {told}")
    for estimate in report.estimates:
        lines.append(
            f"model of {estimate.kernel}: {estimate.value_us:.4g} us ({estimate.low_us:.4g} to {estimate.high_us:.4g}), bound by {estimate.bound_by}"
        )
    if report.status == "nothing_to_compile":
        lines.append("C++ inside a Python file is compiled when the candidate is tested.")
    return "\n".join(lines)
