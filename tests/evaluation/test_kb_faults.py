"""Knowledge bases that are killed with SIGKILL and knowledge bases under a crowd."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.faults.cases import OPERATIONS
from evaluation.faults.driver import Faults, KillCase, schedule
from evaluation.faults.records import Records

pytestmark = pytest.mark.xdist_group("kb_faults")  # one warm parent for all


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("operation", "share"),
    [
        ("ingest", 0.1),
        ("ingest", 0.45),
        ("ingest", 0.7),
        ("ingest", 0.97),
        ("remove", 0.3),
        ("remove", 0.8),
        ("reembed", 0.2),
        ("reembed", 0.5),
        ("reembed", 0.75),
        ("reembed", 0.95),
    ],
)
def test_base_killed_at_a_fault_point_is_mended_and_loses_nothing(faults: Faults, operation: str, share: float) -> None:
    case = faults.kill(operation, "point", share, "again" if share > 0.6 else "repair")
    assert case.was_killed
    assert case.is_good, case


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "how", "share", "mended_by"), schedule(24, seed=1))
def test_base_killed_anywhere_is_mended_and_loses_nothing(faults: Faults, operation: str, how: str, share: float, mended_by: str) -> None:
    case = faults.kill(operation, how, share, mended_by)
    assert case.is_good, case


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_processes_at_once_meet_no_error_and_no_stale_hit(faults: Faults) -> None:
    outcome = faults.crowd(4, 5.0)
    assert outcome["problems"] == []
    for member in outcome["members"]:
        assert (member["errors"], member["stale"], member["missing"]) == ([], [], [])


def test_schedule_covers_every_operation_from_begin_to_end() -> None:
    plan = schedule(99, seed=0)
    assert plan == schedule(99, seed=0)
    for operation in OPERATIONS:
        shares = [share for name, _, share, _ in plan if name == operation]
        assert len(shares) == 33
        assert min(shares) < 0.04
        assert max(shares) > 0.96


def test_records_are_taken_up_where_a_run_stopped_but_not_those_of_another_place(tmp_path: Path) -> None:
    case = KillCase("ingest", "point", 3.0, 9.0, True, ("a",), "again", (), 0, 0, (), (), True)
    first = Records(tmp_path / "records.jsonl", {"place": "here"})
    first.keep("kill", {"number": 4, **asdict(case)})
    assert Records(tmp_path / "records.jsonl", {"place": "here"}).cases == {4: case}
    assert Records(tmp_path / "records.jsonl", {"place": "there"}).cases == {}
