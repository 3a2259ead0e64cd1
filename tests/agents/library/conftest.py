"""Makes `library_support` importable, and captures in this process: the problems here are our own, and a child costs seconds."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _capture_in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slow") is None:
        from library_support import capture_here

        warnings.filterwarnings("ignore")
        monkeypatch.setattr("agents.coders.library.coder.capture", capture_here)
