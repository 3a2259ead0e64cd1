"""The study with and without knowledge: what it counts, how it compares, and how candidates are judged where there is no device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.deviceless import floors, resources
from evaluation.interpreted import check
from evaluation.prompt_ablation import Session, kept, kind_of, parts_of, sessions_of, study, support
from evaluation.spool_searches import ROLES
from evaluation.spool_searches import table as searches_table
from evaluation.spool_study import (
    ITEMS,
    SUITE,
    best_candidate,
    best_speeds,
    bootstrap,
    filled_in,
    paired,
    small_source,
    speed_ratio,
    table,
    to_measure,
)
from tools.targets.base import CompileReport, KernelResources
from tools.types import Status

RESULTS = Path(__file__).resolve().parents[2] / "evaluation" / "results" / "spool"
PROBLEM = """
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return x * 2.0 + 1.0


rows = 5


def get_inputs():
    return [torch.randn(rows, 40)]


def get_init_inputs():
    return []
"""
CANDIDATE = """
import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(out_ptr + at, x * 2.0 + 1.0, mask=at < n)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64, cb_multiplier=4)
        return out
"""


def row(item: str, arm: str, attempts: int | None, target: str = "cpu", **more: Any) -> dict[str, Any]:
    statuses = ["compile_error"] * ((attempts or 4) - 1) + (["passed"] if attempts else [])
    return {
        "item": item, "arm": arm, "target": target, "passed_first": attempts == 1, "attempts_to_pass": attempts, "statuses": statuses,
        "simulated_ms": None, "tokens": 1000, "prompt_chunks": 3, "cited": 1, **more,
    }  # fmt: skip


def test_sizes_are_replaced_and_a_name_that_is_not_there_is_an_error() -> None:
    assert "rows = 3\n" in small_source(PROBLEM, {"rows": "3"})
    with pytest.raises(ValueError, match="columns is assigned 0 times"):
        small_source(PROBLEM, {"columns": "3"})


def test_problems_of_the_suite_exist_and_every_round_has_its_own() -> None:
    assert all((SUITE / f"{item.name}.py").exists() for item in ITEMS if not item.spec)
    assert len({item.name for item in ITEMS}) == len(ITEMS)


def test_only_problems_with_both_arms_are_compared() -> None:
    rows = [row("a", "knowledge", 1), row("a", "none", 3), row("b", "knowledge", 1)]
    assert [(with_it["item"], without["attempts_to_pass"]) for with_it, without in paired(rows)] == [("a", 3)]


def test_interval_of_paired_differences_holds_the_mean_and_needs_spread() -> None:
    assert bootstrap([-1.0, -1.0]).low == bootstrap([-1.0, -1.0]).high == -1.0
    found = bootstrap([-2.0, 0.0, 1.0, -1.0])
    assert found.low < found.value == -0.5 < found.high


def test_table_counts_a_problem_that_never_passed_as_one_attempt_more() -> None:
    told = table([row("a", "knowledge", 1), row("a", "none", None)])
    assert "| all | 1 | 1 | 0 | -4.00 (-4.00 to -4.00) | 1.00 |" in told and "| a | cpu | none |" in told and "never" in told


def speed(item: str, arm: str, attempt: int, eager: float, status: str = "passed") -> dict[str, Any]:
    interval = {"value": eager, "low": eager * 0.9, "high": eager * 1.1}
    return {"item": item, "arm": arm, "attempt": attempt, "status": status, "speedup": {"eager": interval} if status == "passed" else {}}


def test_best_correct_candidate_of_each_arm_counts_with_its_latest_record() -> None:
    speeds = [
        speed("a", "none", 1, 9.0),
        speed("a", "none", 1, 2.0),
        speed("a", "none", 2, 3.0),
        speed("a", "none", 3, 0.0, "wrong_values"),
    ]
    assert best_speeds(speeds)["a", "none"]["attempt"] == 2
    assert best_candidate([{"attempt": 1, "fitness": 0.0}, {"attempt": 2, "fitness": 0.0}]) == {"attempt": 2, "fitness": 0.0}
    assert best_candidate([{"attempt": 1, "fitness": 1.5}, {"attempt": 2, "fitness": 1.2}]) == {"attempt": 1, "fitness": 1.5}
    assert best_candidate([]) is None


def test_paired_ratio_is_above_one_where_knowledge_is_faster_and_its_interval_holds_it() -> None:
    found = speed_ratio(speed("a", "knowledge", 1, 3.0), speed("a", "none", 1, 2.0))
    assert found.value == 1.5 and found.low < 1.5 < found.high
    same = speed_ratio(speed("a", "knowledge", 1, 2.0), speed("a", "none", 1, 2.0))
    assert same.low == same.high == 1.0


def test_measured_speeds_are_merged_into_the_table_with_the_paired_ratio() -> None:
    rows = [row(item, arm, 1, statuses=["passed"] * 2) for item in "ab" for arm in ("knowledge", "none")]
    speeds = [
        speed("a", "knowledge", 1, 1.0),
        speed("a", "knowledge", 2, 4.0),
        speed("a", "none", 1, 2.0),
        speed("b", "none", 1, 0.0, "timeout"),
    ]
    told = table(rows, speeds)
    assert "| a | cpu | knowledge | passed, passed | 1 | 4.00x eager |" in told and "timeout on the device" in told
    assert "| a (cpu) | 1 | 2.00 (" in told and "| all, geometric mean over problems | 1 | 2.00 (2.00 to 2.00) |" in told
    assert "measured on the device" not in table(rows)


def test_best_of_more_attempts_than_the_other_arm_had_does_not_count() -> None:
    rows = [row("a", "knowledge", 1), row("a", "none", 1, statuses=["passed"] * 3)]
    speeds = [speed("a", "knowledge", 1, 2.0), speed("a", "none", 1, 1.0), speed("a", "none", 3, 9.0)]
    assert "| a (cpu) | 1 | 2.00 (" in table(rows, speeds) and "9.00x" not in table(rows, speeds)


def test_every_correct_candidate_is_measured_the_best_ones_of_both_arms_first() -> None:
    candidates = [{"attempt": 1, "source": "slow", "fitness": 1.0}, {"attempt": 2, "source": "fast", "fitness": 2.0}]
    rows = [row("a", arm, 1, source="fast", candidates=candidates) for arm in ("knowledge", "none")] + [row("b", "none", 2, source="only")]
    told = [
        (found["item"], found["arm"], candidate["source"]) for found, candidate in to_measure([*rows, row("c", "none", None, source="")])
    ]
    assert told[0][2] != "slow" and [name for *_, name in told].index("slow") == 3 and len(told) == 5
    assert ("b", "none", "only") in told


def test_peaks_of_a_chip_bound_a_problem_by_its_sizes_alone() -> None:
    source = PROBLEM.replace("x * 2.0 + 1.0", "x @ x.T").replace("rows = 5", "rows = 100_000_000")  # far too large for any memory
    found = floors(source, {"dram_gb_per_s": 1000.0, "flops_per_s_float32": 1e12})
    assert found["float32_ms_at_peak"] == pytest.approx(2 * 1e8 * 1e8 * 40 / 1e12 * 1000)
    assert found["memory_ms_at_peak"] == pytest.approx((1e8 * 40 + 1e16) * 4 / 1e12 * 1000)
    assert set(floors(PROBLEM, {"dram_gb_per_s": 1000.0, "flops_per_s_float32": 1e12})) == {"memory_ms_at_peak"}


def test_specialisations_of_a_kernel_are_told_apart_in_the_compilers_counters() -> None:
    kernels = (KernelResources("k", "", 4, 1024, registers=40, mma=("wgmma",)), KernelResources("k", "", 8, 0))
    found = resources(CompileReport("cuda:sm_90", "compiled", kernels))
    assert found["k.registers_per_thread"] == 40 and found["k.uses_matrix_unit"] == 1.0
    assert found["k#2.num_warps"] == 8 and "k#2.registers_per_thread" not in found


def test_committed_tables_follow_from_the_committed_rows_and_speeds() -> None:
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- table of round") == len({item.round for item in ITEMS if item.round != 3}) + 1
    assert filled_in(text, RESULTS) == text


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        pytest.param("", "", Status.PASSED, marks=pytest.mark.slow),
        ("x * 2.0 + 1.0, mask", "x * 2.0, mask", Status.WRONG_VALUES),
        pytest.param("return out", "return out.double()", Status.WRONG_DTYPE, marks=pytest.mark.slow),
        pytest.param("return out", "return out.flatten()", Status.WRONG_SHAPE, marks=pytest.mark.slow),
        pytest.param("import triton\n", "import tritom\n", Status.RUNTIME_ERROR, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(180)
def test_interpreter_judges_values_shapes_dtypes_and_failures(old: str, new: str, status: Status) -> None:
    assert check(CANDIDATE.replace(old, new, 1) if old else CANDIDATE, PROBLEM, seeds=(1,)).status is status


PROMPT = """# Task
Write it.

