"""The tables of the catalogue, in SQLAlchemy Core: the same in SQLite and PostgreSQL. What differs between the two stands in `kb/databases.py`."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Column, Dialect, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, Table
from sqlalchemy import String as DatabaseString
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 3
"""2 adds tables to 1 (past versions, status, facts, evidence, the next vectors), which opening a base of version 1 creates; 3 keeps the words of chunks in a
table of its own in place of SQLite's FTS5, which opening fills."""
WORDS_VERSION = 3


class String(TypeDecorator[str]):
    """Text of any length, ordered by code points in both databases; NUL, which PostgreSQL cannot hold, is left out there."""

    impl = DatabaseString().with_variant(DatabaseString(collation="C"), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what the database gets."""
        return value.replace("\0", "") if value is not None and dialect.name == "postgresql" else value


Text = String


class JSON(TypeDecorator[Any]):  # Any: what JSON holds
    """JSON as text in both databases, so that plain SQL reads the same."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # Any: JSON
        """Return what the database gets."""
        return None if value is None else json.dumps(value, ensure_ascii=False, default=str)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # Any: JSON
        """Return what was stored."""
        return None if value is None else json.loads(value)


metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

documents = Table(
    "documents",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("source", String, nullable=False, unique=True),
    Column("path", String, nullable=False, default=""),  # absolute path on this machine; empty if it did not come from a file
    Column("root", String, nullable=False, default=""),  # the ingested directory it was found under; empty for single files
    Column("title", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("trust", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("shape", String, nullable=False),  # version of readers and chunker: another one re-reads the document
    Column("targets", JSON, nullable=False),
    Column("valid_for", JSON, nullable=False),
    Column("front_matter", JSON, nullable=False),
    Column("version", Integer, nullable=False, default=1),
    Column("updated_at", Float, nullable=False),  # seconds since 1970, UTC
)

document_targets = Table(
    "document_targets",
    metadata,
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), primary_key=True),
    Column("target", String, primary_key=True),
    Index("document_targets_by_target", "target"),
)

document_versions = Table(
    "document_versions",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("content_hash", String, nullable=False),
    Column("ended_at", Float, nullable=False),
)

sections = Table(
    "sections",
    metadata,
    Column("section_id", String, primary_key=True),
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("parent_id", String, index=True),
    Column("position", Integer, nullable=False),  # order in the document, depth first
    Column("level", Integer, nullable=False),
    Column("title", String, nullable=False),
    Column("path", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("line_start", Integer, nullable=False),
    Column("line_end", Integer, nullable=False),
    Column("text_line", Integer, nullable=False),
    Column("syntax", String, nullable=False),
    Column("summary", Text, nullable=False),
)

chunks = Table(
    "chunks",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("chunk_id", String, nullable=False, unique=True),
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("section_id", String, nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("section_path", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("block", String, nullable=False),
    Column("line_start", Integer, nullable=False),
    Column("line_end", Integer, nullable=False),
    Column("content_hash", String, nullable=False, index=True),
    Column("vector_hash", String, nullable=False, index=True),
)

chunk_words = Table(  # the words of each chunk with their counts, see kb/fulltext.py
    "chunk_words",
    metadata,
    Column("number", ForeignKey("chunks.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("words", LargeBinary, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("vector_hash", String, primary_key=True),  # SHA-256 of the embedded text
    Column("vector", LargeBinary, nullable=False),  # float32, little endian
)

links = Table(
    "links",
    metadata,
    Column("section_id", String, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("address", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("action", String, nullable=False),  # upsert | delete
    Column("collection", String, nullable=False),
    Column("item_id", String, nullable=False),
)

winners = Table(
    "winners",
    metadata,
    Column("winner_id", String, primary_key=True),
    Column("problem_id", String, nullable=False),
    Column("problem_hash", String, nullable=False, index=True),
    Column("signature", Text, nullable=False, index=True),
    Column("target", String, nullable=False, index=True),
    Column("record", JSON, nullable=False),
    Column("status", String, nullable=False, default="active"),
    Column("created_at", Float, nullable=False),
)

lessons = Table(
    "lessons",
    metadata,
    Column("lesson_id", String, primary_key=True),
    Column("target", String, nullable=False, index=True),
    Column("problem_id", String, nullable=False),
    Column("record", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", Float, nullable=False),
)

next_vectors = Table(  # of the embedder that a re-embedding changes to; takes the place of `vectors` when it is complete
    "next_vectors",
    metadata,
    Column("vector_hash", String, primary_key=True),
    Column("vector", LargeBinary, nullable=False),
)

document_texts = Table(  # what `document_versions` ended: the sections of a past version
    "document_texts",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("source", String, nullable=False),
    Column("title", String, nullable=False),
    Column("ended", String, nullable=False),  # updated | removed
    Column("record", LargeBinary, nullable=False),  # see kb/versions.py
)

document_status = Table(  # only of documents that are no longer current
    "document_status",
    metadata,
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), primary_key=True),
    Column("status", String, nullable=False),  # retired | superseded
    Column("origin", String, nullable=False),  # command | document
    Column("successor", String, nullable=False, default=""),  # source of the document that holds instead
    Column("reason", Text, nullable=False, default=""),
    Column("since", Float, nullable=False),
)

statements = Table(  # numbers with a unit that a chunk states; derived, see kb/statements.py
    "statements",
    metadata,
    Column("statement_id", Integer, primary_key=True, autoincrement=True),
    Column("document_id", ForeignKey("documents.document_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("chunk_id", String, nullable=False, index=True),
    Column("subject", String, nullable=False, index=True),
    Column("unit", String, nullable=False),
    Column("scope", String, nullable=False),  # target that the words name; empty: those of the document
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("line", Integer, nullable=False),
    Column("quote", Text, nullable=False),
)

lesson_evidence = Table(
    "lesson_evidence",
    metadata,
    Column("lesson_id", String, primary_key=True),
    Column("evidence_id", String, primary_key=True),
    Column("kind", String, nullable=False),  # measurement | ablation
    Column("problem_id", String, nullable=False),
    Column("effect", Float, nullable=False),
    Column("effect_low", Float, nullable=False),
    Column("effect_high", Float, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)
