"""A second opinion is reported and decides nothing, whatever the scanner is, does or lacks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tools.check import advisory


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Put a scanner of the given function in the place of the installed one."""

    def put(analyse: Any) -> None:
        module = ModuleType("kernelguard")
        if analyse is not None:
            module.analyze_code = analyse  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "kernelguard", module)
        monkeypatch.setattr(advisory.importlib.metadata, "version", lambda name: "0")
        advisory._scanner.cache_clear()

    yield put
    advisory._scanner.cache_clear()


def test_findings_become_lines(installed: Callable[[Any], None]) -> None:
    pattern = {"pattern": "TIMER_MONKEYPATCH", "severity": "critical", "evidence": "time.time patched"}
    installed(lambda source: {"classification": "hacked", "matched_patterns": [pattern, "odd"]})
    found = advisory.advise("x")
    assert found.is_flagged and found.findings == ("critical: TIMER_MONKEYPATCH: time.time patched",) and found.scanner == "kernelguard 0"


@pytest.mark.parametrize("answer", [None, {}, {"classification": "valid"}, [], {"classification": "valid", "matched_patterns": 3}])
def test_an_answer_that_is_none_is_no_opinion(installed: Callable[[Any], None], answer: object) -> None:
    installed(lambda source: answer)
    found = advisory.advise("x")
    assert (found.classification, found.is_flagged) == ("", False) and "failed" in found.scanner


def test_without_the_package_it_says_how_to_get_it(installed: Callable[[Any], None]) -> None:
    installed(None)
    assert advisory.advise("x") == advisory.Advice("", (), "kernelguard is not installed (pip install kernelguard)")


def test_the_real_one_names_a_patched_clock_and_finds_nothing_in_an_honest_kernel() -> None:
    pytest.importorskip("kernelguard")
    advisory._scanner.cache_clear()
    assert advisory.advise("import torch\ntorch.cuda.Event.elapsed_time = lambda self, other: 1e-4\n").is_flagged
    assert not advisory.advise("import torch\ndef f(x):\n    return x + 1\n").is_flagged
