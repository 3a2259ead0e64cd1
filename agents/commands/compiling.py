"""Commands of the compiler: emit, replay-ir. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.console import EXIT_NO, AsJson, KernelBench, errors, print_json, stdout

if TYPE_CHECKING:
    from tools.compile.server import CompileServer
    from tools.targets.base import CompileReport

group = typer.Typer()
Source = Annotated[Path, typer.Argument(help="A candidate (a Python file that defines ModelNew), or a kernel document.")]
ProblemOption = Annotated[str, typer.Option("--problem", help="For a candidate: whose inputs start it.")]
Chip = Annotated[str, typer.Option("--target", help="An exact GPU target, for example cuda:sm_90 or rocm:gfx942; it need not be here.")]


@group.command(
    epilog="Example: kevolve emit kernel.py --problem examples/masked_softmax.py --target cuda:sm_90 --stage ttgir --out stages/"
)
def emit(
    source: Source,
    target: Chip,
    stage: Annotated[str, typer.Option(help="ttir, ttgir, llir, ptx (NVIDIA) or amdgcn (AMD).")] = "ttgir",
    problem: ProblemOption = "",
    out: Annotated[Path, typer.Option(help="Folder for the texts, one file a launch.")] = Path("stages"),
    kernelbench: KernelBench = None,
    as_json: AsJson = False,
) -> None:
    """Compile up to a stage and write the text of every kernel there, to be edited and given to `kevolve replay-ir`."""
    with errors():
        from tools.compile.edited import write_stages
        from tools.compile.server import CompileServer

        with CompileServer() as server:
            report = _emitted(server, source, target, stage, problem, kernelbench)
        paths = write_stages(report, out)
        if as_json:
            print_json({"status": report.status, "error": report.error, "files": [str(path) for path in paths]})
        else:
            for path, item in zip(paths, report.emitted, strict=True):
                typer.echo(f"{path}  {item.kernel} [{item.specialisation}]")
            if report.error:
                typer.echo(report.error, err=True)
        if not paths:
            raise typer.Exit(EXIT_NO)


@group.command(
    "replay-ir",
    epilog="Example: kevolve replay-ir stages/softmax-0.ttgir --source kernel.py --problem examples/masked_softmax.py --target cuda:sm_90 --out edited.py",
)
def replay_ir(
    edited: Annotated[Path, typer.Argument(help="An edited text, under the name that `kevolve emit` gave it.")],
    source: Annotated[Path, typer.Option(help="The candidate that it was emitted from.")],
    target: Chip,
    problem: ProblemOption,
    out: Annotated[Path, typer.Option(help="Where the candidate with the edited text goes.")] = Path("edited.py"),
    kernelbench: KernelBench = None,
    as_json: AsJson = False,
) -> None:
    """Compile on from an edited text; write a candidate that carries it, ready for `kevolve evaluate`; report what changed in its resources."""
    with errors():
        import dataclasses

        from tools.compile.edited import read_stage, with_edited_ir
        from tools.compile.server import CompileServer
        from tools.types import Candidate

        with CompileServer() as server:
            before = _emitted(server, source, target, edited.suffix.lstrip("."), problem, kernelbench)
            item = read_stage(before, edited)
            candidate = with_edited_ir(Candidate(source.read_text(encoding="utf-8")), before, item)
            after = _emit_text(server, candidate.source, target, item.stage, problem, kernelbench)
        if after.status == "compiled":
            out.write_text(candidate.source, encoding="utf-8")
        number = before.emitted.index(next(each for each in before.emitted if each.specialisation == item.specialisation))
        rows = [
            {
                "figure": field.name,
                "before": getattr(before.kernels[number], field.name),
                "after": getattr(after.kernels[number], field.name),
            }
            for field in dataclasses.fields(before.kernels[number])
            if field.name not in ("kernel", "specialisation") and number < len(after.kernels)
        ]
        if as_json:
            written = str(out) if after.status == "compiled" else None
            print_json(
                {
                    "status": after.status,
                    "error": after.error,
                    "candidate": written,
                    "candidate_id": candidate.candidate_id,
                    "resources": rows,
                }
            )
        else:
            from rich.table import Table

            table = Table("", "before", "after")
            for row in rows:
                table.add_row(str(row["figure"]), str(row["before"]), str(row["after"]))
            stdout().print(table)
            typer.echo(after.error or f"{out}: candidate {candidate.candidate_id}, compiled in {after.seconds:.1f} s")
        if after.status != "compiled":
            raise typer.Exit(EXIT_NO)


def _emitted(server: CompileServer, source: Path, target: str, stage: str, problem: str, kernelbench: Path | None) -> CompileReport:
    from agents.errors import OptionError
    from tools.compile.toolchain import read_kernel_document

    if not source.is_file():
        raise OptionError(f"no such file: {source}; give a candidate or a kernel document")
    document = read_kernel_document(source) if source.suffix == ".md" else None
    if document is not None:
        return _emit_text(server, document.source, target, stage, "", kernelbench, document.example)
    if not problem:
        raise OptionError("a candidate needs --problem, whose inputs start it")
    return _emit_text(server, source.read_text(encoding="utf-8"), target, stage, problem, kernelbench)


def _emit_text(
    server: CompileServer,
    text: str,
    target: str,
    stage: str,
    problem: str,
    kernelbench: Path | None,
    example: Mapping[str, Any] | None = None,  # Any: JSON
) -> CompileReport:
    from tools.compile.edited import emit as emit_stage
    from tools.errors import UnknownTargetError
    from tools.problems import load_problem
    from tools.targets.profile import load_profiles

    profiles = load_profiles()
    if target not in profiles:
        raise UnknownTargetError(f"no target {target!r}; known: {', '.join(sorted(profiles))}")
    loaded = load_problem(problem, kernelbench_root=kernelbench) if problem else None
    return emit_stage(text, profiles[target], stage, problem=loaded, example=example, server=server)
