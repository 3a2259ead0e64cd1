"""The command `kb`: parses, calls one library function, prints. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 the answer is no (nothing found, files failed, inconsistencies), 2 misuse, 3 environment (store, packages).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.errors import DocumentError, KnowledgeError, UnknownNameError

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from kb.types import Filters, Hit, TreeNode

EXIT_NO, EXIT_MISUSE, EXIT_ENVIRONMENT = 1, 2, 3

app = typer.Typer(
    name="kb",
    help="The knowledge base: put manuals, kernels and notes in, get the right paragraph out, with its source.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 the answer is no, 2 misuse, 3 environment. State lives under --home, else KEVOLVE_HOME.",
)

HomeOption = Annotated[Path | None, typer.Option("--home", help="State directory (default: KEVOLVE_HOME, else the user's data directory).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="minilm, minilm-int8, hashing or sentence-transformers:FOLDER (default: the one the base was built with, else minilm).",
    ),
]
TargetOption = Annotated[str | None, typer.Option("--target", help="Only what holds for this target, for example cuda:sm_90 or cpu.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only this kind: guide, constraint, hardware, kernel, lesson, winner, profile. Repeatable."),
]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only sources that begin with this.")]
TrustOption = Annotated[
    list[str] | None, typer.Option("--trust", help="Only this trust: measured, documented, derived, unverified. Repeatable.")
]
ValidOption = Annotated[
    list[str] | None, typer.Option("--valid-for", help="Only what holds for a version, for example triton=3.6. Repeatable.")
]


def main() -> None:
    """Run the command; translate our errors into a message and an exit code."""
    try:
        app()
    except (UnknownNameError, DocumentError, ValueError) as err:
        _fail(err, EXIT_MISUSE)
    except KnowledgeError as err:
        _fail(err, EXIT_ENVIRONMENT)
    except KeyboardInterrupt:
        _fail("stopped; what was committed stays, run the same command again to go on", 130)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None


def _fail(err: object, code: int) -> None:
    print(f"kb: {err}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def _base(home: Path | None, embedder: str | None = None, create: bool = False) -> Iterator[KnowledgeBase]:
    from kb.home import default_home
    from kb.store import KnowledgeBase

    with KnowledgeBase.open(home or default_home(), embedder=embedder, create=create) as base:
        yield base


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


@app.command(epilog="Examples: kb ingest docs/   |   kb ingest manual.md notes.txt --targets nvidia --json")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and directories.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="In directories, only files matching this .gitignore pattern. Repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="In directories, leave out files matching this pattern. Repeatable.")
    ] = None,
    targets: Annotated[list[str] | None, typer.Option("--targets", help="Targets of files that state none. Repeatable.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Kind of files that state none.")] = None,
    trust: Annotated[str | None, typer.Option("--trust", help="Trust of files that state none.")] = None,
) -> None:
    """Bring files and directories in; what did not change is not embedded again."""
    from kb_ingest.pipeline import ingest as run_ingest

    defaults = {name: value for name, value in (("targets", targets), ("kind", kind), ("trust", trust)) if value}
    with _base(home, embedder, create=True) as base, _progress() as on_progress:
        report = run_ingest(paths, base, include=include or (), exclude=exclude or (), defaults=defaults, on_progress=on_progress)
    for failure in report.failed:
        print(f"kb: not taken in: {failure.path}: {failure.reason}", file=sys.stderr)
    if as_json:
        _print_json(report.to_json())
    else:
        counts = report.to_json()["documents"]
        print(", ".join(f"{number} {name}" for name, number in counts.items()) + f"; {report.chunks} chunks, {report.embedded} embedded")
    if report.failed:
        raise typer.Exit(EXIT_NO)


@contextlib.contextmanager
def _progress() -> Iterator[Any]:  # Any: the callback of kb_ingest.pipeline
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[texts]} texts embedded"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Display(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        task = display.add_task("reading", total=0, texts=0)
        totals = {"found": 0, "embedded": 0}

        def on_progress(progress: Any) -> None:  # Any: kb_ingest.pipeline.Progress, imported by the command
            if progress.stage == "read":
                display.advance(task, progress.number)
                return
            totals[progress.stage] += progress.number
            display.update(task, total=totals["found"], texts=totals["embedded"])

        yield on_progress


@app.command(
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
    any_target: Annotated[bool, typer.Option("--any-target", help="Do not restrict to the target that the text names.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    mode: Annotated[str, typer.Option("--mode", help="hybrid, dense or lexical.")] = "hybrid",
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Find the paragraphs that answer a question, best first, each with its source."""
    filters = _filters(target, kind, source, trust, valid_for)
    with _base(home, embedder) as base:
        result = base.query(text, top_k, filters, explain, mode=mode, infer_target=not any_target)
    if as_json:
        _print_json(
            {
                "hits": [_hit_json(hit) for hit in result.hits],
                "abstained": result.abstained,
                "reason": result.reason,
                "target": result.target,
            }
        )
    else:
        if result.abstained:
            print(f"Nothing here answers this: {result.reason}." + (" Nearest:" if result.hits else ""))
        for hit in result.hits:
            _print_hit(hit)
    if result.abstained:
        raise typer.Exit(EXIT_NO)


