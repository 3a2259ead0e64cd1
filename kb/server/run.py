"""Runs the server in this process: binds, announces itself in the home, serves until a signal, withdraws."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from kb.discovery import ServerRecord, announce, code_stamp, running, withdraw
from kb.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

log = logging.getLogger(__name__)

DEFAULT_PORT = 8377


def serve(app: Starlette, folder: Path, catalogue: str, *, host: str, port: int, token_file: str, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: The application.
        folder: Where the base lives: the server announces itself there.
        catalogue: Which catalogue it serves.
        host: Address to bind.
        port: 0: any free one.
        token_file: Path of the file with the token, for clients of the same user; empty: none.
        on_ready: Called with the URL once requests are taken.

    Raises:
        StoreError: The address cannot be bound, or another server serves this home.
    """
    import uvicorn

    other = running(folder)
    if other is not None and other.pid != os.getpid():
        raise StoreError(f"a server for this home already runs at {other.url} (process {other.pid}); stop it first")
    with bind(host, port) as listener:
        url = address_of(listener)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, limit_concurrency=256, timeout_keep_alive=75, lifespan="on"
        )
        record = ServerRecord(os.getpid(), url, token_file, code_stamp(), catalogue)

        class Announced(uvicorn.Server):
            """Announced only while it takes requests: uvicorn dies of the signal that stops it, so what comes after `run` is too late."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                announce(folder, record)
                on_ready(url)

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                withdraw(folder, record.pid)
                await super().shutdown(sockets)

        Announced(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0: any free one.

    Raises:
        StoreError: The address cannot be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as err:
        listener.close()
        raise StoreError(f"cannot listen on {host}:{port}: {err}; choose another --port, or 0 for any free one") from err
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a bound socket, for clients of this machine."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
