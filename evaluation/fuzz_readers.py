"""Fuzzing of the readers: mutated files through every reader, the chunker and the links, each with limits on processor time and memory in a child process.

    python -m evaluation.fuzz_readers OUT --corpus DIR… --seconds 600 [--seed 0]
    python -m evaluation.fuzz_readers OUT --corpus DIR… --replay NUMBER          # one input of the same seed and corpus again
    python -m evaluation.fuzz_readers OUT --corpus DIR… --engine hypothesis      # pieces of markup put together; findings are made small
    python -m evaluation.fuzz_readers OUT --corpus DIR… --engine atheris         # guided by coverage; needs the package atheris

A finding is: any exception but `DocumentError`, the death of the child, more than `INPUT_SECONDS` of processor time, more than `INPUT_MEGABYTES` of growth, or a
chunk whose text does not stand at its span. OUT gets `report.json` (`hypothesis.json`) and `findings.jsonl`; the inputs themselves are written only to `--keep DIR`, since they are
made of other people's files. Input NUMBER depends on the seed and the files of the corpus alone.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kb.chunking import LEAST_CHARACTERS, chunk_document, drop_data_images, flatten
from kb.errors import DocumentError
from kb.links import links_in
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.registry import READERS

MAX_BYTES = 65_536
"""Of one input."""
INPUT_SECONDS = 20
"""Processor time for one input; usual ones take a thousandth of it."""
INPUT_MEGABYTES = 500
CHILD_BYTES = 4 * 1024**3
WALL_SECONDS = 600.0
"""A child that says nothing for so long hangs without using the processor."""
PDF_SHARE = 0.03
"""Of the inputs: each PDF costs a process of its own."""
MAX_SEEDS = 400
"""Files of the corpus for each reader."""
TOKENS = (
    "#", "```", "~~~", "|", "|-|-|\n", "---\n", "...\n", "<table>", "</table>", "<!--", "-->", "<a href=\"", "<pre>", "<h1>", "</h1>", "<script>", "&#x", ".. ", "::\n\n",
    ".. |a| replace:: |a|\n", ".. _a:\n", ":ref:`", "`", "===\n", "+---+\n", "== ==\n", "(data:", "[", "](", "\x00", "\ufeff", "\u2028", "\r", "\f", "\t", " ", "\n", "{", "}", '"',
    '"cells":[', "\\", "/*", "*/", "template<", "namespace a {", "__global__", "def f(", "class A:\n", "@", "    ", "(a)=\n", "{include}", "𝕏", "\ud800",
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """Bytes for a reader."""

    number: int
    reader: str
    origin: str
    """File of the corpus that it was made of."""
    data: bytes


def seeds_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return files of the corpus by the reader that their ending names, evenly drawn, in a fixed order."""
    found: dict[str, list[Path]] = {name: [] for name in READERS}
    suffixes = {suffix: name for name, reader in READERS.items() for suffix in reader.suffixes}
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        name = suffixes.get(path.suffix.lower())
        if name and 0 < path.stat().st_size <= 16 * MAX_BYTES:
            found[name].append(path)
    return {name: random.Random(0).sample(paths, min(MAX_SEEDS, len(paths))) for name, paths in found.items()}


def make_input(seeds: dict[str, list[Path]], seed: int, number: int) -> Input:
    """Return input `number` of a seed."""
    chance = random.Random(f"{seed} {number}")
    reader = "pdf" if chance.random() < PDF_SHARE else chance.choice(sorted(set(READERS) - {"pdf"}))
    others = [name for name in sorted(seeds) if seeds[name]]
    name = (
        reader
        if seeds[reader] and (reader == "pdf" or chance.random() < 0.85 or not others)
        else (chance.choice(others) if others else reader)
    )
    if not seeds[name]:
        return Input(number, reader, "", _mutated(b"", b"", chance))
    path = chance.choice(seeds[name])
    second = chance.choice(seeds[chance.choice(others)])
    limit = MAX_BYTES * (8 if reader == "pdf" else 1)
    return Input(number, reader, str(path), _mutated(_window(path, limit, chance), _window(second, 4096, chance), chance, limit))


def _window(path: Path, limit: int, chance: random.Random) -> bytes:
    data = path.read_bytes()
    begin = chance.randrange(len(data) - limit) if len(data) > limit and chance.random() < 0.5 else 0
    return data[begin : begin + limit]


def _mutated(data: bytes, other: bytes, chance: random.Random, limit: int = MAX_BYTES) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        _mutate(changed, other, chance)
    return bytes(changed[:limit])


