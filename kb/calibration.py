"""The weights of the two legs, estimated from the base's own text: no fixed weight wins on every collection.

A sample of sections plays questions and answers: the heading of a section (of a function: the words of its name; of a text without headings: its first
sentence) is asked, and the section without it is to be found among the other chunks of the sample. What each mixture of the legs finds says how much
meaning and words are worth in this text. Headings are not questions, so the estimate is held near the default by a penalty, and between bounds.

Runs when a base has grown by half since the last time (`calibrate`), takes no more than `NUM_PROBES` embeddings, is the same for the same content, and is
kept in the catalogue beside the embedder it holds for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, text

from kb import fulltext
from kb.catalogue import Catalogue
from kb.chunking import embedded_text
from kb.retrieval import Fusion
from kb.words import STOP_WORDS, query_terms, split_identifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb.embedders.base import Embedder
    from kb.store import KnowledgeBase

LEAST_CHUNKS = 1000
"""Smaller bases keep the default: the sample would say nothing."""
GROWTH = 1.5
SAMPLE = 3000
NUM_PROBES = 64
LEAST_PROBES = 32
LEAST_BODY = 80
"""Characters that must be left of a section without its heading."""
GRID = tuple(round(0.3 + 0.05 * step, 2) for step in range(13))
"""Dense weights that are tried; the lexical weight is the rest to 1."""
PRIOR_PULL = 1.2
"""Loss in mean reciprocal log rank per squared distance from the default weight. At 0.1 from it: 0.012, about the standard error of the curve's differences."""
KEY = "calibration"

_DEFINITION = re.compile(r"(?:\s*@[^\n]*\n)*\s*(?:async\s+def|def|class)\s+(\w+)[^\n]*\n")
_SENTENCE = re.compile(r"\s*(\S.{20,240}?[.!?])(?=\s)", re.DOTALL)


@dataclass(frozen=True)
class Probe:
    """A question made from a chunk, and what is left of the chunk."""

    position: int
    """Of the chunk in the sample."""
    query: str
    section_path: tuple[str, ...]
    body: str


def calibrated(connection: Connection, fusion: Fusion) -> Fusion:
    """Return the weights with which this base is searched: those found for it, else those given."""
    if not fusion.is_calibrated:
        return fusion
    value = Catalogue.get_meta(connection, KEY)
    found = json.loads(value) if value else {}
    if found.get("dense_weight") is None or found.get("embedder") != Catalogue.get_meta(connection, "embedder_hash"):
        return fusion
    weight = float(found["dense_weight"])
    return replace(fusion, dense_weight=weight, lexical_weight=round(1.0 - weight, 4))


def calibrate(base: KnowledgeBase, *, force: bool = False) -> float | None:
    """Estimate the weight of the dense leg if the base has grown enough since the last time; return it if it was estimated.

    Args:
        base: Whose text is used.
        force: Estimate in any case.
    """
    with base.catalogue.read() as connection:
        num_chunks = int(connection.execute(text("SELECT count(*) FROM chunks")).scalar_one())
        value = Catalogue.get_meta(connection, KEY)
        embedder_hash = Catalogue.get_meta(connection, "embedder_hash")
        known = json.loads(value) if value else {}
        is_fresh = known.get("embedder") == embedder_hash and known.get("chunks", 0) / GROWTH < num_chunks < known.get("chunks", 0) * GROWTH
        if not force and (num_chunks < LEAST_CHUNKS or is_fresh):
            return None
        rows = _sample(connection)
    probes = _probes(rows)
    curve = _curve(rows, probes, base.embedder()) if len(probes) >= LEAST_PROBES else {}
    prior = Fusion().dense_weight
    weight = max(curve, key=lambda item: (curve[item] - PRIOR_PULL * (item - prior) ** 2, -abs(item - prior))) if curve else None
    record = {"dense_weight": weight, "chunks": num_chunks, "probes": len(probes), "embedder": embedder_hash, "curve": curve}
    with base.catalogue.write() as connection:
        Catalogue.set_meta(connection, KEY, json.dumps(record))
    return weight


@dataclass(frozen=True)
class _Row:
    section_path: tuple[str, ...]
    context: str
    text: str
    vector: NDArray[np.float32]


