"""`kb serve`, `kb mcp`: the base for other programs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.commands.console import open_base
from kb.commands.options import EmbedderOption, HomeOption

if TYPE_CHECKING:
    from kb.server.app import IngestBody, IngestPaths
    from kb.store import KnowledgeBase

group = typer.Typer()


@group.command(epilog="Examples: kb serve   |   kb serve --port 0   |   kb serve --host 0.0.0.0 --token-file ~/.kb-token")
def serve(
    home: HomeOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8377,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File (mode 0600) with the token that requests must bear; else KEVOLVE_KB_TOKEN, if set."),
    ] = None,
    allow_ingest: Annotated[
        list[Path] | None, typer.Option("--allow-ingest", help="Let clients ingest what lies below this directory. Repeatable.")
    ] = None,
    embedder: EmbedderOption = None,
) -> None:
    """Serve queries over HTTP (JSON) and MCP (/mcp) with everything kept warm; `kb query` and `kb ask` use it while it runs."""
    from kb.home import server_token
    from kb.server.app import make_app
    from kb.server.run import serve as run_server
    from kb.server.security import Access, read_token

    access = Access(host, read_token(token_file) if token_file else server_token())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    for noisy in ("httpx", "uvicorn.error", "mcp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with open_base(home, embedder, create=bool(allow_ingest)) as base:
        app = make_app(base, access, _ingest_below(base, allow_ingest or []), _version())
        run_server(
            app,
            base.home / "kb",
            base.catalogue.name,
            host=host,
            port=port,
            token_file=str(token_file.expanduser().absolute()) if token_file else "",
            on_ready=lambda url: print(f"kb: serving {base.catalogue.name} at {url} (MCP at {url}/mcp)", file=sys.stderr, flush=True),
        )


@group.command(epilog="Examples: kb mcp   |   kb mcp --home ~/kernels")
def mcp(home: HomeOption = None, embedder: EmbedderOption = None) -> None:
    """Speak MCP on standard input and output: the tools kb_search, kb_ask, kb_get and kb_tree for a model's host program."""
    import anyio

    from kb.server.mcp import make_server

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with open_base(home, embedder) as base:
        how = "the client closed the connection"
        try:
            anyio.run(make_server(lambda: base, _version()).run_stdio_async)
        except KeyboardInterrupt:
            how = "interrupted"
    print(f"kb: {how}; the MCP server has ended", file=sys.stderr, flush=True)


def _ingest_below(base: KnowledgeBase, allowed: list[Path]) -> IngestPaths | None:
    if not allowed:
        return None
    from kb_ingest.pipeline import ingest

    roots = [folder.expanduser().resolve() for folder in allowed]

    def run(body: IngestBody) -> Mapping[str, Any]:  # Any: JSON
        for path in body.paths:
            if not Path(path).is_absolute() or not any(Path(path).resolve().is_relative_to(root) for root in roots):
                raise PermissionError(f"not an absolute path below what this server allows ({', '.join(map(str, roots))}): {path!r}")
        return ingest(body.paths, base, include=body.include, exclude=body.exclude, defaults=body.defaults).to_json()

    return run


def _version() -> str:
    try:
        return version("kernelevolve")
    except PackageNotFoundError:
        return ""
