"""Commands that look inside: profile, explain. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import EXIT_MACHINE, AsJson, Home, KernelBench, errors, exact_target, home_of, print_json

group = typer.Typer()


@group.command(epilog="Example: kevolve profile kernel.py --problem examples/masked_softmax.py --target cpu; kevolve profile trace.json.gz")
def profile(
    candidate: Annotated[
        Path,
        typer.Argument(
            help="A candidate (a Python file that defines ModelNew), or a profiler's file: Chrome trace, ncu CSV, rocprof CSV, Proton tree."
        ),
    ],
    problem: Annotated[str, typer.Option(help="For a candidate: as for `kevolve run`.")] = "",
    target: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, or an exact one. A profiler's file: empty, unless it should be held against a target's peaks."),
    ] = "",
    passes: Annotated[
        str,
        typer.Option(
            help="Of compile, torch, ncu, proton, perf, tritonparse, regions, separated by commas. Default: what suits the target."
        ),
    ] = "",
    which: Annotated[str, typer.Option(help="candidate or reference.")] = "candidate",
    calls: Annotated[int, typer.Option(min=1, help="Calls that are recorded.")] = 5,
    workload: Annotated[int, typer.Option(min=0, help="Index of the problem's workload.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the input values.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for each pass.")] = 300.0,
    out: Annotated[
        Path | None, typer.Option(help="Write the record (JSON) here; a folder of the same name with .files keeps the tools' own files.")
    ] = None,
    emit_scripts: Annotated[
        Path | None,
        typer.Option(
            "--emit-scripts",
            help="Only write standalone scripts for torch.profiler, ncu, Proton, rocprofv3 and TritonBench into this folder.",
        ),
    ] = None,
    kernelbench: KernelBench = None,
    as_json: AsJson = False,
) -> None:
    """Profile a candidate with several tools into one record, name the dominant cause, and say what could not be measured and why. Exit code 3 if nothing was."""
    with errors():
        from agents.errors import OptionError
        from tools.languages import language_of
        from tools.profiling.collect import Request, collect
        from tools.profiling.emit import Settings, script_files, write_scripts
        from tools.targets.registry import get_target
        from tools.types import Candidate

        if which not in ("candidate", "reference"):
            raise OptionError(f"--which is candidate or reference, got {which!r}")
        if not candidate.is_file():
            raise OptionError(f"no such file: {candidate}; give a Python file that defines ModelNew, or a profiler's file")
        if candidate.suffix != ".py":
            _show(_imported(candidate, target), candidate.name, target, out, as_json)
            return
        if not problem:
            raise OptionError("give --problem: whose inputs the candidate gets")
        from tools.problems import load_problem

        loaded = load_problem(problem, kernelbench_root=kernelbench)
        source = candidate.read_text(encoding="utf-8")
        if which == "candidate" and "ModelNew" not in source:
            raise OptionError(f"{candidate} defines no ModelNew; for the problem's own Model: --which reference")
        written = Candidate(source=source, language=language_of(source))
        exact = exact_target(target or "auto")
        if emit_scripts is not None:
            device = get_target(exact).describe().torch_device or "cpu"
            paths = write_scripts(
                script_files(written, loaded, Settings(device=device, seed=seed, workload=workload, calls=calls)), emit_scripts
            )
            if as_json:
                print_json({"files": [str(path) for path in paths]})
            else:
                typer.echo(f"{len(paths)} files in {emit_scripts}; see {emit_scripts / 'README.md'}")
            return
        keep = out.with_suffix(".files") if out is not None else None
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        chosen = tuple(name.strip() for name in passes.split(",") if name.strip())
        found = collect(Request(written, loaded, exact, chosen, which, calls, seed, workload, timeout), keep=keep)
        _show(found, f"{which} {written.candidate_id} on {loaded.problem_id}", exact, out, as_json)


def _imported(path: Path, target: str) -> object:
    from tools.profiling.derive import against_peaks
    from tools.profiling.formats.registry import read_profile_file

    found = read_profile_file(path)
    name = exact_target(target) if target else found.target
    limits = _limits(name)
    return against_peaks(found, limits, name) if limits else found


def _limits(target: str) -> dict[str, float]:
    from tools.errors import ToolsError
    from tools.targets.registry import get_target

    try:
        return {name: limit.value for name, limit in get_target(target).limits().items()} if target else {}
    except ToolsError:
        return {}  # a file may come from a chip that no document describes


def _show(found: object, name: str, target: str, out: Path | None, as_json: bool) -> None:
    from tools.profiling.rules import diagnose_profile
    from tools.profiling.text import as_markdown, diagnosis_json
    from tools.profiling.types import Profile

    assert isinstance(found, Profile)
    diagnosis = diagnose_profile(found, _limits(target or found.target))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    if as_json:
        print_json({**found.to_json(), "diagnosis": diagnosis_json(diagnosis)})
    else:
        typer.echo(as_markdown(found, name, diagnosis))
    if not found.kernels and not found.regions and not found.host:
        raise typer.Exit(EXIT_MACHINE)


@group.command(
    epilog="Examples: kevolve explain 4f2a; kevolve explain before.json after.json; kevolve explain slow.py fast.py --problem examples/masked_softmax.py --target cuda:sm_90"
)
def explain(
    first: Annotated[
        str,
        typer.Argument(
            metavar="RUN|A", help="A run (its first passing node against its best), or a record, a profiler's file or a candidate."
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="[B]", help="What A is compared with.")] = "",
    problem: Annotated[str, typer.Option(help="For candidates: as for `kevolve run`.")] = "",
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one.")] = "",
    passes: Annotated[str, typer.Option(help="As for `kevolve profile`.")] = "",
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Say why B is faster or slower than A: which figures moved, by how much, and which lines of the code changed with them."""
    with errors():
        from agents.errors import OptionError
        from agents.explain import explain_run, explain_two, explanation_json, explanation_text, open_side

        if second:
            chosen = tuple(name.strip() for name in passes.split(",") if name.strip())
            sides = [open_side(Path(path), problem, target, chosen, kernelbench) for path in (first, second)]
            found = explain_two(*sides)
        elif Path(first).is_file():
            raise OptionError(f"{first} is a file, and nothing is given to compare it with; give two files, or the id of one run")
        else:
            found = explain_run(home_of(home), first, tuple(name.strip() for name in passes.split(",") if name.strip()))
        if as_json:
            print_json(explanation_json(found))
        else:
            typer.echo(explanation_text(found))
