"""The records of a run, written one by one, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.faults.driver import KillCase


class Records:
    """Lines of JSON: the environment first, then kills and the crowd.

    Args:
        path: The file; what it holds of the same environment is taken up, else it is written anew.
        environment: Machine, place and command of the run.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._guard = threading.Lock()
        self.cases: dict[int, KillCase] = {}
        """By number in the schedule."""
        self.crowd: dict[str, Any] | None = None  # Any: JSON
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if lines[:1] == [{"kind": "environment", **environment}]:
            for record in lines[1:]:
                self._take(record)
        else:
            path.write_text(json.dumps({"kind": "environment", **environment}) + "\n")

    def keep(self, kind: str, record: Mapping[str, Any]) -> None:  # Any: JSON
        """Write a record: `kill` (with its `number`) or `crowd`."""
        line = json.dumps({"kind": kind, **record})
        with self._guard:
            with self._path.open("a") as stream:
                stream.write(line + "\n")
            self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:  # Any: JSON
        kind = record.pop("kind")
        if kind == "crowd":
            self.crowd = record
        else:
            names = {field.name for field in dataclasses.fields(KillCase)}
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in record.items() if name in names
            }  # Any: fields of several types
            self.cases[int(record["number"])] = KillCase(**values)
