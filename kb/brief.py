"""What a deep search brings back: cited findings, and what it looked for and did not find."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kb.conflicts import conflict_lines
from kb.places import place_of
from kb.types import Conflict, Hit


@dataclass(frozen=True)
class Finding:
    """A passage that answers a part of the question, quoted from the chunk it cites."""

    claim: str
    """Sentences of the chunk, verbatim; so the chunk supports them."""
    part: str
    """The part of the question it answers."""
    hit: Hit
    support: float
    """Share of the part's content words that the chunk or its heading path holds, 0 to 1."""
    how: str
    """What spoke most for it: `query`, `question`, `names`, `words`, `meaning`, `lexical`, `side`, `concept`, `expansion`, `section`, `link`, `collection`, `neighbour` or `model`."""


@dataclass(frozen=True)
class RankedSection:
    """A section and what spoke for it."""

    rank: int
    """From 1."""
    score: float
    """Comparable within one brief."""
    hit: Hit
    """Its best chunk."""
    explain: Mapping[str, float] = field(default_factory=dict)
    """What each way of looking contributed; the parts add up to the score."""


@dataclass(frozen=True)
class Brief:
    """The answer of a deep search."""

    question: str
    parts: tuple[str, ...]
    """The questions it was taken apart into."""
    findings: tuple[Finding, ...]
    """Best first."""
    not_found: tuple[str, ...]
    """Parts of the question that nothing in the base answers, each with the reason."""
    queries: tuple[str, ...]
    """Every query that was put to the base, in order."""
    sections: tuple[RankedSection, ...] = ()
    """The ranking of sections over all parts, best first; also where nothing answers (then the nearest)."""
    conflicts: tuple[Conflict, ...] = ()
    """Where the findings and other documents give different numbers for one thing."""
    model_calls: int = 0
    """How often a language model was asked."""

    @property
    def calls(self) -> int:
        """How often the base was asked."""
        return len(self.queries)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        findings = []
        for finding in self.findings:
            hit = finding.hit
            findings.append(
                {
                    "claim": finding.claim,
                    "part": finding.part,
                    "support": finding.support,
                    "how": finding.how,
                    "chunk_id": hit.chunk_id,
                    "document": hit.document,
                    "section_path": list(hit.section_path),
                    "kind": hit.kind.value,
                    "targets": list(hit.targets),
                    "trust": hit.trust.value,
                    "source": dataclasses.asdict(hit.source),
                    "text": hit.text,
                }
            )
        return {
            "question": self.question,
            "parts": list(self.parts),
            "findings": findings,
            "sections": [
                {
                    "rank": section.rank,
                    "score": section.score,
                    "chunk_id": section.hit.chunk_id,
                    "document": section.hit.document,
                    "section_path": list(section.hit.section_path),
                    "source": dataclasses.asdict(section.hit.source),
                    "explain": dict(section.explain),
                }
                for section in self.sections
            ],
            "not_found": list(self.not_found),
            "queries": list(self.queries),
            "calls": self.calls,
            "model_calls": self.model_calls,
        }

    def to_text(self) -> str:
        """Return the brief for a person or a prompt; citations in square brackets."""
        lines = [f"Question: {self.question}", ""]
        for part in self.parts:
            mine = [finding for finding in self.findings if finding.part == part]
            if len(self.parts) > 1 and mine:
                lines.append(f"{part}")
            for finding in mine:
                hit = finding.hit
                lines += [f"- {finding.claim}", f"  [{hit.chunk_id}] {' > '.join(hit.section_path)} ({place_of(hit)}; {hit.trust})"]
        if self.not_found:
            lines += ["", "Not found:", *(f"- {item}" for item in self.not_found)]
        if not self.findings and self.sections:
            lines += ["", "Nearest, though they do not answer it:"]
            lines += [f"- {' > '.join(section.hit.section_path)} ({section.hit.source.path})" for section in self.sections[:3]]
        if self.conflicts:
            lines += ["", "Documents disagree:", *conflict_lines(self.conflicts)]
        return "\n".join(lines)
