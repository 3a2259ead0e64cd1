"""The division of a search: by rules from the captured operators, or by a planner model whose plan is checked, stored once and told to the coder."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, machinery, search
from langchain_core.messages import AIMessage
from test_llm_coder import ScriptedModel, task

from agents.advisers import Advisers
from agents.chat_models.client import ChatClient
from agents.chat_models.registry import create_chat_model, create_client
from agents.chat_models.transcript import Transcript
from agents.coders.base import CoderTask, Draft
from agents.coders.prompt import compose
from agents.config import ModelOptions
from agents.driver import create_run, drive
from agents.runs.store import RunStore
from agents.threads import in_thread
from agents.work_plan import MAX_TEXT, WHOLE, WorkItem, budgeted, next_item, plan_by_rules, plan_of
from kb.store import KnowledgeBase

TWO_HEAVY = "addmm(f32:1,f32:2,f32:2) gelu(f32:2) addmm(f32:1,f32:2,f32:2) sum.dim_IntList(f32:2)"


class Told(WalkingCoder):
    """Walks, and keeps the directives that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.directives: list[str] = []

    async def write(self, task: CoderTask) -> Draft:
        self.directives.append(task.directive)
        return await super().write(task)


class TwoHeavy(Told):
    async def signature(self, problem: Any, target: str) -> str:
        return TWO_HEAVY


def planner(*answers: str) -> Advisers:
    model = ScriptedModel(script=[AIMessage(answer) for answer in answers])
    return Advisers({"planner": ChatClient(model, ModelOptions(name="scripted:x"), role="planner")})


def test_rules_divide_by_heavy_operators_and_keep_the_whole() -> None:
    items = plan_by_rules(TWO_HEAVY, "cpu", 20)
    assert [item.region for item in items] == [WHOLE, "operator 1 of 2: addmm", "operator 2 of 2: addmm"]
    assert sum(item.share for item in items) == pytest.approx(1.0) and [item.evaluations for item in items] == [10, 5, 5]


@pytest.mark.parametrize("signature", ["", "relu(f32:2) mul(f32:2)", "mm(f32:2,f32:2) relu(f32:2)", "sum.dim_IntList(f32:2)×4"])
def test_one_region_where_at_most_one_operator_is_heavy(signature: str) -> None:
    assert [item.region for item in plan_by_rules(signature, "cpu")] == [WHOLE]


def test_next_item_follows_the_shares_and_passes_over_what_is_used_up() -> None:
    items = budgeted([WorkItem("a", "", "cpu", 3), WorkItem("b", "", "cpu", 1)], 8)
    given, chosen = [0, 0], []
    for _ in range(8):
        index = next_item(items, given)
        given[index] += 1
        chosen.append(index)
    assert given == [6, 2] and chosen[:2] == [0, 1]
    assert next_item(items, [6, 1]) == 1 and next_item(items, [6, 2]) in (0, 1)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"items": "all of it"},
        {"items": []},
        {
            "items": [
                7,
                {"region": ""},
                {"region": "r", "share": -1},
                {"region": "r", "share": True},
                {"region": "r", "target": "cuda:sm_90"},
            ]
        },
        {"items": [{"region": "r", "approach": ["list"]}]},
    ],
)
def test_plan_without_a_usable_item_is_no_plan(answer: dict[str, Any]) -> None:
    assert plan_of(answer, ("cpu",), 10) == ()


def test_plan_of_a_model_is_scaled_cut_and_budgeted() -> None:
    given = [{"region": f"region {number}", "approach": "x" * 2000, "share": 50} for number in range(9)]
    items = plan_of({"items": given}, ("cpu",), 10)
    assert len(items) == 5 and [item.evaluations for item in items] == [2] * 5 and len(items[0].approach) == MAX_TEXT


def test_planner_model_divides_a_search_and_every_session_is_told_its_part(tmp_path: Path) -> None:
    answer = {
        "items": [{"region": "the reduction", "approach": "two passes", "share": 3}, {"region": "the rest", "approach": "fuse", "share": 1}]
    }
    coder = Told()
    store, run_id, result = search(
        tmp_path, config("linear", 8), machinery(LandscapeEvaluator(), coder, advisers=planner(json.dumps(answer)))
    )
    (event,) = store.events(run_id, "divided")
    assert event.data["by"] == "model" and result["best"] is not None
    assert any("the reduction" in text for text in coder.directives) and any("the rest" in text for text in coder.directives)
    assert [data["role"] for data in (item.data for item in store.events(run_id, "model_call"))] == ["planner"]


@pytest.mark.parametrize("answer", ["", "no JSON", '{"items": [{"region": 5}]}'])
def test_useless_plan_leaves_the_rules_standing(tmp_path: Path, answer: str) -> None:
    coder = TwoHeavy()
    with KnowledgeBase.open(tmp_path / "kb", embedder="hashing") as base:
        tools = machinery(LandscapeEvaluator(), coder, advisers=planner(answer), base=base)
        store, run_id, _ = search(tmp_path, config("linear", 6), tools)
    (event,) = store.events(run_id, "divided")
    assert event.data["by"] == "rules" and coder.directives[0].startswith(WHOLE) and "operator 1 of 2" in coder.directives[1]


def test_simple_problem_without_a_planner_is_not_divided(tmp_path: Path) -> None:
    coder = Told()
    search(tmp_path, config("linear", 5), machinery(LandscapeEvaluator(), coder))
    assert set(coder.directives) == {""}


def test_directive_stands_in_the_prompt_as_material() -> None:
    prompt = compose(task(directive="operator 2 of 3: mm: split along K"))
    assert re.search(r"## Plan: what this session is for\n<data-\w+>\noperator 2 of 3: mm: split along K\n</data-", prompt.text)


def test_plan_through_a_spool_is_replayed_without_asking(tmp_path: Path) -> None:
    """A person plans by file; the recording of it plans the same run again."""
    spool = tmp_path / "spool"
    answer = json.dumps({"items": [{"region": "columns", "approach": "one program each"}, {"region": "rows", "approach": "wide"}]})
    client = create_client(ModelOptions(name=f"spool:{spool}", timeout_s=60), "planner", transcript=Transcript(tmp_path / "seen.jsonl"))

    def answer_first_request() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for request in spool.glob("*.request.json") if spool.exists() else []:
                told = request.read_text()
                assert "You plan a search" in told and PROBLEM.source.splitlines()[0] in told
                (tmp_path / "answer").write_text(answer)
                (tmp_path / "answer").replace(spool / f"{request.name.partition('.')[0]}.answer.md")
                return
            time.sleep(0.05)

    async def planned(home: Path, asker: ChatClient, person: Any = None) -> list[str]:
        coder = Told()
        with RunStore(home) as store:
            run_id = create_run(store, PROBLEM, "cpu", config("linear", 4))
            driving = drive(store, run_id, machinery(LandscapeEvaluator(), coder, advisers=Advisers({"planner": asker})))
            await (asyncio.gather(driving, in_thread(person)) if person else driving)
        return coder.directives

    first = asyncio.run(planned(tmp_path / "first", client, answer_first_request))
    recorded = ChatClient(create_chat_model(ModelOptions(name=f"replay:{tmp_path / 'seen.jsonl'}")), role="planner")
    assert asyncio.run(planned(tmp_path / "second", recorded)) == first and any("columns" in text for text in first)
