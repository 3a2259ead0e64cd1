"""Write what was measured with a kernel document into its front matter, from raw records: `python -m evaluation.evidence RECORDS… --docs docs/kernels`.

Each entry names the problem, the device, both speedups with their intervals and the record that it comes from; nothing is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evaluation.records import Record, latest, read
from tools.types import Interval, Status

_LINE = re.compile(r"^evidence:.*?(?=^[^\s-])", re.MULTILINE | re.DOTALL)
"""The key with everything below it, up to the next key or the end mark."""
_END = "\0"
_SLOTS = ("prologue", "epilogue")
_WIDTH = 100_000


def evidence_of(records: Iterable[tuple[str, Record]], docs: Path) -> dict[str, list[dict[str, Any]]]:  # Any: YAML
    """Return the entries of each kernel document by its path below `docs/`, in the order of the problems.

    A record speaks for a document only while the code that was measured is the code that the document has; tunables may differ.

    Args:
        records: Each with the path of the file that it comes from, as readers of the document are to find it. Of several records of a problem the last one counts, and
            only those that started without a winner (`warm` runs repeat what a cold one found).
        docs: The folder that holds `kernels/`.
    """
    places = {id(record): path for path, record in records}
    kept = latest(record for _, record in records if record.label != "warm")
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(kept.values(), key=lambda item: item.problem_id):
        best = record.evaluation
        if best.status is not Status.PASSED or not best.speedup:
            continue
        for name in _documents(record):
            if not (docs / name).exists() or not has_code_of((docs / name).read_text(encoding="utf-8"), record.source):
                continue
            found[name].append(
                {
                    "problem": record.problem_id,
                    "target": record.target,
                    "device": str(record.environment.get("device", "")),
                    "latency_ms": round(best.latency_ms or 0.0, 4),
                    "speedup": {baseline: _rounded(interval) for baseline, interval in sorted(best.speedup.items())},
                    "precision": best.precision_class,
                    "record": f"{places[id(record)]}#{record.run_id}",
                }
            )
    return dict(found)


def has_code_of(document: str, source: str) -> bool:
    """Say whether a candidate holds the functions of a kernel document as they stand, apart from the slots that are written anew for each candidate."""
    code = re.search(r"^```python kernel\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    name = re.search(r"^kernel: (\w+)", document, re.MULTILINE)
    if code is None or name is None:
        return False
    # Composing puts the kernel's name before its functions' and calls `launch` by it (`agents/coders/library/compose.py`).
    plain = re.sub(rf"\b{name[1]}(_\d+)?__", "", source)
    plain = re.sub(rf"\b{name[1]}(_\d+)?\b(?=\()", "launch", plain)
    wanted = {text for function, text in _functions(code[1]) if function not in _SLOTS}
    return wanted <= {text for _, text in _functions(plain)}


def _functions(code: str) -> Iterator[tuple[str, str]]:
    for item in ast.parse(code).body:
        if isinstance(item, ast.FunctionDef):
            yield item.name, ast.unparse(item)


def with_evidence(text: str, entries: Sequence[Mapping[str, Any]]) -> str:  # Any: YAML
    """Return a document's text with its `evidence:` replaced.

    Raises:
        ValueError: Its front matter has none.
    """
    start, front, rest = text.split("---\n", 2)
    lines = (
        "evidence: []\n"
        if not entries
        else "evidence:\n"
        + "".join(
            f"  - {yaml.safe_dump(dict(entry), default_flow_style=True, sort_keys=False, width=_WIDTH).strip()}\n" for entry in entries
        )
    )
    changed, count = _LINE.subn(lambda _: lines, front + _END, count=1)
    if not count:
        raise ValueError("the front matter has no `evidence:`")
    return f"{start}---\n{changed.rstrip(_END)}---\n{rest}"


def _documents(record: Record) -> list[str]:
    names = {str(item.get("source", "")) for item in record.knowledge_used}
    return sorted(name.removeprefix("docs/") for name in names if name.removeprefix("docs/").startswith("kernels/"))


def _rounded(interval: Interval) -> list[float]:
    return [round(interval.value, 3), round(interval.low, 3), round(interval.high, 3)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the documents; return 0."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.evidence", description=__doc__)
    parser.add_argument("records", nargs="+", type=Path, help=".jsonl files of records, oldest first")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder that holds kernels/")
    options = parser.parse_args(arguments)
    loaded = [(path.as_posix(), record) for path in options.records for record in read([path])]
    found = evidence_of(loaded, options.docs)
    for path in sorted((options.docs / "kernels").rglob("*.md")):
        text, entries = path.read_text(encoding="utf-8"), found.get(path.relative_to(options.docs).as_posix(), [])
        if "\nevidence:" not in text or (changed := with_evidence(text, entries)) == text:
            continue
        path.write_text(changed, encoding="utf-8")
        sys.stdout.write(f"{path}: {len(entries)} measured\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
