"""Who may talk to the server: tokens, and a guard in front of every route.

Covered: other machines without the token (the server does not bind beyond loopback without one), web pages in the user's browser (foreign `Origin` or, on
loopback, a `Host` that is not this machine: DNS rebinding), oversized bodies, timing of the comparison. Not covered: other users of this machine on loopback
without a token, and eavesdroppers on a network: put a TLS proxy in front of a server that others reach.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import StoreError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LEAST_TOKEN = 16
MAX_BODY_BYTES = 1_000_000


@dataclass(frozen=True)
class Access:
    """Who may talk to a server bound to `host`."""

    host: str
    token: str | None = None
    """What requests must bear; None: nothing (loopback only)."""

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise ValueError(
                f"binding to {self.host!r} lets other machines in: it needs a token. Write one with "
                "`(umask 077; openssl rand -hex 32 > FILE)` and pass --token-file FILE, or set KEVOLVE_KB_TOKEN"
            )
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise ValueError(f"the token is shorter than {LEAST_TOKEN} characters; make one with `openssl rand -hex 32`")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        StoreError: It cannot be read, or other users can read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as err:
        raise StoreError(f"cannot read the token file {str(path)!r}: {err.strerror}") from err
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"other users can read the token file {str(path)!r}; run: chmod 600 {path}")
    return text


class Guard:
    """ASGI middleware that turns away who may not ask.

    Args:
        app: What is guarded.
        access: The rules.
        max_body_bytes: Largest body of a request.
    """

    def __init__(self, app: ASGIApp, access: Access, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._access = access
        self._digest = _digest(access.token) if access.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, then hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise BodyTooLargeError
            return message

        try:
            await self._app(scope, bounded, send)
        except BodyTooLargeError:
            await _refuse(send, 413, f"the body has more than {self._max_body_bytes:,} bytes")

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._access.is_loopback and _hostname(host) not in LOOPBACK:
            return 403, f"this server answers to 127.0.0.1 and localhost, not to {host!r}"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "requests from web pages of other origins are refused"
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > self._max_body_bytes:
            return 413, f"the body has more than {self._max_body_bytes:,} bytes"
        if self._digest is not None and scope["path"] != "/health":
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._digest):
                return 401, "this server wants a token: Authorization: Bearer TOKEN"
        return None


class BodyTooLargeError(Exception):
    """A body went past its bound while it was being read."""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


async def _refuse(send: Send, status: int, message: str) -> None:
    kind = {401: "Unauthorized", 403: "Forbidden", 413: "TooLarge"}[status]
    body = json.dumps({"error": {"type": kind, "message": message}}).encode()
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}  # Any: an ASGI message
    await send(start)
    await send({"type": "http.response.body", "body": body})
