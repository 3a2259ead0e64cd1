"""The evaluator end to end on the CPU: what it returns, what it raises, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.errors import ProblemError, UnknownTargetError
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.types import Candidate, Composition, Evaluation, Problem, Status

PROBLEM = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
    def forward(self, x):
        return torch.tanh(x) * self.scale
def get_inputs(rows=64):
    return [torch.randn(rows, 96)]
def get_init_inputs():
    return [96]
"""
HONEST = """
import torch
from torch import nn
class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
    def forward(self, x):
        return torch.tanh(x) * self.scale
"""
CPP = '''
import ctypes, os, pathlib, subprocess
import torch
from torch import nn
SOURCE = """
#include <cmath>
extern "C" void run(const float* x, const float* s, float* y, long rows, long columns) {
  for (long i = 0; i < rows * columns; ++i) y[i] = std::tanh(x[i]) * s[i % columns];
}
"""
folder = pathlib.Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "tanh"
folder.mkdir(parents=True, exist_ok=True)
library = folder / "tanh.so"
if not library.exists():
    (folder / "tanh.cpp").write_text(SOURCE)
    subprocess.run(["g++", "-O2", "-shared", "-fPIC", "-o", str(library), str(folder / "tanh.cpp")], check=True)
run = ctypes.CDLL(str(library)).run
run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 2
class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
    def forward(self, x):
        y = torch.empty_like(x)
        run(x.data_ptr(), self.scale.data_ptr(), y.data_ptr(), x.shape[0], x.shape[1])
        return y
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def evaluator(home: Path) -> Iterator[LocalEvaluator]:
    with LocalEvaluator(home, use_lint=False, use_compiled_baseline=False) as opened:
        yield opened


def problem(source: str = PROBLEM) -> Problem:
    return problem_from_source(source, problem_id="tanh_scale")


def evaluate(evaluator: LocalEvaluator, source: str, of: str = PROBLEM) -> Evaluation:
    return evaluator.evaluate(Candidate(source), problem(of), "cpu")


def test_an_honest_candidate_passes_with_an_interval_and_a_receipt(evaluator: LocalEvaluator) -> None:
    evaluation = evaluate(evaluator, HONEST)
    assert (evaluation.status, evaluation.composition, evaluation.precision_class) == (Status.PASSED, Composition.LIBRARY, "ieee_fp32")
    assert evaluation.latency_ms is not None and evaluation.latency_ms > 0 and set(evaluation.speedup) == {"eager"}
    receipt = json.loads(Path(evaluation.receipt).read_text())
    assert receipt["candidate"]["source"] == HONEST and len(receipt["checks"]) == 2 and receipt["timings"][0]["verified"] >= 2
    assert Evaluation.from_json(json.loads(json.dumps(receipt["evaluation"]))).candidate_id == evaluation.candidate_id


def test_a_compiled_kernel_of_its_own_is_custom(evaluator: LocalEvaluator) -> None:
    evaluation = evaluate(evaluator, CPP)
    assert (evaluation.status, evaluation.reason, evaluation.composition) == (Status.PASSED, "", Composition.CUSTOM)


def test_two_evaluations_draw_different_secret_seeds(evaluator: LocalEvaluator) -> None:
    seeds = [[draw["seed"] for draw in json.loads(Path(evaluate(evaluator, HONEST).receipt).read_text())["checks"]] for _ in range(2)]
    assert len({*seeds[0], *seeds[1]}) == 4


def test_every_workload_is_checked_and_timed(evaluator: LocalEvaluator) -> None:
    evaluation = evaluate(evaluator, HONEST, PROBLEM + "WORKLOADS = [{'rows': 7}, {'name': 'large', 'rows': 129}]\n")
    assert [item.workload for item in evaluation.workloads] == ["rows=7", "rows=129"]


def test_a_candidate_right_for_one_workload_only_is_wrong(evaluator: LocalEvaluator) -> None:
    source = HONEST.replace("return torch.tanh(x) * self.scale", "return torch.tanh(x) * self.scale if x.shape[0] == 7 else x * self.scale")
    evaluation = evaluate(evaluator, source, PROBLEM + "WORKLOADS = [{'rows': 7}, {'rows': 129}]\n")
    assert evaluation.status is Status.WRONG_VALUES
    assert re.match(r"output\[\d+, \d+\]: expected .*; shape \(129, 96\)$", evaluation.feedback.first_mismatch)


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        ("def f(:", Status.COMPILE_ERROR, "SyntaxError"),
        ("x = 1", Status.COMPILE_ERROR, "ModelNew"),
        (HONEST.replace("self.scale", "self.gain"), Status.RUNTIME_ERROR, "missing scale; unexpected gain"),
        (HONEST.replace("def __init__(self, width)", "def __init__(self)"), Status.RUNTIME_ERROR, "positional argument"),
        (HONEST.replace("torch.tanh(x)", "torch.no_such(x)"), Status.RUNTIME_ERROR, "no_such"),
    ],
    ids=["syntax", "no model", "state", "constructor", "call"],
)
def test_failures_say_what_is_wrong(evaluator: LocalEvaluator, source: str, status: Status, words: str) -> None:
    evaluation = evaluate(evaluator, source)
    assert evaluation.status is status
    assert words in evaluation.reason + evaluation.feedback.error
    assert evaluation.latency_ms is None and Path(evaluation.receipt).exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("return [torch.randn(rows, 96)]", "raise OSError('no data')"), "get_inputs.* raised OSError: no data"),
        (("return [96]", "raise OSError('no arguments')"), "get_init_inputs.. raised OSError"),
        (("return [96]", "return [[], {'width': 96}]"), "positional argument.*a list and a dict, not keywords"),
        (("return [torch.randn(rows, 96)]", "return [torch.randn(rows, 96).cuda()]"), "(CUDA|Torch).*need not name one"),
        (("return torch.tanh(x) * self.scale", "return 3"), "must return a tensor"),
        (("return torch.tanh(x) * self.scale", "return x @ x"), "Model.forward raised RuntimeError"),
        (("import torch\n", "import torch\nimport not_there\n"), "cannot be imported.*not_there"),
        (("return [torch.randn(rows, 96)]", "return torch.randn(rows, 96)"), "must return a list"),
        (("torch.randn(rows, 96)", "torch.from_numpy(__import__('numpy').random.default_rng().random((rows, 96)))"), "for the same seed"),
        (("return torch.tanh(x) * self.scale", "return x[x[:, 0] > 0]"), "shapes of the outputs depend on the values"),
        (
            ("return [torch.randn(rows, 96)]", "return [torch.randn(rows, 96).to_sparse()]"),
            "get_inputs.*a sparse_coo tensor cannot be sent",
        ),
        (("self.scale = ", "self.register_buffer('mask', torch.eye(9).to_sparse_csr())\n        self.scale = "), "state_dict.*sparse_csr"),
        (("self.scale = ", "self.lazy = nn.LazyLinear(3)\n        self.scale = "), "state_dict.*lazy parameter has no shape yet"),
    ],
    ids=[
        "inputs",
        "init",
        "keywords",
        "device",
        "number",
        "forward",
        "import",
        "no list",
        "own generator",
        "as many rows",
        "sparse",
        "sparse state",
        "lazy",
    ],
)
def test_a_broken_problem_raises_with_the_reason(evaluator: LocalEvaluator, change: tuple[str, str], words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        evaluate(evaluator, HONEST, PROBLEM.replace(*change))


def test_inputs_begin_their_memory_as_the_references_do(evaluator: LocalEvaluator) -> None:
    source = PROBLEM.replace("torch.tanh(x) * self.scale", "torch.tanh(x.as_strided((63, 96), (96, 1), 7)) * self.scale")
    outcome = evaluate(evaluator, source.replace("class Model(", "class ModelNew("), source)
    assert outcome.status is Status.PASSED, outcome.reason


@pytest.mark.parametrize("generator", ["numpy.random.randn(rows, 96)", "[[random.gauss(0, 1) for _ in range(96)] for _ in range(rows)]"])
def test_inputs_may_come_from_any_of_the_global_generators(evaluator: LocalEvaluator, generator: str) -> None:
    source = "import random\nimport numpy\n" + PROBLEM.replace("torch.randn(rows, 96)", f"torch.tensor({generator}).float()")
    assert evaluate(evaluator, HONEST, source).reason == ""


@pytest.mark.parametrize(
    ("inputs", "forward"),
    [
        (
            "a, a + torch.randint(4, 9, (9,)).float()",
            "torch.stack([x[int(a) : int(b)].amax(0) for a, b in zip(low.tolist(), high.tolist())])",
        ),
        ("torch.eye(9), a + 1", "torch.linalg.cholesky(low) @ x[:9] * high[:, None]"),
        ("a, a + 1", "x[:9][low < 5]"),
    ],
    ids=["boxes", "positive definite", "as many rows as values"],
)
def test_inputs_whose_elements_hang_together_stay_as_they_are(evaluator: LocalEvaluator, inputs: str, forward: str) -> None:
    source = PROBLEM.replace("forward(self, x)", "forward(self, x, low, high)").replace(
        "torch.tanh(x) * self.scale", f"{forward} * self.scale"
    )
    source = source.replace(
        "return [torch.randn(rows, 96)]", f"a = torch.tensor([0.0, 3, 9, 4, 7, 5, 1, 2, 8])\n    return [torch.randn(rows, 96), {inputs}]"
    )
    outcome = evaluate(evaluator, source.replace("class Model(", "class ModelNew("), source)
    assert outcome.status is Status.PASSED, outcome.reason


@pytest.mark.parametrize(("output", "status"), [("x - self.mean", Status.NOT_MEASURED), ("torch.tanh(x) * self.scale", Status.PASSED)])
def test_a_problem_whose_outputs_depend_on_earlier_calls_is_untestable_and_no_candidates_fault(
    evaluator: LocalEvaluator, output: str, status: Status
) -> None:
    stateful = PROBLEM.replace("    def forward", '        self.register_buffer("mean", torch.zeros(width))\n    def forward')
    stateful = stateful.replace(
        "        return torch.tanh(x) * self.scale", f"        self.mean.mul_(0.5).add_(x.mean(0))\n        return {output}"
    )
    outcome = evaluate(evaluator, stateful.replace("class Model(", "class ModelNew("), stateful)
    assert outcome.status is status, outcome.reason
    assert ("earlier calls left in the model's buffers" in outcome.reason) is (status is Status.NOT_MEASURED)


def test_a_problem_that_names_a_library_operator_is_timed_against_it(evaluator: LocalEvaluator) -> None:
    library = "class ModelLibrary(Model):\n    def forward(self, x):\n        return torch.mul(torch.tanh(x), self.scale)\n"
    evaluation = evaluate(evaluator, HONEST, PROBLEM + library)
    assert (evaluation.status, set(evaluation.speedup)) == (Status.PASSED, {"eager", "library"})
    wrong = evaluate(evaluator, HONEST, PROBLEM + library.replace("tanh", "sigmoid"))
    assert set(wrong.speedup) == {"eager"}
    notes = json.loads(Path(wrong.receipt).read_text())["timings"][0]["notes"]
    assert any("no baseline library: " in note and "does not compute what Model does" in note for note in notes)


def test_an_unknown_target_raises(evaluator: LocalEvaluator) -> None:
    with pytest.raises(UnknownTargetError, match="known"):
        evaluator.evaluate(Candidate(HONEST), problem(), "abacus")


def test_closing_leaves_no_process_and_no_scratch_behind(tmp_path: Path) -> None:
    evaluator = LocalEvaluator(tmp_path, use_lint=False, use_compiled_baseline=False)
    evaluator.evaluate(Candidate("x = 1"), problem(), "cpu")
    zygote, scratch = evaluator._zygotes["cpu"], evaluator._scratch
    evaluator.close()
    assert zygote._process.poll() is not None
    assert scratch is not None and not scratch.exists()
    mine = [entry for entry in os.listdir("/proc") if entry.isdigit() and scratch.name in _command(entry)]  # noqa: PTH208 - names only
    assert mine == []


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_a_problem_that_asks_for_gradients_is_refused(evaluator: LocalEvaluator) -> None:
    source = PROBLEM.replace("torch.randn(rows, 96)", "torch.randn(rows, 96, requires_grad=True)")
    with pytest.raises(ProblemError, match="only forward passes"):
        evaluator.evaluate(Candidate(HONEST, language="torch"), problem_from_source(source, problem_id="test/trains"), "cpu")
