"""`kb check`: whether the store is sound."""

from __future__ import annotations

from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import HomeOption, JsonOption

group = typer.Typer()


@group.command(epilog="Examples: kb check   |   kb check --repair")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found, from the catalogue.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for inconsistencies between documents, text index and vectors."""
    with open_base(home) as base:
        report = base.check(repair)
    if as_json:
        print_json({"consistent": not report.problems, "problems": report.problems, "repaired": report.repaired, "counts": report.counts})
    else:
        for line in report.repaired:
            print(f"repaired: {line}")
        for line in report.problems:
            print(f"problem: {line}")
        if not report.problems:
            print(f"consistent: {report.counts.get('documents', 0)} documents, {report.counts.get('chunks', 0)} chunks")
    if report.problems:
        raise typer.Exit(EXIT_NO)
