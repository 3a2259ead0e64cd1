"""Commands of the compiler: lint, compile, roofline, emit, replay-ir. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.console import EXIT_NO, AsJson, KernelBench, errors, exact_target, print_json, stdout

if TYPE_CHECKING:
    from tools.compile.server import CompileServer
    from tools.targets.base import CompileReport

group = typer.Typer()
Source = Annotated[Path, typer.Argument(help="A candidate (a Python file that defines ModelNew), or a kernel document.")]
ProblemOption = Annotated[str, typer.Option("--problem", help="For a candidate: whose inputs start it.")]
AnyChip = Annotated[
    str,
    typer.Option(
        "--target", help="auto, or for example cuda:sm_90, rocm:gfx950, mtia:2i; it need not be here. `kevolve targets` lists them."
    ),
]
Chip = Annotated[str, typer.Option("--target", help="A GPU, for example cuda:sm_90 or rocm:gfx942; it need not be here.")]


@group.command(epilog="Example: kevolve lint kernel.py --target mtia:2i")
def lint(
    sources: Annotated[list[Path], typer.Argument(help="Candidates or other Python files with kernels.")],
    target: AnyChip,
    advisory: Annotated[
        bool, typer.Option("--advisory", help="Ask kernelguard too, if it is installed: what it says decides nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what the rules of a target say about sources, by line; exit code 1 if an error is among it."""
    with errors():
        import dataclasses

        from agents.errors import OptionError
        from tools.check.advisory import advise
        from tools.targets.registry import get_target
        from tools.types import Candidate

        chip = get_target(exact_target(target))
        for source in sources:
            if not source.is_file():
                raise OptionError(f"no such file: {source}; give a Python file with kernels")
        found = {str(path): chip.lint(Candidate(path.read_text(encoding="utf-8"))) for path in sources}
        opinions = {str(path): advise(path.read_text(encoding="utf-8")) for path in sources} if advisory else {}
        if as_json:
            more = {"advisory": {name: dataclasses.asdict(item) for name, item in opinions.items()}} if advisory else {}
            print_json({"findings": {name: [dataclasses.asdict(item) for item in items] for name, items in found.items()}, **more})
        else:
            for name, opinion in opinions.items():
                for line in opinion.findings or (opinion.classification or "no opinion",):
                    typer.echo(f"{name}: advisory ({opinion.scanner}): {line}")
            for name, items in found.items():
                for item in items:
                    typer.echo(f"{name}: {item.severity}: {item}")
            if not any(found.values()):
                typer.echo(f"no rule of {chip.describe().name} finds anything in {', '.join(found)}", err=True)
        if any(item.severity == "error" for items in found.values() for item in items):
            raise typer.Exit(EXIT_NO)


@group.command("compile", epilog="Example: kevolve compile kernel.py --problem problem.py --target cuda:sm_90")
def compile_source(
    source: Annotated[Path, typer.Argument(help="A candidate (a Python file that defines ModelNew).")],
    target: AnyChip,
    problem: Annotated[str, typer.Option("--problem", help="Whose inputs start it.")],
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 120.0,
    kernelbench: KernelBench = None,
    as_json: AsJson = False,
) -> None:
    """Compile a candidate for a chip that need not be here, or judge it where only documents are known; print what each kernel needs, or how long a model says it takes."""
    with errors():
        import dataclasses

        from agents.errors import OptionError
        from tools.problems import load_problem
        from tools.targets.registry import get_target
        from tools.types import Candidate

        if not source.is_file():
            raise OptionError(f"no such file: {source}; give a candidate")
        loaded = load_problem(problem, kernelbench_root=kernelbench)
        report = get_target(exact_target(target)).compile(Candidate(source.read_text(encoding="utf-8")), loaded, timeout_s=timeout)
        if as_json:
            print_json(dataclasses.asdict(report))
        else:
            _print_report(report)
        if report.status in ("error", "timeout"):
            raise typer.Exit(EXIT_NO)


