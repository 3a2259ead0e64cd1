"""Emit and replay: stop the compiler at a stage, edit its text, and go on from there. The edited text travels inside the candidate's source, so the edit has a hash like any other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.compile.toolchain import numbers
from tools.errors import ProblemError
from tools.targets.base import CompileReport, EmittedStage
from tools.targets.profile import Profile
from tools.types import Candidate, Problem

STAGES = {"cuda": ("ttir", "ttgir", "llir", "ptx"), "rocm": ("ttir", "ttgir", "llir", "amdgcn")}
"""Stages with text, by toolchain, in the compiler's order."""
REPLAYED = {"cuda": ("ttgir", "llir", "ptx"), "rocm": ()}
"""Stages that Triton goes on from (its launch option `ir_override`, which only the NVIDIA backend has)."""
_BEGIN = "\n\n# edited IR begin\n"
_END = "# edited IR end\n"
_PARTS = re.compile(re.escape(_BEGIN) + r".*?" + re.escape(_END), re.DOTALL)


def emit(
    source: str,
    profile: Profile,
    stage: str,
    *,
    problem: Problem | None = None,
    example: Mapping[str, Any] | None = None,  # Any: JSON arguments of `launch`
    timeout_s: float = 120.0,
    server: CompileServer | None = None,
) -> CompileReport:
    """Compile what a source launches, and return the report with the text of each launch at a stage.

    Args:
        source: A candidate's, or a kernel document's.
        profile: The chip.
        stage: One of `STAGES` of its toolchain.
        problem: Whose inputs start the candidate.
        example: Arguments of a document's `launch`.
        timeout_s: Time limit.
        server: A compiler that is kept for many calls; default: one for this call.

    Raises:
        ProblemError: The toolchain has no such stage.
    """
    require_stage(profile.target, stage, STAGES)
    job = Job(source, profile.target, numbers(profile), example=example, problem=problem.source if problem else None, emit=stage)
    if server is not None:
        return server.compile(job, timeout_s=timeout_s)
    with CompileServer() as own:
        return own.compile(job, timeout_s=timeout_s)


def with_edited_ir(candidate: Candidate, report: CompileReport, edited: EmittedStage) -> Candidate:
    """Return the candidate with one launch's text replaced; a text that it carried for the same launch before is dropped.

    Args:
        candidate: What was emitted.
        report: The report that it was emitted with.
        edited: The stage with its new text.

    Raises:
        ProblemError: Nothing that was emitted is of this kernel and specialisation, the stage cannot be replayed, or the text did not change.
    """
    require_stage(report.target, edited.stage, REPLAYED)
    places = [
        number for number, item in enumerate(report.emitted) if (item.kernel, item.specialisation) == (edited.kernel, edited.specialisation)
    ]
    if not places:
        known = "; ".join(f"{item.kernel} [{item.specialisation}]" for item in report.emitted) or "none"
        raise ProblemError(f"no launch {edited.kernel} [{edited.specialisation}] was emitted; known: {known}")
    if report.emitted[places[0]].text == edited.text:
        raise ProblemError("the text is what the compiler emits; edit it first")
    launch = next(
        item for item, kernel in zip(report.launches, report.kernels, strict=False) if kernel.specialisation == edited.specialisation
    )
    when = {name: launch.arguments[name] for name in launch.constexprs if isinstance(launch.arguments[name], (bool, int, float, str))}
    when |= {name: value for name, value in launch.options.items() if name in ("num_warps", "num_stages", "num_ctas")}
    block = f"{_BEGIN}{_HELPER}_use_edited_ir({edited.kernel}, {edited.stage!r}, {when!r}, {_quoted(edited.text)})\n{_END}"
    provenance = {**candidate.provenance, "edited_ir": {"of": candidate.candidate_id, "kernel": edited.kernel, "stage": edited.stage}}
    return dataclasses.replace(candidate, source=_PARTS.sub("", candidate.source).rstrip() + block, provenance=provenance)


def is_edited(source: str) -> bool:
    """Tell whether a source carries an edited text."""
    return _PARTS.search(source) is not None


def write_stages(report: CompileReport, folder: Path) -> Sequence[Path]:
    """Write each emitted text to `folder/KERNEL-NUMBER.STAGE` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, item in enumerate(report.emitted):
        path = folder / f"{item.kernel}-{number}.{item.stage}"
        path.write_text(item.text, encoding="utf-8")
        paths.append(path)
    return paths


def read_stage(report: CompileReport, path: Path, text: str | None = None) -> EmittedStage:
    """Return the launch that a file written by `write_stages` belongs to, with the file's text or the one given instead.

    Raises:
        ProblemError: The name is not of that form, or the report has no such launch.
    """
    match = re.fullmatch(r"(\w+)-(\d+)\.(\w+)", path.name)
    if match is None or int(match[2]) >= len(report.emitted) or report.emitted[int(match[2])].kernel != match[1]:
        names = ", ".join(f"{item.kernel}-{number}.{item.stage}" for number, item in enumerate(report.emitted)) or "none"
        raise ProblemError(f"{path.name} is none of the emitted texts; known: {names}")
    return dataclasses.replace(report.emitted[int(match[2])], text=path.read_text(encoding="utf-8") if text is None else text)


def require_stage(target: str, stage: str, known: Mapping[str, Sequence[str]]) -> None:
    """Raise unless a target's toolchain has a stage.

    Raises:
        ProblemError: It has not; the message lists what it has.
    """
    toolchain = target.partition(":")[0]
    stages = known.get(toolchain, ())
    if stage not in stages:
        listed = ", ".join(stages) or "none"
        raise ProblemError(f"no stage {stage!r} for {target}; known: {listed}")


def _quoted(text: str) -> str:
    """Return Python source of a text, raw and readable where it can be."""
    return f'r"""{text}"""' if '"""' not in text and not text.endswith(('"', "\\")) else repr(text)


_HELPER = '''
def _use_edited_ir(kernel, stage, when, text):
    """Have launches with these constants and options compiled from `text`, the kernel at a stage of the compiler."""
    import hashlib
    import os
    import pathlib
    import tempfile

    folder = pathlib.Path(os.environ.get("TRITON_CACHE_DIR", tempfile.gettempdir())) / "edited"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kernel.fn.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.{stage}"
    path.write_text(text)
    launch = kernel.run

    def run(*arguments, **options):
        named = {name: value for name, value in options.items() if name in kernel.signature.parameters}
        bound = {**options, **kernel.signature.bind(*arguments, **named).arguments}
        if all(bound.get(name) == value for name, value in when.items()):
            options["ir_override"] = str(path)
        return launch(*arguments, **options)

    kernel.run = run


'''
