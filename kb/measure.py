"""Measure retrieval on a suite in BEIR form (Thakur et al. 2021): `corpus.jsonl`, `queries.jsonl`, `qrels.tsv`.

The suite goes through the same store, chunker and search as everything else, in a base of its own. Metrics come from ir-measures. A document's rank is that of
its best chunk. Significance: paired randomisation test on nDCG@10 per query, two-sided (Smucker et al. 2007), 10,000 sign flips from a fixed seed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.errors import DocumentError, StoreError
from kb.retrieval import MODES
from kb.store import Incoming, KnowledgeBase
from kb.types import Document, Kind, Section

BATCH_DOCUMENTS = 256
DEPTH = 100
METRICS = ("nDCG@10", "R@10", "R@100", "RR@10")
NUM_FLIPS = 10_000


@dataclass(frozen=True)
class ModeReport:
    """One way of searching on one suite."""

    mode: str
    metrics: Mapping[str, float]
    p_value: float | None
    """Of the difference in nDCG@10 to the default mode `hybrid`; None for `hybrid` itself."""
    latency_ms: Mapping[str, float]
    """Percentiles of a whole query, `p50`, `p95`, `p99`."""


@dataclass(frozen=True)
class SuiteReport:
    """Retrieval quality on one suite."""

    suite: str
    num_documents: int
    num_queries: int
    num_chunks: int
    embedder: str
    embedder_latency_ms: float
    """Median time of embedding one query, part of every latency but that of `lexical`."""
    modes: tuple[ModeReport, ...]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        modes = {
            mode.mode: {"metrics": dict(mode.metrics), "p_value": mode.p_value, "latency_ms": dict(mode.latency_ms)} for mode in self.modes
        }
        return {**self.__dict__, "modes": modes}

    def to_text(self) -> str:
        """Return a table."""
        lines = [
            f"{self.suite}: {self.num_documents} documents, {self.num_chunks} chunks, {self.num_queries} queries, embedder {self.embedder} "
            f"({self.embedder_latency_ms:.1f} ms a query)",
            f"{'mode':10s}" + "".join(f"{name:>10s}" for name in METRICS) + f"{'p':>9s}{'p50 ms':>9s}{'p99 ms':>9s}",
        ]
        for mode in self.modes:
            p_value = "" if mode.p_value is None else f"{mode.p_value:.4f}"
            numbers = "".join(f"{mode.metrics[name]:10.4f}" for name in METRICS)
            lines.append(f"{mode.mode:10s}{numbers}{p_value:>9s}{mode.latency_ms['p50']:9.1f}{mode.latency_ms['p99']:9.1f}")
        return "\n".join(lines)


def measure(
    suite: Path,
    home: Path | None = None,
    embedder: str | None = None,
    limit: int | None = None,
    on_progress: Callable[[Any], None] | None = None,
) -> SuiteReport:
    """Bring the suite into its base (once) and measure every mode.

    Args:
        suite: The folder.
        home: Where its base is kept; None: in the user's cache, by the suite's path and embedder.
        embedder: See `KnowledgeBase.open`.
        limit: Only so many queries.
        on_progress: See `kb_ingest.pipeline.ingest`; may be anything that takes objects with `stage` and `number`.

    Raises:
        DocumentError: A file of the suite is missing or broken.
        StoreError: ir-measures is not installed, or the store cannot be used.
    """
    try:
        import ir_measures
    except ImportError as err:
        raise StoreError("`kb eval` needs ir-measures; run: pip install ir-measures") from err
    queries, relevant = _read_queries(suite, limit)
    with KnowledgeBase.open(home or _cache_home(suite, embedder), embedder=embedder) as base:
        num_documents = _bring_in(base, suite, on_progress)
        latency_ms = _embedder_latency_ms(base, list(queries.values())[:50])
        runs: dict[str, dict[str, float]] = {}
        reports = []
        measures = [ir_measures.parse_measure(name) for name in METRICS]
        qrels = [ir_measures.Qrel(query_id, document, grade) for query_id, grades in relevant.items() for document, grade in grades.items()]
        for mode in sorted(MODES, key=lambda name: name != "hybrid"):
            rankings, latencies = _run(base, queries, mode)
            found = [
                ir_measures.ScoredDoc(query_id, document, -rank)
                for query_id, ranked in rankings.items()
                for rank, document in enumerate(ranked)
            ]
            totals = ir_measures.calc_aggregate(measures, qrels, found)
            runs[mode] = {item.query_id: item.value for item in ir_measures.iter_calc([measures[0]], qrels, found)}
            p_value = None if mode == "hybrid" else _p_value(runs["hybrid"], runs[mode])
            reports.append(ModeReport(mode, {str(key): float(value) for key, value in totals.items()}, p_value, _percentiles(latencies)))
        counts: Any = base.stats()  # Any: mixed values by name
        name = base.embedder().identity.name
    return SuiteReport(suite.resolve().name, num_documents, len(queries), counts["chunks"], name, latency_ms, tuple(reports))


def _cache_home(suite: Path, embedder: str | None) -> Path:
    from platformdirs import user_cache_path

    key = hashlib.sha256(f"{suite.resolve()}\0{embedder}".encode()).hexdigest()[:8]
    return user_cache_path("kevolve") / "suites" / f"{suite.resolve().name}-{key}"


def _rows(path: Path) -> Iterator[Any]:  # Any: JSON
    if not path.is_file():
        raise DocumentError(str(path), "no such file; a suite is a folder with corpus.jsonl, queries.jsonl and qrels.tsv")
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as err:
                    raise DocumentError(str(path), f"line {number} is not JSON: {err}") from err
                if not isinstance(row, dict) or not {"_id", "text"} <= row.keys():
                    raise DocumentError(str(path), f"line {number} is not an object with `_id` and `text`")
                yield row


def _read_queries(suite: Path, limit: int | None) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    relevant: dict[str, dict[str, int]] = {}
    path = next((suite / name for name in ("qrels.tsv", "qrels/test.tsv") if (suite / name).is_file()), suite / "qrels.tsv")
    if not path.is_file():
        raise DocumentError(str(path), "no such file; a suite is a folder with corpus.jsonl, queries.jsonl and qrels.tsv")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if number == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue
        if len(fields) != 3:
            raise DocumentError(str(path), f"line {number} has {len(fields)} fields, not query, document and relevance")
        relevant.setdefault(fields[0], {})[fields[1]] = int(fields[2])
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(suite / "queries.jsonl") if str(row["_id"]) in relevant}
    if not queries:
        raise DocumentError(str(suite), "no query of queries.jsonl occurs in the relevance file")
    chosen = dict(list(queries.items())[:limit])
    return chosen, {query_id: relevant[query_id] for query_id in chosen}


def _bring_in(base: KnowledgeBase, suite: Path, on_progress: Callable[[Any], None] | None) -> int:
    from types import SimpleNamespace

    def tell(stage: str, number: int) -> None:
        if on_progress is not None:
            on_progress(SimpleNamespace(stage=stage, number=number))

    known = {stored.source: stored.content_hash for stored in base.documents()}
    waiting: list[Incoming] = []
    total = 0
    for row in _rows(suite / "corpus.jsonl"):
        total += 1
        document = _document(row)
        if known.get(document.source) != document.content_hash:
            waiting.append(Incoming(document))
    tell("found", len(waiting))
    for begin in range(0, len(waiting), BATCH_DOCUMENTS):
        part = waiting[begin : begin + BATCH_DOCUMENTS]
        base.add_documents(part, lambda number: tell("embedded", number))
        tell("read", len(part))
    base.index.flush()
    return total


def _document(row: Mapping[str, Any]) -> Document:  # Any: JSON
    title, body = str(row.get("title") or ""), str(row["text"])
    lines = body.count("\n") + 1
    content_hash = hashlib.sha256(f"{title}\0{body}".encode()).hexdigest()
    return Document(str(row["_id"]), title, Kind.GUIDE, Section(title, 0, body, 1, lines, text_line=1, syntax="plain"), content_hash)


def _run(base: KnowledgeBase, queries: Mapping[str, str], mode: str) -> tuple[dict[str, list[str]], list[float]]:
    rankings, latencies = {}, []
    for query_id, query in queries.items():
        begin = time.perf_counter()
        hits = base.query(query, 2 * DEPTH, mode=mode).hits
        latencies.append(1000.0 * (time.perf_counter() - begin))
        ranked = dict.fromkeys(source.path for hit in hits for source in (hit.source, *hit.also))
        rankings[query_id] = list(ranked)[:DEPTH]
    return rankings, latencies


def _embedder_latency_ms(base: KnowledgeBase, queries: Sequence[str]) -> float:
    embedder = base.embedder()
    times = []
    for query in queries:
        begin = time.perf_counter()
        embedder.embed_query(query)
        times.append(1000.0 * (time.perf_counter() - begin))
    return sorted(times)[len(times) // 2]


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    import numpy as np

    return {f"p{level}": float(np.percentile(values, level)) for level in (50, 95, 99)}


def _p_value(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    import numpy as np

    differences = np.array([first[key] - second.get(key, 0.0) for key in first])
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(NUM_FLIPS, len(differences)))
    extreme = np.abs(signs @ differences) >= abs(float(differences.sum())) - 1e-12
    return float((extreme.sum() + 1) / (NUM_FLIPS + 1))
