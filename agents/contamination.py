"""Whose work a candidate is: the share of its code that stands, under whatever names, in the reference, in an earlier winner or in a kernel of the knowledge base.

A label, not a verdict: building on known kernels is what the knowledge base is for, and the library coder does nothing else. Whoever reads a result must be able
to tell a kernel that was found from one that was looked up. Not covered: the same algorithm written anew, and what a model remembers from its training.
"""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.prompts import render

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from tools.types import Problem

SHINGLE = 8
"""Tokens in a row that count as one piece of code."""
LEAST_SHARE = 0.25
"""From this share on a source is named; below it lies what all kernels have in common."""
COPY_SHARE = 0.8
"""From this share on the candidate is a copy."""
MAX_NAMED = 5
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[^\s\w]")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|#(?!\s*(?:pragma|include|define|if|endif|else))[^\n]*", re.DOTALL)
_DOCSTRING = re.compile(r'^\s*("""(?:(?!""").)*""")', re.DOTALL)
_FAMOUS = frozenset(keyword.kwlist) | {
    "float",
    "int",
    "int64_t",
    "double",
    "const",
    "static",
    "inline",
    "void",
    "for",
    "pragma",
    "omp",
    "simd",
    "parallel",
}


@dataclass(frozen=True)
class Likeness:
    """One source that a candidate shares code with."""

    kind: str
    """`reference`, `winner` or `document`."""
    source: str
    """Problem id, winner id or path of the document."""
    share: float
    """Of the candidate's own code, 0 to 1; 1.0 is a copy under other names at most."""
    is_same_problem: bool = False
    """True for the reference, and for a winner of the very same problem: then the answer was known."""

    @property
    def label(self) -> str:
        """`copy` or `related`."""
        return "copy" if self.share >= COPY_SHARE else "related"

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return {**dataclasses.asdict(self), "label": self.label}


def shingles(source: str) -> frozenset[tuple[str, ...]]:
    """Return the runs of `SHINGLE` tokens of a source without comments; names that are no keyword or attribute stand for any name."""
    text = _COMMENT.sub("", _DOCSTRING.sub("", source))
    tokens = _TOKEN.findall(text)
    told = []
    for index, token in enumerate(tokens):
        is_attribute = index > 0 and tokens[index - 1] == "."
        is_name = token[0].isalpha() or token[0] == "_"
        told.append(token if is_attribute or not is_name or token in _FAMOUS else "·")
    return frozenset(tuple(told[at : at + SHINGLE]) for at in range(len(told) - SHINGLE + 1))


def likenesses(source: str, known: Iterable[tuple[Likeness, str]]) -> tuple[Likeness, ...]:
    """Return which known sources a candidate shares code with, the closest first; the frames that every writer is given do not count.

    Args:
        source: The candidate's.
        known: What it may have come from (its share is filled in), each with its text.
    """
    frames = shingles(render("skeleton_cpp.md")) | shingles(render("skeleton_triton.md"))
    own = shingles(source) - frames
    if not own:
        return ()
    found = []
    for item, text in known:
        share = len(own & shingles(text)) / len(own)
        if share >= LEAST_SHARE:
            found.append(dataclasses.replace(item, share=round(share, 3)))
    return tuple(sorted(found, key=lambda item: (-item.share, not item.is_same_problem, item.source)))[:MAX_NAMED]


def report(base: KnowledgeBase | None, problem: Problem, target: str, source: str, run_id: str = "") -> tuple[Likeness, ...]:
    """Return whose work a candidate for a problem is, as far as the reference and the knowledge base tell.

    Args:
        base: The knowledge base; None: only the reference is looked at.
        problem: What it computes.
        target: Exact target.
        source: The candidate's.
        run_id: The run that wrote it; its own winner does not count.
    """
    return likenesses(source, _known(base, problem, target, run_id))


def _known(base: KnowledgeBase | None, problem: Problem, target: str, run_id: str) -> Iterable[tuple[Likeness, str]]:
    yield Likeness("reference", problem.problem_id, 0.0, is_same_problem=True), problem.source
    if base is None:
        return
    for match in base.winners(target, limit=10_000, include_retired=True):
        if match.winner.run_id != run_id or not run_id:
            is_same = match.winner.problem_hash == problem.source_hash
            yield Likeness("winner", match.winner_id, 0.0, is_same), match.winner.source
    for document in base.kernel_documents(target=target):
        yield Likeness("document", document.source, 0.0), "\n".join(block.code for block in document.blocks)
