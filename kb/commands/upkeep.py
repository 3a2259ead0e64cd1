"""`kb check`: whether the store is sound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import HomeOption, JsonOption

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from kb.types import CheckReport

group = typer.Typer()


@group.command(epilog="Examples: kb check   |   kb check --repair   |   kb check --citations 200")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found, from the catalogue.")] = False,
    citations: Annotated[
        int,
        typer.Option("--citations", min=0, help="Also read the files of this many random chunks again: is the text at the span the chunk?"),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Decides which chunks --citations draws.")] = 0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for inconsistencies between documents, text index and vectors."""
    with open_base(home) as base:
        report = base.check(repair)
        if citations:
            report = _with_citations(base, report, citations, seed)
    if as_json:
        print_json({"consistent": not report.problems, "problems": report.problems, "repaired": report.repaired, "counts": report.counts})
    else:
        for line in report.repaired:
            print(f"repaired: {line}")
        for line in report.problems:
            print(f"problem: {line}")
        if report.problems and not repair:
            print("`kb check --repair` mends what the catalogue can mend")
        if not report.problems:
            print(f"consistent: {report.counts.get('documents', 0)} documents, {report.counts.get('chunks', 0)} chunks")
    if report.problems:
        raise typer.Exit(EXIT_NO)


def _with_citations(base: KnowledgeBase, report: CheckReport, number: int, seed: int) -> CheckReport:
    """Return the report with a problem for each drawn chunk that its span does not hold."""
    import random

    from kb_ingest.citations import check_citations

    found = check_citations(base, number, random.Random(seed))
    problems = [f"chunk {item.chunk_id} of {item.source}:{item.line_start}-{item.line_end}: {item.reason}" for item in found.false]
    counts = {**report.counts, "citations_checked": found.num_checked, "citations_verbatim": found.num_verbatim}
    return replace(report, problems=(*report.problems, *problems), counts=counts)
