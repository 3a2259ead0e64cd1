"""Make a base larger by copies of its own chunks with some words replaced, many thousand times faster than by embedding new text; for measuring speed at size.

A copy of a document has the original's sections; in the text of its chunks one word in seven is another word of the base, drawn by frequency. Words and statements
are read from the new text as ingestion does; the vector is the original's with noise (cosine about 0.8). Links and past versions are not copied; nothing is left
for the vector index, which no search asks up to 3,000,000 chunks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import multiprocessing
import random
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex

from kb.catalogue import identifier, vector_key
from kb.chunking import embedded_text
from kb.fulltext import _record as word_record
from kb.schema import chunks, sections, statements
from kb.statements import statements_in
from kb.types import Chunk

log = logging.getLogger("kb_speed")

PERTURBED_SHARE = 1 / 7
NOISE = 0.75
"""Length of the noise relative to the vector: cosine 0.8."""
SAMPLED_CHUNKS = 4000
"""Chunks whose words are the ones that replace others."""
COMMIT_DOCUMENTS = 500
CACHE_KB = 1_000_000
INDEXES = [index for table in (chunks, sections, statements) for index in table.indexes]
"""Dropped while rows are added and made anew afterwards: faster than keeping them."""

Rows = dict[str, list[tuple[Any, ...]]]  # Any: columns of several types


@dataclass(frozen=True)
class Originals:
    """What is copied."""

    documents: list[dict[str, Any]]  # Any: columns of several types
    targets: dict[str, list[str]]
    sections: dict[str, list[dict[str, Any]]]
    chunks: dict[str, list[dict[str, Any]]]
    vectors: dict[str, bytes]
    words: list[str]


_originals: Originals | None = None
"""Of this process."""


def multiply(catalogue: Path, num_chunks: int, jobs: int) -> int:
    """Add copies until a base has so many chunks; return how many it has. Stopped on the way, it goes on when called again."""
    connection = sqlite3.connect(catalogue, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = OFF", f"cache_size = -{CACHE_KB}", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    load(catalogue)
    known = {str(row[0]) for row in connection.execute("SELECT document_id FROM documents")}
    total, last = connection.execute("SELECT count(*), max(number) FROM chunks").fetchone()
    if total < num_chunks:
        for index in INDEXES:
            connection.execute(f"DROP INDEX IF EXISTS {index.name}")
    begin = time.perf_counter()
    try:
        with multiprocessing.get_context("spawn").Pool(jobs, _start, (catalogue,)) as pool:
            work = _work(known)
            waiting: list[Any] = []  # Any: multiprocessing's AsyncResult
            connection.execute("BEGIN")
            done = 0
            while total < num_chunks:
                while len(waiting) < 4 * jobs:
                    waiting.append(pool.apply_async(copied, next(work)))
                rows = waiting.pop(0).get()
                last = _insert(connection, rows, last)
                total += len(rows["chunks"])
                done += 1
                if done % COMMIT_DOCUMENTS == 0:
                    connection.execute("COMMIT")
                    connection.execute("BEGIN")
                    log.info("%d chunks, %.0f s", total, time.perf_counter() - begin)
            connection.execute("DELETE FROM outbox")
            connection.execute("UPDATE meta SET value = ? WHERE key = 'last_number'", (str(last),))
            connection.execute("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'generation'")
            connection.execute("COMMIT")
    finally:
        for index in INDEXES:
            connection.execute(str(CreateIndex(index, if_not_exists=True).compile(dialect=sqlite.dialect())))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return int(total)


def _start(catalogue: Path) -> None:
    """Set a worker up; an interrupt is the parent's to answer: workers that end on their own leave its pool waiting."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load(catalogue)


def load(catalogue: Path) -> None:
    """Read in this process what is copied."""
    global _originals
    with contextlib.closing(sqlite3.connect(catalogue)) as connection:
        _originals = _read(connection)


