"""Problems are read statically; each way to get it wrong has one clear message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.errors import ProblemError
from tools.problems import load_problem, problem_from_source

GOOD = """
import torch
from torch import nn
WEIGHTS_CONSTANT = True
class Model(nn.Module):
    def forward(self, x):
        return x + 1
def get_inputs():
    return [torch.rand(3)]
def get_init_inputs():
    return []
"""


def test_a_file_becomes_a_problem_with_its_options(tmp_path: Path) -> None:
    path = tmp_path / "add_one.py"
    path.write_text(GOOD)
    problem = load_problem(str(path))
    assert (problem.problem_id, problem.name, problem.weights_constant) == ("add_one", "add_one", True)
    assert problem.source == GOOD


def test_a_kernelbench_number_finds_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "KernelBench" / "level1"
    folder.mkdir(parents=True)
    (folder / "40_LayerNorm.py").write_text(GOOD)
    problem = load_problem("kernelbench:1/40", kernelbench_root=tmp_path)
    assert (problem.problem_id, problem.name) == ("kernelbench:1/40", "40_LayerNorm")


def test_the_examples_are_found_by_name() -> None:
    assert load_problem("examples/masked_softmax").problem_id == "examples/masked_softmax"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class Model(:", "not valid Python"),
        ("x = 1", "does not define Model, get_inputs, get_init_inputs"),
        (GOOD.replace("class Model", "class Other"), "does not define Model"),
        (GOOD.replace("class Model", "class Other") + "Model = Other", "Model in line 12 has to be a class statement"),
        (GOOD.replace("def get_inputs", "from numpy import get_inputs\ndef other"), "get_inputs in line 8 has to be a def statement"),
        (GOOD.replace("= True", "= 3"), "WEIGHTS_CONSTANT must be True or False"),
    ],
)
def test_unusable_sources_are_refused_with_the_reason(source: str, words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        problem_from_source(source, problem_id="p")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("/nowhere/at/all.py", "no such problem"),
        ("examples/not_there", "no such example"),
        ("kernelbench:one", "LEVEL/NUMBER"),
        ("kernelbench:9/1", "no level 9"),
        (".", "is a directory"),
    ],
)
def test_unknown_problems_are_refused_with_what_to_do(spec: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "KernelBench").mkdir()
    with pytest.raises(ProblemError, match=words):
        load_problem(spec, kernelbench_root=tmp_path)


def test_kernelbench_without_a_checkout_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEVOLVE_KERNELBENCH", raising=False)
    with pytest.raises(ProblemError, match="KEVOLVE_KERNELBENCH"):
        load_problem("kernelbench:1/1")
