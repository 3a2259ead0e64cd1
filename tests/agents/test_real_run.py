"""The whole path on this machine's CPU with the real evaluator and the real library coder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest

ROOT = Path(__file__).resolve().parent.parent.parent
PROBLEM = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x) * x + 1.0

def get_inputs():
    return [torch.randn(256, 1024)]

def get_init_inputs():
    return []
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_run_on_the_cpu_ends_with_a_correct_kernel_that_the_next_run_starts_from(tmp_path: Path) -> None:
    (tmp_path / "swish.py").write_text(PROBLEM)
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        ingest([ROOT / "docs" / "kernels"], base)

    def run(evaluations: int) -> dict[str, object]:
        command = [sys.executable, "-m", "agents.cli", "run", str(tmp_path / "swish.py"), "--target", "cpu", "--json"]
        command += ["--budget-evaluations", str(evaluations), "--home", str(tmp_path / "home")]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout))

    first = run(2)
    assert first["best"]["status"] == "passed" and first["best"]["evidence"] == "measured"  # type: ignore[index]  # JSON
    assert first["best"]["is_remeasured"] and first["knowledge_used"]  # type: ignore[index]  # JSON
    second = run(1)
    assert [item["run_id"] for item in second["started_from"]["same"]] == [first["run_id"]]  # type: ignore[index]  # JSON
