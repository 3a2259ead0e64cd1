"""Hangs are remembered by source across evaluators of one state directory, for a day."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.hangs import KEPT_S, Hangs

KEY = ("0123", "abcd", "cpu")


def test_what_one_evaluator_found_out_another_knows(tmp_path: Path) -> None:
    Hangs(tmp_path / "hangs").remember(*KEY, 12.0)
    assert Hangs(tmp_path / "hangs").limit_s(*KEY) == 12.0
    assert Hangs(tmp_path / "hangs").limit_s("0123", "abcd", "cuda") == 0.0


def test_the_longest_limit_counts_and_a_day_is_the_end_of_it(tmp_path: Path) -> None:
    now = [1000.0]
    hangs = Hangs(tmp_path, clock=lambda: now[0])
    for limit_s in (12.0, 5.0):
        hangs.remember(*KEY, limit_s)
    assert hangs.limit_s(*KEY) == 12.0
    now[0] += KEPT_S + 1
    assert hangs.limit_s(*KEY) == 0.0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"limit_s": 5}', '{"limit_s": "inf", "seen": 0}', '{"limit_s": null, "seen": 0}', "[" * 5000]
)
def test_a_file_that_says_nothing_holds_nobody_up(tmp_path: Path, text: str) -> None:
    hangs = Hangs(tmp_path)
    hangs.remember(*KEY, 12.0)
    (path,) = tmp_path.iterdir()
    path.write_text(text)
    assert hangs.limit_s(*KEY) == 0.0


def test_hangs_can_be_forgotten_and_a_place_that_cannot_be_written_keeps_none(tmp_path: Path) -> None:
    hangs = Hangs(tmp_path / "hangs")
    hangs.forget()
    hangs.remember(*KEY, 12.0)
    hangs.forget()
    assert hangs.limit_s(*KEY) == 0.0 and not list((tmp_path / "hangs").iterdir())
    (tmp_path / "file").write_text("")
    Hangs(tmp_path / "file" / "hangs").remember(*KEY, 12.0)
