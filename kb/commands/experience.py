"""`kb lessons`: what was learned from evaluations."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import HomeOption, JsonOption

group = typer.Typer()


@group.command(
    epilog="Examples: kb lessons --target cuda:sm_90   |   kb lessons --target cpu --status retired --json   |   kb lessons --target cpu --retire-stale"
)
def lessons(
    target: Annotated[str, typer.Option("--target", help="Where they must hold, for example cuda:sm_90 or cpu.")],
    question: Annotated[str | None, typer.Option("--question", help="Rank by relevance to this.")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="provisional, promoted or retired (default: the first two). Repeatable.")
    ] = None,
    retire_stale: Annotated[
        bool, typer.Option("--retire-stale", help="First retire provisional lessons without fresh evidence for about 18 months.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List lessons with their effect, status and evidence: promoted ones first, fresh ones before old ones."""
    with open_base(home) as base:
        if retire_stale:
            base.retire_stale_lessons(time.time())
        wanted = tuple(status) if status else ("provisional", "promoted")
        found = base.lessons(target, question, status=wanted, limit=1000)
        evidence = {match.lesson_id: base.lesson_evidence(match.lesson_id) for match in found}
    if as_json:
        print_json(
            [
                {**dataclasses.asdict(match), "measurements": [dataclasses.asdict(item) for item in evidence[match.lesson_id]]}
                for match in found
            ]
        )
    else:
        for match in found:
            lesson = match.lesson
            print(f"{match.lesson_id}  {lesson.status}, strength {match.strength:.2f}, {len(evidence[match.lesson_id])} measurements")
            print(f"   {lesson.claim}  {lesson.effect:.3f}x ({lesson.effect_low:.3f} to {lesson.effect_high:.3f})")
        if not found:
            print("no lessons")
    if not found:
        raise typer.Exit(EXIT_NO)
