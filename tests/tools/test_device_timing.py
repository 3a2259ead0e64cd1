"""How calls on a GPU are timed, with a device of paper: the order of things, what is flushed and how often anything is waited for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tools.check.composition import composition_of, kernel_times
from tools.check.verdict import Rejected
from tools.errors import HarnessError
from tools.timing.phase import TimingRecord, WorkloadTimer, beside_profiler
from tools.types import QUICK, Composition, Status
from tools.worker import devices, tensors
from tools.worker.processes import Reply
from tools.worker.timed import TimedSlots
from tools.worker.trace import busy_and_span

ROOT = Path(__file__).resolve().parents[2]
L2_BYTES = 50 << 20
PROPERTIES = SimpleNamespace(
    name="paper", major=9, minor=0, uuid="0ebe39fe", total_memory=1 << 30, L2_cache_size=L2_BYTES, multi_processor_count=132
)


class Event:
    """Writes down when it is recorded."""

    told: list[str]

    def __init__(self, enable_timing: bool = False) -> None:
        self.number = len([item for item in self.told if item == "event"])
        self.told.append("event")

    def record(self, stream: object) -> None:
        self.told.append(f"record {self.number}")

    def elapsed_time(self, other: Event) -> float:
        return 1.0


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A CUDA that does nothing and writes down what it is asked."""
    found: list[str] = []
    monkeypatch.setattr(Event, "told", found, raising=False)
    for name, value in {
        "init": lambda: None, "get_device_properties": lambda number: PROPERTIES, "default_stream": lambda: "stream", "set_stream": lambda stream: None,
        "synchronize": lambda: found.append("synchronize"), "Event": Event, "_sleep": lambda cycles: found.append("ahead"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(devices, "_persisting_l2_reset", lambda: lambda: found.append("reset persisting"))
    yield found


@pytest.fixture
def device(told: list[str], monkeypatch: pytest.MonkeyPatch) -> devices.CudaDevice:
    made = devices.CudaDevice(torch.get_num_threads())
    flush = SimpleNamespace(fill_=lambda value: told.append("flush"))
    monkeypatch.setattr(made, "_flush", lambda: flush)
    return made


def test_the_cache_is_overwritten_after_the_inputs_are_set_and_before_the_clock_starts_for_every_call(device: Any, told: list[str]) -> None:
    device.timed_loop([lambda: told.append("call")] * 3, lambda number: told.append(f"inputs {number}"))
    started = [item for item in told if item != "event"]
    calls = [item for number in range(3) for item in (f"inputs {number}", "flush", f"record {number}", "call", f"record {number + 3}")]
    assert started == ["reset persisting", *calls, "synchronize"]


def test_a_block_waits_for_the_device_once_at_its_end(device: Any, told: list[str]) -> None:
    times, _ = device.timed_loop([lambda: None] * 40, lambda number: None, ahead_ms=1.0)
    assert told.count("synchronize") == 1 and told[-1] == "synchronize" and len(times) == 40
    assert told.index("ahead") < told.index("flush")


def test_lines_that_persist_in_the_cache_lose_that_before_every_block(device: Any, told: list[str]) -> None:
    for _ in range(3):
        device.timed_loop([lambda: told.append("call")], lambda number: None)
    assert [item for item in told if item in ("reset persisting", "call")] == ["reset persisting", "call"] * 3


@pytest.mark.parametrize("l2_bytes", [4 << 20, 50 << 20, 200 << 20])
def test_what_is_overwritten_is_at_least_twice_the_cache(told: list[str], monkeypatch: pytest.MonkeyPatch, l2_bytes: int) -> None:
    asked: list[int] = []
    monkeypatch.setattr(PROPERTIES, "L2_cache_size", l2_bytes)
    monkeypatch.setattr(torch, "empty", lambda count, **options: asked.append(count))
    made = devices.CudaDevice(1)
    made._flush()
    assert asked[-1] >= 2 * l2_bytes


def test_facts_tell_the_device_from_others_of_its_name_and_its_toolchain_from_older_ones(device: Any) -> None:
    facts = device.facts()
    assert facts["uuid"] == "0ebe39fe" and facts["capability"] == "sm_90" and facts["memory_bytes"] and facts["multiprocessors"]
    assert {"driver", "torch", "cuda", "triton", "numeric_flags"} <= set(facts) and facts["numeric_flags"]["matmul_allow_tf32"] in (
        True,
        False,
    )


def test_nothing_sleeps_between_timed_calls() -> None:
    found = []
    for name in ("timing/phase.py", "timing/pair.py", "worker/timed.py", "worker/devices.py", "worker/candidate.py", "worker/reference.py"):
        for node in ast.walk(ast.parse((ROOT / "tools" / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
                found.append(f"{name}:{node.lineno}")
    assert not found


def timer(**parts: object) -> WorkloadTimer:
    session = SimpleNamespace(device="cuda", facts={}, ask=lambda *asked, **more: None, **parts)
    process = SimpleNamespace(prepare=lambda *prepared, **more: None, warm=lambda *warm: None)
    return WorkloadTimer(process, session, QUICK, SimpleNamespace(remaining_s=lambda: 9.0), TimingRecord("default"))  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[0.0, 1.0], [float("nan"), 1.0], [-1.0, 1.0], [1.0], None, "12", [True, 1.0], [float("inf"), 1.0]])
def test_a_time_that_is_none_is_no_measurement(times: object) -> None:
    reply = Reply({"ok": True, "device_ms": times}, (), 0.1)
    with pytest.raises(Rejected) as caught:
        timer()._event_ms(reply, 2, "candidate")
    assert caught.value.status is Status.REWARD_HACK
    with pytest.raises(HarnessError):
        timer()._event_ms(reply, 2, "eager")


def test_a_profiler_that_saw_nothing_says_nothing() -> None:
    traces = [{"kernels": {"own": 0.0, "volta_sgemm": 0}, "launches": {"own": 1}}]
    assert kernel_times(traces) == {} and kernel_times([{}]) == {}
    assert kernel_times([{"kernels": {"own": 3.0, "volta_sgemm": 1.0}}, {"kernels": {"own": 1.0}}]) == {"own": 4.0, "volta_sgemm": 1.0}
    assert composition_of([{"kernels": {"Memset (Device)": 5.0}}], [], Path("/nowhere")) is Composition.UNKNOWN


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], {}),
        ([(10.0, 30.0), (30.0, 40.0)], {"busy_ms": 0.03, "span_ms": 0.03}),
        (
            [(100.0, 110.0), (0.0, 50.0), (20.0, 40.0), (45.0, 60.0)],
            {"busy_ms": 0.07, "span_ms": 0.11},
        ),  # streams beside each other count once
    ],
)
def test_the_device_is_at_work_while_any_kernel_runs(times: list[tuple[float, float]], expected: dict[str, float]) -> None:
    assert busy_and_span(times) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("claimed_ms", "busy_ms", "agrees"), [(1.0, 1.1, True), (1.0, 2.0, True), (1.0, 2.2, False), (0.01, 0.1, True), (0.01, 0.2, False)]
)
def test_a_claim_below_half_of_what_the_profiler_saw_is_not_true(claimed_ms: float, busy_ms: float, agrees: bool) -> None:
    found = beside_profiler(claimed_ms, {"busy_ms": 8 * busy_ms, "span_ms": 80.0}, 8)
    assert found == {"busy_ms": pytest.approx(busy_ms), "span_ms": 10.0, "claimed_ms": claimed_ms, "agrees": agrees}


