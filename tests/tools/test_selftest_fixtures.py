"""Every exploit that needs no GPU gets its expected verdict from the real evaluator, and no control is flagged.

The compiled baseline is left out here: no verdict depends on it, and compiling it takes most of a run's time. One thread: beside other tests, several wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.evaluator import LocalEvaluator
from tools.selftest.fixtures import Fixture, load_fixtures
from tools.selftest.runner import run_fixtures

FIXTURES = sorted(load_fixtures("cpu"), key=lambda item: item.problem)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEvaluator]:
    with LocalEvaluator(tmp_path_factory.mktemp("home"), use_lint=False, use_compiled_baseline=False, num_threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    "fixture",
    [
        pytest.param(item, id=f"{item.fixture_id}-{item.name}", marks=[pytest.mark.slow, pytest.mark.timeout(600)] if item.slow else [])
        for item in FIXTURES
    ],
)
def test_fixture_gets_its_expected_verdict(fixture: Fixture, evaluator: LocalEvaluator) -> None:
    (finding,) = run_fixtures(evaluator, [fixture], "cpu")
    assert finding.complaint == ""


def test_the_catalogue_is_not_empty() -> None:
    families = {item.family for item in FIXTURES}
    assert len(FIXTURES) >= 85 and len(families) >= 7
