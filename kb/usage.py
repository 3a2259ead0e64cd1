"""How the commands `kb` and `kevolve` answer a call that cannot be understood: with what is wrong, and with the command's own example."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import typer
from typer.core import TyperGroup


class GroupWithExamples(TyperGroup):
    """A group of commands; the error of a call that lacks or misspells something ends with the command's epilog, its examples."""

    def invoke(
        self, ctx: Any
    ) -> Any:  # Any: typer's context, whose class is private since it carries its own click; what a command returns
        """Run the command; see `typer.core.TyperGroup`."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            command = getattr(getattr(error, "ctx", None), "command", None)  # errors of usage alone have a context
            if command not in (None, self) and getattr(command, "epilog", None):
                error.show = functools.partial(_show, error.show, command.epilog)  # type: ignore[attr-defined]  # how click prints an error
            raise


def version_option(command: str) -> Any:  # Any: what typer takes as the description of a parameter
    """Return the option `--version`: print the command, its version and Python's, and leave."""

    def tell(is_wanted: bool) -> None:
        if is_wanted:
            typer.echo(f"{command} {metadata.version('kernelevolve')}, Python {platform.python_version()}")
            raise typer.Exit

    return typer.Option("--version", callback=tell, is_eager=True, help="Print the version and leave.")


def _show(show: Callable[..., None], examples: str, file: Any = None) -> None:  # Any: a text stream
    show(file)
    typer.echo(f"\n{examples}", file=file, err=file is None)
