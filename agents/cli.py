"""The command `kevolve`: each group of commands is a module of `agents/commands`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from agents.commands import comparing, compiling, learning, machine, measuring, people, profiling, runs, searching, serving
from agents.mcp import cli as mcp
from kb.usage import GroupWithExamples, version_option

GROUPS = (searching, runs, people, comparing, measuring, profiling, compiling, learning, serving, machine, mcp)
"""Modules with commands, in the order of `kevolve --help`."""

app = typer.Typer(
    name="kevolve",
    cls=GroupWithExamples,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search for faster kernels, and prove that they are.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 misuse, 3 the machine or the set-up, 130 interrupted (the run can be resumed).",
)


@app.callback()
def options(_: Annotated[bool, version_option("kevolve")] = False) -> None:
    pass


for module in GROUPS:
    app.add_typer(module.group)


class _Once(logging.Filter):
    """Lets a warning through the first time that it is said: what holds for every candidate of a run is told once. Errors always pass."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is new."""
        record.levelname_lower = record.levelname.lower()
        text = record.getMessage()
        is_new = record.levelno > logging.WARNING or text not in self._said
        self._said.add(text)
        return is_new


def main() -> None:
    """Entry point of the command `kevolve`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("kevolve: %(levelname_lower)s: %(message)s"))
    handler.addFilter(_Once())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    app()


if __name__ == "__main__":
    main()
