"""The Python client of `kb serve`: the same questions as on a `KnowledgeBase`, answered by a running server. Standard library only.

```python
from kb.client import KnowledgeClient

with KnowledgeClient("http://127.0.0.1:8377", token="…") as client:
    result = client.query("shared memory per block", filters=Filters(target="cuda:sm_90"))
    brief = client.ask("why is my layer norm slow?")
```
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from kb import errors
from kb.discovery import code_stamp, running
from kb.errors import KnowledgeError, StoreError
from kb.home import server_token
from kb.types import Filters, QueryResult, TreeNode
from kb.wire import decode, encode

if TYPE_CHECKING:
    from kb.brief import Brief

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 600.0


class ServerUnreachable(KnowledgeError):
    """No server answers at the address, something else does, or it refuses to talk to us."""


class KnowledgeClient:
    """Talks to one server over one kept connection; not for several threads at once.

    Args:
        url: Address of the server.
        token: What it demands; None: `KEVOLVE_KB_TOKEN`, if set.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"not the address of a server: {url!r}; write http://HOST:PORT")
        self._token = token if token is not None else server_token()
        self._timeout_s = timeout_s
        self._root = address.path.rstrip("/")
        if address.scheme == "https":
            import ssl

            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.hostname, address.port, timeout=CONNECT_TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=CONNECT_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> KnowledgeClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Questions

    def query(
        self,
        query: str,
        top_k: int = 8,
        filters: Filters | None = None,
        explain: bool = False,
        *,
        mode: str = "hybrid",
        infer_target: bool = True,
    ) -> QueryResult:
        """Return what `KnowledgeBase.query` returns.

        Raises:
            ServerUnreachable: No server answers.
            KnowledgeError: As `KnowledgeBase.query` raises them.
            ValueError: The server refuses the arguments.
        """
        body = {
            "query": query,
            "top_k": top_k,
            "filters": encode(filters or Filters()),
            "explain": explain,
            "mode": mode,
            "infer_target": infer_target,
        }
        return decode(QueryResult, self._call("POST", "/v1/query", body))

    def ask(self, question: str, filters: Filters | None = None) -> Brief:
        """Return what `DeepSearch.ask` returns; raises as `query` does."""
        from kb.brief import Brief

        return decode(Brief, self._call("POST", "/v1/ask", {"question": question, "filters": encode(filters or Filters())}))

    def tree(self, depth: int = 2) -> tuple[TreeNode, ...]:
        """Return what `KnowledgeBase.tree` returns."""
        return tuple(decode(TreeNode, node) for node in self._call("GET", f"/v1/tree?{urlencode({'depth': depth})}")["nodes"])

    def chunk(self, chunk_id: str) -> dict[str, Any]:  # Any: JSON of kb.lookup
        """Return a chunk with its document's title, source and trust."""
        return self._call("GET", f"/v1/chunks/{quote(chunk_id, safe='')}")

    def section(self, section_id: str) -> dict[str, Any]:  # Any: JSON of kb.lookup
        """Return a section with the ids of its children and chunks."""
        return self._call("GET", f"/v1/sections/{quote(section_id, safe='')}")

    def document(self, identifier: str) -> dict[str, Any]:  # Any: JSON of kb.lookup
        """Return a document, by id or source, with its outline and chunks."""
        return self._call("GET", f"/v1/documents/{quote(identifier, safe='')}")

    def stats(self) -> dict[str, Any]:  # Any: JSON
        """Return counts, the embedder and the size of the store."""
        return self._call("GET", "/v1/stats")

    def health(self) -> dict[str, Any]:  # Any: JSON
        """Return whether the server is up and warm; needs no token."""
        return self._call("GET", "/health")

    def ingest(
        self,
        paths: Sequence[str | Path],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,  # Any: front matter values
    ) -> dict[str, Any]:  # Any: JSON
        """Let the server bring in files of its machine; only below the directories that it allows."""
        body = {
            "paths": [str(path) for path in paths],
            "include": list(include),
            "exclude": list(exclude),
            "defaults": dict(defaults or {}),
        }
        return self._call("POST", "/v1/ingest", body)

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:  # Any: JSON
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, ensure_ascii=False).encode()
        status, answer = self._exchange(method, self._root + path, data, headers)
        if status == 200 and isinstance(answer, dict):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict) or "message" not in error:
            raise ServerUnreachable(f"what answers there is no `kb serve` (HTTP {status})")
        raise _error(status, str(error.get("type", "")), str(error["message"]))

    def _exchange(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:  # Any: JSON
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                if fresh:
                    self._connection.connect()
                    self._connection.sock.settimeout(self._timeout_s)
                self._connection.request(method, path, data, dict(headers))
                response = self._connection.getresponse()
                return response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException) as err:
                self._connection.close()
                if fresh or attempt == 2:  # a kept connection may have been closed by the server in the meantime
                    raise ServerUnreachable(f"no answer from {self._connection.host}:{self._connection.port}: {err}") from err
            except ValueError as err:
                self._connection.close()
                raise ServerUnreachable(f"what answers there is no `kb serve`: {err}") from err
        raise AssertionError("unreachable")


def connect(home: Path, catalogue: str) -> KnowledgeClient | None:
    """Return a client of the server that serves this catalogue from this home, if there is one of the same version of the program."""
    record = running(home / "kb")
    if record is None or record.catalogue != catalogue or record.code != code_stamp():
        return None
    token = None
    if record.token_file:
        try:
            token = Path(record.token_file).read_text(encoding="utf-8").strip()
        except OSError:
            return None
    return KnowledgeClient(record.url, token)


def _error(status: int, kind: str, message: str) -> Exception:
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, KnowledgeError):
        return StoreError(message) if known is errors.DocumentError else known(message)
    return ValueError(message) if kind == "ValueError" else ServerUnreachable(f"the server refuses (HTTP {status}): {message}")
