"""`kb serve` as a real process: the HTTP API, who may use it, and commands that find it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from kb.client import KnowledgeClient, ServerUnreachable
from kb.deep_search import DeepSearch
from kb.discovery import ServerRecord, announce, code_stamp, running
from kb.errors import UnknownNameError
from kb.store import KnowledgeBase
from kb.types import Filters, Kind

TOKEN = "0123456789abcdef0123456789abcdef"
START_TIMEOUT_S = 120


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "KEVOLVE_HOME": str(home), "KEVOLVE_EMBEDDER": "hashing", "OMP_NUM_THREADS": "1"}


def kb(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kb.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(home), check=False)


@contextlib.contextmanager
def served(home: Path, *arguments: str) -> Iterator[ServerRecord]:
    command = [sys.executable, "-m", "kb.cli", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while (record := running(home / "kb")) is None or record.pid != process.pid:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield record
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    docs = root / "docs"
    docs.mkdir()
    (docs / "banks.md").write_text(
        "---\ntargets: [nvidia]\n---\n# Banks\n\nShared memory has 32 banks.\n\n## Conflicts\n\nPad rows by one word.\n"
    )
    (docs / "lds.md").write_text("---\ntargets: [amd]\n---\n# LDS\n\nShared memory is called LDS.\n")
    assert kb(root, "ingest", str(docs)).returncode == 0
    token_file = root / "token"
    token_file.touch(0o600)
    token_file.write_text(TOKEN + "\n")
    return root


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ServerRecord]:
    with served(home, "--token-file", str(home / "token"), "--allow-ingest", str(home / "docs")) as record:
        yield record


@pytest.fixture
def client(server: ServerRecord) -> Iterator[KnowledgeClient]:
    with KnowledgeClient(server.url, TOKEN) as opened:
        yield opened


def test_the_client_returns_what_the_base_returns(client: KnowledgeClient, home: Path) -> None:
    filters = Filters(target="cuda:sm_90", kinds=(Kind.GUIDE,))
    with KnowledgeBase.open(home) as base:
        assert client.query("shared memory banks", filters=filters, explain=True) == base.query(
            "shared memory banks", filters=filters, explain=True
        )
        question = "How many banks are there? What is flibbertyzork9?"
        assert client.ask(question) == DeepSearch(base).ask(question)
        assert client.tree(4) == base.tree(4)
        assert client.stats()["chunks"] == base.stats()["chunks"]


def test_ids_lead_to_chunk_section_and_document(client: KnowledgeClient) -> None:
    hit = client.query("bank conflicts pad rows").hits[0]
    chunk = client.chunk(hit.chunk_id)
    section = client.section(chunk["section_id"])
    document = client.document(chunk["document_id"])
    assert chunk["text"] == hit.text and section["chunk_ids"] == [hit.chunk_id]
    assert hit.chunk_id in [item["chunk_id"] for item in document["chunks"]]
    assert client.document("docs/banks.md") == document
    with pytest.raises(UnknownNameError, match="no section 'nothing'"):
        client.section("nothing")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/query", {"query": ""}, 400, "the query is empty"),
        ("POST", "/v1/query", {"query": "a", "colour": 1}, 400, "colour"),
        ("POST", "/v1/query", {"query": "a", "top_k": 0}, 400, "top_k"),
        ("POST", "/v1/query", {"query": "a", "filters": {"target": "§"}}, 400, "not a target"),
        ("POST", "/v1/query", {"query": "a", "filters": {"kind": ["guide"]}}, 400, "known: target, kinds"),
        ("POST", "/v1/query", {"query": "a", "filters": {"kinds": ["poem"]}}, 400, "filters.kinds"),
        ("POST", "/v1/query", {"query": "a", "mode": "psychic"}, 404, "known: "),
        ("POST", "/v1/query", [1], 400, "object"),
        ("GET", "/v1/chunks/nothing", None, 404, "no chunk"),
        ("GET", "/v1/tree?depth=99", None, 400, "depth"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("GET", "/v1/query", None, 405, "Method"),
    ],
)
def test_a_mistake_is_a_json_error_with_the_reason(
    server: ServerRecord, method: str, path: str, body: object, status: int, words: str
) -> None:
    answer = httpx.request(method, server.url + path, json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
@pytest.mark.parametrize("path", ["/v1/stats", "/mcp", "/nowhere"])
def test_without_the_token_nothing_is_answered(server: ServerRecord, given: str | None, path: str) -> None:
    headers = {} if given is None else {"Authorization": given.encode("utf-8")}
    answer = httpx.get(server.url + path, headers=headers, timeout=60)  # type: ignore[arg-type]  # bytes as values
    assert answer.status_code == 401 and TOKEN not in answer.text


def test_health_needs_no_token_and_tells_nothing_else(server: ServerRecord) -> None:
    assert set(httpx.get(f"{server.url}/health", timeout=60).json()) == {"status", "warm", "version"}


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_web_pages_and_rebound_names_are_refused(server: ServerRecord, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{server.url}/v1/stats", headers={"Authorization": f"Bearer {TOKEN}", **headers}, timeout=60)
    assert answer.status_code == 403


def test_a_form_is_refused_and_a_large_body_too(server: ServerRecord) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{server.url}/v1/query", data={"query": "a"}, headers=headers, timeout=60).status_code == 415
    large = json.dumps({"query": "a" * 2_000_000})
    typed = {**headers, "Content-Type": "application/json"}
    assert httpx.post(f"{server.url}/v1/query", content=large, headers=typed, timeout=60).status_code == 413
    chunked = httpx.post(f"{server.url}/v1/query", content=(part for part in [large.encode()]), headers=typed, timeout=60)
    assert chunked.status_code == 413


def test_what_another_process_writes_and_removes_is_seen_at_once(client: KnowledgeClient, home: Path) -> None:
    page = home / "docs" / "late.md"
    page.write_text("# Late\n\nThe zanzibar register holds 77 lanes.\n")
    assert client.ingest([page])["documents"]["added"] == 1
    assert any("zanzibar" in hit.text for hit in client.query("zanzibar register").hits)
    page.unlink()
    assert kb(home, "remove", "late.md").returncode == 0
    assert not any("zanzibar" in hit.text for hit in client.query("zanzibar register").hits)


@pytest.mark.parametrize("path", ["/etc/passwd", "docs", "{home}/docs/../token", "{home}/token"])
def test_only_allowed_paths_are_ingested(server: ServerRecord, home: Path, path: str) -> None:
    body = {"paths": [path.format(home=home)]}
    answer = httpx.post(f"{server.url}/v1/ingest", json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    assert answer.status_code == 403 and "below what this server allows" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "shared memory banks"],
        ["query", "LDS", "--json", "--explain"],
        ["ask", "what is LDS?", "--json"],
        ["query", "flibbertyzork9"],
    ],
)
def test_commands_print_the_same_with_and_without_the_server(server: ServerRecord, home: Path, arguments: list[str]) -> None:
    with_server = kb(home, *arguments)
    without = kb(home, *arguments, "--embedder", "hashing") if arguments[0] == "query" else kb(home, *arguments)
    assert (with_server.returncode, with_server.stdout, with_server.stderr) == (without.returncode, without.stdout, without.stderr)


def test_a_server_elsewhere_is_asked_by_its_address(
    server: ServerRecord, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEVOLVE_KB_TOKEN", TOKEN)
    for question in (("query", "LDS", "--json"), ("ask", "what is LDS?", "--json")):
        there = kb(tmp_path, *question, "--url", server.url)
        assert (there.returncode, there.stdout) == (0, kb(home, *question).stdout)
    mixed = kb(tmp_path, "query", "LDS", "--url", server.url, "--home", str(home))
    assert mixed.returncode == 2 and "leave out --home" in mixed.stderr
    monkeypatch.setenv("KEVOLVE_KB_TOKEN", "wrong" * 8)
    refused = kb(tmp_path, "query", "LDS", "--url", server.url)
    assert refused.returncode == 3 and "Traceback" not in refused.stderr


def test_commands_really_ask_the_server_and_pass_over_a_dead_one(tmp_path: Path, home: Path) -> None:
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    folder = tmp_path / "kb"
    folder.mkdir()
    catalogue = str(folder / "catalogue.sqlite")
    assert kb(tmp_path, "ingest", str(home / "docs")).returncode == 0
    announce(folder, ServerRecord(os.getpid(), f"http://127.0.0.1:{listener.getsockname()[1]}", "", code_stamp(), catalogue))
    process = subprocess.Popen(
        [sys.executable, "-m", "kb.cli", "query", "LDS", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    listener.settimeout(START_TIMEOUT_S)
    connection, _ = listener.accept()  # it did come here
    connection.close()
    listener.close()
    output, errors = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0 and errors == ""
    assert "called LDS" in json.loads(output)["hits"][0]["text"]


def test_a_second_server_for_the_same_home_is_refused(server: ServerRecord, home: Path) -> None:
    done = kb(home, "serve", "--port", "0", "--token-file", str(home / "token"))
    assert done.returncode == 3 and server.url in done.stderr


def test_binding_beyond_loopback_needs_a_token_that_only_its_user_can_read(home: Path, tmp_path: Path) -> None:
    done = kb(home, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2 and "needs a token" in done.stderr
    open_file = tmp_path / "token"
    open_file.write_text(TOKEN)
    open_file.chmod(0o644)
    done = kb(home, "serve", "--host", "0.0.0.0", "--token-file", str(open_file))
    assert done.returncode == 3 and "chmod 600" in done.stderr
    open_file.write_text("short")
    open_file.chmod(0o600)
    assert kb(home, "serve", "--host", "0.0.0.0", "--token-file", str(open_file)).returncode == 2


def test_the_announcement_is_private_and_withdrawn(tmp_path: Path, home: Path) -> None:
    assert kb(tmp_path, "ingest", str(home / "docs")).returncode == 0
    with served(tmp_path, "--token-file", str(home / "token")) as record:
        path = tmp_path / "kb" / "server.json"
        assert path.stat().st_mode & 0o077 == 0
        assert TOKEN not in path.read_text() and record.token_file == str(home / "token")
    assert not path.exists()
    with pytest.raises(ServerUnreachable):
        KnowledgeClient(record.url, TOKEN).health()


def test_mcp_over_http_answers_with_the_token(server: ServerRecord) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async def talk() -> str:
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"}) as http_client:
            transport = streamable_http_client(f"{server.url}/mcp", http_client=http_client)
            async with Client(transport) as client:
                result = await client.call_tool("kb_search", {"query": "shared memory banks"})
                return str(result.content)

    assert "32 banks" in anyio.run(talk)


def test_mcp_over_stdio_answers(home: Path) -> None:
    from mcp import Client, StdioServerParameters

    async def talk() -> str:
        parameters = StdioServerParameters(command=sys.executable, args=["-m", "kb.cli", "mcp"], env=environment(home), cwd=Path.cwd())
        async with Client(parameters) as client:
            result = await client.call_tool("kb_search", {"query": "shared memory banks"})
            return str(result.content)

    assert "32 banks" in anyio.run(talk)
