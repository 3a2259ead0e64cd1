"""People beside a run: notes reach the coder, a pause holds, a cancellation ends, approval is asked for, closed nodes stay closed; drawings and audits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, machinery, search, shape
from typer.testing import CliRunner

from agents.coders.base import CoderTask, Draft
from agents.drawing import best_so_far, sparkline, to_dot, to_svg
from agents.driver import create_run, drive
from agents.errors import RunPaused
from agents.runs.audit import audit
from agents.runs.store import RunStore


class AskingCoder(WalkingCoder):
    """Leaves requests for its own run while it writes, as a person would, and keeps what it was told."""

    def __init__(self, store: RunStore, run_id: str, **asks: tuple[str, str]) -> None:
        super().__init__()
        self.store, self.run_id = store, run_id
        self.asks = {int(name.removeprefix("at_")): request for name, request in asks.items()}
        self.told: list[str] = []

    async def write(self, task: CoderTask) -> Draft:
        self.told.append(task.diagnosis.summary if task.diagnosis else "")
        if request := self.asks.pop(len(task.history), None):
            self.store.ask(self.run_id, *request)
        return await super().write(task)


def start(home: Path, **more: Any) -> tuple[RunStore, str]:
    store = RunStore(home)
    return store, create_run(store, PROBLEM, "cpu", config(evaluations=12, **more))


def test_note_reaches_every_later_session(tmp_path: Path) -> None:
    store, run_id = start(tmp_path)
    coder = AskingCoder(store, run_id, at_2=("note", "try split-K"))
    asyncio.run(drive(store, run_id, machinery(coder=coder)))
    advised = ["A person advises: try split-K" in text for text in coder.told]
    assert not any(advised[:3]) and all(advised[5:])


def test_paused_run_goes_on_and_equals_the_unbroken_one(tmp_path: Path) -> None:
    store, run_id = start(tmp_path / "paused")
    with pytest.raises(RunPaused, match="kevolve resume"):
        asyncio.run(drive(store, run_id, machinery(coder=AskingCoder(store, run_id, at_4=("pause", "")))))
    assert not store.run(run_id).is_driven and 0 < store.num_nodes(run_id) < 9
    store.acquire(run_id)
    asyncio.run(drive(store, run_id, machinery()))
    other, other_id, _ = search(tmp_path / "unbroken", config(evaluations=12))
    assert shape(store, run_id) == shape(other, other_id)


def test_cancelled_search_still_measures_and_publishes_its_best(tmp_path: Path) -> None:
    store, run_id = start(tmp_path)
    result = asyncio.run(drive(store, run_id, machinery(coder=AskingCoder(store, run_id, at_4=("cancel", "enough")))))
    assert result["reason"] == "a person cancelled the search: enough"
    assert result["best"]["is_remeasured"] and result["num_evaluations"] < 12


def test_closed_node_is_never_expanded_again(tmp_path: Path) -> None:
    store, run_id = start(tmp_path / "closed")
    evaluator = LandscapeEvaluator(fitness=lambda point: 1.0)
    coder = WalkingCoder()

    class Closing(WalkingCoder):
        async def write(self, task: CoderTask) -> Draft:
            if len(task.history) == 5:
                store.ask(run_id, "close", task.parents[-1].node_id)
                Closing.closed = (task.parents[-1].node_id, len(task.history))
            return await coder.write(task)

    asyncio.run(drive(store, run_id, machinery(evaluator, Closing())))
    node_id, known = Closing.closed
    later = [node for node in store.nodes(run_id) if node.step > known + 1]
    assert later and all(node_id not in node.parents or node.attempt > 1 for node in later)
    assert not store.graph(run_id).place(node_id).is_open


def test_approval_is_asked_for_before_every_round_and_no_closes_what_was_proposed(tmp_path: Path) -> None:
    store, run_id = start(tmp_path, approve=True)
    with pytest.raises(RunPaused, match="waits for approval"):
        asyncio.run(drive(store, run_id, machinery()))
    store.acquire(run_id)
    asked: list[Mapping[str, Any]] = []
    refused: list[str] = []

    def ask(question: Mapping[str, Any]) -> str:
        asked.append(question)
        parents = question["sessions"][0]["parents"]
        if parents and not refused:
            refused.extend(parents)
            return "no"
        return "stop" if len(asked) == 8 else "yes"

    result = asyncio.run(drive(store, run_id, machinery(), ask))
    assert result["reason"] == "a person stopped the search" and len(asked) == 8
    assert all(
        refused[0] not in question["sessions"][0]["parents"]
        for question in asked[asked.index(next(q for q in asked if q["sessions"][0]["parents"])) + 1 :]
    )


def test_picture_dot_and_curve_show_every_node(tmp_path: Path) -> None:
    store, run_id, _ = search(tmp_path, config("evolutionary", 14, seed=3))
    nodes = store.nodes(run_id)
    picture = ElementTree.fromstring(to_svg(nodes, "run <1> & more"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}circle")) == len(nodes)
    assert len(picture.findall(f"{space}line")) == sum(len(node.parents) for node in nodes)
    dot = to_dot(nodes, 'a "run"')
    assert dot.count(" -> ") == sum(len(node.parents) for node in nodes) and dot.startswith('digraph "a \\"run\\""')
    curve = best_so_far(nodes)
    assert curve == sorted(curve) and len(sparkline(curve, 10)) == 10 and sparkline([]) == ""


def test_audit_passes_a_sound_run_and_names_what_was_tampered_with(tmp_path: Path) -> None:
    store, run_id, _ = search(tmp_path, config("mcts", 10))
    assert audit(store, store.run(run_id)) == []
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("DELETE FROM evaluations WHERE rowid IN (SELECT rowid FROM evaluations LIMIT 1)")
        connection.execute("UPDATE changes SET value = value + 5 WHERE field = 'visits' AND place_id != ''")
    Path(store.artifacts.location(store.nodes(run_id)[0].artifact)).write_text("other")
    wrong = "\n".join(audit(store, store.run(run_id)))
    assert "changed or damaged" in wrong and "running total" in wrong and "statistics of node" in wrong


def test_commands_watch_note_cancel_show_and_audit(tmp_path: Path) -> None:
    from agents.cli import app

    store, run_id, _ = search(tmp_path, config(evaluations=5))
    open_id = create_run(store, PROBLEM, "cpu", config())
    store.release(open_id)
    runner = CliRunner()

    def kevolve(*words: str) -> str:
        done = runner.invoke(app, [*words, "--home", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.output

    assert "recorded" in kevolve("watch", run_id) and '"kind": "finished"' in kevolve("watch", run_id, "--json")
    assert "kevolve resume" in kevolve("note", open_id, "be bold")
    kevolve("cancel", open_id, "--why", "no need")
    assert [item.kind for item in store.requests(open_id)] == ["note", "cancel"]
    kevolve("show", run_id, "--svg", str(tmp_path / "a.svg"), "--dot", str(tmp_path / "a.dot"))
    assert (tmp_path / "a.svg").read_text().startswith("<svg") and "digraph" in (tmp_path / "a.dot").read_text()
    assert "fitness" in kevolve("show", run_id, "--lineage")
    assert "0 things wrong" in kevolve("audit", run_id)
    refused = runner.invoke(app, ["note", run_id, "too late", "--home", str(tmp_path)])
    assert refused.exit_code == 2
