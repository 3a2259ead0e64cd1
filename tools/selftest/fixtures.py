"""Read the fixtures: candidate sources whose first comment lines say what they are and which verdict they must get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tools.problems import problem_from_source
from tools.types import Candidate, Problem

_ROOT = Path(__file__).resolve().parent
_PRELUDE = re.compile(r"^from tools\.selftest\.preludes\.(\w+) import [^\n]+\n", re.MULTILINE)
"""Several attacks may begin alike. The sandbox hides this directory, so that the beginning is written into each candidate in place of its import."""
_FIELD = re.compile(r"# (\w+): (.+)")
_KNOWN = {"id", "family", "problem", "target", "expect", "timeout_s", "max_speedup", "composition", "labels", "effort", "slow"}


@dataclass(frozen=True)
class Fixture:
    """One candidate with the verdict it must get."""

    fixture_id: str
    """Catalogue id, for example `C01`; `FP…` are controls that must pass."""
    family: str
    name: str
    """File name without ending."""
    problem: str
    """Name of a file in `problems/`."""
    target: str
    """`any`, `cpu` or `cuda`: where it makes sense."""
    expect: tuple[str, ...]
    """Statuses that are right."""
    source: str
    timeout_s: float | None = None
    """Own time limit, in s, for those that hang."""
    max_speedup: float | None = None
    """If it passes, no claimed lower bound may exceed this."""
    composition: tuple[str, ...] = ()
    """If it passes, the compositions that are right."""

    labels: tuple[str, ...] = ()
    """If it passes, labels that it must carry."""

    effort: str = "quick"
    """The effort that must find it: `quick` inside a search, `full` where it may take what every published number goes through."""

    slow: bool = False
    """Takes long to compile; left to `make test-all`."""

    def candidate(self) -> Candidate:
        """Return the candidate."""
        return Candidate(self.source, language="torch")

    def load_problem(self) -> Problem:
        """Return the problem it is tried on."""
        path = _ROOT / "problems" / f"{self.problem}.py"
        return problem_from_source(
            path.read_text(encoding="utf-8"), problem_id=f"selftest/{self.problem}", path=str(path), name=self.problem
        )


def load_fixtures(target: str = "any") -> list[Fixture]:
    """Return the fixtures that make sense on a target, controls first, then by file name.

    Raises:
        ValueError: A fixture's header is incomplete or has an unknown field.
    """
    paths = [*sorted((_ROOT / "controls").glob("*.py")), *sorted((_ROOT / "exploits").glob("*.py"))]
    return [item for item in map(_read, paths) if target == "any" or item.target in ("any", target)]


def _read(path: Path) -> Fixture:
    source = path.read_text(encoding="utf-8")
    fields: dict[str, str] = {}
    for line in source.splitlines():
        match = _FIELD.fullmatch(line)
        if not match:
            break
        fields[match[1]] = match[2].strip()
    unknown, missing = set(fields) - _KNOWN, {"id", "family", "problem", "expect"} - set(fields)
    if unknown or missing:
        raise ValueError(f"{path.name}: unknown header fields {sorted(unknown)}, missing {sorted(missing)}")
    return Fixture(
        fixture_id=fields["id"],
        family=fields["family"],
        name=path.stem,
        problem=fields["problem"],
        target=fields.get("target", "any"),
        expect=tuple(fields["expect"].split()),
        source=_PRELUDE.sub(lambda found: (_ROOT / "preludes" / f"{found[1]}.py").read_text(encoding="utf-8"), source),
        timeout_s=float(fields["timeout_s"]) if "timeout_s" in fields else None,
        max_speedup=float(fields["max_speedup"]) if "max_speedup" in fields else None,
        composition=tuple(fields.get("composition", "").split()),
        labels=tuple(fields.get("labels", "").split()),
        effort=fields.get("effort", "quick"),
        slow=fields.get("slow") == "yes",
    )
