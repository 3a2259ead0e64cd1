"""The inverted index against SQLite's FTS5, which is an independent implementation of the same BM25."""

from __future__ import annotations

import random
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kb import fulltext
from kb.porter import stem
from kb.store import Incoming, KnowledgeBase
from kb.words import identifier_parts, query_terms

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOKENIZER = "porter unicode61 remove_diacritics 2 tokenchars '_'"
QUERIES = (
    "how many banks has shared memory per block",
    "tl.make_block_ptr order and boundary_check",
    "CUDA error: an illegal memory access was encountered",
    "Größe der Übertragung naïve façade",
    "connected connection connections connecting",
    "layerNorm float16 num_warps=8 227 KB",
)


def chunks_of_docs() -> list[tuple[int, str, str]]:
    rows = []
    for path in sorted(DOCS.rglob("*.md")):
        for part in path.read_text(encoding="utf-8").split("\n\n"):
            rows.append((len(rows) + 1, path.stem.replace("-", " "), part))
    rows += [(len(rows) + 1, "façade", "Größe naïve Übung cafés ½ x² 10µs"), (len(rows) + 2, "", "")]
    return rows


@pytest.fixture(scope="module")
def reference() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE t USING fts5(path, body, parts, tokenize = "{TOKENIZER}")')
    rows = [(number, path, body, identifier_parts(f"{path}\n{body}")) for number, path, body in chunks_of_docs()]
    connection.executemany("INSERT INTO t(rowid, path, body, parts) VALUES (?, ?, ?, ?)", rows)
    return connection


def expected(reference: sqlite3.Connection, query: str, top_k: int) -> list[tuple[int, float]]:
    expression = " OR ".join(f'"{term}"' for term in query_terms(query))
    found = reference.execute(
        "SELECT rowid, -bm25(t, 1.0, 1.0, 0.5) AS score FROM t WHERE t MATCH ? ORDER BY score DESC, rowid LIMIT ?", (expression, top_k)
    )
    return [(int(number), float(score)) for number, score in found]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from sqlalchemy import text

    with KnowledgeBase.open(tmp_path_factory.mktemp("words"), embedder="hashing") as base:
        with base.catalogue.write() as connection:
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            rows = chunks_of_docs()
            connection.execute(
                text("INSERT INTO documents VALUES ('d', 'd', '', '', 'd', 'guide', 'documented', '', '', '[]', '{}', '{}', 1, 0)")
            )
            connection.execute(
                text("INSERT INTO chunks VALUES (:n, :i, 'd', '', 0, '[]', '', '', 'text', 1, 1, '', '')"),
                [{"n": number, "i": str(number)} for number, _, _ in rows],
            )
            fulltext.add(connection, rows)
        yield base


@pytest.mark.parametrize("query", QUERIES)
def test_scores_and_order_are_those_of_fts5(reference: sqlite3.Connection, indexed: KnowledgeBase, query: str) -> None:
    wanted = expected(reference, query, 100)
    with indexed.catalogue.read() as connection:
        found = fulltext.search(connection, query_terms(query), 100, "", {})
    ranked = [[(-round(score, 9), number) for number, score in ranking] for ranking in (found, wanted)]
    assert [entry[0] for entry in ranked[0]] == [entry[0] for entry in ranked[1]]
    last = ranked[1][-1][0] if len(wanted) == 100 else 0.0  # which of the chunks with the lowest score come last is left open
    assert {entry for entry in ranked[0] if entry[0] < last} == {entry for entry in ranked[1] if entry[0] < last}


def test_stems_are_those_of_fts5(reference: sqlite3.Connection) -> None:
    words = sorted({word for _, _, body in chunks_of_docs() for word in re.findall(r"[a-z0-9_]+", body.lower())})
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE t USING fts5(x, tokenize = "{TOKENIZER}")')
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, 'instance')")
    connection.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", enumerate(words))
    found = {words[number]: term for term, number in connection.execute("SELECT term, doc FROM v")}
    assert len(found) > 3000
    assert {word: stem(word) for word in found} == found


def test_what_is_added_and_removed_step_by_step_is_what_a_new_index_holds(base: KnowledgeBase, make_document: Any, tmp_path: Path) -> None:
    chance = random.Random(5)
    words = [f"word{number}" for number in range(40)]
    there: set[str] = set()
    for step in range(40):
        name = f"{chance.randrange(30)}.md"
        if name in there and chance.random() < 0.5:
            base.remove(name)
            there.discard(name)
        else:
            sections = {f"S{part}": " ".join(chance.choices(words, k=12)) for part in range(chance.randrange(1, 4))}
            base.add_documents([Incoming(make_document(name, sections))])
            there.add(name)
        followed = [base.query(f"{words[step % 40]} {words[7]}", 50, mode="lexical").hits]
        if step % 4:
            continue
        with KnowledgeBase.open(base.home) as fresh:
            assert [fresh.query(f"{words[step % 40]} {words[7]}", 50, mode="lexical").hits] == followed


def test_numbers_of_chunks_are_never_used_again(base: KnowledgeBase, make_document: Any) -> None:
    base.add_document(make_document("a.md", {"A": "alpha beta"}))
    assert base.query("alpha", mode="lexical").hits[0].source.path == "a.md"
    with KnowledgeBase.open(base.home) as other:  # the last chunk goes and another comes: the count is the same, the content is not
        other.remove("a.md")
        other.add_document(make_document("b.md", {"B": "gamma delta"}))
    assert base.query("gamma", mode="lexical").hits[0].source.path == "b.md"
    assert not any("alpha" in hit.text for hit in base.query("alpha", mode="lexical").hits)


def test_a_base_of_the_former_schema_is_brought_up(base: KnowledgeBase, make_document: Any) -> None:
    from sqlalchemy import text

    base.add_document(make_document("a.md", {"A": "alpha beta"}))
    with base.catalogue.write() as connection:
        connection.execute(text("DROP TABLE chunk_words"))
        connection.execute(text("CREATE VIRTUAL TABLE chunks_fts USING fts5(path, body, parts)"))
        connection.execute(text("UPDATE meta SET value = '2' WHERE key = 'schema_version'"))
    base.close()
    with KnowledgeBase.open(base.home) as opened:
        assert opened.query("beta", mode="lexical").hits[0].source.path == "a.md"
        assert opened.check().problems == ()


def test_no_text_scores_as_much_as_the_most_that_its_query_allows() -> None:
    index = fulltext.TextIndex([("banks", "bank " * 200), ("", "shared memory banks"), ("", "a warp has lanes"), ("", "a grid has blocks")])
    terms = query_terms("shared memory banks")
    most = index.most(terms)
    assert all(0 < score < most for _, score in index.search(terms, 10))
    assert index.most([*terms, "zorkchip"]) == most
    assert index.most(["zorkchip"]) == 1.0
