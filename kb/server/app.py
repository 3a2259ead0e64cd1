"""The HTTP application: a JSON API over one open base, and MCP at `/mcp`. Models and vectors stay in memory; every request sees what is committed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kb.errors import DocumentError, EmbedderMismatch, KnowledgeError, UnknownNameError
from kb.lookup import find_chunk, find_document, find_section
from kb.server.mcp import make_server
from kb.server.security import Access, BodyTooLargeError, Guard
from kb.types import Filters
from kb.wire import encode

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

log = logging.getLogger(__name__)

CONCURRENT_QUESTIONS = 8
"""Questions answered at once; more wait."""

IngestPaths = Callable[["IngestBody"], Mapping[str, Any]]
"""Brings allowed paths in and returns the report; raises `PermissionError` for others."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known_filters(value: Any) -> Any:  # Any: JSON on its way into `Filters`
    """Refuse filters that do not exist: pydantic would leave them out, and nothing would be restricted."""
    known = [field.name for field in dataclasses.fields(Filters)]
    unknown = sorted(set(value) - set(known)) if isinstance(value, dict) else []
    if unknown:
        raise ValueError(f"unknown filter {unknown[0]!r}; known: {', '.join(known)}")
    return value


FiltersBody = Annotated[Filters, BeforeValidator(_known_filters)]


class QueryBody(_Body):
    """Body of `POST /v1/query`."""

    query: str
    top_k: Annotated[int, Field(ge=1, le=1000)] = 8
    filters: FiltersBody = Filters()
    explain: bool = False
    mode: str = "hybrid"
    infer_target: bool = True


class AskBody(_Body):
    """Body of `POST /v1/ask`."""

    question: str
    filters: FiltersBody = Filters()


class IngestBody(_Body):
    """Body of `POST /v1/ingest`."""

    paths: Annotated[list[str], Field(min_length=1, max_length=1000)]
    include: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)
    defaults: dict[str, Any] = Field(default_factory=dict)  # Any: front matter values


def make_app(base: KnowledgeBase, access: Access, ingest: IngestPaths | None = None, version: str = "") -> Starlette:
    """Return the application.

    Args:
        base: An open base; the caller closes it.
        access: Who may talk to it.
        ingest: Carries out `POST /v1/ingest`; None: refused.
        version: Of the program.
    """
    service = _Service(base, ingest, version)
    from mcp.server.transport_security import TransportSecuritySettings

    mcp_app = make_server(lambda: base, version).streamable_http_app(
        json_response=True,
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does it for every route
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with mcp_app.router.lifespan_context(mcp_app), anyio.create_task_group() as group:
            group.start_soon(service.warm_up)
            yield
            group.cancel_scope.cancel()

    routes = [
        Route("/health", service.health),
        Route("/v1/query", service.query, methods=["POST"]),
        Route("/v1/ask", service.ask, methods=["POST"]),
        Route("/v1/ingest", service.ingest, methods=["POST"]),
        Route("/v1/tree", service.tree),
        Route("/v1/stats", service.stats),
        Route("/v1/chunks/{identifier}", service.chunk),
        Route("/v1/sections/{identifier}", service.section),
        Route("/v1/documents/{identifier:path}", service.document),
        *mcp_app.routes,
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _unexpected}  # Any: starlette's own type of this mapping
    handlers |= dict.fromkeys((KnowledgeError, ValueError, PermissionError), _our_error)
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(Guard, access=access)], exception_handlers=handlers)


class _Service:
    """The handlers over one base."""

    def __init__(self, base: KnowledgeBase, ingest: IngestPaths | None, version: str) -> None:
        self._base = base
        self._ingest = ingest
        self._version = version
        self._is_warm = False
        self._limiter: anyio.CapacityLimiter | None = None

    async def warm_up(self) -> None:
        """Load the embedder, the vectors and the words, so that the first question does not wait for them."""
        try:
            await self._run(lambda: self._base.query("warm up"))
            await self._run(self._base.warm_up)
        except KnowledgeError as err:
            log.warning("not warm: %s", err)
        self._is_warm = True

    async def health(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "warm": self._is_warm, "version": self._version})

    async def query(self, request: Request) -> JSONResponse:
        body = await _parsed(QueryBody, request)
        return await self._answer(
            lambda: self._base.query(body.query, body.top_k, body.filters, body.explain, mode=body.mode, infer_target=body.infer_target)
        )

    async def ask(self, request: Request) -> JSONResponse:
        from kb.deep_search import DeepSearch

        body = await _parsed(AskBody, request)
        return await self._answer(lambda: DeepSearch(self._base).ask(body.question, body.filters))

    async def ingest(self, request: Request) -> JSONResponse:
        body = await _parsed(IngestBody, request)
        run = self._ingest
        if run is None:
            raise PermissionError("this server takes nothing in; start it with --allow-ingest DIR")
        return await self._answer(lambda: run(body))

    async def tree(self, request: Request) -> JSONResponse:
        text = request.query_params.get("depth", "2")
        if not text.isdigit() or not 1 <= int(text) <= 8:
            raise ValueError(f"depth must be 1 to 8, got {text!r}")
        return await self._answer(lambda: {"nodes": self._base.tree(int(text))})

    async def stats(self, request: Request) -> JSONResponse:
        return await self._answer(self._base.stats)

    async def chunk(self, request: Request) -> JSONResponse:
        return await self._answer(lambda: find_chunk(self._base, request.path_params["identifier"]))

    async def section(self, request: Request) -> JSONResponse:
        return await self._answer(lambda: find_section(self._base, request.path_params["identifier"]))

    async def document(self, request: Request) -> JSONResponse:
        return await self._answer(lambda: find_document(self._base, request.path_params["identifier"]))

    async def _answer(self, work: Callable[[], Any]) -> JSONResponse:  # Any: what wire.encode takes
        return JSONResponse(await self._run(lambda: encode(work())), headers={"Cache-Control": "no-store"})

    async def _run(self, work: Callable[[], Any]) -> Any:  # Any: what the work returns
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(CONCURRENT_QUESTIONS)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


async def _parsed(kind: type[Any], request: Request) -> Any:  # Any: a body model
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send Content-Type: application/json")
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as err:
        raise ValueError("; ".join(_problem(item) for item in err.errors(include_input=False, include_url=False))) from err


def _problem(error: Any) -> str:  # Any: pydantic's ErrorDetails
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def _failure(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"type": kind, "message": message}}, status_code=status)


async def _our_error(request: Request, err: Exception) -> JSONResponse:
    status = 503
    if isinstance(err, UnknownNameError):
        status = 404
    elif isinstance(err, ValueError | DocumentError):
        status = 400
    elif isinstance(err, PermissionError):
        status = 403
    elif isinstance(err, EmbedderMismatch):
        status = 409
    kind = "ValueError" if isinstance(err, ValueError) else type(err).__name__
    return _failure(status, kind, str(err))


async def _http_error(request: Request, err: HTTPException) -> JSONResponse:
    return _failure(err.status_code, "HTTPException", str(err.detail))


async def _unexpected(request: Request, err: Exception) -> JSONResponse:
    if isinstance(err, BodyTooLargeError):
        raise err
    log.error("a request failed", exc_info=err)
    return _failure(500, "InternalError", "the server failed; its log says why")
