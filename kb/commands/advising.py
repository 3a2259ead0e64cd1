"""The language model of `kb ask --model`: a chat model of `agents`, asked as an advisor of deep search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.errors import KnowledgeError

if TYPE_CHECKING:
    from kb.deep.advisor import PromptedAdvisor

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A language model that rewrites the question and judges passages: provider:name, openai-compatible, spool:DIR or replay:FILE (default: rules alone).",
    ),
]
ModelUrlOption = Annotated[str | None, typer.Option("--base-url", help="Address of the server for --model openai-compatible.")]
ModelIdOption = Annotated[str | None, typer.Option("--model-id", help="The model's name at that server (default: the first it lists).")]
RecordOption = Annotated[
    Path | None, typer.Option("--record", help="Append what was sent and received to this file; replay:FILE reads it.")
]


@contextlib.contextmanager
def advised(model: str | None, base_url: str | None, model_id: str | None, record: Path | None) -> Iterator[PromptedAdvisor | None]:
    """Yield an advisor over a chat model; None without one.

    Raises:
        KnowledgeError: The model cannot be set up, reached or used; the message says why.
        ValueError: An option of a model without a model, or a name that is none.
    """
    if model is None:
        if base_url or model_id or record:
            raise ValueError("--base-url, --model-id and --record go with --model, for example --model openai-compatible")
        yield None
        return
    try:
        from agents.errors import AgentsError, OptionError
    except ImportError as err:
        raise KnowledgeError(f"--model needs a package that is not installed: {err}") from err
    try:
        with _asked(model, base_url, model_id, record) as advisor:
            yield advisor
    except OptionError as err:
        raise ValueError(str(err)) from err
    except AgentsError as err:
        raise KnowledgeError(f"the model {model!r} did not help: {err}; without --model the search goes by rules") from err


@contextlib.contextmanager
def _asked(model: str, base_url: str | None, model_id: str | None, record: Path | None) -> Iterator[PromptedAdvisor]:
    try:
        from langchain_core.messages import HumanMessage

        from agents.chat_models.registry import create_client
        from agents.chat_models.sizes import text_of
        from agents.chat_models.transcript import Transcript
        from agents.config import ModelOptions
    except ImportError as err:
        raise KnowledgeError(f"--model needs a package that is not installed: {err}") from err
    import asyncio

    from kb.deep.advisor import PromptedAdvisor

    options = ModelOptions(name=model, base_url=base_url or "", model_id=model_id or "")
    client = create_client(options, "deep_search", transcript=Transcript(record) if record else None)
    with asyncio.Runner() as runner:  # one loop for all requests: a provider's connections belong to theirs

        def complete(prompt: str) -> str:
            return text_of(runner.run(client.ask([HumanMessage(prompt)])))

        yield PromptedAdvisor(complete)
