"""`kb query`, `kb ask`: what answers a question."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.advising import ModelIdOption, ModelOption, ModelUrlOption, RecordOption, advised
from kb.commands.answering import answered
from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import (
    EmbedderOption,
    HomeOption,
    JsonOption,
    KindOption,
    SourceOption,
    TargetOption,
    TrustOption,
    UrlOption,
    ValidOption,
    parse_filters,
)
from kb.places import place_of

if TYPE_CHECKING:
    from kb.brief import Brief
    from kb.deep.advisor import Advisor
    from kb.store import KnowledgeBase
    from kb.types import Filters, Hit

group = typer.Typer()


@group.command(
    epilog="Examples: kb query 'shared memory per block' --target cuda:sm_90   |   kb query tl.make_block_ptr --kind kernel --json --explain"
)
def query(
    text: Annotated[str, typer.Argument(help="A question, identifier, error message or code.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="Most hits to print.")] = 8,
    target: TargetOption = None,
    kind: KindOption = None,
    source: SourceOption = None,
    trust: TrustOption = None,
    valid_for: ValidOption = None,
    include_retired: Annotated[bool, typer.Option("--include-retired", help="Retired and superseded documents too.")] = False,
    any_target: Annotated[bool, typer.Option("--any-target", help="Do not restrict to the target that the text names.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    mode: Annotated[str, typer.Option("--mode", help="hybrid, dense or lexical.")] = "hybrid",
    url: UrlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Find the paragraphs that answer a question, best first, each with its source."""
    filters = dataclasses.replace(parse_filters(target, kind, source, trust, valid_for), include_retired=include_retired)
    result = answered(
        home,
        embedder,
        lambda client: client.query(text, top_k, filters, explain, mode=mode, infer_target=not any_target),
        lambda base: base.query(text, top_k, filters, explain, mode=mode, infer_target=not any_target),
        url,
    )
    if as_json:
        print_json(
            {
                "hits": [_hit_json(hit) for hit in result.hits],
                "abstained": result.abstained,
                "reason": result.reason,
                "target": result.target,
                "conflicts": [dataclasses.asdict(conflict) for conflict in result.conflicts],
            }
        )
    else:
        if result.abstained:
            print(f"Nothing here answers this: {result.reason}." + (" Nearest:" if result.hits else ""))
        for hit in result.hits:
            _print_hit(hit)
        _warn_of_generic(target, result.hits)
        if result.conflicts:
            from kb.conflicts import conflict_lines  # imports the database: a command that asks the server does without

            print("\nDocuments disagree:\n" + "\n".join(conflict_lines(result.conflicts)))
    if result.abstained:
        raise typer.Exit(EXIT_NO)


def _hit_json(hit: Hit) -> dict[str, object]:
    return {
        "rank": hit.rank,
        "score": hit.score,
        "chunk_id": hit.chunk_id,
        "document": hit.document,
        "section_path": list(hit.section_path),
        "kind": hit.kind.value,
        "targets": list(hit.targets),
        "trust": hit.trust.value,
        "source": dataclasses.asdict(hit.source),
        "pages": list(hit.pages) if hit.pages else None,
        "citation": hit.citation,
        "also": [dataclasses.asdict(place) for place in hit.also],
        "context": hit.context,
        "text": hit.text,
        "explain": dict(hit.explain),
    }


def _warn_of_generic(target: str | None, hits: Sequence[Hit]) -> None:
    """Say on stderr that nothing found is about the target that was asked for: it may be misspelt, or nothing about it has been ingested."""
    from kb.targets import family

    wanted = family(target.strip().lower()) if target else None
    if wanted is not None and hits and not any(family(name) == wanted for hit in hits for name in hit.targets):
        print(
            f"kb: nothing of this is about {target!r}; it holds for every target. `kb stats` lists the targets of the base", file=sys.stderr
        )


def _print_hit(hit: Hit) -> None:
    print(f"\n{hit.rank}. {' > '.join(hit.section_path)}")
    print(f"   {place_of(hit)}  [{hit.kind}; {', '.join(hit.targets)}; {hit.trust}]  score {hit.score:.3f}")
    if hit.explain:
        print("   " + "  ".join(f"{name} {value:+.3f}" for name, value in hit.explain.items()))
    for line in [*(hit.context.split("\n") if hit.context else []), *hit.text.split("\n")]:
        print(f"   | {line}")


@group.command(
    epilog="Examples: kb ask 'why is my layer norm slow on an H100, and what should I try?'   |   kb ask 'limits of shared memory' --target cuda:sm_90 --json   |   "
    "kb ask 'hide one of several cards from my program' --model openai-compatible --base-url http://localhost:8000/v1"
)
def ask(
    question: Annotated[str, typer.Argument(help="A question, which may have several parts.")],
    target: TargetOption = None,
    kind: KindOption = None,
    source: SourceOption = None,
    trust: TrustOption = None,
    valid_for: ValidOption = None,
    model: ModelOption = None,
    base_url: ModelUrlOption = None,
    model_id: ModelIdOption = None,
    record: RecordOption = None,
    url: UrlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deep search: several queries, sections and links followed; a cited brief with what was not found."""
    filters = parse_filters(target, kind, source, trust, valid_for)
    with advised(model, base_url, model_id, record) as advisor:
        if advisor is None:
            brief = answered(home, None, lambda client: client.ask(question, filters), lambda base: _ask(base, question, filters), url)
        elif url is not None:
            raise ValueError("a model is asked beside a base that is here; leave out --url or --model")
        else:
            with open_base(home) as base:
                brief = _ask(base, question, filters, advisor)
    if as_json:
        print_json(brief.to_json())
    else:
        print(brief.to_text())
        _warn_of_generic(target, [finding.hit for finding in brief.findings])
    if not brief.findings:
        raise typer.Exit(EXIT_NO)


def _ask(base: KnowledgeBase, question: str, filters: Filters, advisor: Advisor | None = None) -> Brief:
    from kb.deep_search import DeepSearch

    return DeepSearch(base, advisor=advisor).ask(question, filters)
