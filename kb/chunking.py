"""Sections to chunks: leaves within a token budget that never cut a table or code block without keeping its header or signature.

A chunk's text is exactly the lines of its span. What a part of a long table or code block needs to be understood (the header rows, the signature) is its `context`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kb.blocks import Block
from kb.markup_blocks import blocks_of
from kb.types import Chunk, Document, Section
from kb.words import tokens

SHAPE = "4"
"""Changes when the same document would be chunked differently, so that it is read again."""

PATH_TOKENS = 64
"""At most so many tokens of the budget go to the heading path and the context."""

LEAD_IN_TOKENS = 60
"""A paragraph of at most so many tokens that ends in a colon stays with the code or table after it."""

SIGNATURE_CHARACTERS = 240
"""Of a signature that is repeated, so much is kept."""

CONTEXT_LINES = 2000
"""A signature further above a part of code is not looked for."""

COUNT_BATCH = 8192
"""Texts whose tokens are counted in one call."""

LEAST_CHARACTERS = 40
"""A part of a line is not cut below this length."""

_SIGNATURE = re.compile(
    r"^\s*(async\s+def|def|class|func|fn|struct|template|extern|__global__|__device__|static|inline|void|@\w|[A-Za-z_][\w:<>,*& ]*\([^;]*\)\s*\{)"
)
DATA_IMAGE = re.compile(r"\(\s*data:[^()\s]{64,}\)|\"data:[^\"]{64,}\"|^\[[^\]\n]{1,200}\]:[ \t]*<?data:\S{64,}>?", re.MULTILINE)

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Leaf:
    """A chunk with what the store needs beside it."""

    chunk: Chunk
    section_index: int
    """Position of its section in `flatten(document.root)`."""

    @property
    def embedded_text(self) -> str:
        """What the embedder sees: heading path, context, text."""
        return embedded_text(self.chunk.section_path, self.chunk.context, self.chunk.text)


@dataclass(frozen=True)
class _Piece:
    kind: str
    begin: int
    end: int
    context: str = ""
    text: str | None = None  # set only for a part of one line


def embedded_text(section_path: Sequence[str], context: str, text: str) -> str:
    """Return heading path, context and text as the embedder sees them; equal text means equal vector."""
    heading = " > ".join(part for part in section_path if part)
    return "\n".join(part for part in (heading, context, text) if part)


def drop_data_images(text: str) -> str:
    """Return the text without the payload of embedded images."""
    return DATA_IMAGE.sub("()", text) if "data:" in text else text


def flatten(root: Section, title: str) -> list[tuple[Section, tuple[str, ...], int | None]]:
    """Return every section with its path and its parent's position, depth first; the root comes first."""
    found: list[tuple[Section, tuple[str, ...], int | None]] = []

    def visit(section: Section, path: tuple[str, ...], parent: int | None) -> None:
        here = path
        if section.level > 0 and section.title and not (path and _repeats(section.title, path[-1])):
            here = (*path, section.title)
        position = len(found)
        found.append((section, here, parent))
        for child in section.children:
            visit(child, here, position)

    visit(root, (title,) if title else (), None)
    return found


def _repeats(title: str, above: str) -> bool:
    """Return whether a heading only says what the one above it says."""
    return set(tokens(title)) <= set(tokens(above))


def chunk_document(document: Document, document_id: str, count_tokens: CountTokens, max_tokens: int) -> list[Leaf]:
    """Return the leaves of a document in order.

    Args:
        document: What a reader returned.
        document_id: Its id in the store.
        count_tokens: The embedder's count.
        max_tokens: The embedder's limit, special tokens included.
    """
    leaves: list[Leaf] = []
    occurrences: dict[str, int] = {}
    flat = flatten(document.root, document.title)
    all_lines = [section.text.split("\n") if section.text.strip() else [] for section, _, _ in flat]
    wanted = [" > ".join(path) for _, path, _ in flat]
    wanted += [drop_data_images(line) for lines in all_lines for line in lines]
    counts = iter(_counted(wanted, count_tokens))
    path_counts = [next(counts) for _ in flat]
    for index, (section, path, _) in enumerate(flat):
        budget = max(32, max_tokens - 2 - min(path_counts[index], PATH_TOKENS))
        costs = list(itertools.islice(counts, len(all_lines[index])))
        for piece, text in _pieces(section, all_lines[index], costs, budget, count_tokens):
            first = (section.text_line or section.line_start + (1 if section.level > 0 else 0)) + piece.begin
            content_hash = hashlib.sha256(f"{piece.context}\0{text}".encode()).hexdigest()
            key = f"{document_id}\0{path!r}\0{content_hash}"
            occurrences[key] = occurrences.get(key, 0) + 1
            chunk_id = hashlib.sha256(f"{key}\0{occurrences[key]}".encode()).hexdigest()[:16]
            chunk = Chunk(
                chunk_id=chunk_id,
                document_id=document_id,
                section_path=path,
                text=text,
                line_start=first,
                line_end=first + piece.end - piece.begin - 1,
                content_hash=content_hash,
                block=piece.kind,
                context=piece.context,
            )
            leaves.append(Leaf(chunk, index))
    return leaves


