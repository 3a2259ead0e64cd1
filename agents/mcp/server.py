"""Build the MCP server: tools, resources and prompts over one home."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError

from agents.mcp import kernel_documents, runs
from agents.mcp.errors import is_expected
from agents.mcp.laboratory import Laboratory
from agents.mcp.limits import fits
from agents.mcp.tools import add_tools
from agents.prompts import render
from agents.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.context import Evaluator


def build_server(home: Path, *, reads_files: bool = True, evaluator: Evaluator | None = None) -> MCPServer[Any]:
    """Return a server whose state is opened when it starts and closed when it stops.

    Args:
        home: State directory.
        reads_files: Whether callers may name problems by a path on this machine.
        evaluator: Measures candidates; None: the local one.
    """
    holder: list[Laboratory] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncIterator[dict[str, Any]]:
        laboratory = Laboratory(home, reads_files=reads_files, evaluator=evaluator)
        holder.append(laboratory)
        try:
            yield {}
        finally:
            await laboratory.close()
            holder.remove(laboratory)

    server: MCPServer[Any] = MCPServer(
        "kernelevolve",
        version=_version(),
        instructions=render("mcp_instructions.md"),
        lifespan=lifespan,
        log_level="WARNING",
    )
    lazy = _Opened(holder)
    add_tools(server, lazy)  # type: ignore[arg-type]  # stands for the laboratory that the lifespan opens
    _add_resources(server, lazy)  # type: ignore[arg-type]  # the same
    _add_prompts(server)
    return server


class _Opened:
    """Stands for the laboratory that is open now: tools are registered before the server starts."""

    def __init__(self, holder: list[Laboratory]) -> None:
        self._holder = holder

    def __getattr__(self, name: str) -> Any:  # Any: whatever the laboratory has
        return getattr(self._holder[-1], name)


def _add_resources(server: MCPServer[Any], laboratory: Laboratory) -> None:
    async def answer(work: Callable[[], Any]) -> str:
        try:
            found = fits(await in_thread(work))
        except Exception as error:  # the outside begins here
            if is_expected(error):
                raise ResourceError(str(error)[:4000]) from error
            raise
        return found if isinstance(found, str) else json.dumps(found, indent=1)

    @server.resource("kevolve://kernel/{name}", mime_type="text/markdown")
    async def kernel(name: str) -> str:
        """A kernel document by the kernel's name: when to use it, why it is fast, its limits and its code."""
        return await answer(lambda: kernel_documents.find_kernel(laboratory.base(), name))

    @server.resource("kevolve://kernels/{target}", mime_type="application/json")
    async def kernel_list(target: str) -> str:
        """The kernel documents that a target sees, without code."""
        return await answer(lambda: kernel_documents.list_kernels(laboratory.base(), target))

    @server.resource("kevolve://run/{run_id}", mime_type="application/json")
    async def run(run_id: str) -> str:
        """A run with its nodes and result."""
        return await answer(lambda: runs.read_run(laboratory.store, run_id))

    @server.resource("kevolve://node/{node_id}", mime_type="application/json")
    async def node(node_id: str) -> str:
        """A node of a run with its source and verdict."""
        return await answer(lambda: runs.read_node(laboratory.store, node_id))

    @server.resource("kevolve://rules", mime_type="text/markdown")
    async def rules() -> str:
        """What a candidate must and must not do."""
        return render("rules.md")


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def optimise(problem: str, target: str = "cpu") -> str:
        """Search for a faster kernel of a problem, as the coder of a real search."""
        return render("mcp_optimise.md", problem=problem, target=target)

    @server.prompt()
    def repair(problem: str, source: str, verdict: str, target: str = "cpu") -> str:
        """Repair a candidate that was refused or is wrong."""
        return render("mcp_repair.md", problem=problem, source=source, verdict=verdict, target=target)


def _version() -> str:
    try:
        return metadata.version("kernelevolve")
    except metadata.PackageNotFoundError:
        return "0"
