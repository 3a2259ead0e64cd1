"""Known coders by name. Adding one is a file and a line here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agents.coders.base import Coder
from agents.config import ModelOptions, RunConfig
from agents.errors import OptionError, UnknownNameError
from tools.types import Candidate

if TYPE_CHECKING:
    from agents.advisers import Advisers
    from agents.chat_models.transcript import Transcript


def _library(options: ModelOptions, home: Path) -> Coder:
    from agents.coders.library import LibraryCoder

    return LibraryCoder()


def _llm(options: ModelOptions, home: Path) -> Coder:
    from agents.chat_models.registry import create_client
    from agents.coders.library import LibraryCoder
    from agents.coders.llm import LlmCoder
    from agents.coders.work import work_of
    from tools.targets.registry import get_target

    def lint(candidate: Candidate, target: str) -> tuple[str, ...]:
        return tuple(str(finding) for finding in get_target(target).lint(candidate))

    return LlmCoder(create_client(options, "coder", home, _transcript(home)), lint=lint, describe=LibraryCoder().signature, amounts=work_of)


def _reference(options: ModelOptions, home: Path) -> Coder:
    from agents.coders.reference import ReferenceCoder

    return ReferenceCoder()


def _outside(options: ModelOptions, home: Path) -> Coder:
    raise OptionError("candidates of this run come from an outside agent: start `kevolve mcp` and call its tool start_run or resume_run")


OUTSIDE = "outside"
"""The coder of runs that `kevolve mcp` started; nobody chooses it by name."""
CODERS: dict[str, Callable[[ModelOptions, Path], Coder]] = {"library": _library, "llm": _llm, OUTSIDE: _outside, "reference": _reference}


def create_advisers(config: RunConfig, home: Path) -> Advisers | None:
    """Build the models of the roles beside the coder's; None if the run has none.

    Raises:
        ModelError: A chat model cannot be set up.
    """
    if not config.role_models:
        return None
    from agents.advisers import Advisers
    from agents.chat_models.registry import create_client
    from agents.coders.work import work_of

    clients = {role: create_client(options, role, home, _transcript(home)) for role, options in config.role_models.items()}
    return Advisers(clients, work_of)


def _transcript(home: Path) -> Transcript:
    from agents.chat_models.transcript import Transcript

    return Transcript(home / "transcripts" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl")


def create_coder(name: str, options: ModelOptions, home: Path) -> Coder:
    """Build a coder.

    Args:
        name: A key of `CODERS`.
        options: The chat model, for coders that use one.
        home: State directory.

    Raises:
        UnknownNameError: No such coder; the message lists the known ones.
        ModelError: The chat model cannot be set up.
    """
    if name not in CODERS:
        raise UnknownNameError(f"unknown coder {name!r}; known: {', '.join(sorted(CODERS.keys() - {OUTSIDE}))}")
    return CODERS[name](options, home)
