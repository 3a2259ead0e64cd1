"""What every `kevolve` command shares: exit codes, common options, and the one place where errors become text."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

EXIT_NO = 1
EXIT_MISUSE = 2
EXIT_MACHINE = 3
EXIT_INTERRUPTED = 130
_WIDTH_IN_FILES = 160
"""Columns of tables that go into a file or a pipe."""

Home = Annotated[Path | None, typer.Option("--home", help="State directory (default: KEVOLVE_HOME, else the user's data directory).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
KernelBench = Annotated[
    Path | None, typer.Option("--kernelbench", help="A KernelBench checkout, for problems named kernelbench:LEVEL/NUMBER.")
]


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turn our errors into one message on stderr and an exit code; bugs keep their traceback."""
    try:
        yield
    except (KeyboardInterrupt, typer.Exit, SystemExit):
        raise
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        fail(str(error), code)


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error of ours, None for a bug."""
    from agents.errors import AgentsError, ModelError, RunStoreError
    from evaluation.errors import EvaluationError
    from kb.errors import KnowledgeError
    from kb.errors import UnknownNameError as UnknownKnowledge
    from tools.errors import ProblemError, ToolsError, UnknownTargetError

    if isinstance(error, (ProblemError, UnknownTargetError, UnknownKnowledge)):
        return EXIT_MISUSE
    if isinstance(error, (RunStoreError, ModelError, ToolsError, KnowledgeError)):
        return EXIT_MACHINE
    if isinstance(error, (AgentsError, EvaluationError)):
        return EXIT_MISUSE
    return None


def fail(message: str, code: int) -> NoReturn:
    """Print one message on stderr and leave."""
    typer.echo(f"kevolve: {message}", err=True)
    raise typer.Exit(code)


def home_of(home: Path | None) -> Path:
    """Return the state directory."""
    from kb.home import default_home

    return (home if home is not None else default_home()).expanduser().absolute()


def stdout() -> Console:
    """Return the console for results; where no terminal says how wide it is, lines are long, so that paths stay whole."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH_IN_FILES)


def stderr() -> Console:
    """Return the console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True)


def print_json(data: object) -> None:
    """Print JSON on stdout."""
    typer.echo(json.dumps(data, indent=2))


def exact_target(name: str) -> str:
    """Return the exact name of a target; `auto` is the device here, `cuda` the architecture here or else sm_90."""
    from tools.targets.registry import get_target

    if name == "auto":
        from agents.workbench import resolve_target

        return resolve_target(name)
    return get_target(name).describe().name