def _mutate(data: bytearray, other: bytes, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    end = min(len(data), place + chance.choice((1, 4, 40, 400)))
    kind = chance.randrange(8)
    if kind == 0:
        data[place:end] = bytes(chance.randrange(256) for _ in range(end - place))
    elif kind == 1:
        del data[place:end]
    elif kind == 2:
        data[place:place] = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
    elif kind == 3:
        data[place:place] = chance.choice(TOKENS).encode("utf-8", "surrogatepass") * chance.choice((10, 1000, 20_000))
    elif kind == 4:
        data[place:place] = bytes(data[place:end]) * chance.choice((2, 30, 1000))
    elif kind == 5:
        data[place:place] = other[: chance.choice((20, 400, 4096))]
    elif kind == 6:
        lines = bytes(data).split(b"\n")
        chance.shuffle(lines)
        data[:] = b"\n".join(lines)
    else:
        del data[place:]


def examine(reader: str, data: bytes) -> str:
    """Read, chunk and look for links; return `document` or `refused`.

    Raises:
        AssertionError: A chunk does not stand at its span.
    """
    try:
        document = READERS[reader]().read(RawFile("fuzz/input", data))
    except DocumentError as err:
        assert err.reason
        return "refused"
    assert document.title
    placed: dict[int, str] = {}
    for section, _, _ in flatten(document.root, document.title):
        links_in(section)
        if section.text:
            placed |= dict(enumerate(section.text.split("\n"), start=section.text_line or section.line_start + (section.level > 0)))
    for leaf in chunk_document(document, "fuzz", lambda texts: [len(text) // 4 + 1 for text in texts], 256):
        chunk = leaf.chunk
        span = drop_data_images("\n".join(placed.get(number, "") for number in range(chunk.line_start, chunk.line_end + 1)))
        is_part = chunk.line_start == chunk.line_end and chunk.text in span
        assert chunk.text == span or is_part, f"lines {chunk.line_start} to {chunk.line_end} are not the chunk"
        assert len(chunk.text) <= 400 * max(LEAST_CHARACTERS, 256) or chunk.block == "table", "a chunk far above the budget"
    return "document"


def serve(stream: BinaryIO) -> None:
    """Examine inputs from a stream until it ends; answer each with a line of JSON. The kernel ends the process at its limit of processor time."""
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while header := stream.read(8):
        name_length, length = struct.unpack("<II", header)
        reader, data = stream.read(name_length).decode(), stream.read(length)
        begin = time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_CPU, (int(begin) + INPUT_SECONDS + 1, resource.RLIM_INFINITY))
        answer: dict[str, Any] = {}  # Any: JSON
        try:
            answer["outcome"] = examine(reader, data)
        except Exception as err:  # the outside: whatever a reader raises is a finding
            answer |= {"outcome": "exception", "detail": f"{err!r}\n{''.join(traceback.format_tb(err.__traceback__)[-3:])}"[:2000]}
        answer["cpu_s"] = round(time.process_time() - begin, 4)
        answer["growth_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Child:
    """The process that examines inputs; a new one after each death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, item: Input) -> dict[str, Any]:  # Any: JSON
        """Return what became of an input."""
        import selectors

        if self._process is None or self._process.poll() is not None:
            root = Path(__file__).resolve().parents[1]
            command = [sys.executable, "-m", "evaluation.fuzz_readers", "--serve"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        name = item.reader.encode()
        try:
            process.stdin.write(struct.pack("<II", len(name), len(item.data)) + name + item.data)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; its answer is empty
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(WALL_SECONDS) else b""
        if line:
            return dict(json.loads(line))
        self.close()
        return {"outcome": "died", "detail": f"exit status {process.returncode}", "cpu_s": None, "growth_mb": None}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def is_finding(answer: dict[str, Any]) -> bool:  # Any: JSON
    """Return whether an answer is a defect."""
    return answer["outcome"] in ("exception", "died") or answer["cpu_s"] > INPUT_SECONDS or answer["growth_mb"] > INPUT_MEGABYTES


def fuzz(out: Path, seeds: dict[str, list[Path]], seed: int, seconds: float, keep: Path | None) -> dict[str, Any]:  # Any: JSON
    """Examine inputs until the time is over; write and return the report."""
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    slowest: list[tuple[float, int, str]] = []
    findings: list[dict[str, Any]] = []  # Any: JSON
    growth, number, begin = 0, 0, time.monotonic()
    processor_s = 0.0
    child = Child()
    while time.monotonic() - begin < seconds:
        item = make_input(seeds, seed, number)
        answer = child.ask(item)
        outcomes[item.reader][answer["outcome"]] += 1
        if answer["cpu_s"] is not None:
            processor_s += answer["cpu_s"]
            slowest = sorted([*slowest, (answer["cpu_s"], number, item.reader)], reverse=True)[:10]
            growth = max(growth, answer["growth_mb"])
        if is_finding(answer):
            findings.append({"number": number, "seed": seed, "reader": item.reader, "bytes": len(item.data), **answer})
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}.{item.reader}").write_bytes(item.data)
        number += 1
    child.close()
    report = {
        "seed": seed,
        "inputs": number,
        "seconds": round(time.monotonic() - begin),
        "processor_s": round(processor_s),
        "limits": {"cpu_s": INPUT_SECONDS, "growth_mb": INPUT_MEGABYTES, "bytes": MAX_BYTES},
        "seed_files": {name: len(paths) for name, paths in seeds.items()},
        "outcomes": {name: dict(counts) for name, counts in outcomes.items()},
        "findings": len(findings),
        "slowest": [{"cpu_s": cpu, "number": index, "reader": name} for cpu, index, name in slowest],
        "largest_growth_mb": growth,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "findings.jsonl").write_text("".join(json.dumps(item) + "\n" for item in findings), encoding="utf-8")
    return report


def generated(out: Path, seeds: dict[str, list[Path]], seed: int, seconds: float) -> dict[str, Any]:  # Any: JSON
    """Let hypothesis put inputs together until the time is over; write and return the report. A finding is made small before it is written."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    windows = [window for paths in seeds.values() for path in paths[:40] if (window := path.read_bytes()[:2048])]
    tokens = [token.encode("utf-8", "surrogatepass") for token in TOKENS]
    repeated = st.tuples(st.sampled_from(tokens), st.sampled_from((1, 1, 1, 2, 50, 2000))).map(lambda pair: pair[0] * pair[1])
    pieces = st.one_of(
        st.sampled_from(tokens), repeated, st.text(max_size=40).map(str.encode), st.sampled_from(windows or tokens), st.binary(max_size=40)
    )
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    findings: list[dict[str, Any]] = []  # Any: JSON
    child, begin, processor_s = Child(), time.monotonic(), 0.0

    def one(reader: str, parts: list[bytes]) -> None:
        nonlocal processor_s
        if time.monotonic() - begin > seconds:
            return
        item = Input(0, reader, "", b"".join(parts)[:MAX_BYTES])
        answer = child.ask(item)
        outcomes[reader][answer["outcome"]] += 1
        processor_s += answer["cpu_s"] or 0.0
        if is_finding(answer):
            raise AssertionError(json.dumps({"reader": reader, "input": item.data[:4000].decode("latin-1"), **answer}))

    round_number = 0
    while time.monotonic() - begin < seconds:
        chosen = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        drawn = given(reader=st.sampled_from(sorted(set(READERS) - {"pdf"})), parts=st.lists(pieces, max_size=40))
        try:
            seeded(seed + round_number)(chosen(drawn(one)))()
        except AssertionError as err:
            findings.append(json.loads(str(err).partition("\n")[0]))
        round_number += 1
    child.close()
    report = {
        "engine": "hypothesis",
        "seed": seed,
        "inputs": sum(sum(counts.values()) for counts in outcomes.values()),
        "seconds": round(time.monotonic() - begin),
        "processor_s": round(processor_s),
        "outcomes": {name: dict(counts) for name, counts in outcomes.items()},
        "findings": len(findings),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "hypothesis.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if findings:
        (out / "findings-hypothesis.jsonl").write_text("".join(json.dumps(item) + "\n" for item in findings), encoding="utf-8")
    return report


def guided(out: Path, seeds: dict[str, list[Path]], seed: int, seconds: float) -> None:
    """Fuzz with atheris (libFuzzer): the first byte names the reader; a crash ends the process with its traceback and the input below OUT."""
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]  # optional, publishes no types
    except ImportError as err:
        raise SystemExit("the engine atheris needs its package: pip install atheris") from err
    names = sorted(set(READERS) - {"pdf"})  # its worker is another process, which coverage does not see
    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        for position, path in enumerate(seeds[name][:50]):
            (corpus / f"{name}-{position}").write_bytes(bytes([index]) + path.read_bytes()[:8192])

    def one(data: bytes) -> None:
        if data:
            examine(names[data[0] % len(names)], data[1:])

    atheris.instrument_all()
    options = [f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", "-max_len=16384", f"-timeout={INPUT_SECONDS}", "-rss_limit_mb=3000"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={out}/", str(corpus)], one)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; return 1 if there are findings."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.fuzz_readers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--corpus", type=Path, nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where the inputs of findings are written")
    parser.add_argument("--replay", type=int, help="examine this input alone, in this process")
    parser.add_argument("--engine", choices=("mutation", "hypothesis", "atheris"), default="mutation")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.serve:
        serve(sys.stdin.buffer)
        return 0
    if chosen.out is None:
        parser.error("name the folder OUT for the report")
    seeds = seeds_of(chosen.corpus)
    if chosen.replay is not None:
        item = make_input(seeds, chosen.seed, chosen.replay)
        sys.stdout.write(f"{item.reader}, {len(item.data)} bytes, made of {item.origin}\n{examine(item.reader, item.data)}\n")
        return 0
    if chosen.engine == "atheris":
        guided(chosen.out, seeds, chosen.seed, chosen.seconds)
        return 0
    if chosen.engine == "hypothesis":
        report = generated(chosen.out, seeds, chosen.seed, chosen.seconds)
        sys.stdout.write(f"{report['inputs']} inputs, {report['findings']} findings: {chosen.out / 'hypothesis.json'}\n")
        return 1 if report["findings"] else 0
    report = fuzz(chosen.out, seeds, chosen.seed, chosen.seconds, chosen.keep)
    sys.stdout.write(f"{report['inputs']} inputs, {report['findings']} findings: {chosen.out / 'report.json'}\n")
    return 1 if report["findings"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
