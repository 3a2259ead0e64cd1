"""A second opinion from somebody else's rules: the scanner kernelguard (PyPI, MIT), where it is installed. It reads sources and decides nothing here.

Its rules know public submissions to public evaluators. What the verdict rests on are measurements; a finding is a reason to read a candidate, and none is no proof.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MOST = 20


@dataclass(frozen=True)
class Advice:
    """What the scanner says of one source."""

    classification: str
    """Its own word: `valid`, `low_confidence` or `hacked`; empty where it is not installed, or failed."""
    findings: tuple[str, ...]
    """One line for each pattern: severity, name and evidence."""
    scanner: str
    """Name and version, or why there is none."""

    @property
    def is_flagged(self) -> bool:
        """True if it sees anything but a valid source."""
        return self.classification not in ("", "valid")


def advise(source: str) -> Advice:
    """Return what kernelguard finds in a source; says so where it is not installed."""
    analyse, scanner = _scanner()
    if analyse is None:
        return Advice("", (), scanner)
    try:
        found = analyse(source)
        patterns = [item for item in found["matched_patterns"] if isinstance(item, dict)]
        lines = tuple(f"{item.get('severity')}: {item.get('pattern')}: {item.get('evidence')}"[:300] for item in patterns[:_MOST])
        return Advice(str(found["classification"]), lines, scanner)
    except Exception as err:  # somebody else's code on a source that wants to be misread
        return Advice("", (), f"{scanner} failed: {type(err).__name__}: {err}"[:300])


@functools.cache
def _scanner() -> tuple[Callable[[str], Any] | None, str]:  # Any: the package is untyped
    try:
        module = importlib.import_module("kernelguard")
        return module.analyze_code, f"kernelguard {importlib.metadata.version('kernelguard')}"
    except (ImportError, AttributeError):
        return None, "kernelguard is not installed (pip install kernelguard)"
