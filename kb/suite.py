"""Suites of questions with known answers, in two forms.

A folder in BEIR form (Thakur et al. 2021) brings its own corpus: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv`. A folder with `questions.jsonl` asks about
documents that lie elsewhere: each line has `id`, `text`, `type`, `gold` (a list of `document` and `section`; empty: nothing answers it) and optionally
`target`, `split` and `wrong`. Which folders hold those documents says `repositories.json`, if it is there; else they are taken to be the first parts of their paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.errors import DocumentError
from kb.types import Document, Kind, Section

SPLITS = ("all", "dev", "held_out")
ALL_NEEDED = "multi_hop"
"""The type of question that is answered only by all of its gold together."""


@dataclass(frozen=True)
class Gold:
    """A place that answers a question."""

    document: str
    """Source of the document, or the end of it behind a slash."""
    section: str = ""
    """A heading on the path of the answer; empty: anywhere in the document."""
    grade: int = 1

    def holds(self, source: str, section_path: tuple[str, ...]) -> bool:
        """Return whether a chunk with this source and section path is such a place; marks of code and emphasis in a heading do not count."""
        return self.is_in(source) and (not self.section or _plain(self.section) in map(_plain, section_path))

    def is_in(self, source: str) -> bool:
        """Return whether a source is this document."""
        return source == self.document or source.endswith(f"/{self.document}")


def _plain(heading: str) -> str:
    """Return a heading as section paths hold it, without backticks and asterisks."""
    return heading.replace("`", "").replace("*", "")


@dataclass(frozen=True)
class Question:
    """One question with what answers it."""

    question_id: str
    text: str
    kind: str = "query"
    """For example `fact`, `paraphrase`, `multi_hop`, `unanswerable`."""
    target: str | None = None
    """The target that the asker works on, given as a filter."""
    gold: tuple[Gold, ...] = ()
    """Empty: the right answer is to abstain."""
    split: str = "dev"
    wrong: tuple[str, ...] = ()
    """Prefixes of sources that hold for another target than the question is about."""

    @property
    def needs_all(self) -> bool:
        """Whether all gold is needed rather than any."""
        return self.kind == ALL_NEEDED


@dataclass(frozen=True)
class CorpusSource:
    """A folder of documents that a suite asks about."""

    path: str
    """Relative to the root that the user gives; the first part of the documents' sources."""
    folders: tuple[str, ...] = ()
    """Only what lies below these folders of it; empty: all."""
    targets: tuple[str, ...] = ()
    """Targets of files that state none."""


@dataclass(frozen=True)
class Suite:
    """Questions, and the corpus if the suite brings one."""

    name: str
    folder: Path
    questions: tuple[Question, ...]
    has_corpus: bool
    sources: tuple[CorpusSource, ...] = ()
    """For a suite without a corpus: where its documents lie."""

    def documents(self) -> Iterator[Document]:
        """Yield the documents of a suite with a corpus."""
        for row in _rows(self.folder / "corpus.jsonl"):
            yield _document(row)


