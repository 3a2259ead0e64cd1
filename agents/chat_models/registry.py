"""Chat models by name: `provider:name` through langchain, any OpenAI-compatible server, a spool directory, a recorded run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel

from agents.chat_models.client import ChatClient
from agents.chat_models.keys import scrub
from agents.chat_models.openai_compatible import OpenAICompatibleChatModel
from agents.chat_models.prices import DEFAULT_OUTPUT_TOKENS, PriceTable
from agents.chat_models.replay import ReplayChatModel
from agents.chat_models.spool import SpoolChatModel
from agents.chat_models.transcript import Transcript
from agents.config import ModelOptions
from agents.errors import ModelError, OptionError


def create_client(options: ModelOptions, role: str, home: Path | None = None, transcript: Transcript | None = None) -> ChatClient:
    """Build what asks a model in one role: the model with its limits, price, retries and transcript.

    Raises:
        OptionError: The name is of no known form, an option is missing, or the price table is unusable.
        ModelError: A package or key is missing, or the recording cannot be read.
    """
    if options.stream is None:
        options = dataclasses.replace(options, stream=options.name == "openai-compatible")
    return ChatClient(
        create_chat_model(options), options, role=role, price=PriceTable.load(home).find(_priced_name(options)), transcript=transcript
    )


def create_chat_model(options: ModelOptions) -> BaseChatModel:
    """Build a chat model.

    Raises:
        OptionError: The name is of no known form, or an option is missing.
        ModelError: A package or key is missing, or the recording cannot be read.
    """
    kind, _, rest = options.name.partition(":")
    if kind == "spool" and rest:
        return SpoolChatModel(directory=Path(rest).expanduser(), timeout_s=options.timeout_s)
    if kind == "replay" and rest:
        return ReplayChatModel(file=Path(rest).expanduser())
    if options.name == "openai-compatible":
        if not options.base_url:
            raise OptionError("--model openai-compatible needs --base-url, for example http://localhost:8000/v1")
        return OpenAICompatibleChatModel(
            base_url=options.base_url.rstrip("/"),
            model_id=options.model_id,
            timeout_s=options.timeout_s,
            max_tokens=options.max_output_tokens or None,
            temperature=options.temperature,
        )
    if kind and rest:
        return _from_langchain(options)
    raise OptionError(f"unknown model {options.name!r}; known forms: provider:name, openai-compatible, spool:DIR, replay:FILE")


def _priced_name(options: ModelOptions) -> str:
    return options.model_id or options.name if options.name == "openai-compatible" else options.name


def _from_langchain(options: ModelOptions) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise ModelError(
            f"--model {options.name} needs langchain: pip install langchain and the provider's package, for example langchain-openai"
        ) from error
    # Tries are counted in the ledger, so that the provider's package must make one only.
    more: dict[str, Any] = {
        "timeout": options.timeout_s,
        "max_retries": 0,
        "max_tokens": options.max_output_tokens or DEFAULT_OUTPUT_TOKENS,
    }
    if options.base_url:
        more["base_url"] = options.base_url
    if options.temperature is not None:
        more["temperature"] = options.temperature
    try:
        model = init_chat_model(options.name, **more)
    except ImportError as error:
        raise ModelError(f"--model {options.name} needs a package that is not installed: {error}") from error
    except Exception as error:  # providers raise errors of their own for a missing key or an unknown name
        raise ModelError(scrub(f"--model {options.name} cannot be set up: {error}")[:1000]) from error
    assert isinstance(model, BaseChatModel)
    return model
