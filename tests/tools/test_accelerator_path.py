"""What an evaluation does for an accelerator and not for the CPU, with the CPU standing in for the device: turns, processes that open early, events as clock."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.targets.base import Target
from tools.targets.registry import get_target
from tools.timing.residence import Residence
from tools.types import UNMEASURABLE, Candidate, Evaluation, Problem, Status

STAND_IN = """
import time
from tools.worker import devices

class StandIn(devices.CpuDevice):
    def timed_loop(self, steps, before, ahead_ms=0.0):
        times, result = [], None
        for number, step in enumerate(steps):
            before(number)
            began = time.perf_counter()
            result = step()
            times.append((time.perf_counter() - began) * 1000.0 + 1e-6)
        return times, result

devices.open_device = lambda name, num_threads: StandIn(num_threads)

from tools.worker import candidate, reference

def standing_in(main):
    return lambda channel, config: main(channel, {**config, "device": "cpu"})

candidate.main, reference.main = standing_in(candidate.main), standing_in(reference.main)
"""
MODEL = """
import torch
from torch import nn
class {name}(nn.Module):
    def forward(self, x):
        return torch.tanh(x)
"""
INPUTS = "def get_inputs():\n    return [torch.randn(64, 512)]\ndef get_init_inputs():\n    return []\n"
PROBLEM = problem_from_source(MODEL.format(name="Model") + INPUTS, problem_id="tanh")


class OnAccelerator:
    """A target whose device is said to be an accelerator."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __getattr__(self, name: str) -> object:
        return getattr(self._target, name)

    def describe(self) -> object:
        return dataclasses.replace(self._target.describe(), name="cuda:sm_90", torch_device="cuda")

    def limits(self) -> object:
        return get_target("cuda:sm_90").limits()


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str, Problem], Evaluation]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("tools.evaluator._PRELOAD", ("triton", "torch._inductor.config", "stand_in"))
    monkeypatch.setattr("tools.evaluator.get_target", lambda name: OnAccelerator(get_target("cpu")))
    monkeypatch.setattr("tools.timing.phase._CLOCK_SHARE", 0.0)  # a busy machine's clocks prove nothing
    monkeypatch.setattr("tools.timing.fresh._FACTOR", 1e9)
    monkeypatch.setattr("tools.timing.phase._LONG_S", 0.0)  # verifying is always done beside others
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "locks"))

    def run(home: Path, source: str, problem: Problem) -> Evaluation:
        with LocalEvaluator(home, use_lint=False, use_compiled_baseline=False, num_threads=1) as evaluator:
            return evaluator.evaluate(Candidate(source), problem, "cuda")

    return run


@pytest.mark.slow
def test_an_evaluation_takes_turns_and_opens_its_processes_early(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    evaluation = evaluate(tmp_path / "home", MODEL.format(name="ModelNew"), PROBLEM)
    assert (evaluation.status, evaluation.reason) == (Status.PASSED, "")
    receipt = json.loads(Path(evaluation.receipt).read_text())
    assert receipt["ahead"] == {"compiled": {}, "opened": receipt["ahead"]["opened"], "profiler_fault": "", "import_fault": ""}
    assert receipt["ahead"]["opened"]["profiler"] == "not asked for"  # the stand-in has none
    assert {"turns.waited", "turns.waited_for_timing", "turns.waited_aside", "timing.verifying"} <= set(evaluation.phases_s)


@pytest.mark.slow
def test_one_that_compiles_long_stands_still_for_the_timing_of_another(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    (tmp_path / "signals").mkdir()
    waits = f"import pathlib, time\nprint('compiling', flush=True)\nwhile not pathlib.Path({str(tmp_path / 'signals' / 'go')!r}).exists():\n    time.sleep(0.01)\n"
    found: list[Evaluation] = []
    slow = threading.Thread(target=lambda: found.append(evaluate(tmp_path / "slow", waits + MODEL.format(name="ModelNew"), PROBLEM)))
    slow.start()
    began = time.monotonic()
    while not any("compiling" in log.read_text() for log in (tmp_path / "locks").glob("kevolve-*/candidate-*/check.log")):
        assert time.monotonic() < began + 120 and slow.is_alive(), found
        time.sleep(0.05)
    quick = evaluate(tmp_path / "quick", MODEL.format(name="ModelNew"), PROBLEM)  # it would wait for 15 minutes
    (tmp_path / "signals" / "go").touch()
    slow.join()
    assert [item.status for item in (quick, *found)] == [Status.PASSED] * 2, [item.reason for item in (quick, *found)]
    assert found[0].phases_s["turns.held"] > 0 and "turns.held" not in quick.phases_s


KERNEL = """
import triton
import triton.language as tl
@triton.jit
def double(x, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(x + at, tl.load(x + at) * 2)
def without_device(x):
    {body}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "compiled"),
    [
        ("double[(1,)](x, SIZE=512)", {"kernels": 1, "error": ""}),
        ("raise ValueError('no')", {"kernels": 0, "error": "ValueError: no"}),
        ("import os; os._exit(3)", {"error": "the candidate's process ended by itself (exit code 3) during compiling"}),
    ],
    ids=["launches", "raises", "ends"],
)
def test_kernels_compile_ahead_where_others_wait_for_the_device_and_that_decides_nothing(
    evaluate: Callable[..., Evaluation], tmp_path: Path, body: str, compiled: dict[str, object]
) -> None:
    model = MODEL.format(name="ModelNew").replace("return", "type(x).__name__ == 'FakeTensor' and without_device(x)\n        return")
    with Residence("") as neighbour:
        neighbour.reserve(1, 1000)
        evaluation = evaluate(tmp_path / "home", KERNEL.format(body=body) + model, PROBLEM)
    assert (evaluation.status, evaluation.reason) == (Status.PASSED, "")
    assert json.loads(Path(evaluation.receipt).read_text())["ahead"]["compiled"] == compiled
    assert len(list((tmp_path / "home" / "cache" / "candidates").rglob("double.cubin"))) == compiled.get("kernels", 0)


@pytest.mark.slow
def test_a_reference_that_does_not_fit_even_alone_is_untestable(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    source = MODEL.format(name="Model").replace("return torch.tanh(x)", "raise torch.OutOfMemoryError('CUDA out of memory.')")
    evaluation = evaluate(tmp_path / "home", MODEL.format(name="ModelNew"), problem_from_source(source + INPUTS, problem_id="large"))
    assert evaluation.status is Status.NOT_MEASURED and evaluation.labels == (UNMEASURABLE,)
    assert evaluation.reason.startswith("untestable on this device: the reference does not fit into the device's memory")
