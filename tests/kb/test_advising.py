from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kb.cli import app
from kb.errors import KnowledgeError
from kb.store import KnowledgeBase

QUESTION = "how does the small fast store stay free of collisions"


class Model:
    """An OpenAI-compatible server that formulates one query and finds the second passage helpful."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.prompts.append(request["messages"][-1]["content"])
                said = "2" if "Passages from manuals" in model.prompts[-1] else "shared memory bank conflicts"
                if request.get("stream"):
                    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
                    data, kind = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"
                else:
                    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
                    data, kind = json.dumps(answer).encode(), "application/json"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def _ask(filled: KnowledgeBase, *arguments: str) -> dict[str, Any]:
    found = CliRunner().invoke(app, ["ask", QUESTION, "--json", "--home", str(filled.home), *arguments], catch_exceptions=False)
    brief: dict[str, Any] = json.loads(found.stdout)
    return brief


def test_a_model_behind_a_server_formulates_and_chooses(filled: KnowledgeBase, model: Model) -> None:
    plain = _ask(filled)
    brief = _ask(filled, "--model", "openai-compatible", "--base-url", model.url, "--model-id", "tiny")
    assert "shared memory bank conflicts" in set(brief["queries"]) - set(plain["queries"])
    assert (brief["model_calls"], plain["model_calls"]) == (2, 0)
    assert "[2]" in model.prompts[1]


def test_what_was_sent_and_received_can_be_replayed(filled: KnowledgeBase, model: Model, tmp_path: Path) -> None:
    record = tmp_path / "exchanges.jsonl"
    first = _ask(filled, "--model", "openai-compatible", "--base-url", model.url, "--model-id", "tiny", "--record", str(record))
    again = _ask(filled, "--model", f"replay:{record}")
    assert again == first
    assert len(model.prompts) == 2


def test_a_person_answers_through_a_spool(filled: KnowledgeBase, model: Model, tmp_path: Path) -> None:
    record, spool = tmp_path / "exchanges.jsonl", tmp_path / "spool"
    spool.mkdir()
    first = _ask(filled, "--model", "openai-compatible", "--base-url", model.url, "--model-id", "tiny", "--record", str(record))
    for line in record.read_text().splitlines():
        exchange = json.loads(line)
        (spool / f"{exchange['id']}.answer.md").write_text(exchange["answer"]["data"]["content"])
    assert _ask(filled, "--model", f"spool:{spool}") == first


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--model", "nonsense"), ValueError, "known forms"),
        (("--model-id", "tiny"), ValueError, "--model"),
        (("--model", "replay:/nowhere.jsonl"), KnowledgeError, "cannot read"),
    ],
)
def test_unusable_model_is_an_error_that_says_why(
    filled: KnowledgeBase, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _ask(filled, *arguments)


def test_a_model_that_cannot_be_asked_is_an_error(filled: KnowledgeBase, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(KnowledgeError, match="by rules"):
        _ask(filled, "--model", f"replay:{tmp_path / 'empty.jsonl'}")
