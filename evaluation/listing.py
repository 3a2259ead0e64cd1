"""List the candidates that a coder can come to on a problem, before anything is measured.

A coder with a finite set of proposals can be asked for all of them: its drafts first, then, for each, what it writes when that one is expanded. Nothing runs
here, so a list is made on any machine; `evaluation.measuring` measures it where the device is, and `evaluation.recorded` lets searches run on what was measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.coders.base import Coder, CoderTask
from agents.runs.hashing import derived_id, derived_seed, normalised_hash
from agents.types import Attempt, Memory
from evaluation.errors import RecordError
from tools.types import Candidate, Evaluation, Evidence, Interval, Problem, Status

if TYPE_CHECKING:
    from kb.store import KnowledgeBase


@dataclass(frozen=True)
class Listed:
    """One candidate of a list."""

    number: int
    """From 0, in the order in which the coder came to it."""
    base: int | None
    """Number of the candidate that it was expanded from; None for a draft."""
    candidate: Candidate
    note: str = ""
    """The coder's summary."""
    structure: str = ""
    """Equal for candidates that differ in numbers alone; empty: unknown."""
    setting: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """Those numbers, by name."""

    @property
    def source_hash(self) -> str:
        """Hash by which equal candidates are recognised."""
        return normalised_hash(self.candidate)


def list_candidates(coder: Coder, base: KnowledgeBase | None, problem: Problem, target: str, most: int, per_base: int = 12) -> list[Listed]:
    """Return up to `most` distinct candidates: all drafts, then what follows from each, nearest to the drafts first.

    Args:
        per_base: Most candidates that are taken from the expansion of one.

    Raises:
        AgentsError: The coder cannot work.
    """
    found: list[Listed] = []
    known: set[str] = set()
    written: list[Attempt] = []

    def next_of(parent: Listed | None) -> Listed | None:
        """Ask for the next one that differs from all so far by more than comments; None when there is no more."""
        while True:
            task = CoderTask(
                problem=problem,
                target=target,
                base=base,
                parents=() if parent is None else (Attempt(parent.candidate, _assumed(parent.candidate, problem, target, True)),),
                history=tuple(written),
                memory=Memory.CLEAN if parent is None else Memory.PARENT,
                seed=derived_seed("list", -1 if parent is None else parent.number),
            )
            draft = asyncio.run(coder.write(task))
            if draft.candidate is None:
                return None
            written.append(Attempt(draft.candidate, _assumed(draft.candidate, problem, target, False)))
            structure, setting = _place(draft.candidate)
            item = Listed(len(found), None if parent is None else parent.number, draft.candidate, draft.summary, structure, setting)
            if item.source_hash not in known:
                known.add(item.source_hash)
                found.append(item)
                return item

    while len(found) < most and next_of(None) is not None:
        pass
    ring = list(found)
    while ring and len(found) < most:
        first = len(found)
        waiting = {item.number: per_base for item in ring if item.candidate.provenance.get("kind", "kernels") == "kernels"}
        while waiting and len(found) < most:
            for number in list(waiting):
                waiting[number] -= 1
                if len(found) >= most or next_of(found[number]) is None or not waiting[number]:
                    del waiting[number]
        ring = found[first:]
    return found


def _place(candidate: Candidate) -> tuple[str, dict[str, Any]]:  # Any: JSON
    """Return structure and setting of a candidate of the library coder, from what it says about its origin."""
    origin = candidate.provenance
    regions = [(f"{region['key']}|{region['kernel']}", region) for region in origin.get("regions", ())]
    if not regions:
        return candidate.candidate_id, {}
    fused = [(name, bool(region.get("prologue")), bool(region.get("epilogue"))) for name, region in regions]
    setting = {f"{name}.{tunable}": value for name, region in regions for tunable, value in region["tunables"].items()}
    return derived_id(origin.get("kind"), sorted(fused), origin.get("rest")), setting


def _assumed(candidate: Candidate, problem: Problem, target: str, has_passed: bool) -> Evaluation:
    """What the coder is told while a list is made: the candidate to expand passed, of the others nothing is known. Never stored."""
    nothing = Evaluation(candidate.candidate_id, problem.problem_id, target, Evidence.COMPILED, Status.NOT_MEASURED, "listed, not measured")
    if not has_passed:
        return nothing
    return dataclasses.replace(nothing, status=Status.PASSED, reason="", latency_ms=1.0, speedup={"eager": Interval(1.0, 1.0, 1.0)})


def write_list(path: Path, lists: Iterable[tuple[Problem, Sequence[Listed]]]) -> int:
    """Write lists to a `.jsonl` or `.jsonl.gz` file; return how many candidates it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # Without a time of its own in the header, equal lists make equal files.
    with path.open("wb") as raw:
        stream = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") if path.suffix == ".gz" else raw
        with stream:
            for problem, items in lists:
                given = {**dataclasses.asdict(problem), "path": ""}
                stream.write(json.dumps({"problem": given}, sort_keys=True).encode() + b"\n")
                for item in items:
                    count += 1
                    values = {
                        "problem_id": problem.problem_id,
                        "number": item.number,
                        "base": item.base,
                        "source_hash": item.source_hash,
                        "note": item.note,
                        "structure": item.structure,
                        "setting": dict(item.setting),
                        "source": item.candidate.source,
                        "language": item.candidate.language,
                        "build_options": dict(item.candidate.build_options),
                    }
                    stream.write(json.dumps(values, sort_keys=True).encode() + b"\n")
    return count


def read_list(path: Path) -> list[tuple[Problem, list[Listed]]]:
    """Read what `write_list` wrote.

    Raises:
        RecordError: The file is no list of candidates; the message names the line.
    """
    found: list[tuple[Problem, list[Listed]]] = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            values = json.loads(line)
            if "problem" in values:
                found.append((Problem(**values["problem"]), []))
                continue
            candidate = Candidate(values["source"], values["language"], values["build_options"])
            problem, items = found[-1]
            if values["problem_id"] != problem.problem_id or values["number"] != len(items):
                raise ValueError("a candidate is missing or out of order")
            items.append(Listed(values["number"], values["base"], candidate, values["note"], values["structure"], values["setting"]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RecordError(f"{path}:{number} is no line of a list of candidates: {error}") from error
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        data = path.read_bytes()
        yield from (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
