from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, answering
from typer.testing import CliRunner

from kb.cli import app
from kb.errors import KnowledgeError
from kb.store import KnowledgeBase

QUESTION = "how does the small fast store stay free of collisions"


class Model:
    """An OpenAI-compatible server that formulates one query and finds the second passage helpful."""

    def __init__(self) -> None:
        self.url = ""
        self.prompts: list[str] = []

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        request = json.loads(body)
        self.prompts.append(request["messages"][-1]["content"])
        said = "2" if "Passages from manuals" in self.prompts[-1] else "shared memory bank conflicts"
        if not request.get("stream"):
            return Answer(json.dumps({"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}).encode())
        chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
        return Answer(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), headers={"Content-Type": "text/event-stream"})


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    with answering(made.answer) as url:
        made.url = f"{url}/v1"
        yield made


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
