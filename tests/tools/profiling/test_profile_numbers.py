"""Numbers and units as profilers print them, unions of intervals, sums over launches."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.profiling.intervals import Union
from tools.profiling.json_stream import DamagedError, members
from tools.profiling.numerals import decimal_style, number, to_base
from tools.profiling.tally import MAX_KERNELS, OTHERS, Observation, Tally


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("1,234.5", "point", 1234.5), ("1.234,5", "comma", 1234.5), ("1,234", "point", 1234.0), ("1.234", "comma", 1234.0), ("1.234", "point", 1.234),
        ("0,5", "comma", 0.5), ("12", "point", 12.0), ("-3e-4", "point", -3e-4), ("n/a", "point", None), ("", "point", None), ("nan", "point", None), ("1 234,5", "comma", 1234.5),
        ("(128, 1, 1)", "point", None), ("inf", "point", None),
    ],
)  # fmt: skip
def test_numbers_are_read_in_their_style(text: str, style: str, expected: float | None) -> None:
    assert number(text, style) == expected  # type: ignore[arg-type]  # the parameter is one of the literals


@pytest.mark.parametrize(
    ("texts", "style"),
    [
        (["1,234.56"], "point"), (["1.234,56"], "comma"), (["12,5"], "comma"), (["12.5", "1,234"], "point"), (["1.234.567"], "comma"), (["1,234,567"], "point"),
        (["0,125"], "comma"), (["1,234"], "point"), ([], "point"), (["1.234", "7,25", "9.876"], "comma"),
    ],
)  # fmt: skip
def test_the_style_is_judged_from_what_allows_one_reading_only(texts: list[str], style: str) -> None:
    assert decimal_style(texts) == style


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1.5, "ms", (1500.0, "us")), (2.0, "nsecond", (0.002, "us")), (3.0, "usecond", (3.0, "us")), (4.0, "Kbyte", (4000.0, "bytes")), (4.0, "KiB", (4096.0, "bytes")),
        (2.0, "Gbyte/second", (2e9, "bytes/s")), (8.0, "byte/block", (8.0, "bytes")), (50.0, "%", (0.5, "fraction")), (7.0, "inst", (7.0, "1")), (1.4, "cycle/nsecond", (1.4, "cycle/nsecond")),
    ],
)  # fmt: skip
def test_units_become_those_of_the_record(value: float, unit: str, expected: tuple[float, str]) -> None:
    found, name = to_base(value, unit)
    assert (found, name) == (pytest.approx(expected[0]), expected[1])


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_union_is_what_counting_each_unit_gives(items: list[tuple[int, int]]) -> None:
    union = Union()
    for begin, length in items:
        union.add(float(begin), float(begin + length))
    result = union.result()
    assert result is not None
    assert result.busy == len({moment for begin, length in items for moment in range(begin, begin + length)})
    assert result.busy + result.idle == result.last - result.first
    assert result.closed == 0.0


def test_too_many_intervals_close_small_gaps_and_say_how_much() -> None:
    exact, bounded, random_numbers = Union(), Union(limit=200), random.Random(3)
    position = 0.0
    for index in range(5000):
        position += 100.0 if index % 500 == 0 else random_numbers.random()
        for union in (exact, bounded):
            union.add(position, position + 1.0)
        position += 1.0
    wanted, found = exact.result(), bounded.result()
    assert wanted is not None and found is not None
    assert found.closed > 0
    assert found.busy - found.closed == pytest.approx(wanted.busy)
    assert [gap[1] for gap in found.gaps[:9]] == pytest.approx([gap[1] for gap in wanted.gaps[:9]])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_members_are_the_same_however_the_text_arrives(size: int) -> None:
    text = '{"a": 12345, "events": [{"x": "}]\\" ü"}, 17, [1, [2]], null], "b": {"events": []}}'
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    assert list(members(pieces, "events")) == [
        ("a", 12345),
        ("events", {"x": '}]" ü'}),
        ("events", 17),
        ("events", [1, [2]]),
        ("events", None),
        ("b", {"events": []}),
    ]


@pytest.mark.parametrize(
    ("text", "is_end"),
    [('{"a": [1, 2', True), ('{"events": [{"x": 1}, {"y"', True), ('{"events": [{"x": 1}, {y: 2}]}', False), ('{"a" 1}', False)],
)
def test_damage_is_told_from_an_early_end(text: str, is_end: bool) -> None:
    with pytest.raises(DamagedError) as raised:
        list(members(iter([text]), "events"))
    assert raised.value.is_end is is_end


def test_kernels_beyond_the_bound_are_counted_together() -> None:
    tally = Tally()
    for index in range(MAX_KERNELS + 5):
        tally.add(f"k{index}", [Observation("device_time_us", 1.0, "us", "test", "time")])
    kernels = tally.kernels()
    others = next(kernel for kernel in kernels if kernel.name == OTHERS)
    assert others.launches == 5
    assert sum(kernel.time_us for kernel in kernels) == MAX_KERNELS + 5
    assert [item.kind for item in tally.missing()] == ["bounded"]


def test_instances_of_one_template_are_not_mixed_up() -> None:
    from tools.profiling.merge import merged
    from tools.profiling.types import Figure, KernelProfile, Profile

    def seen(tool: str, *kernels: tuple[str, float]) -> Profile:
        return Profile("t", kernels=tuple(KernelProfile(name, launches=1, figures=(Figure("device_time_us", time, "us", tool, "time"),)) for name, time in kernels))  # fmt: skip

    torch = seen("torch.profiler dur", ("void add<float, 4>(float*)", 1.0), ("void add<half, 4>(half*)", 2.0), ("copy<int>(int*)", 3.0))
    ncu = seen("ncu x", ("add<float,4>(float *)", 1.5), ("add<half,4>(half *)", 2.5), ("copy", 3.5))
    found = merged([torch, ncu])
    assert {kernel.name: [figure.value for figure in kernel.figures] for kernel in found.kernels} == {
        "copy<int>(int*)": [3.0, 3.5], "void add<half, 4>(half*)": [2.0, 2.5], "void add<float, 4>(float*)": [1.0, 1.5],
    }  # fmt: skip
    apart = merged([torch, seen("ncu x", ("add", 1.5))])
    assert len(apart.kernels) == 4  # which of the two it is, nobody can tell
