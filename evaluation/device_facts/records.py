"""What was measured, as JSON lines: one for each group of arms and pass, written the moment it is known, each with the device and versions it holds for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.errors import RecordError
from tools.receipts import finite

SCHEMA = 1


@dataclass(frozen=True)
class Samples:
    """The samples of one arm in one pass."""

    unit: str
    """Of the samples and of the figure, for example `GB/s` or `cycles`."""
    values: tuple[float, ...]
    """In the order of the rounds: arms of a group are measured in turn, so equal positions were measured together."""
    error: str = ""
    """Why there are no values."""


@dataclass(frozen=True)
class GroupRecord:
    """One group of arms, measured in turn, once."""

    group: str
    number: int
    """Which pass of the session, from 0."""
    session: str
    started: str
    """Time of the session's start, UTC, ISO 8601."""
    seed: int
    environment: Mapping[str, Any]  # Any: JSON
    """Device, driver and versions."""
    arms: Mapping[str, Samples]
    state: Mapping[str, float] = field(default_factory=dict)
    """Clocks, power and temperature just after the group."""
    seconds: float = 0.0


def append(path: Path, record: GroupRecord) -> None:
    """Append one record and flush it to disk; a torn last line is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(finite({**asdict(record), "schema": SCHEMA}), sort_keys=True, allow_nan=False)
    with path.open("ab+") as file:
        if file.tell() and not _ends_with_newline(path):
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read(path: Path) -> list[GroupRecord]:
    """Read the records of a file; lines that were cut in the writing are left out.

    Raises:
        RecordError: There are no records, or a whole line is none of this schema, or the sessions ran on devices of different names.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        try:
            if values.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            arms = {name: Samples(arm["unit"], tuple(map(float, arm["values"])), arm["error"]) for name, arm in values.pop("arms").items()}
            found.append(GroupRecord(**values, arms=arms))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{path}:{number} is no record of device facts: {error}") from error
    if not found:
        raise RecordError(f"{path} holds no records of device facts")
    if len(devices := _devices(found)) > 1:
        raise RecordError(f"{path} mixes devices: {', '.join(sorted(devices))}; keep one file for each")
    return found


def _devices(records: Iterable[GroupRecord]) -> set[str]:
    return {str(record.environment.get("device")) for record in records}
