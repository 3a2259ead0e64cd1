"""The nouns of the knowledge base: document, section, chunk, hit, lesson, winner. Plain values without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a document or chunk is."""

    GUIDE = "guide"
    """Advice and explanation in prose."""
    CONSTRAINT = "constraint"
    """What a candidate may not do; the output contract."""
    HARDWARE = "hardware"
    """Facts and limits of a chip."""
    KERNEL = "kernel"
    """A kernel template or example with its signature and tunables."""
    LESSON = "lesson"
    """A claim with preconditions and a measured effect."""
    WINNER = "winner"
    """A kernel with the evaluations that earned its place."""
    PROFILE = "profile"
    """The output of a profiler."""


class Trust(StrEnum):
    """Where a statement comes from, strongest first."""

    MEASURED = "measured"
    DOCUMENTED = "documented"
    DERIVED = "derived"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Section:
    """A heading with its own text (children excluded) and the sections below it."""

    title: str
    level: int
    """0 for the document's root, 1 to 6 for headings."""
    text: str
    """Text between this heading and the next one of any level, verbatim."""
    line_start: int
    """First line in the source, counted from 1, heading included."""
    line_end: int
    """Last line in the source, inclusive."""
    children: tuple[Section, ...] = ()
    text_line: int = 0
    """Line in the source where `text` begins; 0: the line after the heading, or `line_start` for the root."""
    syntax: str = "markdown"
    """How `text` divides into blocks: `markdown` (fences, tables, lists), `converted` (the same as a reader wrote them, no comments), `rst`, `html`, `code` or `plain`."""
    links: tuple[tuple[str, str], ...] = ()
    """Label and address of links whose address the text does not spell (HTML). Stored as edges, not with the section."""


@dataclass(frozen=True)
class Document:
    """One source file as a tree of sections."""

    source: str
    """Path or address that identifies it in the store, relative to the ingested root where there is one."""
    title: str
    kind: Kind
    root: Section
    content_hash: str
    """SHA-256 of the raw bytes, hexadecimal."""
    targets: tuple[str, ...] = ("generic",)
    """Targets or families it speaks of: `generic`, `nvidia`, `amd`, `mtia`, `cpu`, or exact such as `cuda:sm_90`."""
    trust: Trust = Trust.DOCUMENTED
    valid_for: Mapping[str, str] = field(default_factory=dict)
    """Version ranges, for example `{"triton": ">=3.6"}`; empty: no limit known."""
    front_matter: Mapping[str, Any] = field(default_factory=dict)  # Any: YAML as written
    """The parsed YAML front matter, whole; for a PDF `page_lines`, the line where each page begins."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """What the reader left out, counted by kind (`images`, `scripts`, `pages_without_text`, …). Not stored."""


@dataclass(frozen=True)
class Chunk:
    """The embedded unit: a leaf of a section with its path and its place in the source."""

    chunk_id: str
    document_id: str
    section_path: tuple[str, ...]
    """Headings from the document's title down to the section."""
    text: str
    line_start: int
    line_end: int
    content_hash: str
    block: str = "text"
    """What the leaf is: `text`, `code`, `table` or `list`."""
    context: str = ""
    """For a part of a long table or code block: the header or signature that stands before the part; not inside the span."""


@dataclass(frozen=True)
class Filters:
    """Restrictions that apply in every leg and at every level. Empty means no restriction."""

    target: str | None = None
    """Hits must hold for this target: its own documents and those it inherits from (`cuda:sm_90` sees sm_90, nvidia, generic)."""
    kinds: tuple[Kind, ...] = ()
    source: str | None = None
    """Prefix of the source path."""
    trust: tuple[Trust, ...] = ()
    valid_for: Mapping[str, str] = field(default_factory=dict)
    include_retired: bool = False
    """Retired and superseded documents too."""


@dataclass(frozen=True)
class Source:
    """Where a hit stands in the original file."""

    path: str
    line_start: int
    line_end: int


@dataclass(frozen=True)
class Hit:
    """One retrieved chunk."""

    rank: int
    """From 1."""
    score: float
    """Retrieval relevance only; comparable within one result. The parts in `explain` add up to it."""
    chunk_id: str
    document: str
    """Title of the document."""
    section_path: tuple[str, ...]
    kind: Kind
    targets: tuple[str, ...]
    source: Source
    text: str
    explain: Mapping[str, float] = field(default_factory=dict)
    context: str = ""
    """Header or signature of a part of a long table or code block; not inside the span."""
    trust: Trust = Trust.DOCUMENTED
    also: tuple[Source, ...] = ()
    """Other places that hold the same text, or the same but for a few words."""
    pages: tuple[int, int] | None = None
    """First and last page of the span, from 1, if the file has pages."""
    citation: str = ""
    """`repository@commit:path`, if the file came unchanged from a checkout."""


@dataclass(frozen=True)
class Claim:
    """What one document says, word for word."""

    quote: str
    chunk_id: str
    document: str
    """Title of the document."""
    source: Source
    trust: Trust


@dataclass(frozen=True)
class Conflict:
    """Different numbers for one thing in several documents. Nobody has decided which is right; trust is a hint."""

    subject: str
    """The words that all claims share, as stems."""
    unit: str
    targets: tuple[str, ...]
    """For which targets all of them would hold."""
    claims: tuple[Claim, ...]
    """One a document, most trusted first."""