@pytest.mark.parametrize(
    "answer",
    [{}, {"busy_ms": 1.0}, {"busy_ms": "1", "span_ms": 1.0}, {"busy_ms": float("nan"), "span_ms": 1.0}, {"busy_ms": 0.0, "span_ms": 1.0}],
)
def test_what_no_profiler_says_accuses_nobody(answer: dict[str, Any]) -> None:
    assert beside_profiler(1.0, answer, 8) == {}


def test_a_disagreement_has_to_show_twice() -> None:
    seen = [{"busy_ms": 80.0, "span_ms": 80.0}, {"busy_ms": 8.0, "span_ms": 8.0}]
    made = timer()
    made._process.profile = lambda calls, deadline: seen.pop(0)  # type: ignore[method-assign]
    made._compare_with_profiler(1.0)
    assert made._record.profiler["agrees"] is True and not seen
    made._process.profile = lambda calls, deadline: {"busy_ms": 80.0, "span_ms": 80.0}  # type: ignore[method-assign]
    with pytest.raises(Rejected, match="the profiler saw the device at work for 10"):
        made._compare_with_profiler(1.0)


def test_every_arm_is_called_as_often_before_the_first_timed_call_and_autotuning_is_over_by_then() -> None:
    asked: list[tuple[str, int]] = []
    made = timer()
    made._session.ask = lambda op, limit, **more: asked.append((more["arm"], more["calls"]))  # type: ignore[method-assign, assignment, return-value, func-returns-value]
    made._process.warm = lambda calls, deadline: asked.append(("candidate", calls))  # type: ignore[method-assign, assignment]
    spec = {"tensor": {"nbytes": 8, "shape": [2]}}
    made.warm_up({"slots": [spec], "outputs": spec, "layout": []}, "", restore=False, more_baselines=["max_autotune"])
    assert {name for name, _ in asked} == {"candidate", "eager", "compiled", "max_autotune"} and len({calls for _, calls in asked}) == 1
    assert asked[0][1] >= 8


def test_both_sides_compute_on_the_same_bytes_and_the_same_changes_of_them() -> None:
    generator = torch.Generator().manual_seed(3)
    sets = [[torch.randn(4, 5, generator=generator), torch.zeros(3)] for _ in range(2)]  # what a power meter would tell apart
    specs, end = [], 0
    for arguments in sets:
        spec, end = tensors.describe(arguments, end)
        specs.append(spec)
    for spec in specs:
        for entry in tensors.tensor_specs(spec):
            entry["poke"] = {"low": -1.0, "high": 1.0}
    memory = bytearray(end + 64)
    for arguments, spec in zip(sets, specs, strict=True):
        tensors.write(arguments, spec, memory)
    theirs = [tensors.read(spec, memory, "cpu") for spec in specs]
    cpu = devices.CpuDevice(torch.get_num_threads())
    seen: dict[str, list[bytes]] = {"reference": [], "candidate": []}
    for name, arguments in (("reference", sets), ("candidate", theirs)):
        TimedSlots(cpu, specs, arguments).run(
            lambda *inputs, name=name: seen[name].append(b"".join(np.ascontiguousarray(item).tobytes() for item in inputs)), 7, 11
        )
    assert seen["reference"] == seen["candidate"] and len(set(seen["reference"])) == 7
