"""Embeddings over HTTP, against a real server that speaks the protocol with the packaged model."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.embedders import openai_compatible
from kb.embedders.base import EmbedderIdentity, differences, same_weights
from kb.embedders.minilm import MiniLmEmbedder
from kb.embedders.openai_compatible import Endpoint, OpenAiCompatibleEmbedder
from kb.embedders.registry import make_embedder
from kb.errors import EmbedderMismatch, StoreError
from kb.store import KnowledgeBase
from kb.types import Document, Kind, Section

TEXTS = ["Shared memory has 32 banks.", "A warp has 32 lanes.", "Fuse the epilogue.", "Use async copies."]


class EmbeddingsServer(ThreadingHTTPServer):
    """Answers from the packaged model; `script` holds (status, headers, body) to answer first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = MiniLmEmbedder(bulk_texts=10**9)
        self.script: list[tuple[int, dict[str, str], Any]] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.most_texts = 10**9
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: EmbeddingsServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((dict(self.headers), body))
            if self.path != "/v1/embeddings":
                return self.answer(404, {}, {"error": {"message": "no such path"}})
            if self.server.script:
                return self.answer(*self.server.script.pop(0))
            if len(body["input"]) > self.server.most_texts:
                return self.answer(413, {}, {"error": "batch too large"})
            rows = self.server.model.embed_documents(body["input"])
        data = [{"object": "embedding", "index": index, "embedding": (2.5 * row).tolist()} for index, row in enumerate(rows)]
        return self.answer(200, {}, {"object": "list", "model": body["model"], "data": data[::-1]})

    def answer(self, status: int, headers: dict[str, str], body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def running_server() -> Iterator[EmbeddingsServer]:
    with EmbeddingsServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running_server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch) -> EmbeddingsServer:
    for name in ("KEVOLVE_EMBEDDINGS_KEY", "KEVOLVE_EMBEDDINGS_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    running_server.script.clear()
    running_server.requests.clear()
    running_server.most_texts = 10**9
    return running_server


def embedder(server: EmbeddingsServer, waits: list[float] | None = None, **options: Any) -> OpenAiCompatibleEmbedder:
    sleep = (waits if waits is not None else []).append
    return OpenAiCompatibleEmbedder(Endpoint("all-minilm", server.url, **options), sleep)


def test_vectors_are_the_models_own_of_length_one_in_order(server: EmbeddingsServer) -> None:
    here = server.model.embed_documents(TEXTS)
    there = embedder(server).embed_documents(TEXTS)
    assert there == pytest.approx(here, abs=1e-5)
    assert np.linalg.norm(there, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert embedder(server).embed_query(TEXTS[1]) == pytest.approx(here[1], abs=1e-5)


def test_texts_go_in_batches_and_a_refused_batch_is_halved(server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_compatible, "BATCH_TEXTS", 3)
    server.most_texts = 2
    assert embedder(server).embed_documents(TEXTS) == pytest.approx(server.model.embed_documents(TEXTS), abs=1e-5)
    assert [len(body["input"]) for _, body in server.requests] == [3, 1, 2, 1]


def test_busy_and_failing_answers_are_asked_again_with_growing_waits(server: EmbeddingsServer) -> None:
    server.script = [(500, {}, {}), (503, {}, {}), (429, {"Retry-After": "7"}, {})]
    waits: list[float] = []
    assert embedder(server, waits).embed_query(TEXTS[0]).shape == (384,)
    assert waits == [0.5, 1.0, 7.0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), "bad key; set KEVOLVE_EMBEDDINGS_KEY"),
        ((404, {}, {"error": "unknown model"}), "unknown model; check the address"),
        ((400, {}, {"error": {"message": "input too long"}}), "lower max_tokens"),
        ((200, {}, b"<html>welcome</html>"), "does not speak OpenAI's protocol"),
        ((200, {}, {"data": []}), "unusable vectors"),
        ((200, {}, {"data": [{"index": 0, "embedding": [0.0, 0.0]}]}), "unusable vectors"),
    ],
)
def test_other_answers_are_errors_that_say_what_to_do(
    server: EmbeddingsServer, answer: tuple[int, dict[str, str], Any], message: str
) -> None:
    server.script = [answer]
    with pytest.raises(StoreError, match=message):
        embedder(server).embed_query("x")
    assert len(server.requests) == 1


