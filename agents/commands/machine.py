"""Commands about this machine: targets, doctor. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import typer

from agents.commands.console import EXIT_MACHINE, AsJson, Home, errors, home_of, print_json, stdout

group = typer.Typer()


@group.command(epilog="Example: kevolve targets --json")
def targets(as_json: AsJson = False) -> None:
    """List the targets, and what this machine can prove about each; documents that cannot be used are named on stderr."""
    with errors():
        from tools.targets.registry import get_target, known_targets, unusable_documents

        infos = [get_target(name).describe() for name in known_targets()]
        if as_json:
            rows = [
                {
                    "name": info.name,
                    "family": info.family,
                    "evidence": info.evidence.value,
                    "summary": info.summary,
                    "document": info.document,
                }
                for info in infos
            ]
            print_json({"targets": rows, "unusable": list(unusable_documents())})
            return
        from rich.table import Table
        from rich.text import Text

        table = Table("target", "family", "evidence here", "what it is")
        for info in infos:
            table.add_row(info.name, info.family, info.evidence.value, Text(info.summary))
        stdout().print(table)
        for fault in unusable_documents():
            typer.echo(f"kevolve: cannot be used: {fault}", err=True)


@group.command(epilog="Example: kevolve doctor")
def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Check that this machine has what a run needs; exit code 3 if something is missing."""
    with errors():
        from agents.doctor import examine

        findings = examine(home_of(home))
        if as_json:
            print_json({"findings": [finding.to_json() for finding in findings]})
        else:
            from rich.text import Text

            for finding in findings:
                mark = "ok     " if finding.is_fine else "missing" if finding.is_needed else "note   "
                stdout().print(Text(f"{mark}  {finding.name}: {finding.detail}"), highlight=False, soft_wrap=True)
        if any(finding.is_needed and not finding.is_fine for finding in findings):
            raise typer.Exit(EXIT_MACHINE)
