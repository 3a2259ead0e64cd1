"""The graphs for LangGraph's own tools (`langgraph.json`): the outer loop of a search and one session, compiled without a run.

They open and can be looked at there; driving them needs a `RunContext`, which `agents.driver.drive` builds, so start searches with `kevolve run`.
"""

from __future__ import annotations

from typing import Any

from agents.graph import build_graph
from agents.session import build_session_graph


def search() -> Any:  # Any: langgraph's compiled graph has four type parameters of its own
    """Return the compiled graph of a search; the platform adds its own checkpointer."""
    return build_graph()


def session() -> Any:  # Any: as above
    """Return the compiled graph of one session."""
    return build_session_graph()