def _filters(
    target: str | None, kind: list[str] | None, source: str | None, trust: list[str] | None, valid_for: list[str] | None
) -> Filters:
    from kb.types import Filters, Kind, Trust

    versions = {}
    for item in valid_for or ():
        name, separator, version = item.partition("=")
        if not separator or not name or not version:
            raise ValueError(f"--valid-for wants package=version, got {item!r}")
        versions[name] = version
    kinds = tuple(_member(Kind, "kind", item) for item in kind or ())
    trusts = tuple(_member(Trust, "trust", item) for item in trust or ())
    return Filters(target=target, kinds=kinds, source=source, trust=trusts, valid_for=versions)


def _member(names: Any, label: str, value: str) -> Any:  # Any: an Enum class and its member
    try:
        return names(value)
    except ValueError as err:
        raise UnknownNameError(f"unknown {label} {value!r}; known: {', '.join(item.value for item in names)}") from err


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
        "also": [dataclasses.asdict(place) for place in hit.also],
        "context": hit.context,
        "text": hit.text,
        "explain": dict(hit.explain),
    }


def _print_hit(hit: Hit) -> None:
    print(f"\n{hit.rank}. {' > '.join(hit.section_path)}")
    print(
        f"   {hit.source.path}:{hit.source.line_start}-{hit.source.line_end}  [{hit.kind}; {', '.join(hit.targets)}; {hit.trust}]  score {hit.score:.3f}"
    )
    if hit.explain:
        print("   " + "  ".join(f"{name} {value:+.3f}" for name, value in hit.explain.items()))
    for line in [*(hit.context.split("\n") if hit.context else []), *hit.text.split("\n")]:
        print(f"   | {line}")


