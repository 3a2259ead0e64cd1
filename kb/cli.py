"""The command `kb`: parses, calls one library function, prints. Each group of commands is a module of `kb/commands`.

Exit codes: 0 done, 1 the answer is no (nothing found, files failed, inconsistencies), 2 misuse, 3 environment (store, packages).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kb.commands import content, embedder, evaluate, experience, history, lint, overview, search, serve, transfer, upkeep, validity, watch
from kb.commands.console import EXIT_ENVIRONMENT, EXIT_MISUSE
from kb.errors import DocumentError, KnowledgeError, UnknownNameError
from kb.usage import GroupWithExamples, version_option

GROUPS = (
    content,
    watch,
    search,
    overview,
    history,
    validity,
    experience,
    upkeep,
    lint,
    embedder,
    transfer,
    evaluate,
    serve,
)
"""Modules with commands, in the order of `kb --help`."""

app = typer.Typer(
    name="kb",
    cls=GroupWithExamples,
    help="The knowledge base: put manuals, kernels and notes in, get the right paragraph out, with its source.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 the answer is no, 2 misuse, 3 environment. State lives under --home, else KEVOLVE_HOME.",
)


@app.callback()
def options(_: Annotated[bool, version_option("kb")] = False) -> None:
    pass


for module in GROUPS:
    app.add_typer(module.group)


def main() -> None:
    """Run the command; translate our errors into a message and an exit code."""
    try:
        app()
    except (UnknownNameError, DocumentError, ValueError) as err:
        _fail(err, EXIT_MISUSE)
    except KnowledgeError as err:
        _fail(err, EXIT_ENVIRONMENT)
    except KeyboardInterrupt:
        _fail("stopped; what was committed stays, run the same command again to go on", 130)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None


def _fail(err: object, code: int) -> None:
    print(f"kb: {err}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
