"""Training data from a recorded search: the forms that TRL takes, rewards from evaluations alone, no row twice, no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from landscape import config, machinery, search
from typer.testing import CliRunner

from agents.cli import app
from agents.errors import OptionError
from agents.runs.store import RunStore
from agents.trajectories import UNSTATED, TrajectoryOptions, rows_of


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, str]:
    home = tmp_path_factory.mktemp("trajectories")
    store, run_id, _ = search(home, config("evolutionary", 24), machinery())
    return store, run_id


def rows(recorded: tuple[RunStore, str], form: Any, **more: Any) -> list[dict[str, Any]]:
    store, run_id = recorded
    return list(rows_of(store, [run_id, run_id], TrajectoryOptions(form, **more)))


def is_conversation(messages: Any, ends_with: str) -> bool:
    fits = all(set(item) == {"role", "content"} and isinstance(item["content"], str) and item["content"] for item in messages)
    return fits and messages[-1]["role"] == ends_with


def test_paths_are_conversations_that_end_in_a_passing_candidate(recorded: tuple[RunStore, str]) -> None:
    found = rows(recorded, "sft")
    store, run_id = recorded
    fitness = {node.node_id: node.fitness for node in store.nodes(run_id)}
    assert found and any(len(row["messages"]) > 3 for row in found)
    for row in found:
        assert is_conversation(row["messages"], "assistant") and row["messages"][0]["role"] == "system"
        roles = [item["role"] for item in row["messages"][1:]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert row["rewards"] == [fitness[node_id] for node_id in row["node_ids"]] and row["reward"] == row["rewards"][-1] > 0
        assert row["licence"] == UNSTATED and row["problem_id"] == "synthetic/hill"


def test_pairs_are_siblings_whose_measurements_differ_clearly(recorded: tuple[RunStore, str]) -> None:
    store, run_id = recorded
    nodes = {node.node_id: node for node in store.nodes(run_id)}
    found = rows(recorded, "dpo", margin=0.1)
    assert found
    for row in found:
        better, worse = (nodes[node_id] for node_id in row["node_ids"])
        assert better.parents == worse.parents and better.fitness - worse.fitness >= 0.1
        assert (row["score_chosen"], row["score_rejected"]) == (better.fitness, worse.fitness)
        assert (
            is_conversation(row["prompt"], "user")
            and is_conversation(row["chosen"], "assistant")
            and is_conversation(row["rejected"], "assistant")
        )
        if worse.fitness:
            assert min(item.low for item in better.evaluation.speedup.values()) > min(
                item.high for item in worse.evaluation.speedup.values()
            )


def test_groups_share_a_prompt_and_their_advantages_cancel(recorded: tuple[RunStore, str]) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows(recorded, "grpo"):
        groups.setdefault(row["group_id"], []).append(row)
    assert groups
    for members in groups.values():
        assert len(members) > 1 and len({json.dumps(row["prompt"]) for row in members}) == 1
        assert sum(row["advantage"] for row in members) == pytest.approx(0.0, abs=1e-9)
        assert len({row["completion"][0]["content"] for row in members}) == len(members)


def test_rows_are_unique_over_runs(recorded: tuple[RunStore, str]) -> None:
    store, run_id = recorded
    for form in ("sft", "dpo", "grpo"):
        once = list(rows_of(store, [run_id], TrajectoryOptions(form)))  # type: ignore[arg-type]  # a known form
        assert len(rows(recorded, form)) == len(once)


def test_columns_have_one_type_throughout(recorded: tuple[RunStore, str]) -> None:
    """What `datasets.load_dataset("json")` needs: the same columns of the same types in every row."""

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in sorted(value.items())}
        if isinstance(value, list):
            return [shape(value[0])] if value else []
        return type(value).__name__

    for form in ("sft", "dpo", "grpo"):
        shapes = {json.dumps({**shape(row), "chunk_ids": []}) for row in rows(recorded, form)}
        assert len(shapes) == 1


def test_datasets_loads_every_form(recorded: tuple[RunStore, str], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    for form in ("sft", "dpo", "grpo"):
        path = tmp_path / f"{form}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(recorded, form)))
        loaded = datasets.load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
        assert len(loaded) == len(rows(recorded, form))


def test_secrets_do_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape import WalkingCoder, candidate_at

    from agents.coders.base import CoderTask, Draft

    class Leaking(WalkingCoder):
        async def write(self, task: CoderTask) -> Draft:
            point = (len(task.history), 3)
            note = "# private-value-88\\next -----BEGIN RSA PRIVATE KEY-----"  # JSON spells a backslash otherwise, and the key has no end
            return Draft(candidate=candidate_at(point, "sk-abcdefghijklmnop0123"), summary=f"token private-value-99 {note}")

    monkeypatch.setenv("SOME_TOKEN", "private-value-99")
    monkeypatch.setenv("OTHER_TOKEN", "private-value-88\\next")
    store, run_id, _ = search(tmp_path, config("greedy", 6), machinery(coder=Leaking()))
    for form in ("sft", "dpo", "grpo"):
        text = json.dumps(list(rows_of(store, [run_id], TrajectoryOptions(form))))  # type: ignore[arg-type]  # a known form
        assert "sk-abcdef" not in text and "private-value" not in text


def test_command_writes_json_lines_and_refuses_what_it_cannot(recorded: tuple[RunStore, str], tmp_path: Path) -> None:
    store, run_id = recorded
    out = tmp_path / "rows.jsonl"
    call = ["trajectories", run_id, "--format", "dpo", "--home", str(store.home), "--licence", "Apache-2.0"]
    assert CliRunner().invoke(app, [*call, "--out", str(out)]).exit_code == 0
    assert all(json.loads(line)["licence"] == "Apache-2.0" for line in out.read_text().splitlines())
    assert CliRunner().invoke(app, [*call, "--out", str(out)]).exit_code == 2
    assert CliRunner().invoke(app, ["trajectories", run_id, "--format", "ppo", "--home", str(store.home)]).exit_code == 2
    with pytest.raises(OptionError):
        TrajectoryOptions(margin=float("nan"))
