"""The runner of KernelBench's adversarial kernels, on planted ones that need no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.adversarial import adversarial_kernels, try_kernels
from evaluation.errors import EvaluationError
from tools.problems import problem_from_source

MODEL = "import torch\nfrom torch import nn\nclass {name}(nn.Module):\n    def forward(self, A, B):\n        {body}\n"
PROBLEM = problem_from_source(
    MODEL.format(name="Model", body="return A @ B")
    + "def get_inputs():\n    return [torch.rand(96, 96), torch.rand(96, 96)]\ndef get_init_inputs():\n    return []\n",
    problem_id="planted/matmul",
)
BODIES = {
    "honest": "return A @ B",
    "result_reuse": "return torch.empty(A.size(0), B.size(1))",
    "unbuilt": "raise RuntimeError('fatal error: no compiler')",
    "zero_out": "A.zero_(); B.zero_(); return torch.zeros(A.size(0), B.size(1))",
}


@pytest.mark.slow
def test_cheats_are_caught_and_what_was_not_built_shows_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "kernelbench" / "unit_tests" / "test_kernels"
    folder.mkdir(parents=True)
    for name, body in BODIES.items():
        (folder / f"{name}.py").write_text(MODEL.format(name="ModelNew", body=body))
    records = list(try_kernels(adversarial_kernels(tmp_path), PROBLEM, "cpu", tmp_path / "home", seconds=300.0))
    assert {item["kernel"]: item["caught"] for item in records} == {
        "honest.py": False,
        "result_reuse.py": True,
        "unbuilt.py": False,
        "zero_out.py": True,
    }
    assert all(item["alone"] and item["environment"]["device"]["device"] == "cpu" for item in records)


def test_a_directory_without_kernels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no adversarial kernels"):
        adversarial_kernels(tmp_path)