def read_suite(folder: Path, split: str = "all", limit: int | None = None) -> Suite:
    """Read a suite.

    Args:
        folder: A folder in either form; a path to `questions.jsonl` itself is fine too.
        split: `dev`, `held_out` or `all`; suites without splits have only `all`.
        limit: Only so many questions.

    Raises:
        DocumentError: A file is missing or broken, or no question is left.
        ValueError: No such split.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; known: {', '.join(SPLITS)}")
    folder = folder.parent if folder.name == "questions.jsonl" else folder
    if (folder / "questions.jsonl").is_file():
        suite = _read_questions(folder, split, limit)
    else:
        if split != "all":
            raise ValueError(f"{str(folder)!r} has no splits; leave --split out")
        suite = _read_beir(folder, limit)
    if not suite.questions:
        raise DocumentError(str(folder), f"no question of split {split!r} is left to ask")
    return suite


def _read_questions(folder: Path, split: str, limit: int | None) -> Suite:
    path = folder / "questions.jsonl"
    questions = []
    for number, row in _lines(path):
        try:
            question = _question(row)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise DocumentError(str(path), f"line {number} is not a question with `id`, `text`, `type` and `gold`: {err}") from err
        if split in ("all", question.split):
            questions.append(question)
    first = dict.fromkeys(gold.document.partition("/")[0] for question in questions for gold in question.gold)
    sources = _read_sources(folder / "repositories.json") or tuple(CorpusSource(name) for name in first)
    return Suite(folder.resolve().name, folder, tuple(questions[:limit]), False, sources)


def _read_sources(path: Path) -> tuple[CorpusSource, ...]:
    """Return the folders listed in `repositories.json`: `repository` (`owner/name` lies in `owner+name`), `folders`, `targets`."""
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            CorpusSource(row["repository"].replace("/", "+"), tuple(row.get("folders") or ()), tuple(row.get("targets") or ()))
            for row in rows
        )
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise DocumentError(str(path), f"is not a list of objects with `repository` and `folders`: {err}") from err


def _question(row: Mapping[str, Any]) -> Question:  # Any: JSON
    gold = tuple(Gold(str(item["document"]), str(item.get("section") or "")) for item in row["gold"])
    return Question(
        str(row["id"]),
        str(row["text"]),
        str(row["type"]),
        str(row["target"]) if row.get("target") else None,
        gold,
        str(row.get("split") or "dev"),
        tuple(str(item) for item in row.get("wrong") or ()),
    )


def _read_beir(folder: Path, limit: int | None) -> Suite:
    relevant: dict[str, list[Gold]] = {}
    path = next((folder / name for name in ("qrels.tsv", "qrels/test.tsv") if (folder / name).is_file()), folder / "qrels.tsv")
    if not path.is_file():
        raise DocumentError(str(path), "no such file; a suite has corpus.jsonl, queries.jsonl and qrels.tsv, or questions.jsonl")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if number == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue
        if len(fields) != 3:
            raise DocumentError(str(path), f"line {number} has {len(fields)} fields, not query, document and relevance")
        if int(fields[2]) > 0:
            relevant.setdefault(fields[0], []).append(Gold(fields[1], grade=int(fields[2])))
    if not (folder / "corpus.jsonl").is_file():
        raise DocumentError(
            str(folder / "corpus.jsonl"), "no such file; a suite has corpus.jsonl, queries.jsonl and qrels.tsv, or questions.jsonl"
        )
    rows = [(str(row["_id"]), str(row["text"])) for row in _rows(folder / "queries.jsonl")]
    questions = [Question(name, query, gold=tuple(relevant[name])) for name, query in rows if name in relevant]
    if not questions:
        raise DocumentError(str(folder), "no query of queries.jsonl occurs in the relevance file")
    return Suite(folder.resolve().name, folder, tuple(questions[:limit]), True)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:  # Any: JSON
    if not path.is_file():
        raise DocumentError(str(path), "no such file; a suite has corpus.jsonl, queries.jsonl and qrels.tsv, or questions.jsonl")
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as err:
                    raise DocumentError(str(path), f"line {number} is not JSON: {err}") from err


def _rows(path: Path) -> Iterator[Any]:  # Any: JSON
    for number, row in _lines(path):
        if not isinstance(row, dict) or not {"_id", "text"} <= row.keys():
            raise DocumentError(str(path), f"line {number} is not an object with `_id` and `text`")
        yield row


def _document(row: Mapping[str, Any]) -> Document:  # Any: JSON
    title, body = str(row.get("title") or ""), str(row["text"])
    lines = body.count("\n") + 1
    content_hash = hashlib.sha256(f"{title}\0{body}".encode()).hexdigest()
    return Document(str(row["_id"]), title, Kind.GUIDE, Section(title, 0, body, 1, lines, text_line=1, syntax="plain"), content_hash)
