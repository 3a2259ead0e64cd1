"""Serve over stdio, or over streamable HTTP on the loopback interface behind a token."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.errors import OptionError
from agents.mcp.limits import MAX_BODY_BYTES
from kb.server.security import Access, Guard

if TYPE_CHECKING:
    import uvicorn
    from mcp.server import MCPServer
    from starlette.types import ASGIApp

TOKEN_VARIABLE = "KEVOLVE_MCP_TOKEN"
TOKEN_FILE = "mcp-token"
LEAST_TOKEN_CHARACTERS = 16


def server_token(home: Path) -> tuple[str, str]:
    """Return the token and where it comes from: the environment, else a file in the home that is made once, readable by its owner alone.

    Raises:
        OptionError: The token is too short to be a secret, or the file cannot be used.
    """
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    place = f"the environment variable {TOKEN_VARIABLE}"
    if not given:
        path = home / TOKEN_FILE
        place = str(path)
        try:
            if not path.exists():
                home.mkdir(parents=True, exist_ok=True)
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
            given = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OptionError(f"the token file {path} cannot be used: {error.strerror}; set {TOKEN_VARIABLE} instead") from error
    if len(given) < LEAST_TOKEN_CHARACTERS:
        raise OptionError(f"the token in {place} has fewer than {LEAST_TOKEN_CHARACTERS} characters; use a longer one")
    return given, place


def http_app(server: MCPServer[Any], token: str, host: str) -> ASGIApp:
    """Return the ASGI application: the MCP endpoint `/mcp` behind the token."""
    app = server.streamable_http_app(host=host, max_request_body_size=MAX_BODY_BYTES)
    return Guard(app, Access(host, token), MAX_BODY_BYTES)


def http_server(server: MCPServer[Any], token: str, host: str, port: int) -> tuple[uvicorn.Server, socket.socket, str]:
    """Return a server ready to run, its bound socket and its address. Port 0: any free one.

    Raises:
        OptionError: The host is not this machine's loopback interface, or the port cannot be had.
    """
    import uvicorn

    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise OptionError(f"--host {host!r} is not the loopback interface; serve on 127.0.0.1 and reach it through an ssh tunnel")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # whoever connects before the server runs waits instead of being refused
    except OSError as error:
        listener.close()
        raise OptionError(f"port {port} on {host} cannot be had: {error.strerror}; give another --port (0: any free one)") from error
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/mcp"
    config = uvicorn.Config(http_app(server, token, host), log_level="warning", timeout_graceful_shutdown=5)
    return uvicorn.Server(config), listener, address