## Problem: problem.py
<data-12ab34cd>
class Model: forward relu
</data-12ab34cd>

## A frame that works here
Keep the form.

## Knowledge: Rows > Tiles
<data-12ab34cd>
use one program per row of the tile
</data-12ab34cd>

Cut or left out for length: nothing.
"""


def test_recorded_prompt_is_taken_apart_into_its_parts() -> None:
    parts = parts_of(PROMPT)
    assert [part.title for part in parts] == ["Problem: problem.py", "A frame that works here", "Knowledge: Rows > Tiles"]
    assert parts[1].text == "Keep the form." and "Cut or left" not in parts[2].text
    assert [kind_of(title) for title in ("Target cuda:sm_90", "Knowledge: Rows > Tiles", "Last attempt: parent.py")] == [
        "Target",
        "Knowledge",
        "Last attempt: parent.py",
    ]


def test_support_counts_what_the_answer_shares_with_the_parts_and_not_with_the_problem() -> None:
    parts = tuple(parts_of(PROMPT)[1:])
    session = Session("s", parts, "class Model: forward relu", "one program per row; class Model: forward relu")
    assert support(session, parts) == 2 and support(session, parts[:1]) == 0
    assert study([session])["only_from"]["Knowledge"]["share"] == 1.0
    assert kept(parts, 10_000) == list(parts) and kept(parts, 10) == []


def test_our_order_keeps_more_of_what_answers_used_than_a_shuffled_or_reversed_one() -> None:
    sessions = [session for number in (1, 2) for session in sessions_of(RESULTS / f"round{number}")]
    recorded = json.loads((RESULTS / "ablation.json").read_text())
    found = study(sessions)
    assert len(sessions) == recorded["sessions"] >= 28
    for share, orders in found["kept"].items():
        assert orders["ours"] == recorded["kept"][share]["ours"] >= max(orders["reversed"], orders["shuffled"], orders["shortest first"])


def test_whole_searches_are_kept_with_every_role_and_their_candidates_can_be_timed() -> None:
    folder = RESULTS / "round5"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 6 and {row["target"] for row in rows} == {"cpu", "mtia:2i"}
    for row in rows:
        entries = [json.loads(line) for line in (folder / f"{row['item']}.{row['arm']}.jsonl").read_text(encoding="utf-8").splitlines()]
        asked = [entry["role"] for entry in entries]
        assert {role: asked.count(role) for role in ROLES if role in asked} == {
            role: told["requests"] for role, told in row["roles"].items()
        }
        assert (SUITE / f"{row['item']}.py").read_text(encoding="utf-8") == row["problem"]
    assert sum(row["repeats"] for row in rows if row["arm"] == "mended") == 0
    timed = to_measure([row for row in rows if row["target"] == "cpu"])
    assert len(timed) == sum(len(row["candidates"]) for row in rows if row["target"] == "cpu") >= 12
    assert searches_table(rows).count("|\n") == 2 + len(rows)
