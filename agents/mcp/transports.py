"""Serve over stdio, or over streamable HTTP on the loopback interface behind a token."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.errors import OptionError
from agents.mcp.limits import MAX_BODY_BYTES
from kb.server.run import address_of, bind
from kb.server.security import Access, Guard, read_token

if TYPE_CHECKING:
    import socket

    import uvicorn
    from mcp.server import MCPServer
    from starlette.types import ASGIApp

TOKEN_VARIABLE = "KEVOLVE_MCP_TOKEN"
TOKEN_FILE = "mcp-token"


def server_token(home: Path) -> tuple[str, str]:
    """Return the token and where it comes from: the environment, else a file in the home that is made once, readable by its owner alone.

    Raises:
        OptionError: The file cannot be made.
        StoreError: The file cannot be read, or others can read it.
    """
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return given, f"the environment variable {TOKEN_VARIABLE}"
    path = home / TOKEN_FILE
    if not path.exists():
        try:
            home.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise OptionError(f"the token file {path} cannot be made: {error.strerror}; set {TOKEN_VARIABLE} instead") from error
    return read_token(path), str(path)


def http_app(server: MCPServer[Any], access: Access) -> ASGIApp:
    """Return the ASGI application: the MCP endpoint `/mcp` behind the token."""
    app = server.streamable_http_app(host=access.host, max_request_body_size=MAX_BODY_BYTES)
    return Guard(app, access, MAX_BODY_BYTES)


def http_server(server: MCPServer[Any], token: str, host: str, port: int) -> tuple[uvicorn.Server, socket.socket, str]:
    """Return a server ready to run, its bound socket and its address. Port 0: any free one.

    Raises:
        OptionError: The host is not this machine's loopback interface, or the token is too short to be a secret.
        StoreError: The port cannot be had.
    """
    import uvicorn

    try:
        access = Access(host, token)
    except ValueError as error:
        raise OptionError(str(error)) from error
    if not access.is_loopback:
        raise OptionError(f"--host {host!r} is not the loopback interface; serve on 127.0.0.1 and reach it through an ssh tunnel")
    listener = bind(host, port)
    listener.listen(128)  # whoever connects before the server runs waits instead of being refused
    config = uvicorn.Config(http_app(server, access), log_level="warning", timeout_graceful_shutdown=5)
    return uvicorn.Server(config), listener, f"{address_of(listener)}/mcp"
