"""Build what a run needs from a home directory and a configuration: knowledge base, evaluator, lint, coder. The only place that knows the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.coders.registry import create_advisers, create_coder
from agents.config import RunConfig
from agents.context import Report
from agents.driver import Machinery
from agents.profiles import CheapProfiler
from tools.errors import MachineError
from tools.types import Candidate, Evidence

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from tools.targets.base import Target


@contextmanager
def workbench(home: Path, target: str, config: RunConfig, report: Report) -> Iterator[Machinery]:
    """Yield what drives runs on a target; everything is closed, and every worker process ended, on the way out.

    Raises:
        UnknownNameError: No such coder.
        ModelError: The chat model cannot be set up.
        KnowledgeError: The knowledge base cannot be opened.
        ToolsError: No such target, or the machine lacks what it needs.
    """
    from agents.serving.opening import open_evaluator
    from tools.targets.registry import get_target

    chip = get_target(target)
    coder = create_coder(config.coder, config.model, home)
    with ExitStack() as stack:
        base = stack.enter_context(_open_base(home)) if config.use_knowledge else None
        evaluator = stack.enter_context(open_evaluator(config.evaluator, home, target, config.evaluator_slots))
        yield Machinery(
            coder=coder,
            evaluator=evaluator,
            lint=lambda candidate: lint_errors(chip, candidate),
            base=base,
            report=report,
            advisers=create_advisers(config, home),
            profiler=CheapProfiler() if config.profiles and config.evaluator == "local" else None,
        )


def resolve_target(name: str, evaluator: str = "local", *, may_simulate: bool = False) -> str:
    """Return the exact target of a name; `auto` is this machine's accelerator, else its CPU. A service elsewhere is asked what it can measure.

    Args:
        name: `auto`, or a name that `tools.targets.registry` knows.
        evaluator: Where candidates are measured.
        may_simulate: Take a target whose times only a model knows, too.

    Raises:
        UnknownTargetError: No such target.
        MachineError: This machine has no such device, so that nothing could be measured.
    """
    from agents.serving.client import RemoteEvaluator
    from agents.serving.opening import is_far
    from tools.targets.registry import get_target

    if name == "auto":
        import torch

        name = "cuda" if torch.cuda.is_available() else "cpu"
    info = get_target(name).describe()
    if may_simulate and info.evidence is Evidence.SIMULATED:
        return info.name
    if is_far(evaluator):
        with RemoteEvaluator(evaluator, Path(), patience_s=20.0) as service:
            if service.evidence(info.name) != Evidence.MEASURED.value:
                raise MachineError(f"the service at {evaluator} cannot measure {info.name}")
    elif info.evidence is not Evidence.MEASURED:
        raise MachineError(
            f"nothing can be measured for {info.name} here: {info.summary}. This needs measurements; "
            "do it on a machine that has the device, or choose another --target (`kevolve targets` lists them). "
            + (
                f"`kevolve run PROBLEM --target {info.name}` searches by simulated time, `kevolve evaluate` simulates one candidate"
                if info.evidence is Evidence.SIMULATED
                else f"`kevolve compile KERNEL --problem PROBLEM --target {info.name}` says here what its compiler says"
            )
        )
    return info.name


def lint_errors(chip: Target, candidate: Candidate) -> tuple[str, ...]:
    """Return the findings that forbid an evaluation, one line each."""
    findings = [str(finding) for finding in chip.lint(candidate) if finding.severity == "error"]
    if "ModelNew" not in candidate.source:
        findings.insert(0, "no line: the source does not define ModelNew; write the whole file with class ModelNew(torch.nn.Module)")
    return tuple(findings)


def _open_base(home: Path) -> KnowledgeBase:
    from kb.store import KnowledgeBase

    return KnowledgeBase.open(home)