def test_server_that_stays_down_is_named_after_all_attempts(server: EmbeddingsServer) -> None:
    waits: list[float] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but does not listen: connections are refused
        silent = OpenAiCompatibleEmbedder(Endpoint("m", f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), waits.append)
        with pytest.raises(StoreError, match="cannot be reached"):
            silent.embed_query("x")
    assert len(waits) == openai_compatible.ATTEMPTS - 1


def test_key_comes_from_the_environment_and_prefixes_go_before_the_texts(server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEVOLVE_EMBEDDINGS_KEY", "secret")
    prefixed = embedder(server, document="passage: ", query="query: ", dimensions=64)
    prefixed.embed_documents(["a"])
    prefixed.embed_query("b")
    (headers, first), (_, second) = server.requests
    assert headers["Authorization"] == "Bearer secret"
    assert (first["input"], second["input"], first["dimensions"]) == (["passage: a"], ["query: b"], 64)
    assert prefixed.identity.prefix == "passage: |query: "


def test_name_of_an_endpoint_is_read_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Endpoint.parse("org/model:v1@https://host:8080/v1/#max_tokens=512&query=query: ")
    assert found == Endpoint("org/model:v1", "https://host:8080/v1", 512, None, "", "query: ")
    monkeypatch.setenv("KEVOLVE_EMBEDDINGS_URL", "http://other/v1")
    assert Endpoint.parse("m").base_url == "http://other/v1"
    for bad in ("@http://host", "m@http://", "m@http://h#tokens=5", "m@http://h#max_tokens=few"):
        with pytest.raises(ValueError, match="openai-compatible"):
            Endpoint.parse(bad)


def test_base_built_over_an_endpoint_opens_again_and_notices_another_model(server: EmbeddingsServer, tmp_path: Path) -> None:
    spec = f"openai-compatible:all-minilm@{server.url}"
    root = Section("t", 0, TEXTS[0], 1, 1, text_line=1)
    with KnowledgeBase.open(tmp_path, embedder=spec) as base:
        base.add_document(Document("a.md", "A", Kind.GUIDE, root, "0" * 64))
    with KnowledgeBase.open(tmp_path) as base:
        assert base.query("memory banks").hits[0].text == TEXTS[0]
        assert base.check().problems == ()
        identity = base.embedder().identity
    other = dataclasses.replace(identity, weight_hash=_probe_of_another_model())
    assert differences({"name": identity.name, "dimension": "384", "prefix": "", "hash": other.weight_hash}, identity)
    with pytest.raises(EmbedderMismatch, match="name 'all-minilm' there, 'hashing' here"):
        KnowledgeBase.open(tmp_path, embedder="hashing")


def _probe_of_another_model() -> str:
    from kb.embedders.base import probe_hash

    return probe_hash(np.cos(np.arange(384)).astype(np.float32))


def test_probe_tolerates_rounding_only(server: EmbeddingsServer) -> None:
    one: EmbedderIdentity = embedder(server).identity
    rows = server.model.embed_documents(["Shared memory has 32 banks of 4 bytes each."])
    from kb.embedders.base import probe_hash

    assert same_weights(one.weight_hash, probe_hash((rows[0] + np.float32(2e-4)).astype(np.float32)))
    assert not same_weights(one.weight_hash, _probe_of_another_model())
    assert not same_weights(one.weight_hash, "none")


def test_registry_makes_it(server: EmbeddingsServer) -> None:
    assert make_embedder(f"openai-compatible:m@{server.url}#max_tokens=100").max_tokens == 100
