"""A recorded run as a model: each request gets the answer that was recorded for it; nothing is asked of anybody."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from agents.chat_models.calls import CallOutcome, ModelCallError
from agents.chat_models.requests import ToolBinding, digest_of
from agents.errors import ModelError


class ReplayChatModel(ToolBinding):
    """Gives the answers of a transcript (JSON lines), or of every transcript in a directory."""

    file: Path
    _answers: dict[str, list[AIMessage]] = PrivateAttr(default_factory=dict)
    _given: Counter[str] = PrivateAttr(default_factory=Counter)

    def model_post_init(self, context: Any, /) -> None:
        """Read the recording."""
        super().model_post_init(context)
        try:
            for path in sorted(self.file.glob("*.jsonl")) if self.file.is_dir() else [self.file]:
                for line in path.read_text(encoding="utf-8").splitlines():
                    entry = json.loads(line)
                    (message,) = messages_from_dict([entry["answer"]])
                    assert isinstance(message, AIMessage)
                    self._answers.setdefault(entry["id"], []).append(message)
        except OSError as error:
            raise ModelError(f"cannot read the recording {self.file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise ModelError(f"{self.file} is not a recording of a run: {error}") from error

    @property
    def _llm_type(self) -> str:
        return "replay"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        name = digest_of(messages, kwargs.get("tools", []))
        answers = self._answers.get(name)
        if not answers:
            raise ModelCallError(
                f"the recording {self.file} holds no answer to request {name}: the run went another way than the recorded one",
                CallOutcome.UNANSWERED,
            )
        message = answers[min(self._given[name], len(answers) - 1)]
        self._given[name] += 1
        return ChatResult(generations=[ChatGeneration(message=message)])