@dataclass(frozen=True)
class QueryResult:
    """Ranked hits, or an abstention with the nearest ones."""

    hits: tuple[Hit, ...]
    abstained: bool = False
    """True if nothing in the base answers the query; `hits` then holds the nearest, which do not answer it."""
    reason: str = ""
    target: str | None = None
    """The target that the hits hold for: the filter's, else the one that the query's words name; None: any."""
    conflicts: tuple[Conflict, ...] = ()
    """Where the hits and other documents give different numbers for one thing."""


@dataclass(frozen=True)
class Lesson:
    """A claim learned from evaluations. Stored only with evidence."""

    claim: str
    """One sentence: what helps or hurts, by how much, where."""
    preconditions: Mapping[str, str]
    """When it holds: `target`, `anchor`, dtype, shape ranges."""
    effect: float
    """Measured speedup that the change is credited with (1.0: none)."""
    effect_low: float
    effect_high: float
    """95 % interval of `effect`."""
    evidence: tuple[str, ...]
    """Ids of the evaluations (candidate ids or receipts) behind it; never empty."""
    target: str
    problem_id: str
    versions: Mapping[str, str] = field(default_factory=dict)
    """For example `{"torch": "2.13.0", "triton": "3.7.1"}`."""
    status: str = "provisional"
    """`provisional` until confirmed on a second problem or by an ablation, then `promoted`; `retired` when refuted."""

    def __post_init__(self) -> None:
        if not self.evidence:
            raise ValueError("a lesson needs evidence: pass the ids of the evaluations behind it")


@dataclass(frozen=True)
class Confirmation:
    """A fresh measurement of what a lesson claims."""

    evidence_id: str
    """Of the evaluation (candidate id or receipt); the same one counts once."""
    problem_id: str
    effect: float
    """Measured speedup that the change is credited with here."""
    effect_low: float
    effect_high: float
    """95 % interval of `effect`."""
    is_ablation: bool = False
    """The change alone was taken out or put in, everything else equal."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.effect_low <= self.effect <= self.effect_high:
            raise ValueError(f"effect {self.effect!r} must lie in its interval {self.effect_low!r} to {self.effect_high!r}, above 0")


@dataclass(frozen=True)
class Winner:
    """A kernel that won, with what it takes to start from it next time."""

    problem_id: str
    problem_hash: str
    """SHA-256 of the problem's source: equal means the same problem."""
    signature: str
    """Canonical text of what it computes (region anchors, dtypes, ranks), for finding siblings."""
    target: str
    candidate_id: str
    source: str
    """The candidate's Python source."""
    language: str
    provenance: Mapping[str, Any]  # Any: JSON of the coder (kernel ids, tunables, choices)
    evaluation: Mapping[str, Any]  # Any: JSON of the final evaluation
    run_id: str


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a document."""

    info: str
    """The info string as written, white space normalised, for example `python kernel`."""
    code: str
    line_start: int
    """First line of the code, fence excluded."""
    line_end: int


@dataclass(frozen=True)
class KernelDocument:
    """A document of kind `kernel` as a coder needs it."""

    document_id: str
    source: str
    title: str
    targets: tuple[str, ...]
    front_matter: Mapping[str, Any]  # Any: YAML as written
    blocks: tuple[CodeBlock, ...]
    """Every fenced block in order."""
    chunk_ids: tuple[str, ...]
    """The chunks of the document, in order: what to cite."""
    content_hash: str
    trust: Trust = Trust.DOCUMENTED

    def code(self, info: str) -> str | None:
        """Return the code of the first block with this info string (`python kernel`, `cpp kernel`, `python pattern`), or None."""
        return next((block.code for block in self.blocks if block.info == info), None)


@dataclass(frozen=True)
class WinnerMatch:
    """A stored winner and how it was found."""

    winner_id: str
    winner: Winner
    match: str
    """`problem` (same problem hash), `signature` (same signature) or `similar`."""
    score: float
    """1.0 for an exact match; else similarity of the signatures, 0 to 1."""
    document_id: str
    chunk_ids: tuple[str, ...]
    status: str = "active"
    """`active` or `retired`."""


@dataclass(frozen=True)
class LessonMatch:
    """A stored lesson and how well it fits the question."""

    lesson_id: str
    lesson: Lesson
    score: float
    """1.0 where no question was asked; else relevance, 0 to 1."""
    document_id: str
    chunk_ids: tuple[str, ...]
    strength: float = 1.0
    """How fresh its evidence is: 1.0 just measured with the versions at hand, halved with every half-life and for every package of another version."""


@dataclass(frozen=True)
class TreeNode:
    """One line of the table of contents: a target family, a document or a section."""

    label: str
    level: str
    """`family`, `document` or `section`."""
    identifier: str
    """Family name, document id or section id: what `show` takes."""
    num_chunks: int
    """Chunks at or below this node."""
    children: tuple[TreeNode, ...] = ()
    source: str = ""
    kind: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found; `problems` empty means consistent."""

    problems: tuple[str, ...]
    repaired: tuple[str, ...] = ()
    """What `repair=True` mended; `problems` then lists what is left."""
    counts: Mapping[str, int] = field(default_factory=dict)
