"""`kb eval`: how well the base answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.advising import ModelIdOption, ModelOption, ModelUrlOption, RecordOption, advised
from kb.commands.console import print_json, show_progress
from kb.commands.options import EmbedderOption, JsonOption

if TYPE_CHECKING:
    from kb.deep.advisor import Advisor

group = typer.Typer()


@group.command(
    "eval",
    epilog="Examples: kb eval bench/scifact   |   kb eval evaluation/suites/retrieval --root . --split held_out --json   |   "
    "kb eval evaluation/suites/manuals --root manuals/ --mode lexical",
)
def evaluate(
    suite: Annotated[
        Path, typer.Argument(help="A folder with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR form), or with questions.jsonl.")
    ],
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root",
            help="For questions.jsonl: the folder that its documents' paths start from, or NAME=FOLDER for those under NAME/. Repeatable.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="dev, held_out or all.")] = "all",
    mode: Annotated[
        list[str] | None, typer.Option("--mode", help="A way of searching to compare the default with (default: every one). Repeatable.")
    ] = None,
    infer_targets: Annotated[bool, typer.Option("--infer-targets", help="Do not give a question's target as a filter.")] = False,
    through: Annotated[
        str, typer.Option("--through", help="query, or ask: measure deep search (needs questions.jsonl and --home).")
    ] = "query",
    kinds: Annotated[list[str] | None, typer.Option("--type", help="With --through ask: only questions of this type. Repeatable.")] = None,
    model: ModelOption = None,
    base_url: ModelUrlOption = None,
    model_id: ModelIdOption = None,
    record: RecordOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many questions.")] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Where the suite's own base is kept (default: a folder in the cache, reused next time).")
    ] = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Measure retrieval on a suite: quality of the default and of named baselines, by type of question, abstention, significance, latency."""
    if through not in ("query", "ask"):
        raise ValueError(f"--through is query or ask, got {through!r}")
    if through == "ask":
        with advised(model, base_url, model_id, record) as advisor:
            _measure_ask(suite, home, embedder, limit, split, root, not infer_targets, as_json, kinds, advisor)
        return
    if model or kinds:
        raise ValueError("--model and --type go with --through ask")
    from kb.measure import measure
    from kb.retrieval import MODES
    from kb_ingest.suite import bring_in_from

    with show_progress() as on_progress:
        report = measure(
            suite,
            home,
            embedder,
            limit,
            on_progress,
            split=split,
            modes=mode if mode is not None else tuple(MODES),
            bring_in=bring_in_from(root, on_progress) if root else None,
            use_targets=not infer_targets,
        )
    if as_json:
        print_json(report.to_json())
    else:
        print(report.to_text())


def _measure_ask(
    suite: Path,
    home: Path | None,
    embedder: str | None,
    limit: int | None,
    split: str,
    root: list[str] | None,
    use_targets: bool,
    as_json: bool,
    kinds: list[str] | None,
    advisor: Advisor | None,
) -> None:
    from kb.deep.measure import measure_ask
    from kb_ingest.suite import bring_in_from

    if home is None:
        raise ValueError("--through ask needs --home: the base whose documents the questions are about")
    with show_progress() as on_progress:
        bring_in = bring_in_from(root, on_progress) if root else None
        report = measure_ask(
            suite, home, embedder, limit, split=split, bring_in=bring_in, use_targets=use_targets, kinds=kinds, advisor=advisor
        )
    if as_json:
        print_json(report.to_json())
    else:
        print(report.to_text())