def _sample(connection: Connection) -> list[_Row]:
    """Return a sample of chunks that depends only on their ids."""
    import numpy as np

    ids = sorted(
        connection.execute(text("SELECT chunk_id FROM chunks")).scalars(), key=lambda item: hashlib.sha256(str(item).encode()).digest()
    )[:SAMPLE]
    statement = text(
        "SELECT c.chunk_id, c.section_path, c.context, c.text, v.vector FROM chunks c JOIN vectors v ON v.vector_hash = c.vector_hash "
        "WHERE c.chunk_id IN :ids"
    ).bindparams(bindparam("ids", expanding=True))
    found: dict[str, _Row] = {}
    for begin in range(0, len(ids), 500):
        for row in connection.execute(statement, {"ids": ids[begin : begin + 500]}):
            path = json.loads(row.section_path) if isinstance(row.section_path, str) else row.section_path
            found[str(row.chunk_id)] = _Row(tuple(path), row.context, row.text, np.frombuffer(row.vector, dtype="<f4"))
    return [found[item] for item in ids if item in found]


def _probes(rows: Sequence[_Row]) -> list[Probe]:
    probes: list[Probe] = []
    asked: set[str] = set()
    for position, row in enumerate(rows):
        probe = _probe(position, row)
        if probe is not None and probe.query not in asked and len(probe.body) >= LEAST_BODY:
            asked.add(probe.query)
            probes.append(probe)
        if len(probes) == NUM_PROBES:
            break
    return probes


def _probe(position: int, row: _Row) -> Probe | None:
    definition = _DEFINITION.match(row.text)
    if definition is not None:
        words = [part for part in split_identifier(definition.group(1)) if len(part) > 1]
        return Probe(position, " ".join(words), row.section_path, row.text[definition.end() :]) if len(words) >= 3 else None
    if row.section_path and _num_content(row.section_path[-1]) >= 3:
        return Probe(position, row.section_path[-1], row.section_path[:-1], row.text)
    if len(row.section_path) > 1:
        return None  # a heading that says too little; its first sentence would be too easy to find by its words
    sentence = _SENTENCE.match(row.text)
    if sentence is None or _num_content(sentence.group(1)) < 3:
        return None
    return Probe(position, sentence.group(1), row.section_path, row.text[sentence.end() :])


def _num_content(phrase: str) -> int:
    return sum(term not in STOP_WORDS for term in query_terms(phrase))


def _curve(rows: Sequence[_Row], probes: Sequence[Probe], embedder: Embedder) -> dict[float, float]:
    """Return, for each dense weight, the mean of 1 / log2(rank + 1) of the probes' chunks, 0 beyond rank 10."""
    import numpy as np

    changed = {probe.position: probe for probe in probes}
    matrix = np.stack([row.vector for row in rows])
    bodies = [embedded_text(probe.section_path, rows[probe.position].context, probe.body) for probe in probes]
    matrix[[probe.position for probe in probes]] = embedder.embed_documents(bodies)
    texts = []
    for position, row in enumerate(rows):
        path, body = (changed[position].section_path, changed[position].body) if position in changed else (row.section_path, row.text)
        texts.append((" > ".join(path), f"{row.context}\n{body}"))
    index = fulltext.TextIndex(texts)
    totals = dict.fromkeys(GRID, 0.0)
    for probe in probes:
        dense = matrix @ embedder.embed_query(probe.query)
        lexical = np.zeros(len(rows), dtype=np.float32)
        for position, score in index.search(query_terms(probe.query), Fusion().pool):
            lexical[position] = score
        pool = np.flatnonzero(lexical > 0)
        pool = np.unique(np.concatenate([np.argsort(-dense, kind="stable")[: Fusion().pool], pool, [probe.position]]))
        first, second = _standard(dense[pool]), _standard(lexical[pool])
        wanted = int(np.searchsorted(pool, probe.position))
        for weight in GRID:
            scores = weight * first + (1 - weight) * second
            rank = 1 + int((scores > scores[wanted]).sum())
            totals[weight] += 1 / float(np.log2(rank + 1)) if rank <= 10 else 0.0
    return {weight: round(total / len(probes), 6) for weight, total in totals.items()}


def _standard(values: NDArray[np.float32]) -> NDArray[np.float32]:
    deviation = float(values.std())
    return (values - values.mean()) / deviation if deviation > 1e-9 else values * 0
