"""Measure retrieval on a suite: quality per way of searching and per type of question, abstention, targets, latency, significance.

The suite goes through the same store, chunker and search as everything else, in a base of its own. Metrics come from ir-measures.

- A suite in BEIR form is scored by documents: a document's rank is that of its best chunk.
- A suite of questions is scored by places. A hit holds a gold place if it comes from its document and has its heading on its section path. Where any gold is
  enough, all of it counts as one relevant item; where all is needed (`multi_hop`), `section@k` asks for every place within k hits.
- `R@5` and `R@10` count the share of the gold that was found, so that one of two needed places is a half.
- `document@10` asks only for the document. An abstention is judged apart: the hits that come with it are scored like any others.

Significance, paired by question against the default: randomisation test, two-sided (Smucker et al. 2007), and a bootstrap interval of the difference
(Sakai 2006), 10,000 draws each from a fixed seed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kb.errors import StoreError
from kb.retrieval import DEFAULT, MODES
from kb.store import Incoming, KnowledgeBase
from kb.suite import Question, Suite, read_suite
from kb.targets import visible
from kb.types import Filters, Hit, QueryResult

BATCH_DOCUMENTS = 256
DEPTH = 100
DOCUMENT_METRICS = ("nDCG@10", "R@10", "R@100", "RR@10")
PLACE_METRICS = ("section@5", "section@10", "document@10", "nDCG@10", "R@5", "R@10", "RR@10")
NUM_DRAWS = 10_000
DEFAULT_MODE = "hybrid"

BringIn = Callable[[KnowledgeBase, Suite], None]
"""Brings the documents that a suite without a corpus asks about into its base."""


@dataclass(frozen=True)
class Comparison:
    """The default minus another mode, in the suite's first metric, paired by question."""

    metric: str
    difference: float
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    p_value: float
    """Of the randomisation test."""


@dataclass(frozen=True)
class Abstention:
    """How well the base knows what it does not know."""

    num_unanswerable: int
    num_answerable: int
    caught: int
    """Unanswerable questions on which it abstained."""
    false: int
    """Answerable questions on which it abstained."""

    @property
    def precision(self) -> float | None:
        """Share of abstentions that were right; None without any."""
        return self.caught / (self.caught + self.false) if self.caught + self.false else None

    @property
    def recall(self) -> float | None:
        """Share of unanswerable questions caught; None without any."""
        return self.caught / self.num_unanswerable if self.num_unanswerable else None

    @property
    def false_rate(self) -> float | None:
        """Share of answerable questions refused; None without any."""
        return self.false / self.num_answerable if self.num_answerable else None

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return {**self.__dict__, "precision": self.precision, "recall": self.recall, "false_rate": self.false_rate}


@dataclass(frozen=True)
class ModeReport:
    """One way of searching on one suite."""

    mode: str
    metrics: Mapping[str, float]
    """Means over the answerable questions."""
    by_kind: Mapping[str, Mapping[str, float]]
    """The same for each type of question, with `questions`, their number."""
    abstention: Abstention
    wrong_target_top3: int
    """Questions about a target with a document of another target among the first three hits."""
    latency_ms: Mapping[str, float]
    """Percentiles of a whole query, `p50`, `p95`, `p99`."""
    comparison: Comparison | None
    """The default against this mode; None for the default."""
    per_question: Mapping[str, Mapping[str, Any]]  # Any: numbers and ids by name
    """Metrics, abstention and first hits of every question."""

    @property
    def p_value(self) -> float | None:
        """Of the difference to the default; None for the default."""
        return self.comparison.p_value if self.comparison else None


