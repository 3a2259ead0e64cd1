"""The command `kevolve mcp`: parses, starts the server. On stdio nothing but the protocol goes to stdout."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import errors

group = typer.Typer()
_AFTERWARDS = "runs that were under way are kept and can be resumed (`kevolve runs` lists them)"


@group.command(epilog="Examples: claude mcp add kevolve -- kevolve mcp; kevolve mcp --transport http --port 8765")
def mcp(
    transport: Annotated[
        str, typer.Option(help="stdio (the client starts this command) or http (streamable HTTP with a token).")
    ] = "stdio",
    host: Annotated[str, typer.Option(help="For http: a loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="For http; 0: any free port.")] = 8765,
    home: Annotated[
        Path | None, typer.Option("--home", help="State directory (default: KEVOLVE_HOME, else the user's data directory).")
    ] = None,
) -> None:
    """Serve the knowledge base, the tools and the search to a coding agent over the Model Context Protocol."""
    from agents.errors import OptionError

    with errors():
        from agents.mcp.server import build_server
        from agents.mcp.transports import http_server, server_token
        from kb.home import default_home

        place = (home if home is not None else default_home()).expanduser().absolute()
        if transport == "stdio":
            how = "the client closed the connection"
            try:
                build_server(place).run("stdio")
            except KeyboardInterrupt:
                how = "interrupted"
            typer.echo(f"kevolve: {how}; {_AFTERWARDS}", err=True)
            return
        if transport != "http":
            raise OptionError(f"unknown transport {transport!r}; known: stdio, http")
        token, source = server_token(place)
        runner, listener, address = http_server(build_server(place, reads_files=False), token, host, port)
        typer.echo(f"serving {address}; the token is in {source}", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(runner.serve(sockets=[listener]))
        typer.echo(f"kevolve: the server at {address} has stopped; {_AFTERWARDS}", err=True)