def _counted(texts: Sequence[str], count_tokens: CountTokens) -> Iterator[int]:
    """Yield the counts of many texts, a batch a call: a call costs more than a short line."""
    for begin in range(0, len(texts), COUNT_BATCH):
        yield from count_tokens(texts[begin : begin + COUNT_BATCH])


def _pieces(
    section: Section, lines: Sequence[str], costs: Sequence[int], budget: int, count_tokens: CountTokens
) -> Iterator[tuple[_Piece, str]]:
    for piece in _pack(blocks_of(lines, section.syntax), lines, costs, budget, count_tokens):
        begin, end = piece.begin, piece.end
        while begin < end and not lines[begin].strip():
            begin += 1
        while end > begin and not lines[end - 1].strip():
            end -= 1
        if begin == end:
            continue
        text = piece.text if piece.text is not None else drop_data_images("\n".join(lines[begin:end]))
        if text.strip():
            yield _Piece(piece.kind, begin, end, piece.context), text


def _pack(blocks: Sequence[Block], lines: Sequence[str], costs: Sequence[int], budget: int, count_tokens: CountTokens) -> Iterator[_Piece]:
    """Join neighbouring blocks while they fit the budget; cut those that do not fit alone."""
    group: list[Block] = []
    used = 0
    for block in blocks:
        cost = sum(costs[block.begin : block.end])
        if group and (block.is_apart or group[-1].is_apart):
            yield _joined(group, costs)
            group, used = [], 0
        if group and used + cost > budget:
            carried = []
            if len(group) > 1 and _introduces(group[-1], lines, costs) and cost + sum(costs[group[-1].begin : group[-1].end]) <= budget:
                carried = [group.pop()]
            yield _joined(group, costs)
            group, used = carried, sum(sum(costs[item.begin : item.end]) for item in carried)
        if cost > budget:
            yield from _cut(block, lines, costs, budget, count_tokens)
        else:
            group.append(block)
            used += cost
    if group:
        yield _joined(group, costs)


def _introduces(block: Block, lines: Sequence[str], costs: Sequence[int]) -> bool:
    """Return whether a short paragraph leads in to what follows it."""
    return lines[block.end - 1].rstrip().endswith(":") and sum(costs[block.begin : block.end]) <= LEAD_IN_TOKENS


def _joined(group: Sequence[Block], costs: Sequence[int]) -> _Piece:
    """Return the piece that spans the blocks; it is of the kind that most of its tokens are."""
    totals: dict[str, int] = {}
    for block in group:
        totals[block.kind] = totals.get(block.kind, 0) + sum(costs[block.begin : block.end])
    return _Piece(max(totals, key=lambda kind: totals[kind]), group[0].begin, group[-1].end)


def _cut(block: Block, lines: Sequence[str], costs: Sequence[int], budget: int, count_tokens: CountTokens) -> Iterator[_Piece]:
    """Cut one block at line ends: code before blank or outdented lines, tables between rows, prose between lines or sentences."""
    header = lines[block.begin : block.begin + block.header]
    header_cost = min(sum(costs[block.begin : block.begin + block.header]), PATH_TOKENS)
    begin = block.begin
    while begin < block.end:
        context = _context(block, lines, begin, header)
        room = max(24, budget - (header_cost if begin > block.begin else 0) - (16 if block.kind == "code" and begin > block.begin else 0))
        end, used = begin, 0
        while end < block.end and (end == begin or used + costs[end] <= room):
            used += costs[end]
            end += 1
        if end < block.end and block.kind == "code":
            end = _code_boundary(lines, begin, end)
        if end == begin + 1 and costs[begin] > room and block.kind == "table" and lines[begin].lstrip().startswith("|"):
            yield from _cut_row(lines[begin], begin, header if begin > block.begin else (), room, count_tokens)
        elif end == begin + 1 and costs[begin] > room and block.kind != "table":
            for part in _cut_line(lines[begin], room, count_tokens):
                yield _Piece(block.kind, begin, end, context, part)
        else:
            yield _Piece(block.kind, begin, end, context)
        begin = end


_BAR = re.compile(r"(?<!\\)\|")


