"""`kb lint`: whether a folder of documents is fit to be knowledge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, print_json
from kb.commands.options import JsonOption

group = typer.Typer()


@group.command(epilog="Examples: kb lint docs/   |   kb lint docs/ --json")
def lint(
    folder: Annotated[Path, typer.Argument(help="A folder with Markdown documents.")],
    as_json: JsonOption = False,
) -> None:
    """Check documents: front matter, sources, links and anchors, units, contradictions, orphans. Exit code 1: something is to be mended."""
    from kb_ingest.lint.run import lint as run

    report = run(folder)
    if as_json:
        print_json(report.to_json())
    else:
        for finding in report.findings:
            print(finding.to_text(folder))
        count = len(report.findings)
        print(
            f"{count or 'no'} finding{'' if count == 1 else 's'} in {report.num_documents} documents, {len(report.excused)} excused in lint.yaml"
        )
    if report.findings:
        raise typer.Exit(EXIT_NO)
