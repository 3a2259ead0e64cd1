"""Fixtures for every package: real servers, started once for each test process that needs one."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import ServerUnavailableError, chroma_server, postgres_server

_NUMBERS = itertools.count()


def pytest_configure() -> None:
    """Answer Ctrl-C as in a terminal: who starts the tests in the background hands on that it is ignored, and every command under test would ignore it, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, and so all of a server's: evaluators, compiled kernels and servers are then made once, not by every worker of xdist."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            servers = [name for name in ("postgres", "chroma") if f"{name}_url" in getattr(item, "fixturenames", ())]
            item.add_marker(pytest.mark.xdist_group(servers[0] if servers else item.path.stem))


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """URL of the database `postgres` of a real PostgreSQL server; tests want `postgres_url`."""
    try:
        with postgres_server() as url:
            yield url
    except ServerUnavailableError as err:
        pytest.skip(str(err))


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """URL of a fresh, empty database for one test: `postgresql://postgres@/test_0?host=…`."""
    import psycopg

    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server_url.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Chroma server; bases keep apart there by the prefix of their collections."""
    folder: Path = tmp_path_factory.mktemp("chroma")
    try:
        with chroma_server(folder) as url:
            yield url
    except ServerUnavailableError as err:
        pytest.skip(str(err))
