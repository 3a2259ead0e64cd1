"""Any embeddings endpoint that speaks OpenAI's protocol (`POST <base URL>/embeddings`): vLLM, llama.cpp, text-embeddings-inference, Ollama, OpenAI itself.

The weights are out of reach, so the index records a probe in place of their hash: the vector of a fixed text. A server that answers with another model under
the same name is noticed. The key comes from the environment and is neither recorded nor printed.

Protocol: https://platform.openai.com/docs/api-reference/embeddings (read November 2026).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlparse

from kb.embedders.base import PROBE_TEXT, EmbedderIdentity, probe_hash
from kb.errors import StoreError
from kb.home import embeddings_address, embeddings_key

if TYPE_CHECKING:
    import httpx

    from kb.embedders.base import Vectors
    from kb.embedders.tokenizer import WordPiece

log = logging.getLogger(__name__)

BATCH_TEXTS = 64
BATCH_CHARACTERS = 200_000
TIMEOUT_S = 120.0
ATTEMPTS = 6
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
CHARACTERS_PER_TOKEN = 3
"""Cautious guess where no tokenizer is installed; English prose has about 4."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served and how it wants its texts."""

    model: str
    base_url: str
    """Address that `/embeddings` is put behind, for example `http://localhost:8080/v1`."""
    max_tokens: int = 256
    """Longest input; the endpoint does not tell."""
    dimensions: int | None = None
    """Asked for if set, for models that can shorten their vectors."""
    document: str = ""
    """Put before documents, as the model's card says."""
    query: str = ""
    """Put before queries."""

    @staticmethod
    def parse(argument: str) -> Endpoint:
        """Read `MODEL@URL#max_tokens=512&dimensions=256&document=passage: &query=query: `; without a URL, `KEVOLVE_EMBEDDINGS_URL` says it.

        Raises:
            ValueError: Model or address are missing, or an option is unknown or no number.
        """
        head, _, fragment = argument.partition("#")
        model, separator, url = head.partition("@http")
        address = f"http{url}" if separator else (embeddings_address() or "")
        if not model or not urlparse(address).hostname:
            raise ValueError(
                f"cannot read the embedder 'openai-compatible:{argument}'; write openai-compatible:MODEL@URL, or give --base-url or KEVOLVE_EMBEDDINGS_URL"
            )
        options = dict(parse_qsl(fragment, keep_blank_values=True))
        unknown = sorted(options.keys() - {"max_tokens", "dimensions", "document", "query"})
        if unknown:
            raise ValueError(f"unknown options {unknown} of 'openai-compatible:'; known: max_tokens, dimensions, document, query")
        try:
            max_tokens = int(options.get("max_tokens", "256"))
            dimensions = int(options["dimensions"]) if "dimensions" in options else None
        except ValueError as err:
            raise ValueError(f"max_tokens and dimensions of 'openai-compatible:' are numbers, got {fragment!r}") from err
        return Endpoint(model, address.rstrip("/"), max_tokens, dimensions, options.get("document", ""), options.get("query", ""))


class OpenAiCompatibleEmbedder:
    """Asks an endpoint, in batches, with retries.

    Args:
        endpoint: Where and how.
        sleep: Waits between attempts; seconds.
    """

    def __init__(self, endpoint: Endpoint, sleep: Callable[[float], None] = time.sleep) -> None:
        self._endpoint = endpoint
        self._sleep = sleep
        self.max_tokens = endpoint.max_tokens

    @cached_property
    def identity(self) -> EmbedderIdentity:
        """What the index records. Embeds one text."""
        vector = self._embed([self._endpoint.document + PROBE_TEXT])[0]
        prefix = f"{self._endpoint.document}|{self._endpoint.query}"
        return EmbedderIdentity(self._endpoint.model, probe_hash(vector), len(vector), "" if prefix == "|" else prefix)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""
        import numpy as np

        rows: list[Vectors] = []
        batch: list[str] = []
        for text in texts:
            if batch and (len(batch) == BATCH_TEXTS or sum(map(len, batch)) + len(text) > BATCH_CHARACTERS):
                rows.append(self._embed(batch))
                batch = []
            batch.append(self._endpoint.document + text)
        if batch:
            rows.append(self._embed(batch))
        return np.concatenate(rows) if rows else np.zeros((0, self.identity.dimension), dtype=np.float32)

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (dimension,)."""
        vector: Vectors = self._embed([self._endpoint.query + text])[0]
        return vector

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text by the packaged tokenizer, which stands in for the endpoint's."""
        if self._tokenizer is None:
            return [-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts]
        return self._tokenizer.count(texts)

    @cached_property
    def _tokenizer(self) -> WordPiece | None:
        from kb.embedders.tokenizer import WordPiece, find_tokenizer

        try:
            return WordPiece(find_tokenizer(), self.max_tokens)
        except StoreError:
            return None

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        key = embeddings_key()
        return httpx.Client(timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {key}"} if key else {})

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the unit vectors of one batch; halves it if the endpoint finds it too large."""
        import numpy as np

        body: dict[str, Any] = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "float"}  # Any: JSON
        if self._endpoint.dimensions is not None:
            body["dimensions"] = self._endpoint.dimensions
        response = self._post(body)
        if response.status_code == 413 and len(texts) > 1:
            half = len(texts) // 2
            return np.concatenate([self._embed(texts[:half]), self._embed(texts[half:])])
        if response.status_code != 200:
            raise StoreError(f"{self._place} answers {response.status_code}: {_reason(response)}; {_advice(response.status_code)}")
        return self._vectors(response, len(texts))

    def _vectors(self, response: httpx.Response, number: int) -> Vectors:
        import numpy as np

        try:
            items = sorted(response.json()["data"], key=lambda item: int(item["index"]))
            matrix = np.asarray([item["embedding"] for item in items], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as err:
            raise StoreError(f"{self._place} does not speak OpenAI's protocol: {response.text[:200]!r}") from err
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True) if matrix.ndim == 2 else np.zeros(1)
        if matrix.ndim != 2 or len(matrix) != number or not np.isfinite(matrix).all() or not (lengths > 0).all():
            raise StoreError(f"{self._place} returned unusable vectors: {len(items)} for {number} texts, shape {matrix.shape}")
        unit: Vectors = (matrix / lengths).astype(np.float32)
        return unit

    def _post(self, body: dict[str, Any]) -> httpx.Response:  # Any: JSON
        import httpx

        wait_s = FIRST_WAIT_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._client.post(f"{self._endpoint.base_url}/embeddings", json=body)
            except httpx.HTTPError as err:
                if attempt == ATTEMPTS:
                    raise StoreError(f"{self._place} cannot be reached: {err}; start it, or choose another --embedder") from err
                log.info("%s: %s; attempt %d of %d", self._place, err, attempt, ATTEMPTS)
            else:
                if response.status_code not in RETRIED or attempt == ATTEMPTS:
                    return response
                asked = response.headers.get("Retry-After", "")
                wait_s = min(float(asked), LONGEST_WAIT_S) if asked.replace(".", "", 1).isdigit() else wait_s
            self._sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise AssertionError("the last attempt returns or raises")

    @property
    def _place(self) -> str:
        return f"the embeddings endpoint {self._endpoint.base_url!r}"


def _reason(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def _advice(status: int) -> str:
    if status in (401, 403):
        return "set KEVOLVE_EMBEDDINGS_KEY"
    if status == 404:
        return "check the address (it usually ends in /v1) and the name of the model"
    if status in (400, 413, 422):
        return "the texts may be too long for the model: lower max_tokens in the embedder's name, as in MODEL@URL#max_tokens=256"
    return "try again later"
