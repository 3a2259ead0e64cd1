"""Brings the documents that a suite of questions asks about into the suite's base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb.suite import Suite
from kb_ingest.pipeline import OnProgress, ingest


def bring_in_from(roots: Sequence[str], on_progress: OnProgress | None = None) -> Callable[[KnowledgeBase, Suite], None]:
    """Return a function that ingests a suite's documents from folders on this machine.

    Args:
        roots: `FOLDER` (the suite's paths start there) or `NAME=FOLDER` (the paths under `NAME/` start there).
        on_progress: See `ingest`.
    """
    named = dict(entry.split("=", 1) for entry in roots if "=" in entry)
    plain = [Path(entry) for entry in roots if "=" not in entry]

    def bring_in(base: KnowledgeBase, suite: Suite) -> None:
        for source in suite.sources:
            if source.path in named:
                folder = Path(named[source.path])
            else:
                folder = next((root / source.path for root in plain if (root / source.path).exists()), Path(source.path))
            if not folder.exists():
                raise DocumentError(
                    source.path, f"the suite asks about it, but it is not there; give --root FOLDER or --root {source.path}=FOLDER"
                )
            ingest(
                [folder],
                base,
                include=[f"/{name.strip('/')}/**" for name in source.folders],
                defaults={"targets": list(source.targets)} if source.targets else None,
                on_progress=on_progress,
            )

    return bring_in
