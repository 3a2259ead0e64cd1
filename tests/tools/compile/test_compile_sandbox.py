"""Compiling runs a candidate's host code: it is confined like an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.compile.edited import emit
from tools.compile.server import CompileServer
from tools.sandbox.landlock import abi_version
from tools.targets.profile import load_profiles

pytestmark = pytest.mark.skipif(abi_version() == 0, reason="this kernel has no Landlock")
LAUNCH = "def launch():\n"


@pytest.fixture(scope="module")
def server() -> Iterator[CompileServer]:
    with CompileServer() as opened:
        yield opened


def error_of(body: str, server: CompileServer) -> str:
    return emit(LAUNCH + body, load_profiles()["cuda:sm_90"], "ptx", example={}, server=server).error


@pytest.mark.parametrize(
    "body",
    [
        "    open({outside!r}, 'w')",
        "    open({secret!r}).read()",
        "    open({checkout!r}).read()",
        "    open({grader!r}, 'a')",
        "    import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "    import os; os.kill(os.getppid(), 9)",
        "    import ctypes; assert ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0) == 0, 'Permission'",
    ],
    ids=["writes outside", "reads others' temporary files", "reads the checkout", "edits the tools", "network", "signals", "traces"],
)
def test_host_code_is_refused(body: str, server: CompileServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    root = Path(__file__).resolve().parents[3]
    text = body.format(
        outside=str(tmp_path / "made"), secret=str(secret), checkout=str(root / "pyproject.toml"), grader=str(root / "tools" / "types.py")
    )
    assert "Permission" in error_of(text, server) or "not permitted" in error_of(text, server)
    assert not (tmp_path / "made").exists()


def test_its_own_folder_is_writable(server: CompileServer) -> None:
    assert error_of("    import tempfile; tempfile.NamedTemporaryFile().write(b'x')", server) == ""
