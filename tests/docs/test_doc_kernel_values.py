"""Kernels of the documents compute what their text says: Triton's interpreter against PyTorch at sizes with tails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("check_values.py")


@pytest.mark.slow
def test_interpreted_kernels_of_the_documents_agree_with_pytorch() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    checks = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(checks) >= 12
    assert [check for check in checks if not check["error"] <= check["tolerance"]] == []
