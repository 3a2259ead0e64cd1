"""A candidate for a chip that is only simulated: legal by the rules, right in the interpreter, and as slow as the model says that all it does is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import DOUBLE_ROWS_KERNEL as KERNEL

from tools.errors import MachineError, ProblemError
from tools.problems import problem_from_source
from tools.sandbox.landlock import abi_version
from tools.targets.mtia_model import estimate
from tools.targets.operators import Operator, work_of_operator
from tools.targets.profile import load_profiles
from tools.targets.simulation import BASELINE, SimulatedEvaluator
from tools.targets.simulation_worker import sized
from tools.types import QUICK, SIMULATED_TIME, Candidate, Composition, Evaluation, Evidence, Status

PROBLEM = """
import torch
from torch import nn

ROWS = 64


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2.0


def get_inputs():
    return [torch.randn(ROWS, 128)]


def get_init_inputs():
    return []
"""
LAUNCH = "        double[(triton.cdiv(x.shape[0], 16),)](x, out, x.shape[0], COLUMNS=x.shape[1], BLOCK=16)\n"


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedEvaluator]:
    with SimulatedEvaluator(tmp_path_factory.mktemp("home"), use_lint=False) as running:
        yield running


def evaluated(evaluator: SimulatedEvaluator, source: str, problem: str = PROBLEM, *, timeout_s: float = 120.0) -> Evaluation:
    effort = dataclasses.replace(QUICK, value_seeds=1, timeout_s=timeout_s)
    return evaluator.evaluate(Candidate(source), problem_from_source(problem, problem_id="double"), "mtia:2i", effort)


@pytest.fixture(scope="module")
def honest(evaluator: SimulatedEvaluator) -> Evaluation:
    return evaluated(evaluator, KERNEL)


def test_a_right_kernel_passes_with_evidence_baseline_and_label_that_say_simulated(honest: Evaluation) -> None:
    assert (honest.status, honest.evidence, honest.composition) == (Status.PASSED, Evidence.SIMULATED, Composition.CUSTOM)
    assert list(honest.speedup) == [BASELINE] == ["eager_simulated"] and honest.labels == (SIMULATED_TIME,)
    assert honest.fitness == honest.speedup[BASELINE].value > 1.0  # one pass where the reference makes two
    counters = honest.feedback.profile
    assert counters["simulated_low_us"] <= counters["simulated_us"] <= counters["simulated_high_us"]
    assert counters["simulated_us"] == pytest.approx(1000 * (honest.latency_ms or 0.0))
    assert Path(honest.receipt).is_file() and "time_model" in Path(honest.receipt).read_text()


def test_the_reference_itself_is_exactly_as_fast_as_the_baseline(evaluator: SimulatedEvaluator) -> None:
    found = evaluated(evaluator, PROBLEM.replace("class Model(", "class ModelNew("))
    assert (found.status, found.composition, found.fitness) == (Status.PASSED, Composition.LIBRARY, 1.0)


def test_a_kernel_that_is_launched_twice_takes_twice_as_long(evaluator: SimulatedEvaluator, honest: Evaluation) -> None:
    found = evaluated(evaluator, KERNEL.replace(LAUNCH, LAUNCH + LAUNCH))
    assert found.latency_ms == pytest.approx(2 * (honest.latency_ms or 0.0))


def test_what_is_left_to_pytorch_counts_like_the_baseline(evaluator: SimulatedEvaluator, honest: Evaluation) -> None:
    left = KERNEL.replace("return out", "return out * 1.0")
    found = evaluated(evaluator, left)
    assert found.composition is Composition.MIXED and (found.latency_ms or 0.0) > (honest.latency_ms or 0.0)
    moved = evaluated(evaluator, KERNEL.replace("return out", "return out.clone()"))
    assert moved.composition is Composition.CUSTOM and (moved.latency_ms or 0.0) > (honest.latency_ms or 0.0)


def test_an_operator_whose_time_is_not_known_is_refused_by_name(evaluator: SimulatedEvaluator) -> None:
    found = evaluated(evaluator, KERNEL.replace("return out", "return out.sort(dim=-1)[0]"))
    assert found.status is Status.NOT_MEASURED and "aten.sort" in found.reason
    assert found.latency_ms is None and not found.speedup


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        (KERNEL.replace("* 2.0", "* 2.001"), Status.WRONG_VALUES, "elements are wrong"),
        (KERNEL.replace("return out", "return out[:, :8]"), Status.WRONG_SHAPE, "shape"),
        (KERNEL.replace("BLOCK=16)", "BLOCK=1024)").replace("x.shape[0], 16)", "x.shape[0], 1024)"), Status.COMPILE_ERROR, "M04"),
        (KERNEL.replace("import torch\n", "import torch\nimport nothing_of_this_name\n", 1), Status.RUNTIME_ERROR, "nothing_of_this_name"),
        (KERNEL.replace(LAUNCH, "        while x.shape[0] < 999:\n            pass\n"), Status.TIMEOUT, "INTERPRETER_SIZES"),
    ],
    ids=["wrong values", "wrong shape", "illegal", "does not load", "hangs"],
)  # fmt: skip
def test_what_is_wrong_with_a_candidate_is_its_status(evaluator: SimulatedEvaluator, source: str, status: Status, says: str) -> None:
    found = evaluated(evaluator, source, timeout_s=2.0 if status is Status.TIMEOUT else 120.0)
    assert found.status is status and says in found.reason + found.feedback.error
    assert found.evidence is Evidence.SIMULATED and found.fitness == 0.0 and found.latency_ms is None


def test_no_time_is_given_where_the_source_does_not_prove_the_work(evaluator: SimulatedEvaluator) -> None:
    body = "    x = tl.load(x_ptr + offset, mask=(row < rows)[:, None], other=0.0)\n"
    loop = "    turns = tl.load(x_ptr).to(tl.int32) * 0 + 1\n    for _ in range(0, turns):\n    " + body
    found = evaluated(evaluator, KERNEL.replace(body, "    x = tl.zeros((BLOCK, COLUMNS), dtype=tl.float32)\n" + loop))
    assert found.status is Status.NOT_MEASURED and "`double`" in found.reason


def test_of_an_autotuned_kernel_the_fastest_legal_configuration_counts(evaluator: SimulatedEvaluator, honest: Evaluation) -> None:
    tuned = KERNEL.replace(
        "@triton.jit", "@triton.autotune([triton.Config({'BLOCK': size}) for size in (1024, 64, 16)], key=['rows'])\n@triton.jit"
    )
    launch = "        double[lambda meta: (triton.cdiv(x.shape[0], meta['BLOCK']),)](x, out, x.shape[0], COLUMNS=x.shape[1])\n"
    found = evaluated(evaluator, tuned.replace(LAUNCH, launch))
    assert found.status is Status.PASSED and (found.latency_ms or 1.0) <= (honest.latency_ms or 0.0)


def test_values_are_checked_at_the_sizes_for_the_interpreter_and_times_are_those_of_the_problem(
    evaluator: SimulatedEvaluator, honest: Evaluation
) -> None:
    small = evaluated(evaluator, KERNEL, PROBLEM.replace("ROWS = 64\n", "ROWS = 64\nINTERPRETER_SIZES = {'ROWS': 3}\n"))
    assert small.latency_ms == honest.latency_ms
    wrong_there = KERNEL.replace("return out", "return out if x.shape[0] != 3 else out + 1")
    found = evaluated(evaluator, wrong_there, PROBLEM.replace("ROWS = 64\n", "ROWS = 64\nINTERPRETER_SIZES = {'ROWS': 3}\n"))
    assert found.status is Status.WRONG_VALUES
    with pytest.raises(ProblemError, match="COLUMNS"):
        evaluated(evaluator, KERNEL, PROBLEM + "\nINTERPRETER_SIZES = {'COLUMNS': 3}\n")


def test_sizes_that_cannot_be_replaced_are_an_error() -> None:
    assert "ROWS = 3\n" in sized("ROWS = 64\nINTERPRETER_SIZES = {'ROWS': 3}\n")
    assert sized("ROWS = 64\n") == "ROWS = 64\n"
    for source in ("ROWS = 1\nROWS = 2\nINTERPRETER_SIZES = {'ROWS': 3}\n", "INTERPRETER_SIZES = [3]\n"):
        with pytest.raises(ValueError, match="INTERPRETER_SIZES"):
            sized(source)


@pytest.mark.skipif(abi_version() < 1, reason="no Landlock on this machine")
def test_a_candidate_cannot_read_the_outputs_of_the_reference(evaluator: SimulatedEvaluator) -> None:
    thief = KERNEL.replace(
        LAUNCH,
        LAUNCH
        + "        import glob\n        for path in glob.glob('/tmp/kevolve-simulate-*/kept/*.pt'):\n"
        + "            raise RuntimeError(open(path, 'rb').read(4))\n        out = out + 1.0\n",
    )
    assert evaluated(evaluator, thief).status is Status.WRONG_VALUES


def test_a_measured_target_and_a_reference_that_fails_are_errors_of_the_caller(evaluator: SimulatedEvaluator) -> None:
    problem = problem_from_source(PROBLEM, problem_id="double")
    with pytest.raises(MachineError, match="not a simulated target"):
        evaluator.evaluate(Candidate(KERNEL), problem, "cpu")
    with pytest.raises(ProblemError, match="cannot be run"):
        evaluated(evaluator, KERNEL, PROBLEM.replace("torch.relu(x)", "torch.relu(x, 1, 2, 3)"))


def test_an_operator_costs_what_its_bytes_and_products_take_at_peak_and_not_less() -> None:
    limits = load_profiles()["mtia:2i"].limits
    copied = Operator("aten.clone.default", 1e9, 1e9, 2.5e8, is_movement=True)
    at_peak_us = 2e9 / (limits["dram_gb_per_s"].value * 1e9 * limits["dram_efficiency_fraction"].value) * 1e6
    assert at_peak_us <= estimate(work_of_operator(copied, limits), limits).value_us < 1.05 * at_peak_us
    flops = 2.0 * 4096**3
    product = Operator("aten.mm.default", 2 * 4096**2 * 2, 4096**2 * 2, 4096**2, flops, element_bytes=2)
    least_us = flops / limits["flops_per_s_float16"].value * 1e6
    assert least_us <= estimate(work_of_operator(product, limits), limits).value_us < 1.2 * least_us
