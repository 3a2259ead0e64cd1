"""The manuals suite: questions over the documentation of public repositories, fetched at fixed commits and never stored here.

`fetch` brings the folders that `repositories.json` names into one directory, one folder `<owner>+<name>` a repository, which is how the gold of
`questions.jsonl` names its documents. `check` proves against such a directory what the suite claims: that every gold section exists, that a
paraphrase shares no content word with its gold section, and that what an unanswerable question asks for is named nowhere. Retrieval is measured
by `kb eval`, not here.

    python -m evaluation.manuals fetch DIR [REPOSITORY…]
    python -m evaluation.manuals check DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from kb.errors import DocumentError
from kb.types import Document, Section
from kb.words import STOP_WORDS, split_identifier, stem, tokens
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.registry import reader_for
from kb_ingest.walk import walk

SUITE = Path(__file__).resolve().parent / "suites" / "manuals"


@dataclass(frozen=True)
class Repository:
    """A public repository at a fixed commit."""

    repository: str
    """`owner/name` on GitHub."""
    commit: str
    folders: tuple[str, ...]
    """The folders that belong to the corpus."""

    @property
    def folder(self) -> str:
        """The name of its folder in the corpus."""
        return self.repository.replace("/", "+")


@dataclass(frozen=True)
class Gold:
    """A section that answers a question."""

    document: str
    """Path from the corpus directory."""
    section: str
    """The heading as plain text."""


@dataclass(frozen=True)
class Question:
    """One question with what answers it."""

    id: str
    text: str
    type: str
    gold: tuple[Gold, ...]
    """Empty: nothing in the corpus answers it."""
    split: str
    wrong: tuple[str, ...] = ()
    """Prefixes of documents about other targets, which tempt by their words."""
    absent: tuple[str, ...] = ()
    """Words that an answer would have to contain and that occur nowhere in the corpus."""


def read_repositories(suite: Path = SUITE) -> tuple[Repository, ...]:
    """Return the repositories of the corpus."""
    rows = json.loads((suite / "repositories.json").read_text(encoding="utf-8"))
    return tuple(Repository(row["repository"], row["commit"], tuple(row["folders"])) for row in rows)


def read_questions(suite: Path = SUITE) -> tuple[Question, ...]:
    """Return the questions in the order of the file."""
    rows = [json.loads(line) for line in (suite / "questions.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()]
    return tuple(
        Question(
            id=row["id"],
            text=row["text"],
            type=row["type"],
            gold=tuple(Gold(item["document"], item["section"]) for item in row["gold"]),
            split=row["split"],
            wrong=tuple(row.get("wrong", ())),
            absent=tuple(row.get("absent", ())),
        )
        for row in rows
    )


def fetch(repository: Repository, directory: Path) -> None:
    """Check out the folders of one repository at its commit below `directory`, without its history.

    Raises:
        EvaluationError: git failed; its message is included.
    """
    target = directory / repository.folder
    target.mkdir(parents=True, exist_ok=True)
    for arguments in (
        ("init", "--quiet"),
        ("config", "remote.origin.url", f"https://github.com/{repository.repository}"),
        ("config", "remote.origin.promisor", "true"),
        ("sparse-checkout", "set", *repository.folders),
        ("fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", repository.commit),
        ("checkout", "--quiet", repository.commit),
    ):
        result = subprocess.run(["git", *arguments], cwd=target, capture_output=True, text=True, check=False)
        if result.returncode:
            raise EvaluationError(f"git {arguments[0]} failed for {repository.repository}: {result.stderr.strip()}")


def corpus_files(directory: Path, repositories: Sequence[Repository]) -> Iterator[Path]:
    """Yield the files of the corpus that lie in the named folders."""
    for repository in repositories:
        for folder in repository.folders:
            yield from (found.path for found in walk(directory / repository.folder / folder))


def read_document(directory: Path, document: str) -> Document:
    """Return one document of the corpus.

    Raises:
        DocumentError: It is missing or broken.
    """
    path = directory / document
    if not path.is_file():
        raise DocumentError(document, f"no such file below {directory}")
    file = RawFile(document, path.read_bytes())
    return reader_for(file).read(file)


def sections(document: Document) -> Iterator[Section]:
    """Yield all sections of a document, the root first."""
    pending = [document.root]
    while pending:
        section = pending.pop()
        yield section
        pending += reversed(section.children)


def content_words(text: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning, parts of identifiers included."""
    found = [part for token in text.split() for word in (token, *split_identifier(token)) for part in tokens(word)]
    return frozenset(stem(word) for word in found if word not in STOP_WORDS and len(word) > 1 and not word.isdigit())


def check(directory: Path, suite: Path = SUITE) -> list[str]:
    """Return what of the suite's claims does not hold for the corpus, one line each."""
    questions, findings = read_questions(suite), []
    documents: dict[str, Document] = {}
    for question in questions:
        for gold in question.gold:
            try:
                document = documents.get(gold.document) or documents.setdefault(gold.document, read_document(directory, gold.document))
            except DocumentError as err:
                findings.append(f"{question.id}: {err}")
                continue
            found = [section for section in sections(document) if section.title == gold.section]
            if not found:
                findings.append(f"{question.id}: no section {gold.section!r} in {gold.document}")
            shared = content_words(question.text) & content_words(gold.section + " " + " ".join(section.text for section in found[-1:]))
            if question.type == "paraphrase" and shared:
                findings.append(f"{question.id}: shares {sorted(shared)} with {gold.document} {gold.section!r}")
    return findings + _check_absent(directory, suite, {word: question.id for question in questions for word in question.absent})


def _check_absent(directory: Path, suite: Path, absent: Mapping[str, str]) -> list[str]:
    findings = []
    for path in corpus_files(directory, read_repositories(suite)):
        text = path.read_text(encoding="utf-8", errors="replace").lower()
        findings += [f"{name}: {word!r} occurs in {path.relative_to(directory)}" for word, name in absent.items() if word.lower() in text]
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit code 1: `check` has findings, 3: `fetch` failed."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.manuals", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("fetch", "check"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("repositories", nargs="*", help="only these (owner/name)")
    options = parser.parse_args(arguments)
    if options.command == "check":
        findings = check(options.directory)
        sys.stdout.writelines(f"{line}\n" for line in findings)
        return 1 if findings else 0
    for repository in read_repositories():
        if not options.repositories or repository.repository in options.repositories:
            sys.stderr.write(f"fetching {repository.repository}@{repository.commit[:12]}\n")
            try:
                fetch(repository, options.directory)
            except EvaluationError as err:
                sys.stderr.write(f"{err}\n")
                return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
