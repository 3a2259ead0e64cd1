"""`kb eval`: how well the base answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kb.commands.console import print_json, show_progress
from kb.commands.options import EmbedderOption, JsonOption

group = typer.Typer()


@group.command("eval", epilog="Examples: kb eval bench/scifact   |   kb eval bench/scifact --home /tmp/eval-home --json")
def evaluate(
    suite: Annotated[Path, typer.Argument(help="A folder with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR form).")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many queries.")] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Where the suite's own base is kept (default: a folder in the cache, reused next time).")
    ] = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Measure retrieval on a suite: nDCG@10, recall and MRR of each leg and of the default, with paired significance and latency."""
    from kb.measure import measure

    with show_progress() as on_progress:
        report = measure(suite, home, embedder, limit, on_progress)
    if as_json:
        print_json(report.to_json())
    else:
        print(report.to_text())
