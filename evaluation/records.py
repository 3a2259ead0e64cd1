"""Raw records: one JSON line per problem, appended the moment it is known, never edited.

A record is what a published number rests on. It holds the final evaluation with its raw samples, the environment and the command that repeats it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.errors import RecordError
from tools.receipts import finite
from tools.types import Evaluation

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One problem of one suite, solved or not, on one machine."""

    suite: str
    """Name of the suite, for example `kernelbench`."""
    problem_id: str
    target: str
    best: Mapping[str, Any]  # Any: JSON of an `Evaluation`
    """The final evaluation (`Evaluation.to_json`), raw samples included."""
    num_evaluations: int
    seconds: float
    """Wall time of the whole run on this problem."""
    command: str
    """What a user types to repeat it."""
    environment: Mapping[str, Any]  # Any: JSON
    """Device, driver, versions, commit."""
    run_id: str = ""
    seed: int = 0
    label: str = ""
    """Which arm of an experiment this is, for example `cold` or `warm`; empty if there is one arm."""
    source: str = ""
    """The winning candidate's source; empty if nothing passed."""
    knowledge_used: tuple[Mapping[str, Any], ...] = ()  # Any: JSON
    extra: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """Anything else worth keeping, for example the history of the attempts."""
    schema: int = SCHEMA

    @property
    def evaluation(self) -> Evaluation:
        """The final evaluation as a value."""
        return Evaluation.from_json(self.best)


def append(path: Path, record: Record) -> None:
    """Append one record and flush it to disk.

    Args:
        path: A `.jsonl` file; created with its directory if missing.
        record: The record.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(finite(asdict(record)), sort_keys=True, allow_nan=False)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(paths: Iterable[Path]) -> list[Record]:
    """Read records from files, in order.

    Raises:
        RecordError: A line is not a record of this schema.
    """
    return [record for path in paths for record in _read_one(path)]


def _read_one(path: Path) -> Iterator[Record]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            if data.get("schema") != SCHEMA:
                raise RecordError(f"{path}:{number}: schema {data.get('schema')!r}, this version reads {SCHEMA}")
            data["knowledge_used"] = tuple(data.get("knowledge_used", ()))
            record = Record(**data)
            _ = record.evaluation
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise RecordError(f"{path}:{number}: not a record: {err}") from err
        yield record


def latest(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """Keep the last record of each (problem, label): shards and resumed runs append, the newest line counts."""
    return {(record.problem_id, record.label): record for record in records}
