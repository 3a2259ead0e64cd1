"""Questions of commands: put to the running server of the home if there is one, else to the base itself. The answers are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kb.commands.console import open_base
from kb.discovery import running

if TYPE_CHECKING:
    from kb.client import KnowledgeClient
    from kb.store import KnowledgeBase

_Answer = TypeVar("_Answer")


def answered(
    home: Path | None,
    embedder: str | None,
    remote: Callable[[KnowledgeClient], _Answer],
    local: Callable[[KnowledgeBase], _Answer],
    url: str | None = None,
) -> _Answer:
    """Return the server's answer, else our own: a server that is dead, of another version or of another catalogue is passed over in silence.

    Args:
        home: As given on the command line.
        embedder: As given on the command line; with one, the server is not asked.
        remote: Asks the server.
        local: Asks the base.
        url: As given on the command line: this server and nothing else is asked.

    Raises:
        ValueError: An address together with a home or an embedder, or one that is none.
        ServerUnreachable: Nothing answers at the given address.
    """
    if url is not None:
        if home is not None or embedder is not None:
            raise ValueError("--url asks a server, which has a base and an embedder of its own; leave out --home and --embedder")
        from kb.client import KnowledgeClient

        with KnowledgeClient(url) as chosen:
            return remote(chosen)
    from kb.home import catalogue_place, default_home, without_password

    folder = (home or default_home()).expanduser().absolute()
    if embedder is None and running(folder / "kb") is not None:
        from kb.client import ServerUnreachable, connect

        client = connect(folder, without_password(catalogue_place(folder)))
        if client is not None:
            try:
                with client:
                    return remote(client)
            except ServerUnreachable:
                pass
    with open_base(home, embedder) as base:
        return local(base)
