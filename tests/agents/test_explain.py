"""Two candidates are compared: which figures moved, which changes stand behind them, and what each change does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.explain import Explanation, Side, explain_two, explanation_json, explanation_text
from agents.explain_changes import changes_between, with_only
from tools.profiling.types import Figure, KernelProfile, Missing, Profile

FIRST = """import triton

@triton.jit
def softmax(x_ptr, n, BLOCK: tl.constexpr):
    x = tl.load(x_ptr)
    x = x.to(tl.float64)
    tl.store(x_ptr, x)

@triton.jit
def scale(x_ptr):
    tl.store(x_ptr, 1)

def launch(x):
    softmax[(4,)](x, 4, BLOCK=64, num_warps=1)
    scale[(1,)](x)
"""
SECOND = FIRST.replace("    x = x.to(tl.float64)\n", "").replace("num_warps=1", "num_warps=8")


def profile(*kernels: tuple[str, float, dict[str, float]], num_calls: int = 1) -> Profile:
    made = tuple(
        KernelProfile(
            name,
            launches=num_calls,
            figures=(
                Figure("device_time_us", time, "us", "torch dur", "time"),
                *(Figure(key, value, "1", f"ncu {key}") for key, value in figures.items()),
            ),
        )
        for name, time, figures in kernels
    )
    return Profile("cuda:sm_90", kernels=made, num_calls=num_calls)


def sides() -> tuple[Side, Side]:
    slow = profile(("softmax", 90.0, {"registers_per_thread": 200.0, "waves": 3.0}), ("scale", 10.0, {}))
    fast = profile(("softmax", 60.0, {"registers_per_thread": 40.0, "waves": 3.0}), ("scale", 20.0, {}), num_calls=2)
    return Side("slow", slow, FIRST), Side("fast", fast, SECOND)


def test_times_are_per_call_and_add_up_to_the_change() -> None:
    found = explain_two(*sides())
    assert found.total is not None
    assert (found.total.before, found.total.after) == (100.0, 40.0)
    assert [(item.kernel, item.before, item.after) for item in found.by_kernel] == [("softmax", 90.0, 30.0)]
    assert [(item.kernel, item.name) for item in found.figures] == [("softmax", "registers_per_thread")]


def test_changed_lines_are_tied_to_the_kernels_they_touch() -> None:
    found = explain_two(*sides())
    assert [(change.removed, kernels) for change, kernels in found.changes] == [
        (("    x = x.to(tl.float64)",), ("softmax",)),
        (("    softmax[(4,)](x, 4, BLOCK=64, num_warps=1)",), ("softmax", "scale")),
    ]


def test_each_change_is_tried_alone() -> None:
    seen: list[str] = []

    def profile_alone(source: str) -> Profile:
        seen.append(source)
        return profile(
            ("softmax", 40.0 if "float64" not in source else 88.0, {"registers_per_thread": 40.0 if "float64" not in source else 200.0}),
            ("scale", 10.0, {}),
        )

    found = explain_two(*sides(), profile_alone=profile_alone)
    assert len(seen) == 2
    assert ["float64" in source for source in seen] == [False, True]
    assert ["num_warps=8" in source for source in seen] == [False, True]
    moved = [[item.name for item in items] for _, items in found.alone]
    assert moved == [["time_us", "registers_per_thread"], []]


def test_a_change_that_cannot_stand_alone_is_said_to() -> None:
    first, second = sides()
    found = explain_two(
        first, second, profile_alone=lambda source: Profile("cuda:sm_90", missing=(Missing("compile", "failed", "NameError: x"),))
    )
    assert found.alone == ()
    assert sum("NameError: x" in note for note in found.notes) == 2


def test_kernels_that_came_or_went_are_part_of_the_change() -> None:
    before, after = profile(("add", 30.0, {}), ("softmax", 50.0, {})), profile(("fused", 55.0, {}))
    found = explain_two(Side("a", before), Side("b", after))
    assert {item.kernel: (item.before, item.after) for item in found.by_kernel} == {
        "add": (30.0, 0.0),
        "softmax": (50.0, 0.0),
        "fused": (0.0, 55.0),
    }
    assert sum(item.after - item.before for item in found.by_kernel) == found.total.after - found.total.before  # type: ignore[union-attr]  # both have times


def test_the_text_names_everything_and_json_is_whole() -> None:
    found: Explanation = explain_two(*sides())
    text = explanation_text(found)
    for part in ("2.50×", "softmax", "registers per thread 200 → 40", "x = x.to(tl.float64)", "line 13 in launch"):
        assert part in text
    assert explanation_json(found)["by_kernel"][0]["kernel"] == "softmax"


def test_equal_sides_move_nothing() -> None:
    side, _ = sides()
    assert "No figure moved" in explanation_text(explain_two(side, side))


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        ("a\nb\nc\n", "a\nx\nc\n", 1),
        ("a\n\nb\nc\n", "x\n\ny\nc\n", 1),
        ("a\nb\nc\nd\n", "x\nb\nc\ny\n", 2),
        ("a\n", "a\n", 0),
        ("a\n", "a\n\n\n", 0),
    ],
)
def test_changes_are_runs_of_lines(first: str, second: str, number: int) -> None:
    assert len(changes_between(first, second)) == number


def test_all_changes_applied_give_the_second_source_one_at_a_time_something_between() -> None:
    changes = changes_between(FIRST, SECOND)
    alone = [with_only(FIRST, change) for change in changes]
    assert None not in alone
    assert len({FIRST, SECOND, *alone}) == 4
    last = FIRST
    for change in reversed(changes):
        last = with_only(last, change) or ""
    assert last == SECOND


def test_a_run_with_one_passing_node_cannot_be_explained(tmp_path: Path) -> None:
    from agents.errors import AgentsError
    from agents.explain import explain_run

    with pytest.raises(AgentsError):
        explain_run(tmp_path, "no-such-run", ())


def test_a_profile_sharpens_the_diagnosis_of_a_passing_parent() -> None:
    from agents.explain_diagnosis import sharpened
    from agents.types import Diagnosis
    from tools.profiling.rules import diagnose_profile

    plain = Diagnosis("unknown", "It passes.", ("optimise it",), ("an idea → fitness 0.9",))
    found = sharpened(plain, diagnose_profile(profile(("softmax", 90.0, {"spill_bytes": 512.0, "sectors_per_load_request": 32.0})), {}))
    assert found.bottleneck == "memory_bandwidth"
    assert "spill_bytes = 512" in found.summary or "sectors_per_load_request = 32" in found.summary
    assert "Deferred:" in found.summary
    assert found.questions[-1] == "optimise it"
    assert found.failed_ideas == plain.failed_ideas
    assert sharpened(plain, diagnose_profile(profile(("softmax", 90.0, {})), {})) == plain