@dataclass(frozen=True)
class SuiteReport:
    """Retrieval quality on one suite."""

    suite: str
    split: str
    num_documents: int
    num_queries: int
    num_targeted: int
    """Questions that say which target they are about."""
    num_chunks: int
    embedder: str
    embedder_latency_ms: float
    """Median time of embedding one query, part of every latency but that of `lexical`."""
    weights: Mapping[str, float]
    """Of the parts of the default's scores on this base."""
    modes: tuple[ModeReport, ...]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        modes = {}
        for mode in self.modes:
            modes[mode.mode] = {
                **mode.__dict__,
                "abstention": mode.abstention.to_json(),
                "p_value": mode.p_value,
                "comparison": mode.comparison.__dict__ if mode.comparison else None,
            }
        return {**self.__dict__, "modes": modes}

    def to_text(self) -> str:
        """Return tables."""
        names = list(self.modes[0].metrics)
        lines = [
            f"{self.suite} ({self.split}): {self.num_documents} documents, {self.num_chunks} chunks, {self.num_queries} questions, "
            f"embedder {self.embedder} ({self.embedder_latency_ms:.1f} ms a query), dense weight {self.weights['dense_weight']:.2f}",
            f"{'mode':10s}" + "".join(f"{name:>12s}" for name in names) + f"{'default-mode':>14s}{'p':>8s}{'p50 ms':>9s}{'p99 ms':>9s}",
        ]
        for mode in self.modes:
            numbers = "".join(f"{mode.metrics[name]:12.4f}" for name in names)
            other = mode.comparison
            against = f"{other.difference:+14.4f}{other.p_value:8.4f}" if other else " " * 22
            lines.append(f"{mode.mode:10s}{numbers}{against}{mode.latency_ms['p50']:9.1f}{mode.latency_ms['p99']:9.1f}")
        default = self.modes[0]
        if len(default.by_kind) > 1:
            lines.append(f"\n{'type':14s}{'questions':>10s}" + "".join(f"{name:>12s}" for name in names) + "  (default)")
            for kind, values in default.by_kind.items():
                lines.append(
                    f"{kind:14s}{values['questions']:10.0f}" + "".join(f"{values[name]:12.4f}" for name in names if name in values)
                )
        found = default.abstention
        if found.num_unanswerable:
            lines.append(f"\nabstained on {found.caught} of {found.num_unanswerable} unanswerable")
        lines.append(f"abstained on {found.false} of {found.num_answerable} answerable ({100 * (found.false_rate or 0):.1f} %)")
        if self.num_targeted:
            lines.append(f"another target's document in the first three hits: {default.wrong_target_top3} of {self.num_targeted} questions")
        return "\n".join(lines)


def measure(
    suite: Path,
    home: Path | None = None,
    embedder: str | None = None,
    limit: int | None = None,
    on_progress: Callable[[Any], None] | None = None,
    *,
    split: str = "all",
    modes: Sequence[str] = tuple(MODES),
    bring_in: BringIn | None = None,
    use_targets: bool = True,
) -> SuiteReport:
    """Bring the suite into its base (once) and measure ways of searching; the default is always among them, and first.

    Args:
        suite: The folder; see `kb.suite`.
        home: Where its base is kept; None: in the user's cache, by the suite's path and embedder.
        embedder: See `KnowledgeBase.open`.
        limit: Only so many questions.
        on_progress: See `kb_ingest.pipeline.ingest`; may be anything that takes objects with `stage` and `number`.
        split: `dev`, `held_out` or `all`.
        modes: Names from `kb.retrieval.MODES`.
        bring_in: For a suite that brings no corpus; None: its base is taken as it is.
        use_targets: Give the target of a question as a filter; False: it must be inferred from the words.

    Raises:
        DocumentError: A file of the suite is missing or broken.
        StoreError: ir-measures is not installed, or the store cannot be used.
        ValueError: No such split.
        UnknownNameError: No such mode.
    """
    try:
        import ir_measures  # noqa: F401
    except ImportError as err:
        raise StoreError("`kb eval` needs ir-measures; run: pip install ir-measures") from err
    known = read_suite(suite, split, limit)
    with KnowledgeBase.open(home or _cache_home(suite, embedder), embedder=embedder) as base:
        if known.has_corpus:
            _bring_corpus(base, known, on_progress)
        elif bring_in is not None:
            bring_in(base, known)
        latency_ms = _embedder_latency_ms(base, [question.text for question in known.questions[:50]])
        reports: list[ModeReport] = []
        for mode in dict.fromkeys((DEFAULT_MODE, *modes)):
            reports.append(_measure_mode(base, known, mode, use_targets, reports[0] if reports else None))
        counts: Any = base.stats()  # Any: mixed values by name
        name = base.embedder().identity.name
    targeted = sum(bool(question.target or question.wrong) for question in known.questions)
    return SuiteReport(
        known.name,
        split,
        counts["documents"],
        len(known.questions),
        targeted,
        counts["chunks"],
        name,
        latency_ms,
        {key: float(value) for key, value in vars(DEFAULT).items() if key.endswith(("_weight", "_penalty"))},
        tuple(reports),
    )


