"""Two tools of an LLM coder: stop the compiler at a stage, and replace one passage of its text. The edited text becomes part of kernel.py, so the edit is a candidate like any other."""

from __future__ import annotations

from pathlib import Path

from tools.compile.edited import REPLAYED, STAGES, emit, is_edited, read_stage, with_edited_ir
from tools.errors import ToolsError
from tools.targets.base import CompileReport, EmittedStage
from tools.targets.profile import survey_profiles
from tools.targets.registry import get_target
from tools.types import Candidate, Problem

__all__ = ["StageEditor", "can_replay", "is_edited"]


def can_replay(target: str) -> bool:
    """Tell whether a target's compiler goes on from an edited text."""
    return bool(REPLAYED.get(target.partition(":")[0]))


class StageEditor:
    """What was emitted last of one kernel file, and edits of it.

    Args:
        problem: Whose inputs start the candidate.
        target: The chip.
    """

    def __init__(self, problem: Problem, target: str) -> None:
        self._problem = problem
        self._target = target
        self._emitted_of: Candidate | None = None
        self._report: CompileReport | None = None
        self.files: dict[str, str] = {}
        """The emitted texts under the names that `edit` takes, for example `softmax-0.ttgir`."""

    def emit(self, candidate: Candidate, stage: str) -> str:
        """Compile a candidate up to a stage; return the names of its texts, or why there are none."""
        try:
            profile = survey_profiles()[0][get_target(self._target).describe().name]
            report = emit(candidate.source, profile, stage, problem=self._problem)
        except ToolsError as error:
            return str(error)
        if not report.emitted:
            return report.error or "nothing was compiled: the source launches no Triton kernel"
        self._emitted_of, self._report = candidate, report
        self.files = {_name(item, number): item.text for number, item in enumerate(report.emitted)}
        listed = [f"{_name(item, number)}: {item.kernel} [{item.specialisation}]" for number, item in enumerate(report.emitted)]
        return "\n".join(["Emitted; read a text with read_file, change it with edit_ir:", *listed])

    def edit(self, candidate: Candidate, path: str, old: str, new: str) -> tuple[str, Candidate | None]:
        """Replace one passage of an emitted text; return what to tell the model, and the candidate that carries the edit (None if it was not made)."""
        if self._report is None or self._emitted_of is None or self._emitted_of.candidate_id != candidate.candidate_id:
            stages = ", ".join(STAGES.get(self._target.partition(":")[0], ()))
            return f"kernel.py was not emitted as it is now; call emit_ir first (stages: {stages}).", None
        count = self.files.get(path, "").count(old) if old else 0
        if count != 1:
            return (
                f"The old text occurs {count} times in {path!r}; the texts are {', '.join(self.files)}; give a passage that occurs once.",
                None,
            )
        try:
            item = read_stage(self._report, Path(path), self.files[path].replace(old, new))
            edited = with_edited_ir(candidate, self._report, item)
        except ToolsError as error:
            return str(error), None
        return (
            "kernel.py carries the edited text now, and drops it if the kernel's constants change. Call compile or test to see what it does.",
            edited,
        )


def _name(item: EmittedStage, number: int) -> str:
    return f"{item.kernel}-{number}.{item.stage}"
