"""How fast the knowledge base answers at size: cold, through a server, at 100,000 chunks and at more; what it takes of memory and disk.

```
python -m evaluation.kb_speed --corpus MANUALS --work DIR                       # 100,000 chunks
python -m evaluation.kb_speed --corpus MANUALS --work DIR --chunks 1000000      # keeps DIR/base-1000000 for the next time
```

Text: the Markdown and reStructuredText of the corpus, taken in as any other, then copies of its chunks (`evaluation/kb_copies.py`) in which one word in seven is
another word of the corpus, so that the vocabulary and its frequencies stay real. Vectors: of the packaged MiniLM for the corpus; a copy's is the original's with
noise added (cosine about 0.8). Queries: half headings, half stretches of 4 to 12 words, drawn with a fixed seed. Times are wall times; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.kb_copies import multiply
from kb.catalogue import vector_key
from kb.client import KnowledgeClient
from kb.discovery import running
from kb.embedders.minilm import MiniLmEmbedder
from kb.store import Incoming, KnowledgeBase
from kb.types import Document, Filters

if TYPE_CHECKING:
    from kb.embedders.base import EmbedderIdentity, Vectors

log = logging.getLogger("kb_speed")

REAL_CHUNKS = 10_000
QUERIES = 300
COLD_RUNS = 5
TARGETS = ("nvidia", "amd", "cuda:sm_90", "generic", "cpu")
RESULTS = Path(__file__).parent / "results" / "kb-speed"
SEED = 20


class KnownVectors:
    """MiniLM that takes the vectors of texts that other bases of MiniLM hold. An index of it is one of MiniLM.

    Args:
        homes: Of those bases.
    """

    def __init__(self, homes: Sequence[Path]) -> None:
        self._real = MiniLmEmbedder(bulk_texts=1 << 30)  # NumPy throughout: the import of sentence-transformers does not pay here
        self._known = [sqlite3.connect(f"file:{home / 'kb' / 'catalogue.sqlite'}?mode=ro", uri=True) for home in homes]

    @property
    def max_tokens(self) -> int:
        """As MiniLM."""
        return self._real.max_tokens

    @property
    def identity(self) -> EmbedderIdentity:
        """As MiniLM."""
        return self._real.identity

    def embed_query(self, text: str) -> Vectors:
        """As MiniLM."""
        return self._real.embed_query(text)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As MiniLM."""
        return self._real.count_tokens(texts)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors."""
        import numpy as np

        found = [self._looked_up(text) for text in texts]
        missing = [position for position, vector in enumerate(found) if vector is None]
        if missing:
            for position, vector in zip(missing, self._real.embed_documents([texts[position] for position in missing]), strict=True):
                found[position] = vector
        return np.stack([vector for vector in found if vector is not None])

    def _looked_up(self, text: str) -> Vectors | None:
        import numpy as np

        for catalogue in self._known:
            row = catalogue.execute("SELECT vector FROM vectors WHERE vector_hash = ?", (vector_key(text),)).fetchone()
            if row is not None:
                return np.frombuffer(row[0], dtype="<f4")
        return None


def read_corpus(folders: Sequence[Path], chance: random.Random) -> list[Document]:
    """Return the documents of the corpus in a random but fixed order, with targets dealt out in turn."""
    from kb_ingest.readers.base import RawFile
    from kb_ingest.readers.registry import reader_for

    paths = sorted(path for folder in folders for ending in ("*.md", "*.rst") for path in folder.rglob(ending) if path.is_file())
    chance.shuffle(paths)
    documents = []
    for number, path in enumerate(paths):
        data = path.read_bytes()
        if not 500 <= len(data) <= 200_000:
            continue
        file = RawFile(f"{number}/{path.name}", data, {})
        try:
            document = reader_for(file).read(file)
        except Exception as err:  # the outside: pages of others
            log.info("left out: %s: %s", path, err)
            continue
        documents.append(replace(document, source=file.source, targets=(TARGETS[number % len(TARGETS)],)))
    return documents


def build(
    home: Path, num_chunks: int, folders: Sequence[Path], real_chunks: int, known: Sequence[Path], jobs: int
) -> dict[str, Any]:  # Any: JSON
    """Build the base, or go on building it; return what it took. Vectors stay in the catalogue: up to 3,000,000 chunks no search asks Chroma."""
    begin = time.perf_counter()
    documents = read_corpus(folders, random.Random(SEED))
    with KnowledgeBase.open(home, embedder=KnownVectors(known)) as base:
        for start in range(0, len(documents), 20):
            if _num_chunks(base) >= real_chunks:
                break
            base.add_documents([Incoming(document) for document in documents[start : start + 20]])
            if start % 200 == 0:
                log.info("%d documents of %d, %.0f s", start, len(documents), time.perf_counter() - begin)
        originals = _num_chunks(base)
    real = time.perf_counter() - begin
    total = multiply(home / "kb" / "catalogue.sqlite", num_chunks, jobs)
    copies = time.perf_counter() - begin - real
    with KnowledgeBase.open(home, embedder="minilm") as base:
        with base.catalogue.write() as connection:
            base.catalogue.record_embedder(connection, "minilm", MiniLmEmbedder().identity)
        base.query("warm up")  # writes the files that later processes map
    files = time.perf_counter() - begin - real - copies
    seconds = {"real_seconds": round(real, 1), "copies_seconds": round(copies, 1), "index_files_seconds": round(files, 1)}
    return {"chunks": total, "originals": originals, **seconds, "load_average": os.getloadavg()[0]}


def queries_of(home: Path, how_many: int) -> list[str]:
    """Return headings and stretches of text of random chunks."""
    from sqlalchemy import text

    chance = random.Random(SEED + 1)
    found: list[str] = []
    with KnowledgeBase.open(home) as base, base.catalogue.read() as connection:
        last = int(connection.execute(text("SELECT max(number) FROM chunks")).scalar_one())
        while len(found) < how_many:
            row = connection.execute(
                text("SELECT section_path, text FROM chunks WHERE number >= :number ORDER BY number LIMIT 1"),
                {"number": chance.randint(1, last)},
            ).one()
            words = re.findall(r"\S+", row[1] if len(found) % 2 else " ".join(json.loads(row[0])[-2:]))
            first = chance.randrange(max(1, len(words) - 12))
            query = " ".join(words[first : first + chance.randint(4, 12)])
            if len(query) > 10:
                found.append(query)
    return found


def distribution(samples_s: Sequence[float]) -> dict[str, float]:
    """Return median, 90th and 99th percentile and maximum in milliseconds."""
    ordered = sorted(samples_s)
    place = {name: min(len(ordered) - 1, int(share * len(ordered))) for name, share in (("p90", 0.90), ("p99", 0.99))}
    values = {"median": statistics.median(ordered), **{name: ordered[index] for name, index in place.items()}, "max": ordered[-1]}
    return {f"{name}_ms": round(1000 * value, 2) for name, value in values.items()}


def time_server(home: Path, queries: Sequence[str]) -> dict[str, Any]:  # Any: JSON
    """Return latencies through a running server, the embedder's share, and the server's memory."""
    embedder = MiniLmEmbedder()
    embedder.embed_query("warm up")
    embedding = [_timed(lambda query=query: embedder.embed_query(query)) for query in queries]
    found: dict[str, Any] = {"embedder_alone": distribution(embedding), "queries": len(queries)}  # Any: JSON
    with served(home) as (client, pid):
        begin = time.perf_counter()
        client.query(queries[0])
        found["first_query_s"] = round(time.perf_counter() - begin, 2)
        for name, filters in (("all", Filters()), ("target", Filters(target="cuda:sm_90"))):
            for query in queries[:40]:
                client.query(query, filters=filters)
            for mode in ("hybrid", "dense", "lexical"):
                samples = [
                    _timed(lambda query=query, f=filters, m=mode: client.query(query, filters=f, mode=m, infer_target=False))
                    for query in queries
                ]
                found[f"{name}_{mode}"] = distribution(samples)
                if mode == "hybrid":
                    apart = [max(0.0, sample - embedded) for sample, embedded in zip(samples, embedding, strict=True)]
                    found[f"{name}_{mode}_without_embedder"] = distribution(apart)
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        found["memory_mb"] = {
            name: round(int(value) / 1024)
            for name, value in re.findall(r"^(VmRSS|RssAnon|RssFile|VmHWM):\s+(\d+) kB", status, re.MULTILINE)
        }
    return found


def time_cold(home: Path, queries: Sequence[str]) -> dict[str, Any]:  # Any: JSON
    """Return how long `kb query` takes from a fresh process without a server, and its imports alone."""
    command = [sys.executable, "-m", "kb.cli"]
    environment = {**os.environ, "KEVOLVE_HOME": str(home)}
    runs = [
        _timed(lambda query=query: subprocess.run([*command, "query", query], env=environment, capture_output=True)) for query in queries
    ]
    imports = [_timed(lambda: subprocess.run([*command, "--help"], env=environment, capture_output=True)) for _ in queries]
    return {"query": distribution(runs), "help": distribution(imports)}


def time_unchanged(folder: Path, how_many: int = 1000) -> dict[str, Any]:  # Any: JSON
    """Return how long the second ingestion of unchanged documents takes, in a process and as a command."""
    from kb_ingest.pipeline import ingest

    pages = folder / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    for number in range(how_many):
        (pages / f"{number}.md").write_text(
            f"# Page {number}\n\nSome text about page {number}.\n\n## More\n\nAnd more of it.\n", encoding="utf-8"
        )
    environment = {**os.environ, "KEVOLVE_HOME": str(folder / "home")}
    with KnowledgeBase.open(folder / "home", embedder="hashing") as base:
        ingest([pages], base)
        begin = time.perf_counter()
        report = ingest([pages], base)
        again = time.perf_counter() - begin
    command = _timed(
        lambda: subprocess.run([sys.executable, "-m", "kb.cli", "ingest", str(pages)], env=environment, capture_output=True, check=True)
    )
    return {"documents": report.unchanged, "seconds": round(again, 3), "command_seconds": round(command, 3)}


def coarse_agreement(home: Path, queries: Sequence[str], top_k: int = 10) -> dict[str, Any]:  # Any: JSON
    """Return the share of the exact nearest chunks that the coarse scan finds."""
    from kb.dense import ScanLeg, Snapshots

    embedder = MiniLmEmbedder()
    shares: list[float] = []
    pools: list[float] = []
    with KnowledgeBase.open(home) as base, base.catalogue.read() as connection:
        state = Snapshots(base.catalogue.folder).at(connection)
        for query in queries[:100]:
            vector = embedder.embed_query(query)
            for k, kept in ((top_k, shares), (200, pools)):
                exact = {number for number, _ in ScanLeg(state, vector, None, exact_rows=1 << 40).nearest(k)}
                coarse = {number for number, _ in ScanLeg(state, vector, None, exact_rows=0).nearest(k)}
                kept.append(len(exact & coarse) / len(exact))
    return {"recall_at_10": round(statistics.mean(shares), 4), "recall_at_200": round(statistics.mean(pools), 4)}


@contextmanager
def served(home: Path) -> Iterator[tuple[KnowledgeClient, int]]:
    """Run `kb serve` over a home."""
    environment = {**os.environ, "KEVOLVE_HOME": str(home)}
    with subprocess.Popen([sys.executable, "-m", "kb.cli", "serve", "--port", "0"], env=environment) as process:
        try:
            while (record := running(home / "kb")) is None or record.pid != process.pid:
                if process.poll() is not None:
                    raise RuntimeError("the server did not start")
                time.sleep(0.05)
            with KnowledgeClient(record.url) as client:
                while not client.health()["warm"]:
                    time.sleep(0.1)
                yield client, process.pid
        finally:
            process.terminate()
            process.wait(60)


def sizes(home: Path) -> dict[str, int]:
    """Return the size of each file or folder of the base in megabytes."""
    found = {}
    for path in sorted((home / "kb").iterdir()):
        files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
        found[path.name] = round(sum(item.stat().st_size for item in files) / 1e6)
    return found


def _num_chunks(base: KnowledgeBase) -> int:
    with base.catalogue.read() as connection:
        return base.catalogue.counts(connection)["chunks"]


def _timed(work: Any) -> float:  # Any: a callable
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Build, measure, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="folders with Markdown and reStructuredText")
    parser.add_argument("--work", type=Path, required=True, help="where bases are built and kept")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument(
        "--vectors-from", type=Path, nargs="+", default=[], help="homes of bases of MiniLM whose vectors are taken for equal texts"
    )
    parser.add_argument(
        "--real-chunks", type=int, default=REAL_CHUNKS, help="chunks of the corpus with vectors of their own; the rest are copies"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that make copies")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--build-only", action="store_true")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    home = chosen.work / f"base-{chosen.chunks}"
    about = home / "built.json"
    if not about.exists():
        about.parent.mkdir(parents=True, exist_ok=True)
        built = build(home, chosen.chunks, chosen.corpus, chosen.real_chunks, chosen.vectors_from, chosen.jobs)
        about.write_text(json.dumps(built), encoding="utf-8")
    if chosen.build_only:
        return
    queries = queries_of(home, chosen.queries)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip(),
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine(), "load_average": os.getloadavg()[0]},
        "python": platform.python_version(),
        "build": json.loads(about.read_text(encoding="utf-8")),
        "server": time_server(home, queries),
        "cold": time_cold(home, queries[:COLD_RUNS]),
        "coarse_scan": coarse_agreement(home, queries),
        "unchanged": time_unchanged(chosen.work / f"unchanged-{os.getpid()}"),
        "disk_mb": sizes(home),
        "command": f"python -m evaluation.kb_speed --corpus MANUALS --work DIR --chunks {chosen.chunks} --queries {chosen.queries}",
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{chosen.chunks}-chunks.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
