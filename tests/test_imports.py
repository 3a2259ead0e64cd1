"""The packages import one way only; this walks every import statement and fails on any other edge."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kb", "kb_ingest", "tools", "agents", "evaluation")
MAY_IMPORT = {
    "kb": {"kb"},
    "kb_ingest": {"kb_ingest", "kb"},
    "tools": {"tools"},
    "agents": {"agents", "kb", "kb_ingest", "tools"},
    "evaluation": set(PACKAGES),
}
COMMANDS = {"cli", "commands"}


def _edges(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def _modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "_docs" not in path.parts)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_layer_may(path: Path) -> None:
    relative = path.relative_to(ROOT)
    is_command = relative.stem in COMMANDS or bool(COMMANDS & set(relative.parts))
    allowed = set(PACKAGES) if is_command else MAY_IMPORT[relative.parts[0]]
    if relative.parts[:2] == ("tools", "mcp"):
        allowed = allowed | {"kb"}
    if relative == Path("kb_ingest/readers/profile.py"):
        allowed = allowed | {"tools"}  # formats of profilers are known in one place, tools.profiling; this reader makes documents of them
    for name in _edges(path):
        parts = name.split(".")
        assert parts[0] in allowed, f"{relative} imports {name}"
        assert is_command or parts[1:2] != ["cli"], f"{relative} imports the command module {name}"


def test_there_are_modules_to_walk() -> None:
    assert len(_modules()) > 10
