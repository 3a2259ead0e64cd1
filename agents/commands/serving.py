"""The command that serves evaluations to other machines. Progress and errors go to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import Home, errors, exact_target, home_of, stderr

group = typer.Typer()


@group.command(
    epilog="Examples: kevolve serve --target cuda; kevolve serve --host 0.0.0.0 --token-file ~/.kevolve-token. On another machine: "
    "KEVOLVE_SERVICE_TOKEN=$(cat token) kevolve run examples/masked_softmax.py --target cuda --evaluator http://gpu-host:8378"
)
def serve(
    target: Annotated[str, typer.Option(help="What its slots are: auto, cpu, cuda, or an exact one.")] = "auto",
    slots: Annotated[int, typer.Option(min=0, help="Evaluations at a time; 0: one per accelerator, one for all cores.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is required.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free port.")] = 8378,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token, readable by its owner alone. Default: KEVOLVE_SERVICE_TOKEN.")
    ] = None,
    queue_limit: Annotated[int, typer.Option(min=1, help="Jobs that may wait; more are turned away with 429.")] = 10_000,
    eager_only: Annotated[
        bool, typer.Option("--eager-only", help="Leave out the torch.compile baseline: verdicts come sooner, fitness is over eager alone.")
    ] = False,
    home: Home = None,
) -> None:
    """Evaluate candidates for other machines; jobs that were accepted survive this process."""
    with errors():
        import os

        from agents.errors import OptionError
        from agents.serving.jobs import JobQueue
        from agents.serving.pool import local_pool
        from agents.serving.service import TOKEN_VARIABLE, make_app, run_app
        from kb.server.security import Access, read_token
        from tools.slots import find_slots

        place, exact = home_of(home), exact_target(target)
        token = read_token(token_file) if token_file else os.environ.get(TOKEN_VARIABLE) or None
        try:
            access = Access(host, token)
        except ValueError as err:
            raise OptionError(str(err).replace("KEVOLVE_KB_TOKEN", TOKEN_VARIABLE)) from err
        chosen = find_slots(exact, slots)
        queue = JobQueue(place / "service" / "jobs.db", limit=queue_limit)
        try:
            with local_pool(place, chosen, use_compiled_baseline=not eager_only) as pool:
                waiting = queue.counts().get("queued", 0)
                run_app(
                    make_app(queue, pool, access), host, port,
                    lambda url: stderr().print(
                        f"serving {exact} on {', '.join(slot.name for slot in chosen)} at {url}; {waiting} jobs wait", markup=False, highlight=False, soft_wrap=True
                    ),
                )  # fmt: skip
        finally:
            queue.close()