@group.command(epilog="Example: kevolve roofline kernelbench:1/40 --target cuda:sm_90 --kernelbench KernelBench")
def roofline(
    problem: Annotated[str, typer.Argument(help="A file, examples/NAME or kernelbench:LEVEL/NUMBER.")],
    target: AnyChip,
    kernelbench: KernelBench = None,
    as_json: AsJson = False,
) -> None:
    """Say how long a problem takes at a chip's peaks: operator by operator, as a compiler fuses it, and with pointwise work fused everywhere; and what limits it."""
    with errors():
        from agents.coders.library.capture import capture
        from agents.coders.library.rewrites import rewrite
        from agents.coders.library.roofline import STYLES, estimate
        from agents.errors import OptionError
        from tools.problems import load_problem
        from tools.targets.registry import get_target

        target = exact_target(target)
        limits = {name: limit.value for name, limit in get_target(target).limits().items()}
        if missing := {"dram_gb_per_s", "flops_per_s_float32"} - limits.keys():
            raise OptionError(
                f"the document of {target} states no {', '.join(sorted(missing))}; known: chips with both, for example cuda:sm_90"
            )
        rows: list[dict[str, Any]] = []  # Any: JSON
        for workload, graph in capture(load_problem(problem, kernelbench_root=kernelbench).source).workloads:
            for style in STYLES:
                result = estimate(graph if style == "eager" else rewrite(graph).graph, limits, style)
                rows.append(
                    {
                        "workload": workload,
                        "style": style,
                        "ms": result.seconds * 1e3,
                        "bound": result.bound,
                        "share": dict(result.share),
                        "bytes": result.bytes_moved,
                        "flops": result.flops,
                        "passes": len(result.passes),
                    }
                )
        if as_json:
            print_json({"target": target, "estimates": rows})
            return
        from rich.table import Table

        table = Table("workload", "style", "ms", "bound by", "GB", "GFLOP", "passes")
        for row in rows:
            numbers = (f"{row['ms']:.4g}", str(row["bound"]), f"{row['bytes'] / 1e9:.3g}", f"{row['flops'] / 1e9:.3g}", str(row["passes"]))
            table.add_row(str(row["workload"]), str(row["style"]), *numbers)
        stdout().print(table)


def _print_report(report: CompileReport) -> None:
    typer.echo(f"{report.target}: {report.status} ({report.evidence.value})")
    for kernel in report.kernels:
        occupancy = f"{kernel.occupancy_fraction:.0%} ({kernel.limiter})" if kernel.occupancy_fraction is not None else "unknown"
        typer.echo(
            f"  {kernel.kernel}: {kernel.registers} registers, {kernel.spill_bytes} bytes spilled, {kernel.shared_bytes} bytes shared, "
            f"{kernel.num_warps} warps, occupancy {occupancy}, {', '.join(kernel.mma) or 'no matrix unit'}"
        )
    for item in report.estimates:
        busy = sorted(((value, name) for name, value in item.counters.items() if name.endswith("_utilisation")), reverse=True)[:3]
        typer.echo(
            f"  {item.kernel}: {item.low_us:.0f} to {item.high_us:.0f} us, bound by {item.bound_by} ("
            + ", ".join(f"{name.removesuffix('_utilisation')} {value:.0%}" for value, name in busy)
            + f"; {item.counters['waves']:.0f} waves, load balance {item.counters['load_balance']:.0%})"
        )
    for text in filter(None, [*report.error.splitlines(), *report.warnings]):
        typer.echo(f"  {text}")


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
    from tools.problems import load_problem
    from tools.targets.profile import survey_profiles

    chip = survey_profiles()[0][exact_target(target)]
    loaded = load_problem(problem, kernelbench_root=kernelbench) if problem else None
    return emit_stage(text, chip, stage, problem=loaded, example=example, server=server)
