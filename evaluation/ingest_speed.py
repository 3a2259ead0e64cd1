"""How much of ingestion is embedding: processor time of a whole `ingest` (reading, chunking, catalogue, vectors) against the bare embedder on the same texts.

    python -m evaluation.ingest_speed OUT.json DIR… [--documents 150] [--embedder minilm]

The aim is a share of at least 0.9: ingestion no slower than 1 / 0.9 of the embedder alone. Processor time of this process and its children, so that other load on the
machine counts little. `share` compares with the
bare embedder run afterwards, `share_within` with what embedding took in the same run: on a loaded machine the first differs by several hundredths from run to run; `share_of_wall_time` is right on a quiet machine alone.
The base is thrown away. What is hot outside the embedder is listed by function.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.embedders.registry import make_embedder
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest

if TYPE_CHECKING:
    from kb.embedders.base import Embedder, EmbedderIdentity, Vectors

AIM = 0.9
WARM_TEXTS = 600
"""Short texts embedded before: enough for the embedder to load what it uses for many texts."""
SUFFIXES = (".md", ".rst", ".html", ".ipynb", ".py")


class Recorder:
    """An embedder that keeps the texts it was given and the processor time they took."""

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.batches: list[list[str]] = []
        self.cpu_s = 0.0

    @property
    def max_tokens(self) -> int:
        """As the inner one."""
        return self.inner.max_tokens

    @property
    def identity(self) -> EmbedderIdentity:
        """As the inner one."""
        return self.inner.identity

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As the inner one."""
        return self.inner.count_tokens(texts)

    def embed_query(self, text: str) -> Vectors:
        """As the inner one."""
        return self.inner.embed_query(text)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """As the inner one, timed."""
        self.batches.append(list(texts))
        begin = processor_s()
        found = self.inner.embed_documents(texts)
        self.cpu_s += processor_s() - begin
        return found


def processor_s() -> float:
    """Return the processor time of this process and its finished children, in seconds."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(folders: Sequence[Path], documents: int, embedder_name: str) -> dict[str, Any]:  # Any: JSON
    """Return what ingestion and the bare embedder took."""
    found = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix in SUFFIXES)
    chosen = random.Random(0).sample(found, min(documents, len(found)))
    recorder = Recorder(make_embedder(embedder_name))
    recorder.embed_documents([f"warm {number}" for number in range(WARM_TEXTS)])
    recorder.batches, recorder.cpu_s = [], 0.0
    with tempfile.TemporaryDirectory(prefix="ingest-speed-") as name:
        pages = Path(name) / "pages"
        for number, path in enumerate(chosen):
            (pages / str(number)).mkdir(parents=True)
            shutil.copyfile(path, pages / str(number) / path.name)
        with KnowledgeBase.open(Path(name) / "home", embedder=recorder) as base:
            begin, clock = processor_s(), time.perf_counter()
            report = ingest([pages], base)
            whole, whole_wall = processor_s() - begin, time.perf_counter() - clock
        begin, clock = processor_s(), time.perf_counter()
        for texts in recorder.batches:
            recorder.inner.embed_documents(texts)
        bare, bare_wall = processor_s() - begin, time.perf_counter() - clock
        fresh = Recorder(make_embedder("hashing"))
        with KnowledgeBase.open(Path(name) / "second", embedder=fresh) as base, cProfile.Profile() as profile:
            ingest([pages], base)
    stats = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:12]  # type: ignore[attr-defined]  # typeshed lacks it
    return {
        "embedder": embedder_name,
        "documents": len(chosen),
        "chunks": report.chunks,
        "embedded_texts": report.embedded,
        "whole_cpu_s": round(whole, 2),
        "embedding_within_cpu_s": round(recorder.cpu_s, 2),
        "bare_embedder_cpu_s": round(bare, 2),
        "share": round(bare / whole, 4),
        "whole_wall_s": round(whole_wall, 2),
        "bare_embedder_wall_s": round(bare_wall, 2),
        "share_of_wall_time": round(bare_wall / whole_wall, 4),
        "share_within": round(recorder.cpu_s / whole, 4),
        "outside_ms_per_chunk": round(1000 * (whole - recorder.cpu_s) / max(1, report.chunks), 3),
        "aim": AIM,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "hottest_outside_s": {f"{Path(place[0]).name}:{place[2]}": round(values[2], 3) for place, values in rows},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the record; return 1 if the aim is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.ingest_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--documents", type=int, default=150)
    parser.add_argument("--embedder", default="minilm")
    chosen = parser.parse_args(arguments)
    record = measure(chosen.directories, chosen.documents, chosen.embedder)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(record, indent=1) + "\n")
    return 0 if record["share"] >= AIM else 1


if __name__ == "__main__":
    raise SystemExit(main())
