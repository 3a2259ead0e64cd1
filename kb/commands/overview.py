"""`kb tree`, `kb show`, `kb stats`: what is in the base."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.console import open_base, print_json
from kb.commands.options import HomeOption, JsonOption
from kb.errors import UnknownNameError
from kb.places import pages_of, place_in

if TYPE_CHECKING:
    from kb.types import TreeNode

group = typer.Typer()


@group.command(epilog="Examples: kb tree   |   kb tree --depth 3 --json")
def tree(
    depth: Annotated[int, typer.Option("--depth", min=1, max=8, help="1: families, 2: documents, 3 and more: sections.")] = 2,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the table of contents: target families, documents, sections."""
    with open_base(home) as base:
        nodes = base.tree(depth)
    if as_json:
        print_json([dataclasses.asdict(node) for node in nodes])
        return
    for node in nodes:
        _print_node(node, 0)


def _print_node(node: TreeNode, indent: int) -> None:
    place = f"  [{node.source}; {node.kind}; {node.identifier}]" if node.level == "document" else ""
    print(f"{'  ' * indent}{node.label} ({node.num_chunks}){place}")
    for child in node.children:
        _print_node(child, indent + 1)


@group.command(epilog="Examples: kb show docs/nvidia/h100.md   |   kb show 9f2c4a7d01b3e586 --json")
def show(
    identifier: Annotated[str, typer.Argument(help="Source or id of a document, or id of a chunk.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a document with its chunks, or one chunk."""
    with open_base(home) as base:
        try:
            document = base.get_document(identifier)
        except UnknownNameError:
            try:
                chunk = base.get_chunk(identifier)
            except UnknownNameError:
                raise UnknownNameError(f"no document or chunk {identifier!r}; `kb tree` lists the documents") from None
            owner = base.get_document(chunk.document_id)
            if as_json:
                print_json({**dataclasses.asdict(chunk), "source": owner.source, "document": owner.title})
            else:
                pages = pages_of(owner.front_matter, chunk.line_start, chunk.line_end)
                print(f"{' > '.join(chunk.section_path)}\n{place_in(owner.source, chunk.line_start, chunk.line_end, pages)}\n")
                print("\n".join(part for part in (chunk.context, chunk.text) if part))
            return
        stored = next(item for item in base.documents() if item.source == document.source)
        leaves = base.chunks_of(stored.document_id)
    if as_json:
        print_json({**dataclasses.asdict(stored), "chunks": [dataclasses.asdict(leaf) for leaf in leaves]})
        return
    print(
        f"{stored.title}\n{stored.source}  [{stored.kind}; {', '.join(stored.targets)}; {stored.trust}; version {stored.version}; {stored.document_id}]"
    )
    for leaf in leaves:
        print(f"\n{leaf.chunk_id}  lines {leaf.line_start}-{leaf.line_end}  {' > '.join(leaf.section_path[1:])}")
        for line in [*(leaf.context.split("\n") if leaf.context else []), *leaf.text.split("\n")]:
            print(f"   | {line}")


@group.command(epilog="Examples: kb stats   |   kb stats --json")
def stats(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print counts, the embedder and the size of the store."""
    with open_base(home) as base:
        values = base.stats()
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        print(f"{name}: {', '.join(f'{key} {item}' for key, item in value.items()) or 'none' if isinstance(value, dict) else value}")
