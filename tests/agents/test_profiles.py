"""What a session builds on is profiled once, within bounds, and the diagnosis and the questions to the knowledge base name what was seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from landscape import PROBLEM, candidate_at, config, machinery, search

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import create_run, drive
from agents.errors import OptionError
from agents.profiles import PASSES, CheapProfiler, _from_json, _to_json
from agents.runs.store import RunStore
from agents.types import Budget
from tools.profiling.causes import Cause, ProfileDiagnosis
from tools.types import Candidate, Problem

SPILLS = ProfileDiagnosis(
    dominant=Cause("register_spills", "Registers do not suffice.", ("spill_bytes = 96 bytes (compiled binary)",), 0.5, "kernel", ("avoid register spills",)),
    deferred=(Cause("low_occupancy", "Few warps.", ("occupancy_fraction = 0.1",), 0.2, "kernel", ("raise occupancy",)),),
    cannot_tell=("bank_conflicts",),
    questions=("avoid register spills",),
)  # fmt: skip


class Watching:
    """A profiler that knows the answer and counts."""

    def __init__(self, found: ProfileDiagnosis | None = SPILLS) -> None:
        self.found = found
        self.seen: list[str] = []

    def diagnose(self, candidate: Candidate, problem: Problem, target: str, *, seed: int, timeout_s: float) -> ProfileDiagnosis | None:
        self.seen.append(candidate.candidate_id)
        return self.found


class Noting:
    """Writes neighbours of what it is given, and keeps the tasks."""

    def __init__(self) -> None:
        self.tasks: list[CoderTask] = []

    async def write(self, task: CoderTask) -> Draft:
        self.tasks.append(task)
        return Draft(candidate_at((len(self.tasks), 4)), "next")

    async def signature(self, problem: Problem, target: str) -> str:
        return ""


def test_the_diagnosis_that_a_coder_gets_names_what_the_profile_saw(tmp_path: Path) -> None:
    coder, profiler = Noting(), Watching()
    search(tmp_path, config("linear", 6, profiles=3), machinery(coder=coder, profiler=profiler))  # type: ignore[arg-type]  # a coder by its protocol
    first, second = coder.tasks[0].diagnosis, coder.tasks[1].diagnosis
    assert "Registers do not suffice" not in first.summary  # nothing to build on yet
    assert "register spills in kernel" in second.summary
    assert "Deferred: low occupancy" in second.summary
    assert second.bottleneck == "memory_bandwidth"
    assert second.questions[0] == "avoid register spills"


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_profiles_are_taken_than_the_run_may_and_none_twice(tmp_path: Path, most: int) -> None:
    profiler = Watching()
    search(tmp_path, config("linear", 8, profiles=most), machinery(coder=Noting(), profiler=profiler))  # type: ignore[arg-type]  # a coder by its protocol
    assert len(profiler.seen) == len(set(profiler.seen)) == most


def test_a_run_with_little_time_left_takes_none(tmp_path: Path) -> None:
    profiler = Watching()
    settings = RunConfig(strategy="linear", coder="test", budget=Budget(evaluations=6, seconds=100.0), profiles=3)
    search(tmp_path, settings, machinery(coder=Noting(), profiler=profiler))  # type: ignore[arg-type]  # a coder by its protocol
    assert profiler.seen == []


def test_a_profile_that_shows_nothing_is_not_repeated_and_leaves_the_diagnosis_alone(tmp_path: Path) -> None:
    coder, profiler = Noting(), Watching(None)
    store, run_id, _ = search(tmp_path, config("linear", 6, profiles=4), machinery(coder=coder, profiler=profiler))  # type: ignore[arg-type]  # a coder by its protocol
    assert len(profiler.seen) == len(set(profiler.seen))
    assert all("Profile:" not in task.diagnosis.summary for task in coder.tasks)
    assert [event.data["found"] for event in store.events(run_id, "profiled")] == [None] * len(profiler.seen)


def test_what_was_found_survives_the_store() -> None:
    assert _from_json(_to_json(SPILLS)) == SPILLS
    assert _from_json(_to_json(ProfileDiagnosis(None, (), (), ()))) == ProfileDiagnosis(None, (), (), ())


def test_a_negative_number_of_profiles_is_refused() -> None:
    with pytest.raises(OptionError, match="profiles"):
        RunConfig(profiles=-1)


def test_every_toolchain_has_passes() -> None:
    assert set(PASSES) == {"cpu", "cuda", "rocm", "mtia", "sim"}


def test_a_target_that_nobody_knows_yields_no_profile() -> None:
    assert CheapProfiler().diagnose(Candidate("x"), PROBLEM, "abacus", seed=0, timeout_s=1.0) is None


@pytest.mark.slow
def test_a_real_candidate_is_profiled_on_the_cpu() -> None:
    problem = Problem("t/big", "big", "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x @ x\n\n\ndef get_inputs():\n    return [torch.randn(256, 256)]\n\n\ndef get_init_inputs():\n    return []\n")  # fmt: skip
    candidate = Candidate(
        "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return torch.matmul(x, x)\n", "torch"
    )
    found = CheapProfiler().diagnose(candidate, problem, "cpu", seed=0, timeout_s=200.0)
    assert found is not None
    assert found.dominant is not None
    assert (found.dominant.name, found.dominant.kernel) == ("dominant_operator", "aten::mm")


def test_a_resumed_run_reads_the_profile_from_its_events(tmp_path: Path) -> None:
    class Dying(Noting):
        async def write(self, task: CoderTask) -> Draft:
            if len(self.tasks) == 1:
                raise KeyboardInterrupt
            return await super().write(task)

    settings = config("linear", 5, profiles=2)
    first, second = Watching(), Watching(ProfileDiagnosis(None, (), (), ()))
    with RunStore(tmp_path) as store:
        run_id = create_run(store, PROBLEM, "cpu", settings)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(drive(store, run_id, machinery(coder=Dying(), profiler=first)))  # type: ignore[arg-type]  # a coder by its protocol
        store.acquire(run_id)
        again = Noting()
        again.tasks = []
        asyncio.run(drive(store, run_id, machinery(coder=again, profiler=second)))  # type: ignore[arg-type]  # a coder by its protocol
    assert len(first.seen) == 1
    assert first.seen[0] not in second.seen
    assert "register spills" in again.tasks[0].diagnosis.summary
