"""`langgraph.json` names graphs that load and have the steps of a search."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GRAPHS = json.loads((ROOT / "langgraph.json").read_text())["graphs"]


@pytest.mark.parametrize(
    ("name", "steps"), [("search", {"plan", "select", "session", "record"}), ("session", {"diagnose", "write", "lint", "evaluate"})]
)
def test_graph_opens_with_its_steps(name: str, steps: set[str]) -> None:
    path, _, factory = GRAPHS[name].partition(":")
    module = importlib.import_module(path.removeprefix("./").removesuffix(".py").replace("/", "."))
    graph = getattr(module, factory)()
    assert steps <= set(graph.get_graph().nodes)
    assert "graph TD" in graph.get_graph().draw_mermaid()
