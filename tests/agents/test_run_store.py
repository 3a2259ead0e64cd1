"""The run store on SQLite and on a real PostgreSQL: migrations, statistics with their log, ancestors, repairs, requests, artifacts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import threading
from pathlib import Path

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, candidate_at, config, evaluation_of, machinery, search, shape
from sqlalchemy import create_engine, text

from agents.driver import create_run, drive
from agents.errors import RunStateError, RunStoreError, UnknownNameError
from agents.runs.artifacts import open_artifacts
from agents.runs.hashing import derived_id, error_signature
from agents.runs.records import Message, NodeRecord, Outcome, SessionRecord
from agents.runs.schema import HEAD
from agents.runs.store import RunStore, new_attempt
from agents.runs.tables import METADATA
from agents.strategies.registry import STRATEGIES, create_strategy
from agents.types import Memory
from tools.types import Feedback, Status


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return RunStore(tmp_path, url)


def add_node(
    store: RunStore,
    run_id: str,
    parents: tuple[str, ...],
    fitness: float,
    strategy: str = "greedy",
    algorithm: dict[str, object] | None = None,
) -> str:
    """Record a round of one session with one node; return its id."""
    step = store.num_nodes(run_id)
    candidate = candidate_at((step, 0))
    evaluation = evaluation_of(candidate, Status.PASSED if fitness > 0 else Status.WRONG_VALUES, fitness or 1.0)
    node = NodeRecord(
        f"node{step}",
        0,
        step,
        f"s{step}",
        1,
        parents,
        candidate,
        derived_id(step),
        store.artifacts.write(candidate.source),
        evaluation,
        "",
        (),
        {},
        {},
    )
    node = NodeRecord(**{**node.__dict__, "features": {"kind": "abc"[step % 3]}})
    session = SessionRecord(f"s{step}", step, 0, parents, Memory.BOTH, algorithm or {}, Outcome.PASSED)
    assert store.record_round(run_id, [session], [node], create_strategy(strategy).needs) == 1
    return node.node_id


def test_migrations_make_the_tables_that_the_code_declares(store: RunStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with create_engine(store.url).connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def first_schema(path: Path) -> None:
    """Make a database as the first release left it: one open run with one recorded session, one evaluation and some tokens."""
    from alembic import command
    from alembic.config import Config

    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        settings = Config()
        settings.set_main_option("script_location", "agents.runs:migrations")
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("INSERT INTO meta VALUES ('schema_version', '1')"))
        problem = json.dumps(
            {"problem_id": "synthetic/hill", "name": "hill", "source": PROBLEM.source, "path": "", "weights_constant": False}
        )
        run = {"problem": problem, "config": json.dumps(config(evaluations=5).to_json()), "hash": PROBLEM.source_hash}
        connection.execute(
            text(
                "INSERT INTO runs (run_id, created, status, target, strategy, coder, seed, problem, problem_hash, config, versions, seconds) "
                "VALUES ('old', 1.0, 'open', 'cpu', 'greedy', 'walking', 0, :problem, :hash, :config, '{}', 7.5)"
            ),
            run,
        )
        candidate = candidate_at((3, 3))
        evaluation = json.dumps(evaluation_of(candidate, Status.PASSED, 1.5).to_json())
        connection.execute(text("INSERT INTO sessions VALUES ('old', 's0', 0, 0, '[]', 'clean', '{}', 'passed')"))
        connection.execute(text("INSERT INTO sessions VALUES ('old', 's1', 1, 0, '[\"n0\"]', 'both', '{}', 'passed')"))
        for step, parents in enumerate(("[]", '["n0"]')):
            connection.execute(
                text(
                    f"INSERT INTO nodes VALUES ('old', 'n{step}', {step}, {step}, 's{step}', 1, :parents, 'c', 'h{step}', 'a', '{{}}', 'passed', "
                    "1.5, 'measured', :evaluation, '', '[]', '{}', '{}', '{}')"
                ),
                {"parents": parents, "evaluation": evaluation},
            )
        connection.execute(
            text("INSERT INTO evaluations VALUES ('old', 'h0', 'search', 'c', 'cpu', 'passed', 2.5, :evaluation)"),
            {"evaluation": evaluation},
        )
        connection.execute(text("INSERT INTO ledger VALUES ('old', 'tokens:s0:1', 'tokens', 120)"))
    engine.dispose()


def test_database_of_the_first_release_is_upgraded_and_keeps_everything(tmp_path: Path) -> None:
    first_schema(tmp_path / "runs.sqlite")
    with RunStore(tmp_path) as store:
        spent = store.spent("old")
        assert (spent.evaluations, spent.device_seconds, spent.tokens, spent.seconds) == (1, 2.5, 120, 7.5)
        assert store.ancestors("old", ["n1"]) == ["n1", "n0"]
        store.acquire("old")
        store.rebuild_places("old", create_strategy("mcts").needs)
        graph = store.graph("old")
        assert [place.place_id for place in graph.children("")] == ["n0"] and graph.place().visits == 2
        assert store.run("old").problem == PROBLEM
    with RunStore(tmp_path) as again:
        assert again.spent("old").evaluations == 1


@pytest.mark.parametrize(
    "change", ["UPDATE meta SET value = '99' WHERE key = 'schema_version'", "UPDATE alembic_version SET version_num = '0099'"]
)
def test_newer_database_is_refused_and_left_untouched(tmp_path: Path, change: str) -> None:
    RunStore(tmp_path).close()
    path = tmp_path / "runs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(RunStoreError, match="newer version"):
        RunStore(tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_newer_database_on_a_server_is_refused(tmp_path: Path, postgres_url: str) -> None:
    RunStore(tmp_path, postgres_url).close()
    with create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://")).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(RunStoreError, match="newer version"):
        RunStore(tmp_path, postgres_url)


def test_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(RunStoreError, match="not a run store"):
        RunStore(tmp_path)
    with pytest.raises(RunStoreError, match="not with 'mysql'"):
        RunStore(tmp_path / "b", "mysql://host/name")
    with pytest.raises(RunStoreError, match="not the address of a database"):
        RunStore(tmp_path / "b", "nonsense")


def test_processes_that_open_an_empty_database_together_agree(tmp_path: Path, postgres_url: str) -> None:
    errors: list[BaseException] = []

    def open_both(number: int) -> None:
        try:
            RunStore(tmp_path, postgres_url).close()
            RunStore(tmp_path / "sqlite").close()
        except BaseException as error:  # reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=open_both, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_stored_graph_answers_as_the_graph_in_memory_and_as_of_every_step(store: RunStore, name: str) -> None:
    strategy = create_strategy(name)
    run_id = create_run(store, PROBLEM, "cpu", config(name))
    fitness = random.Random(1)
    snapshots = []
    for number in range(14):
        (expansion, *_) = strategy.select(store.graph(run_id), random.Random(number), 1).expansions
        memory = store.graph_as_of(run_id, number)
        for width in (1, 3):
            assert strategy.select(store.graph(run_id), random.Random(number), width) == strategy.select(
                memory, random.Random(number), width
            )
        add_node(store, run_id, expansion.parents, fitness.choice([0.0, 1.0, 1.0, fitness.uniform(0, 3)]), name, dict(expansion.algorithm))
        if number == 9:
            store.close_place(run_id, ["node2"])
        snapshots.append(store.graph_as_of(run_id, number).places)
    for step in (0, 5, 13):
        assert store.graph_as_of(run_id, step).places == snapshots[step]
    assert store.changes(run_id) and all(change.step <= 13 for change in store.changes(run_id))


def test_ancestors_siblings_best_and_frontier(store: RunStore) -> None:
    run_id = create_run(store, PROBLEM, "cpu", config())
    for parents, fitness in [((), 1.0), ((), 2.0), (("node0",), 3.0), (("node0",), 0.0), (("node2", "node1"), 3.0)]:
        add_node(store, run_id, parents, fitness)
    assert set(store.ancestors(run_id, ["node4"])) == {"node0", "node1", "node2", "node4"}
    assert store.ancestors(run_id, ["node4"], limit=1) == ["node4"]
    assert store.siblings(run_id, ("node0",)) == ["node3", "node2"] and store.siblings(run_id, (), limit=1) == ["node1"]
    assert store.siblings(run_id, ("node0",), until=3) == ["node2"]
    assert store.best_fitness(run_id) == ("node2", 3.0)
    assert [place.place_id for place in store.graph(run_id).frontier(3)] == ["node4", "node2", "node1"]
    assert store.node_with_source(run_id, derived_id(1)) == "node1" and store.node_with_source(run_id, derived_id(1), until=1) is None


def test_same_failure_finds_what_mended_it_before(store: RunStore) -> None:
    first = create_run(store, PROBLEM, "cpu", config())
    broken = evaluation_of(candidate_at((0, 0)), Status.COMPILE_ERROR)
    broken = type(broken)(**{**broken.__dict__, "feedback": Feedback(error="line 12: name 'BLOCK' is not defined")})
    bad, good = candidate_at((0, 0), "bad"), candidate_at((1, 1), "good")
    nodes = [
        NodeRecord("bad", 0, 0, "s0", 1, (), bad, "h0", store.artifacts.write(bad.source), broken, "", (), {}, {}),
        NodeRecord(
            "good",
            0,
            0,
            "s0",
            2,
            ("bad",),
            good,
            "h1",
            store.artifacts.write(good.source),
            evaluation_of(good, Status.PASSED),
            "defined it",
            (),
            {},
            {},
        ),
    ]
    store.record_round(first, [SessionRecord("s0", 0, 0, (), Memory.CLEAN, {}, Outcome.PASSED)], nodes)
    second = create_run(store, PROBLEM, "cpu", config())
    again = type(broken)(**{**broken.__dict__, "feedback": Feedback(error="line 99: name 'TILE' is not defined")})
    (repair,) = store.repairs(second, again, known=0)
    assert (repair.run_id, repair.broken.node_id, repair.fixed.notes) == (first, "bad", "defined it")
    assert store.repairs(first, again, known=1) == [] and store.repairs(first, again, known=2)
    other = type(broken)(**{**broken.__dict__, "feedback": Feedback(error="out of registers")})
    assert store.repairs(second, other, known=0) == [] and error_signature(evaluation_of(good, Status.PASSED)) == ""


def test_messages_of_an_attempt_are_kept_word_for_word(store: RunStore) -> None:
    run_id = create_run(store, PROBLEM, "cpu", config())
    messages = [Message("system", "be fast"), Message("human", "grüße ✓"), Message("ai", "```python\n```")]
    store.add_attempt(run_id, "s0", new_attempt(1, candidate_at((1, 1)), notes=""), tokens=9, dollars=0.25, messages=messages)
    store.add_attempt(run_id, "s0", new_attempt(1, candidate_at((1, 1)), notes=""), tokens=9, dollars=0.25, messages=messages)
    assert store.messages(run_id, "s0", 1) == messages
    assert (store.spent(run_id).tokens, store.spent(run_id).dollars) == (9, 0.25)


def test_requests_reach_the_driver_and_finished_runs_take_none(store: RunStore) -> None:
    run_id = create_run(store, PROBLEM, "cpu", config())
    store.ask(run_id[:-1], "note", "try split-K")
    store.ask(run_id, "pause")
    first, second = store.requests(run_id)
    assert (first.kind, first.text, second.kind) == ("note", "try split-K", "pause")
    assert store.requests(run_id, after=first.number) == [second]
    store.finish(run_id, {})
    with pytest.raises(RunStateError, match="finished"):
        store.ask(run_id, "note", "too late")
    with pytest.raises(UnknownNameError):
        store.ask("nothing", "pause")


def test_search_on_a_server_equals_the_search_on_files(tmp_path: Path, postgres_url: str) -> None:
    settings = config("evolutionary", 10, seed=5, width=3)
    here, here_id, result = search(tmp_path / "here", settings)
    there = RunStore(tmp_path / "there", postgres_url)
    there_id = create_run(there, PROBLEM, "cpu", settings)
    outcome = asyncio.run(drive(there, there_id, machinery()))
    assert shape(there, there_id) == shape(here, here_id)
    assert outcome["num_evaluations"] == result["num_evaluations"]
    assert not (tmp_path / "there" / "checkpoints.sqlite").exists()


def test_eight_concurrent_sessions_lose_and_double_nothing(store: RunStore) -> None:
    evaluator = LandscapeEvaluator(delay_s=0.002)
    settings = config("evolutionary", 24, seed=2, width=8, evaluator_slots=8)
    run_id = create_run(store, PROBLEM, "cpu", settings)
    result = asyncio.run(drive(store, run_id, machinery(evaluator, WalkingCoder(delay_s=0.001))))
    searched = [point for point, effort in evaluator.calls if effort == "quick"]
    nodes = store.nodes(run_id)
    assert (
        len(searched) == len(set(searched)) and len(evaluator.calls) == result["num_evaluations"] == store.spent(run_id).evaluations <= 24
    )
    assert [node.step for node in nodes] == list(range(len(nodes)))
    assert len({node.source_hash for node in nodes}) == len(nodes)
    final = {node.session_id: node.node_id for node in nodes}
    assert {place.place_id for place in store.graph_as_of(run_id, len(nodes)).nodes} == set(final.values())


@pytest.mark.parametrize("address", ["memory://kevolve-test", "file"])
def test_artifacts_live_at_any_address_that_fsspec_knows(tmp_path: Path, address: str) -> None:
    url = f"file://{tmp_path}/far" if address == "file" else address
    artifacts = open_artifacts(url)
    digest = artifacts.write("def f(): ...\n# ✓")
    assert artifacts.write("def f(): ...\n# ✓") == digest and open_artifacts(url).read(digest) == "def f(): ...\n# ✓"
    assert artifacts.location(digest).startswith(url)
    with pytest.raises(RunStoreError, match="missing"):
        artifacts.read("0" * 64)


def test_search_keeps_its_sources_at_the_given_address(tmp_path: Path) -> None:
    store = RunStore(tmp_path, artifacts="memory://kevolve-search")
    run_id = create_run(store, PROBLEM, "cpu", config(evaluations=3))
    result = asyncio.run(drive(store, run_id, machinery()))
    assert result["best"]["source_path"].startswith("memory://kevolve-search/")
    assert "POINT" in store.nodes(run_id)[0].candidate.source and not (tmp_path / "artifacts").exists()


def test_damaged_artifact_and_unknown_protocol_are_told(tmp_path: Path) -> None:
    artifacts = open_artifacts(tmp_path)
    digest = artifacts.write("kernel")
    Path(artifacts.location(digest)).write_text("other")
    with pytest.raises(RunStoreError, match="changed or damaged"):
        artifacts.read(digest)
    with pytest.raises(RunStoreError, match="nonsense"):
        open_artifacts("nonsense://x")
