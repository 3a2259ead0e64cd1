"""The MCP server through the SDK's own client: in memory, over stdio and over HTTP; wrong, malformed and oversized calls; many clients at once."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from landscape import LandscapeEvaluator
from mcp import Client, StdioServerParameters

from agents.errors import OptionError
from agents.mcp.limits import MAX_BODY_BYTES, MAX_TEXT_CHARACTERS, fits
from agents.mcp.server import build_server
from agents.mcp.transports import http_server, server_token
from agents.runs.store import RunStore
from kb.errors import StoreError
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest

TOKEN = "a-token-for-tests-only"
ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = {
    "kb_search", "kb_ask", "kb_get", "kb_tree", "list_targets", "get_target_limits", "lint", "compile", "evaluate", "job", "start_run",
    "resume_run", "next_node", "submit", "finish_run", "read_run", "read_node", "list_runs",
}  # fmt: skip
PROBLEM = {"problem": "examples/swiglu", "target": "cpu"}


def kernel(x: int, y: int, comment: str = "") -> str:
    return f"import torch\n# {comment}\nclass ModelNew(torch.nn.Module):\n    pass\nPOINT = ({x}, {y})\n"


def in_memory(home: Path, use: Callable[[Client], Awaitable[Any]], evaluator: LandscapeEvaluator | None = None, **more: Any) -> Any:
    async def main() -> Any:
        server = build_server(home, evaluator=evaluator or LandscapeEvaluator(), **more)
        async with Client(server) as client:
            return await use(client)

    return asyncio.run(main())


async def ok(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return str(result.content[0].text)  # type: ignore[union-attr]  # errors are text


def test_offers_tools_resources_and_prompts_with_descriptions(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        assert all(tool.description and len(tool.description) > 30 for tool in tools)
        templates = {item.uri_template for item in (await client.list_resource_templates()).resource_templates}
        assert {"kb://chunk/{chunk_id}", "kevolve://kernel/{name}", "kevolve://run/{run_id}", "kevolve://node/{node_id}"} <= templates
        rules = await client.read_resource("kevolve://rules")
        assert "ModelNew" in rules.contents[0].text  # type: ignore[union-attr]  # it is text
        prompt = await client.get_prompt("optimise", {"problem": "examples/swiglu", "target": "cpu"})
        assert "start_run" in prompt.messages[0].content.text  # type: ignore[union-attr]  # it is text

    in_memory(tmp_path, use)


def test_outside_agent_is_the_coder_of_a_real_search(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        run_id = (await ok(client, "start_run", **PROBLEM, budget_evaluations=6, strategy="linear", use_knowledge=False))["run_id"]
        wanted = await ok(client, "next_node", run_id=run_id)
        assert wanted["state"] == "candidate_wanted" and "class Model" in wanted["prompt"] and wanted["evaluations_left"] == 5
        first = await ok(
            client, "submit", run_id=run_id, ticket_id=wanted["ticket_id"], source=kernel(9, 8), summary="a start", chunk_ids=["c1"]
        )
        assert first["evaluation"]["status"] == "passed"
        wanted = await ok(client, "next_node", run_id=run_id)
        assert "POINT = (9, 8)" in wanted["prompt"] and wanted["parents"]
        again = await ok(client, "submit", run_id=run_id, ticket_id=wanted["ticket_id"], source=kernel(9, 8, "other words"), summary="same")
        assert again["state"] == "duplicate"
        wanted = await ok(client, "next_node", run_id=run_id)
        better = await ok(client, "submit", run_id=run_id, ticket_id=wanted["ticket_id"], source=kernel(9, 4), summary="the top")
        assert better["best_fitness"] == pytest.approx(3.0)
        result = await ok(client, "finish_run", run_id=run_id)
        while result["state"] != "finished":
            result = await ok(client, "next_node", run_id=run_id)
        assert result["result"]["best"]["notes"] == "the top" and result["result"]["best"]["is_remeasured"]
        told = await ok(client, "read_run", run_id=run_id)
        assert told["coder"] == "outside" and [node["notes"] for node in told["nodes"]] == ["a start", "the top"]
        node = await ok(client, "read_node", node_id=told["best_node"])
        assert "POINT = (9, 4)" in node["source"]
        resource = await client.read_resource(f"kevolve://run/{run_id}")
        assert json.loads(resource.contents[0].text)["run_id"] == run_id  # type: ignore[union-attr]  # it is text

    in_memory(tmp_path, use)


def test_refused_candidate_costs_no_evaluation_and_says_why(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()

    async def use(client: Client) -> None:
        run_id = (await ok(client, "start_run", **PROBLEM, budget_evaluations=4, use_knowledge=False))["run_id"]
        wanted = await ok(client, "next_node", run_id=run_id)
        verdict = await ok(client, "submit", run_id=run_id, ticket_id=wanted["ticket_id"], source="x = 1", summary="no class")
        assert verdict["evaluation"]["status"] == "lint_error" and "ModelNew" in verdict["evaluation"]["reason"]
        wanted = await ok(client, "next_node", run_id=run_id)
        assert "ModelNew" in wanted["prompt"] and "repair it" in wanted["prompt"]

    in_memory(tmp_path, use, evaluator)
    assert evaluator.calls == []


def test_run_survives_a_restart_of_the_server_with_the_same_ticket(tmp_path: Path) -> None:
    async def begin(client: Client) -> tuple[str, str]:
        run_id = (await ok(client, "start_run", **PROBLEM, budget_evaluations=2, use_knowledge=False))["run_id"]
        return run_id, (await ok(client, "next_node", run_id=run_id))["ticket_id"]

    run_id, ticket_id = in_memory(tmp_path, begin)
    with RunStore(tmp_path) as store:
        assert not store.run(run_id).is_driven and store.run(run_id).result is None

    async def go_on(client: Client) -> None:
        assert "not driven here" in await refused(client, "next_node", run_id=run_id)
        await ok(client, "resume_run", run_id=run_id)
        assert (await ok(client, "next_node", run_id=run_id))["ticket_id"] == ticket_id
        await ok(client, "submit", run_id=run_id, ticket_id=ticket_id, source=kernel(9, 4), summary="done")
        result = await ok(client, "next_node", run_id=run_id)
        assert result["state"] == "finished" and result["best_fitness"] == pytest.approx(3.0)

    in_memory(tmp_path, go_on)


def test_evaluation_that_takes_longer_than_the_call_goes_on_as_a_job_with_progress(tmp_path: Path) -> None:
    told: list[str] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        told.append(str(message))

    async def use(client: Client) -> None:
        result = await client.call_tool("evaluate", {**PROBLEM, "source": kernel(9, 4), "wait_s": 0.01}, progress_callback=progress)
        first = result.structured_content
        assert first is not None and first["job"] == "running"
        last = await ok(client, "job", job_id=first["job_id"], wait_s=60)
        assert last["job"] == "done" and last["status"] == "passed" and last["fitness"] == pytest.approx(3.0)

    in_memory(tmp_path, use, LandscapeEvaluator(delay_s=0.3))
    assert told


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("lint", {"source": "x = 1", "target": "cuda:sm_1"}, "known: cpu"),
        ("lint", {"source": "", "target": "cpu"}, "source is empty"),
        ("lint", {"source": "x" * 400_001, "target": "cpu"}, "at most 400000"),
        ("lint", {"source": "x", "target": "cpu", "language": "rust"}, "known: triton, cpp, torch"),
        ("lint", {"target": "cpu"}, "source"),
        ("evaluate", {"source": "x", "problem": "examples/none"}, "no such example"),
        ("evaluate", {"source": "x"}, "problem_source"),
        ("evaluate", {"source": "x", "problem": "a", "problem_source": "b"}, "either"),
        ("evaluate", {"source": "x", "problem_source": "def f(:"}, "not valid Python"),
        ("evaluate", {"source": "x", **PROBLEM, "effort": "heroic"}, "quick, full"),
        ("evaluate", {"source": "x", **PROBLEM, "timeout_s": -1}, "timeout_s must be"),
        ("evaluate", {"source": "x", **PROBLEM, "wait_s": -1}, "wait_s must be"),
        ("job", {"job_id": "job-99"}, "no job 'job-99'"),
        ("start_run", {**PROBLEM, "strategy": "guess"}, "greedy"),
        ("start_run", {**PROBLEM, "budget_evaluations": 0}, "budget_evaluations must be"),
        ("start_run", {**PROBLEM, "budget_seconds": -5}, "above 0"),
        ("next_node", {"run_id": "nope"}, "start_run"),
        ("submit", {"run_id": "nope", "ticket_id": "t", "source": "x", "summary": "s"}, "start_run"),
        ("resume_run", {"run_id": "nope"}, "nope"),
        ("read_run", {"run_id": "nope"}, "nope"),
        ("read_node", {"node_id": "nope"}, "nope"),
        ("list_runs", {"limit": 1000}, "1 to 50"),
        ("kb_search", {"query": ""}, "query"),
        ("kb_get", {"identifier": "no-such-chunk"}, "no-such-chunk"),
        ("no_such_tool", {}, "no_such_tool"),
    ],
)  # fmt: skip
def test_wrong_call_is_answered_with_what_to_do(tmp_path: Path, tool: str, arguments: dict[str, Any], message: str) -> None:
    async def use(client: Client) -> None:
        try:
            told = await refused(client, tool, **arguments)
        except Exception as error:  # an unknown tool is an error of the protocol
            told = str(error)
        assert message in told
        assert "Traceback" not in told and len(told) < 6000

    in_memory(tmp_path, use)


def test_ticket_of_no_open_request_is_refused(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        run_id = (await ok(client, "start_run", **PROBLEM, budget_evaluations=2, use_knowledge=False))["run_id"]
        ticket_id = (await ok(client, "next_node", run_id=run_id))["ticket_id"]
        assert ticket_id in await refused(client, "submit", run_id=run_id, ticket_id="made-up", source=kernel(1, 1), summary="s")

    in_memory(tmp_path, use)


def test_remote_caller_names_no_files(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        for name in ("/etc/passwd", "problem.py", "examples/../../etc/passwd"):
            assert "is no name of a problem" in await refused(client, "evaluate", source="x", problem=name)

    in_memory(tmp_path, use, reads_files=False)


def test_random_arguments_never_crash_a_tool(tmp_path: Path) -> None:
    rng = random.Random(7)
    values: list[Any] = [
        None,
        "",
        "x",
        -1,
        0,
        2**70,
        1.5,
        float("1e308"),
        True,
        [],
        {},
        ["a"],
        {"a": {"b": []}},
        "\x00",
        "é" * 5000,
        "../" * 50,
    ]

    async def use(client: Client) -> None:
        tools = (await client.list_tools()).tools
        for tool in tools:
            names = [*tool.input_schema["properties"], "surplus"]
            for _ in range(12):
                arguments = {name: rng.choice(values) for name in names if rng.random() < 0.8}
                if tool.name in ("next_node", "submit", "finish_run", "job", "evaluate"):
                    arguments.pop("wait_s", None)
                result = await client.call_tool(tool.name, arguments)
                text = result.content[0].text if result.content else ""  # type: ignore[union-attr]  # tools answer with text
                assert text != f"Error executing tool {tool.name}", (tool.name, arguments)
                assert len(text) < 80_000

    in_memory(tmp_path, use)


def test_long_answers_are_cut_and_say_so() -> None:
    cut = fits({"a": "x" * (MAX_TEXT_CHARACTERS + 5), "b": list(range(60))})
    assert cut["a"].endswith("[cut: 5 more characters]") and cut["b"][-1] == "[cut: 10 more items]"


@contextmanager
def serving(home: Path, evaluator: LandscapeEvaluator) -> Iterator[str]:
    runner, listener, address = http_server(build_server(home, evaluator=evaluator, reads_files=False), TOKEN, "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(runner.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        runner.should_exit = True
        thread.join(30)


@contextmanager
def knowing(home: Path) -> Iterator[None]:
    (home / "doc.md").write_text("# Stores\n\nNon-temporal stores avoid reading the line that is written.\n")
    with KnowledgeBase.open(home, embedder="hashing") as base:
        ingest([home / "doc.md"], base)
    yield


async def over_http(address: str, token: str, use: Callable[[Client], Awaitable[Any]]) -> Any:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        return await use(client)


def test_twenty_clients_at_once_over_http(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()

    async def work(number: int, address: str) -> int:
        async def use(client: Client) -> int:
            hits = await client.call_tool("kb_search", {"query": "non-temporal stores"})
            assert "Non-temporal" in hits.content[0].text  # type: ignore[union-attr]  # it is text
            assert not (await ok(client, "lint", source=kernel(9, number), target="cpu"))["is_refused"]
            verdict = await ok(client, "evaluate", **PROBLEM, source=kernel(9, number % 12, str(number)), wait_s=120)
            assert verdict["status"] in ("passed", "wrong_values")
            return 1

        return int(await over_http(address, TOKEN, use))

    async def main(address: str) -> list[int]:
        return await asyncio.gather(*(work(number, address) for number in range(20)))

    with knowing(tmp_path), serving(tmp_path, evaluator) as address:
        assert sum(asyncio.run(main(address))) == 20
    assert len(evaluator.calls) == 20 and evaluator.most_at_once == 1


def test_wrong_token_body_and_method_are_refused_and_the_server_lives_on(tmp_path: Path) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    good = {**accept, "Authorization": f"Bearer {TOKEN}"}
    with serving(tmp_path, LandscapeEvaluator()) as address, httpx.Client(timeout=30) as http:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
            for path in (address, address.replace("/mcp", "/"), address + "/../mcp"):
                assert http.post(path, json=call, headers={**accept, **header}).status_code == 401
        assert http.post(address, content=b"{" + b" " * (MAX_BODY_BYTES + 10), headers=good).status_code == 413
        rng = random.Random(3)
        for _ in range(40):
            junk = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
            assert 400 <= http.post(address, content=junk, headers=good).status_code < 500
        for odd in (
            [],
            [1, 2],
            {"jsonrpc": "1.0"},
            {"jsonrpc": "2.0", "id": 1, "method": 5},
            {"jsonrpc": "2.0", "id": {}, "method": "x"},
            "text",
            None,
        ):
            assert http.post(address, json=odd, headers=good).status_code < 500
        assert http.post(address, json=call, headers={**good, "Host": "evil.example"}).status_code in (403, 421)

        async def use(client: Client) -> int:
            return len((await client.list_tools()).tools)

        assert asyncio.run(over_http(address, TOKEN, use)) == len(TOOLS)
        with pytest.raises(BaseException):  # noqa: B017 - whatever the client makes of 401
            asyncio.run(over_http(address, "wrong-token-wrong-token", use))


def test_token_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEVOLVE_MCP_TOKEN", raising=False)
    token, place = server_token(tmp_path)
    assert server_token(tmp_path) == (token, place) and (tmp_path / "mcp-token").stat().st_mode & 0o077 == 0
    (tmp_path / "mcp-token").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        server_token(tmp_path)
    monkeypatch.setenv("KEVOLVE_MCP_TOKEN", "short")
    with pytest.raises(OptionError, match="16 characters"):
        http_server(build_server(tmp_path), server_token(tmp_path)[0], "127.0.0.1", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])
def test_server_stays_on_the_loopback_interface(tmp_path: Path, host: str) -> None:
    with pytest.raises(OptionError, match="loopback"):
        http_server(build_server(tmp_path), TOKEN, host, 0)


@pytest.mark.slow
def test_command_serves_over_stdio_and_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        command = StdioServerParameters(
            command=sys.executable, args=["-m", "agents.cli", "mcp", "--home", str(tmp_path)], cwd=str(ROOT), env={"OMP_NUM_THREADS": "1"}
        )
        async with Client(command) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            limits = await ok(client, "get_target_limits", target="cuda:sm_90")
            assert limits["limits"]["shared_memory_per_block_bytes"]["value"] == 232448

    asyncio.run(main())
