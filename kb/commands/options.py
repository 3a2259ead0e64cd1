"""The options that several commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.errors import UnknownNameError

if TYPE_CHECKING:
    from kb.types import Filters

HomeOption = Annotated[Path | None, typer.Option("--home", help="State directory (default: KEVOLVE_HOME, else the user's data directory).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="minilm, minilm-int8, hashing, sentence-transformers:FOLDER or openai-compatible:MODEL@URL (default: the one the base was built with, else minilm).",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", help="Ask the `kb serve` at this address instead of a base here, for example http://host:8377; token: KEVOLVE_KB_TOKEN."
    ),
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option("--base-url", help="Address of the endpoint for --embedder openai-compatible:MODEL; the key: KEVOLVE_EMBEDDINGS_KEY."),
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


def embedder_at(embedder: str | None, base_url: str | None) -> str | None:
    """Return the embedder's whole name with the address of its endpoint.

    Raises:
        ValueError: An address without an endpoint's model.
    """
    if base_url is None:
        return embedder
    head, separator, options = (embedder or "").partition("#")
    if not head.startswith("openai-compatible:") or "@http" in head:
        raise ValueError(f"--base-url goes with --embedder openai-compatible:MODEL, got {embedder!r}")
    return f"{head}@{base_url}{separator}{options}"


def parse_filters(
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
