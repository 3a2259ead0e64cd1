"""Everything sent and received, one JSON line an exchange, without keys: what `replay:FILE` reads and trajectories are made from."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, message_to_dict

from agents.chat_models.keys import scrub
from agents.chat_models.requests import digest_of, essence


class Transcript:
    """Appends exchanges to a file. Safe for threads.

    Args:
        file: Created with its directory on the first exchange.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()

    def add(
        self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]], answer: AIMessage, **about: Any
    ) -> None:  # Any: JSON schema; JSON
        """Append one exchange, with what else is known `about` it (role, call id, run, session, attempt)."""
        entry = {
            "id": digest_of(messages, tools),
            **about,
            "messages": [essence(message) for message in messages],
            "tools": [tool["function"]["name"] for tool in tools],
            "answer": message_to_dict(answer),
        }
        line = scrub(json.dumps(entry)) + "\n"
        with self._lock:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line)