def _cache_home(suite: Path, embedder: str | None) -> Path:
    from platformdirs import user_cache_path

    key = hashlib.sha256(f"{suite.resolve()}\0{embedder}".encode()).hexdigest()[:8]
    return user_cache_path("kevolve") / "suites" / f"{suite.resolve().name}-{key}"


def _bring_corpus(base: KnowledgeBase, suite: Suite, on_progress: Callable[[Any], None] | None) -> None:
    def tell(stage: str, number: int) -> None:
        if on_progress is not None:
            on_progress(SimpleNamespace(stage=stage, number=number))

    known = {stored.source: (stored.content_hash, stored.shape) for stored in base.documents()}
    waiting = [Incoming(document) for document in suite.documents() if known.get(document.source) != (document.content_hash, base.shape)]
    tell("found", len(waiting))
    for begin in range(0, len(waiting), BATCH_DOCUMENTS):
        part = waiting[begin : begin + BATCH_DOCUMENTS]
        base.add_documents(part, lambda number: tell("embedded", number))
        tell("read", len(part))
    base.index.flush()


def _measure_mode(base: KnowledgeBase, suite: Suite, mode: str, use_targets: bool, default: ModeReport | None) -> ModeReport:
    base.query("warm", 1, mode=mode)  # reads the vectors once, which is not a query's time
    rows: dict[str, dict[str, Any]] = {}  # Any: numbers and ids by name
    latencies = []
    wrong = 0
    runs: dict[str, list[str]] = {}
    for question in suite.questions:
        begin = time.perf_counter()
        filters = Filters(target=question.target if use_targets else None)
        result = base.query(question.text, 2 * DEPTH if suite.has_corpus else DEPTH, filters, mode=mode)
        latencies.append(1000.0 * (time.perf_counter() - begin))
        wrong += has_wrong_target(question, result)
        runs[question.question_id] = _documents(result.hits) if suite.has_corpus else _places(question, result.hits)
        row = {"abstained": result.abstained, "hits": [hit.chunk_id for hit in result.hits[:10]]}
        rows[question.question_id] = row if suite.has_corpus or not question.gold else {**row, **_found(question, result.hits)}
    for question_id, values in _standard_metrics(suite, runs).items():
        rows[question_id] |= values
    names = DOCUMENT_METRICS if suite.has_corpus else PLACE_METRICS
    answerable = [question for question in suite.questions if question.gold]
    kinds = list(dict.fromkeys(question.kind for question in answerable))
    by_kind = {}
    for kind in kinds:
        ids = [question.question_id for question in answerable if question.kind == kind]
        by_kind[kind] = {"questions": float(len(ids)), **_means(rows, ids, names)}
    caught = sum(bool(rows[question.question_id]["abstained"]) for question in suite.questions if not question.gold)
    false = sum(bool(rows[question.question_id]["abstained"]) for question in answerable)
    ids = [question.question_id for question in answerable]
    comparison = None
    if default is not None and ids:
        first = names[0]
        pairs = [(default.per_question[name][first], rows[name][first]) for name in ids]
        comparison = compare(first, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return ModeReport(
        mode,
        _means(rows, ids, names),
        by_kind,
        Abstention(len(suite.questions) - len(answerable), len(answerable), caught, false),
        wrong,
        _percentiles(latencies),
        comparison,
        rows,
    )


def has_wrong_target(question: Question, result: QueryResult) -> bool:
    """Return whether a document of another target than the question's is among the first three hits."""
    first = result.hits[:3]
    allowed = set(visible(question.target)) if question.target else None
    return any(
        (allowed is not None and not allowed & set(hit.targets)) or any(hit.source.path.startswith(prefix) for prefix in question.wrong)
        for hit in first
    )


def _documents(hits: Sequence[Hit]) -> list[str]:
    return list(dict.fromkeys(source.path for hit in hits for source in (hit.source, *hit.also)))[:DEPTH]


def matches(question: Question, hit: Hit) -> list[int]:
    """Return which gold a hit holds; a text that stands in several places counts for each."""
    places = [(hit.source.path, hit.section_path), *((source.path, hit.section_path) for source in hit.also)]
    return [index for index, gold in enumerate(question.gold) if any(gold.holds(*place) for place in places)]


def _places(question: Question, hits: Sequence[Hit]) -> list[str]:
    """Return the ranking as items: `gold…` for gold places, one item for all of it where any is enough."""
    items: dict[str, None] = {}
    for hit in hits:
        matched = matches(question, hit)
        for name in [f"gold{index}" if question.needs_all else "gold0" for index in matched] or [hit.chunk_id]:
            items[name] = None
    return list(items)


def _found(question: Question, hits: Sequence[Hit]) -> dict[str, float]:
    def is_enough(found: set[int]) -> float:
        return float(len(found) == len(question.gold) if question.needs_all else bool(found))

    matched = [matches(question, hit) for hit in hits[:10]]
    paths = {source.path for hit in hits[:10] for source in (hit.source, *hit.also)}
    return {
        "section@5": is_enough({index for found in matched[:5] for index in found}),
        "section@10": is_enough({index for found in matched for index in found}),
        "document@10": is_enough({index for index, gold in enumerate(question.gold) if any(gold.is_in(path) for path in paths)}),
    }


def _standard_metrics(suite: Suite, runs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    import ir_measures

    wanted = DOCUMENT_METRICS if suite.has_corpus else PLACE_METRICS[3:]
    measures = [ir_measures.parse_measure(name) for name in wanted]
    qrels = []
    for question in suite.questions:
        for index, gold in enumerate(question.gold if suite.has_corpus or question.needs_all else question.gold[:1]):
            qrels.append(ir_measures.Qrel(question.question_id, gold.document if suite.has_corpus else f"gold{index}", gold.grade))
    found = [ir_measures.ScoredDoc(name, item, -rank) for name, items in runs.items() for rank, item in enumerate(items)]
    values: dict[str, dict[str, float]] = {qrel.query_id: dict.fromkeys(wanted, 0.0) for qrel in qrels}
    for item in ir_measures.iter_calc(measures, qrels, found):
        values[item.query_id][str(item.measure)] = float(item.value)
    return values


def _means(rows: Mapping[str, Mapping[str, Any]], ids: Sequence[str], names: Sequence[str]) -> dict[str, float]:  # Any: numbers by name
    return {name: sum(float(rows[key][name]) for key in ids) / len(ids) if ids else 0.0 for name in names}


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


def compare(metric: str, first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Return how the first of two paired lists differs from the second."""
    import numpy as np

    differences = np.array(first, dtype=float) - np.array(second, dtype=float)
    rng = np.random.default_rng(0)
    total = abs(float(differences.sum()))
    extreme, means = 0, []
    for _ in range(10):  # in parts, to bound memory
        signs = rng.choice((-1.0, 1.0), size=(NUM_DRAWS // 10, len(differences)))
        extreme += int((np.abs(signs @ differences) >= total - 1e-12).sum())
        draws = rng.integers(0, len(differences), size=(NUM_DRAWS // 10, len(differences)))
        means.append(differences[draws].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return Comparison(metric, float(differences.mean()), float(low), float(high), (extreme + 1) / (NUM_DRAWS + 1))