def _cut_row(line: str, number: int, header: Sequence[str], room: int, count_tokens: CountTokens) -> Iterator[_Piece]:
    """Cut a row that is too wide between its cells; each part names its row by the first cell and its columns by the header's cells."""
    bars = [match.start() for match in _BAR.finditer(line)]
    names = _BAR.split(header[0].strip().strip("|")) if header else []
    cells = list(itertools.pairwise([*bars, len(line)] if bars and line[bars[-1] + 1 :].strip() else bars))
    if len(cells) < 2:
        yield _Piece("table", number, number + 1, "\n".join(header))
        return
    costs = count_tokens([line[a:b] for a, b in cells])
    begin = 0
    while begin < len(cells):
        end, used = begin + 1, costs[begin]
        while end < len(cells) and used + costs[end] <= room // 2:
            used += costs[end]
            end += 1
        columns = "|".join(names[begin:end]).strip() if names else ""
        row = line[cells[0][0] + 1 : cells[0][1]].strip() if begin else ""
        context = "\n".join(part for part in (f"| {columns} |" if columns else "", f"row: {row}" if row else "") if part)
        yield _Piece("table", number, number + 1, context, line[cells[begin][0] : cells[end - 1][1] + 1].rstrip())
        begin = end


def _context(block: Block, lines: Sequence[str], begin: int, header: Sequence[str]) -> str:
    """Return what a part needs to be understood: the header of its table, the signatures around its code."""
    if begin == block.begin:
        return ""
    if block.kind == "table":
        return "\n".join(header)
    if block.kind != "code":
        return ""
    following = (lines[index] for index in range(begin, min(block.end, begin + CONTEXT_LINES)))
    first = next((line for line in following if line.strip() and not line.startswith("#")), lines[begin])
    indent = _indent(first)
    signatures: list[str] = []
    for index in range(begin - 1, max(block.begin, begin - CONTEXT_LINES) - 1, -1):
        if indent == 0:
            break  # nothing stands further out
        if lines[index].strip() and _indent(lines[index]) < indent and _SIGNATURE.match(lines[index]):
            signatures.insert(0, _signature(lines, index, begin))
            indent = _indent(lines[index])
    if not signatures and block.header:
        return header[0].strip()
    return "\n".join(signatures[-2:])


def _signature(lines: Sequence[str], index: int, end: int) -> str:
    """Return a signature in one line, to the closing bracket of its parameters."""
    joined = lines[index].strip()
    while index + 1 < end and joined.count("(") > joined.count(")") and len(joined) < SIGNATURE_CHARACTERS:
        index += 1
        joined += " " + lines[index].strip()
    return joined[:SIGNATURE_CHARACTERS]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _code_boundary(lines: Sequence[str], begin: int, end: int) -> int:
    """Return the best place to end a part of code: before the least indented line after a blank one in its second half."""
    candidates = [index for index in range(begin + (end - begin) // 2, end + 1) if index > begin and (not lines[index - 1].strip())]
    if not candidates:
        return end
    return min(candidates, key=lambda index: (_indent(lines[index]) if lines[index].strip() else 99, -index))


_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


def _cut_line(line: str, room: int, count_tokens: CountTokens) -> Iterator[str]:
    """Cut one long line into parts at sentence ends, else at words, else anywhere; every part is a substring of the line."""
    spans: list[tuple[int, int]] = []
    begin = 0
    for match in _SENTENCE.finditer(line):
        spans.append((begin, match.start()))
        begin = match.end()
    spans.append((begin, len(line)))
    small = _small_enough(line, spans, room, count_tokens)
    costs = count_tokens([line[a:b] for a, b in small])
    first, last, used = small[0][0], small[0][1], costs[0]
    for (a, b), cost in zip(small[1:], costs[1:], strict=True):
        if used + cost > room:
            yield line[first:last]
            first, used = a, 0
        last = b
        used += cost
    yield line[first:last]


def _small_enough(line: str, spans: Sequence[tuple[int, int]], room: int, count_tokens: CountTokens) -> list[tuple[int, int]]:
    """Return the spans, those above the room cut again until they fit or are too short to cut."""
    small: list[tuple[int, int]] = []
    for (first, last), cost in zip(spans, count_tokens([line[a:b] for a, b in spans]), strict=True):
        if cost <= room or last - first <= LEAST_CHARACTERS:
            small.append((first, last))
        else:
            step = max(LEAST_CHARACTERS, min((last - first) * room // (cost + 1), (last - first + 1) // 2))
            small += _small_enough(line, _windows(line, first, last, step), room, count_tokens)
    return small


def _windows(line: str, first: int, last: int, step: int) -> list[tuple[int, int]]:
    found = []
    while first < last:
        end = min(last, first + step)
        if end < last:
            space = line.rfind(" ", first + step // 2, end)
            end = space if space > 0 else end
        found.append((first, end))
        first = end + 1 if end < last and line[end] == " " else end
    return found