@app.command(
    epilog="Examples: kb ask 'why is my layer norm slow on an H100, and what should I try?'   |   kb ask 'limits of shared memory' --target cuda:sm_90 --json"
)
def ask(
    question: Annotated[str, typer.Argument(help="A question, which may have several parts.")],
    target: TargetOption = None,
    kind: KindOption = None,
    source: SourceOption = None,
    trust: TrustOption = None,
    valid_for: ValidOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deep search: several queries, sections and links followed; a cited brief with what was not found."""
    from kb.deep_search import DeepSearch

    filters = _filters(target, kind, source, trust, valid_for)
    with _base(home) as base:
        brief = DeepSearch(base).ask(question, filters)
    if as_json:
        _print_json(brief.to_json())
    else:
        print(brief.to_text())
    if not brief.findings:
        raise typer.Exit(EXIT_NO)


@app.command(epilog="Examples: kb tree   |   kb tree --depth 3 --json")
def tree(
    depth: Annotated[int, typer.Option("--depth", min=1, max=8, help="1: families, 2: documents, 3 and more: sections.")] = 2,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the table of contents: target families, documents, sections."""
    with _base(home) as base:
        nodes = base.tree(depth)
    if as_json:
        _print_json([dataclasses.asdict(node) for node in nodes])
        return
    for node in nodes:
        _print_node(node, 0)


def _print_node(node: TreeNode, indent: int) -> None:
    place = f"  [{node.source}; {node.kind}; {node.identifier}]" if node.level == "document" else ""
    print(f"{'  ' * indent}{node.label} ({node.num_chunks}){place}")
    for child in node.children:
        _print_node(child, indent + 1)


@app.command(epilog="Examples: kb show docs/nvidia/h100.md   |   kb show 9f2c4a7d01b3e586 --json")
def show(
    identifier: Annotated[str, typer.Argument(help="Source or id of a document, or id of a chunk.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a document with its chunks, or one chunk."""
    with _base(home) as base:
        try:
            document = base.get_document(identifier)
        except UnknownNameError:
            try:
                chunk = base.get_chunk(identifier)
            except UnknownNameError:
                raise UnknownNameError(f"no document or chunk {identifier!r}; `kb tree` lists the documents") from None
            owner = base.get_document(chunk.document_id)
            if as_json:
                _print_json({**dataclasses.asdict(chunk), "source": owner.source, "document": owner.title})
            else:
                print(f"{' > '.join(chunk.section_path)}\n{owner.source}:{chunk.line_start}-{chunk.line_end}\n")
                print("\n".join(part for part in (chunk.context, chunk.text) if part))
            return
        stored = next(item for item in base.documents() if item.source == document.source)
        leaves = base.chunks_of(stored.document_id)
    if as_json:
        _print_json({**dataclasses.asdict(stored), "chunks": [dataclasses.asdict(leaf) for leaf in leaves]})
        return
    print(
        f"{stored.title}\n{stored.source}  [{stored.kind}; {', '.join(stored.targets)}; {stored.trust}; version {stored.version}; {stored.document_id}]"
    )
    for leaf in leaves:
        print(f"\n{leaf.chunk_id}  lines {leaf.line_start}-{leaf.line_end}  {' > '.join(leaf.section_path[1:])}")
        for line in [*(leaf.context.split("\n") if leaf.context else []), *leaf.text.split("\n")]:
            print(f"   | {line}")


@app.command(epilog="Examples: kb remove docs/old.md   |   kb remove docs/old/ --prefix")
def remove(
    source: Annotated[str, typer.Argument(help="Source or id of a document; with --prefix, the beginning of sources.")],
    prefix: Annotated[bool, typer.Option("--prefix", help="Remove every document whose source begins with SOURCE.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a document out of the base, from every index at once."""
    with _base(home) as base:
        names = [stored.source for stored in base.documents() if prefix and stored.source.startswith(source)] if prefix else [source]
        removed = [name for name in names if base.remove(name)]
    if as_json:
        _print_json({"removed": removed})
    else:
        print(f"{len(removed)} removed")
    if not removed:
        print(f"kb: no document {source!r}; `kb tree` lists the sources", file=sys.stderr)
        raise typer.Exit(EXIT_NO)


@app.command(epilog="Examples: kb stats   |   kb stats --json")
def stats(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print counts, the embedder and the size of the store."""
    with _base(home) as base:
        values = base.stats()
    if as_json:
        _print_json(values)
        return
    for name, value in values.items():
        print(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


@app.command(epilog="Examples: kb check   |   kb check --repair")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found, from the catalogue.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for inconsistencies between documents, text index and vectors."""
    with _base(home) as base:
        report = base.check(repair)
    if as_json:
        _print_json({"consistent": not report.problems, "problems": report.problems, "repaired": report.repaired, "counts": report.counts})
    else:
        for line in report.repaired:
            print(f"repaired: {line}")
        for line in report.problems:
            print(f"problem: {line}")
        if not report.problems:
            print(f"consistent: {report.counts.get('documents', 0)} documents, {report.counts.get('chunks', 0)} chunks")
    if report.problems:
        raise typer.Exit(EXIT_NO)


@app.command("eval", epilog="Examples: kb eval bench/scifact   |   kb eval bench/scifact --home /tmp/eval-home --json")
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

    with _progress() as on_progress:
        report = measure(suite, home, embedder, limit, on_progress)
    if as_json:
        _print_json(report.to_json())
    else:
        print(report.to_text())


if __name__ == "__main__":
    main()