def copied(number: int, copy: int) -> Rows:
    """Return the rows of one copy of an original document, chunks without their number."""
    import numpy as np

    assert _originals is not None
    document = _originals.documents[number]
    old_id = document["document_id"]
    document_id = _copy_id(number, copy)
    chance = random.Random(f"{copy} {old_id}")
    noise = np.random.default_rng([copy, number])
    section_id = {row["section_id"]: identifier(document_id, row["section_id"]) for row in _originals.sections[old_id]}
    values = {
        **document,
        "document_id": document_id,
        "source": f"copy-{copy}/{document['source']}",
        "content_hash": hashlib.sha256(f"{copy} {document['content_hash']}".encode()).hexdigest(),
    }
    rows: Rows = {"documents": [tuple(values.values())], "chunks": [], "chunk_words": [], "vectors": [], "statements": []}
    rows["document_targets"] = [(document_id, target) for target in _originals.targets[old_id]]
    rows["sections"] = [
        tuple(
            {
                **row,
                "section_id": section_id[row["section_id"]],
                "document_id": document_id,
                "parent_id": section_id.get(row["parent_id"]),
            }.values()
        )
        for row in _originals.sections[old_id]
    ]
    for row in _originals.chunks.get(old_id, ()):
        body = _perturbed(row["text"], chance)
        path = json.loads(row["section_path"])
        text = embedded_text(path, row["context"], body)
        vector = np.frombuffer(_originals.vectors[row["vector_hash"]], dtype="<f4")
        other = noise.standard_normal(len(vector), dtype=np.float32)
        vector = vector + NOISE * other / np.linalg.norm(other)
        key = vector_key(text)
        fresh = {
            **row,
            "chunk_id": identifier(document_id, row["chunk_id"]),
            "document_id": document_id,
            "section_id": section_id[row["section_id"]],
            "text": body,
            "content_hash": hashlib.sha256(body.encode()).hexdigest(),
            "vector_hash": key,
        }
        rows["chunks"].append(tuple(fresh.values()))
        rows["vectors"].append((key, (vector / np.linalg.norm(vector)).astype("<f4").tobytes()))
        rows["chunk_words"].append((word_record(" > ".join(path), f"{row['context']}\n{body}" if row["context"] else body),))
        chunk = Chunk(
            fresh["chunk_id"],
            document_id,
            tuple(path),
            body,
            row["line_start"],
            row["line_end"],
            fresh["content_hash"],
            row["block"],
            row["context"],
        )
        rows["statements"] += [
            (document_id, chunk.chunk_id, item.subject, item.unit, item.scope, item.low, item.high, item.line, item.quote)
            for item in statements_in(chunk)
        ]
    return rows


def _perturbed(body: str, chance: random.Random) -> str:
    assert _originals is not None
    pieces = re.split(r"(\w+)", body)
    for index in range(1, len(pieces), 2):
        if chance.random() < PERTURBED_SHARE:
            pieces[index] = chance.choice(_originals.words)
    return "".join(pieces)


def _copy_id(number: int, copy: int) -> str:
    assert _originals is not None
    return identifier(f"copy-{copy}/{_originals.documents[number]['source']}")


def _work(known: set[str]) -> Iterator[tuple[int, int]]:
    assert _originals is not None
    copy = 0
    while True:
        copy += 1
        for number in range(len(_originals.documents)):
            if _copy_id(number, copy) not in known:
                yield number, copy


def _read(connection: sqlite3.Connection) -> Originals:
    def table(query: str) -> list[dict[str, Any]]:  # Any: columns of several types
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:  # Any: columns of several types
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["document_id"], []).append(row)
        return found

    mine = "document_id IN (SELECT document_id FROM documents WHERE source NOT LIKE 'copy-%')"
    chunk_rows = table(f"SELECT * FROM chunks WHERE {mine} ORDER BY number")
    for row in chunk_rows:
        del row["number"]
    sample = random.Random(0).sample(chunk_rows, min(SAMPLED_CHUNKS, len(chunk_rows)))
    targets: dict[str, list[str]] = {}
    for document_id, target in connection.execute("SELECT document_id, target FROM document_targets"):
        targets.setdefault(document_id, []).append(target)
    return Originals(
        documents=table("SELECT * FROM documents WHERE source NOT LIKE 'copy-%' ORDER BY document_id"),
        targets=targets,
        sections=grouped(table(f"SELECT * FROM sections WHERE {mine} ORDER BY document_id, position")),
        chunks=grouped(chunk_rows),
        vectors=dict(
            connection.execute(
                f"SELECT vector_hash, vector FROM vectors WHERE vector_hash IN (SELECT vector_hash FROM chunks WHERE {mine})"
            )
        ),
        words=[word for row in sample for word in re.findall(r"\w+", row["text"])],
    )


def _insert(connection: sqlite3.Connection, rows: Rows, last: int) -> int:
    """Write the rows of one document; return the last number given to a chunk."""
    numbers = range(last + 1, last + 1 + len(rows["chunks"]))
    filled = {
        **rows,
        "chunks": [(number, *row) for number, row in zip(numbers, rows["chunks"], strict=True)],
        "chunk_words": [(number, *row) for number, row in zip(numbers, rows["chunk_words"], strict=True)],
        "statements": [(None, *row) for row in rows["statements"]],
    }
    for table, values in filled.items():
        if values:
            marks = ", ".join("?" * len(values[0]))
            connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)
    return last + len(rows["chunks"])
