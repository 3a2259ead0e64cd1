"""What the children do: carry an operation out and die on the way, examine a base, be one of a crowd."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kb.embedders.hashing import HashingEmbedder
from kb.store import KnowledgeBase
from kb.types import Filters
from kb.vectors import ChromaStore
from kb_ingest.pipeline import ingest

OPERATIONS = ("ingest", "remove", "reembed")
REMOVED = ("manual/part3.md", "manual/part4.md", "manual/part5.md")


def write_folder(folder: Path, edition: int) -> None:
    """Write the folder `manual` as it is before (1) or after (2) an afternoon's work on it."""
    manual = folder / "manual"
    manual.mkdir(parents=True, exist_ok=True)
    for number in range(8):
        body = "".join(
            f"## Section {index}\n\nUnit {number} of block {index} keeps token{number}x{index} in {16 * (number + 1)} banks.\n\n"
            for index in range(3)
        )
        (manual / f"part{number}.md").write_text(f"---\ntargets: [{'nvidia' if number % 2 else 'amd'}]\n---\n# Part {number}\n\n{body}")
    if edition == 2:
        for number in (0, 1):
            path = manual / f"part{number}.md"
            path.write_text(path.read_text().replace("## Section 1\n", "## Section 1\n\nEdited: see fresh words.\n"))
        (manual / "part2.md").rename(manual / "moved.md")
        (manual / "part3.md").unlink()
        (manual / "part6.md").write_text((manual / "part6.md").read_text().replace("targets: [amd]", "targets: [mtia, cpu]"))
        (manual / "new.md").write_text("# New\n\nA page that was not there.\n")


def _point_at(dies_at: int) -> Callable[[], int]:
    """Count fault points in this process from now on and kill it at one of them; return what tells the count."""
    from sqlalchemy import Engine, event

    count = 0

    def point(*_: object, **__: object) -> None:
        nonlocal count
        count += 1
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", point)
    event.listen(Engine, "commit", point)

    def around(owner: type, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*arguments: Any, **options: Any) -> Any:  # Any: whatever the method takes and returns
            point()
            result = inner(*arguments, **options)
            point()
            return result

        setattr(owner, name, outer)

    for name in ("upsert", "delete", "drop"):
        around(ChromaStore, name)
    around(HashingEmbedder, "embed_documents")
    return lambda: count


def _operate(base: KnowledgeBase, folder: Path, operation: str) -> None:
    if operation == "ingest":
        ingest([folder / "manual"], base)
    elif operation == "remove":
        for source in REMOVED:
            base.remove(source)
    else:
        base.change_embedder("hashing:64")


def victim(home: str, operation: str, dies_at: int, environment: Mapping[str, str], answer: str) -> None:
    """Build the base, then carry the operation out, killed at a fault point (0: at none)."""
    os.environ.update(environment)
    folder = Path(home).parent
    with KnowledgeBase.open(home, embedder="hashing") as base:
        ingest([folder / "manual"], base)
    write_folder(folder, 2 if operation == "ingest" else 1)
    with KnowledgeBase.open(home) as base:
        count = _point_at(dies_at)
        Path(answer + ".armed").touch()
        begin = time.monotonic()
        _operate(base, folder, operation)
        seconds = time.monotonic() - begin
    Path(answer).write_text(json.dumps({"points": count(), "seconds": seconds}))


def examiner(home: str, operation: str, mended_by: str, environment: Mapping[str, str], answer: str) -> None:
    """Check, mend (`repair`: by `check --repair`; `again`: by running the operation again), complete the operation, and say what the base then holds."""
    os.environ.update(environment)
    folder = Path(home).parent
    with KnowledgeBase.open(home) as base:
        found = base.check().problems
        if mended_by == "again":
            _operate(base, folder, operation)
        left = base.check(repair=mended_by == "repair").problems if found else ()
        if mended_by == "repair":
            _operate(base, folder, operation)
        ingest([folder / "manual"], base, exclude=[Path(source).name for source in REMOVED] if operation == "remove" else ())
        outcome = {"problems": found, "problems_after_mending": left, "problems_at_end": base.check().problems, **_contents(base)}
    Path(answer).write_text(json.dumps(outcome))


def _contents(base: KnowledgeBase) -> dict[str, Any]:  # Any: JSON
    from sqlalchemy import text

    with base.catalogue.read() as connection:
        rows = connection.execute(
            text(
                "SELECT d.source, c.section_path, c.text, c.line_start, c.line_end FROM chunks c JOIN documents d ON d.document_id = c.document_id"
            )
        ).all()
        lengths = [int(row[0]) for row in connection.execute(text("SELECT DISTINCT length(vector) FROM vectors"))]
        targets = [list(row) for row in connection.execute(text("SELECT document_id, target FROM document_targets ORDER BY 1, 2"))]
    stale = set()
    gone = {*REMOVED, "manual/part2.md"} - {stored.source for stored in base.documents()}
    for mode in ("dense", "lexical", "hybrid"):
        for number in range(8):
            hits = base.query(f"Unit {number} keeps token{number}x1 in banks", 50, Filters(), mode=mode).hits
            stale |= {hit.source.path for hit in hits if hit.source.path in gone}
    return {
        "chunks": sorted(json.dumps(list(row), default=str) for row in rows),
        "lengths": lengths,
        "targets": targets,
        "stale": sorted(stale),
    }


def crowd_member(home: str, number: int, seconds: float, environment: Mapping[str, str], answer: str) -> None:
    """Ingest, find, remove and no longer find documents of one's own, beside others who do the same."""
    os.environ.update(environment)
    folder = Path(home).parent / f"crowd{number}"
    folder.mkdir(exist_ok=True)
    rounds, queries = 0, 0
    stale: list[str] = []
    missing: list[str] = []
    errors: list[str] = []
    end = time.monotonic() + seconds
    while rounds < 2 or time.monotonic() < end:
        word = f"quark{number}v{rounds}"
        kept, gone = folder / "kept.md", folder / f"gone{rounds}.md"
        kept.write_text(f"# Kept\n\nThe word of the hour is {word}.\n\n## Fixed\n\nThis part stays.\n")
        gone.write_text(f"# Gone\n\nSoon removed: lepton{number}v{rounds} decays.\n")
        try:
            with KnowledgeBase.open(home, embedder="hashing") as base:
                ingest([folder], base)
                for mode in ("dense", "lexical", "hybrid"):
                    queries += 2
                    for wanted, place in ((word, kept), (f"lepton{number}v{rounds} decays", gone)):
                        if not any(place.name in hit.source.path for hit in base.query(wanted, 20, mode=mode).hits):
                            missing.append(f"{mode} {wanted}")
                source = next(stored.source for stored in base.documents() if stored.path == str(gone.absolute()))
                gone.unlink()
                ingest([folder], base)
                for mode in ("dense", "lexical", "hybrid"):
                    queries += 1
                    hits = base.query(f"Soon removed: lepton{number}v{rounds} decays", 50, mode=mode).hits
                    stale += [f"{mode} {source}" for hit in hits if hit.source.path == source]
        except Exception as err:  # the outside: every error counts, of whatever kind
            errors.append(f"{type(err).__name__}: {err}"[:400])
        rounds += 1
    Path(answer).write_text(json.dumps({"rounds": rounds, "queries": queries, "stale": stale, "missing": missing, "errors": errors}))


def check_only(home: str, environment: Mapping[str, str], answer: str) -> None:
    os.environ.update(environment)
    with KnowledgeBase.open(home) as base:
        Path(answer).write_text(json.dumps({"problems": base.check().problems}))
