"""From the runs of a page to its lines in reading order: tables set apart, columns one after another, text at an angle last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kb_ingest.pdf.pages import Page, Run
from kb_ingest.pdf.tables import Table, aligned_tables, find_tables, visual_rows

LEAST_LINES = 4
"""Lines that each of two columns must have."""
MAX_DEPTH = 3
"""Columns within columns."""


@dataclass(frozen=True)
class Line:
    """A line of text as a reader sees it, or a table (then `table` holds its Markdown and `text` is empty)."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    is_bold: bool
    is_mono: bool
    table: tuple[str, ...] = ()


def page_lines(page: Page) -> list[Line]:
    """Return the lines of a page in reading order."""
    tables, runs = find_tables(page)
    lines = list(_ordered(runs, tables, 0))
    lines += [_line([run]) for run in page.runs if not run.is_upright]
    return lines


def _ordered(runs: Sequence[Run], tables: Sequence[Table], depth: int) -> Iterator[Line]:
    """Yield the lines of a region: where a gutter divides it, band by band, left column first."""
    gutter = _gutter(runs) if depth < MAX_DEPTH else None
    if gutter is None:
        yield from _straight(runs, tables)
        return
    across: list[Run | Table] = [run for run in runs if run.x0 < gutter - 2 and run.x1 > gutter + 2]
    across += [table for table in tables if table.x0 < gutter - 2 and table.x1 > gutter + 2]
    wide = set(map(id, across))
    edges = sorted({(item.y0 + item.y1) / 2 for item in across})
    heights = [float("-inf"), *edges, float("inf")]
    for low, high in itertools.pairwise(heights):
        inside = [run for run in runs if id(run) not in wide and low <= run.middle < high]
        held = [table for table in tables if id(table) not in wide and low <= (table.y0 + table.y1) / 2 < high]
        full_runs = [item for item in across if isinstance(item, Run) and item.middle == low]
        full_tables = [item for item in across if isinstance(item, Table) and (item.y0 + item.y1) / 2 == low]
        beside = [run for run in inside if any(_same_row(run, item) for item in full_runs)]
        yield from _straight([*full_runs, *beside], full_tables)
        taken = set(map(id, beside))
        inside = [run for run in inside if id(run) not in taken]
        for is_left in (True, False):
            part = [run for run in inside if ((run.x0 + run.x1) / 2 < gutter) is is_left]
            yield from _ordered(part, [table for table in held if ((table.x0 + table.x1) / 2 < gutter) is is_left], depth + 1)


def _same_row(run: Run, other: Run) -> bool:
    return min(run.y1, other.y1) - max(run.y0, other.y0) >= 0.5 * min(run.y1 - run.y0, other.y1 - other.y0)


def _straight(runs: Sequence[Run], tables: Sequence[Table]) -> Iterator[Line]:
    """Yield lines and tables from top to bottom."""
    found, rest = aligned_tables(runs)
    lines = [_line(row) for row in visual_rows(rest)]
    lines += [
        Line("", table.x0, table.y0, table.x1, table.y1, 0.0, False, False, tuple(table.to_markdown())) for table in (*tables, *found)
    ]
    yield from sorted(lines, key=lambda line: (line.y0 + line.y1) / 2 if not line.table else line.y0)


def _line(row: Sequence[Run]) -> Line:
    parts = [row[0].text]
    for left, right in itertools.pairwise(row):
        gap = right.x0 - left.x1
        parts += ["" if gap < 0.12 * max(left.size, right.size) else " " if gap < 2 * max(left.size, right.size) else "   ", right.text]
    weights: dict[float, int] = {}
    for run in row:
        weights[run.size] = weights.get(run.size, 0) + len(run.text)
    total = sum(weights.values())
    return Line(
        text="".join(parts),
        x0=min(run.x0 for run in row),
        y0=min(run.y0 for run in row),
        x1=max(run.x1 for run in row),
        y1=max(run.y1 for run in row),
        size=max(weights, key=lambda size: weights[size]),
        is_bold=sum(len(run.text) for run in row if run.is_bold) > 0.8 * total,
        is_mono=sum(len(run.text) for run in row if run.is_mono) > 0.8 * total,
    )


def _gutter(runs: Sequence[Run]) -> float | None:
    """Return where an empty strip divides the runs into two columns of text, or None.

    Both sides must hold lines that fill their column (a list of options with explanations beside them is read line by line), over the same heights.
    """
    if len(runs) < 2 * LEAST_LINES:
        return None
    left, right = min(run.x0 for run in runs), max(run.x1 for run in runs)
    size = sorted(run.size for run in runs)[len(runs) // 2] or 10.0
    step = 2.0
    count = int((right - left) / step) + 1
    if count < 20 or count > 5000:
        return None
    cover = [0] * (count + 1)
    for run in runs:
        cover[max(0, int((run.x0 - left) / step))] += 1
        cover[min(count, int((run.x1 - left) / step) + 1)] -= 1
    for index in range(1, count):
        cover[index] += cover[index - 1]
    most = max(cover[:count])
    best: tuple[float, float] | None = None
    index = int(0.15 * count)
    while index < int(0.85 * count):
        if cover[index] > 0.12 * most:
            index += 1
            continue
        begin = index
        while index < count and cover[index] <= 0.12 * most:
            index += 1
        width = (index - begin) * step
        middle = left + (begin + index) * step / 2
        if width >= 0.7 * size and (best is None or width > best[0]) and _are_columns(runs, middle):
            best = (width, middle)
    return best[1] if best else None


def _are_columns(runs: Sequence[Run], gutter: float) -> bool:
    sides = [[run for run in runs if run.x1 <= gutter + 2], [run for run in runs if run.x0 >= gutter - 2]]
    if any(len(visual_rows(side)) < LEAST_LINES for side in sides):
        return False
    tops, bottoms = [min(run.y0 for run in side) for side in sides], [max(run.y1 for run in side) for side in sides]
    shared = min(bottoms) - max(tops)
    if shared < 0.4 * min(bottoms[0] - tops[0], bottoms[1] - tops[1]):
        return False
    return all(_is_filled(side) for side in sides)


def _is_filled(side: Sequence[Run]) -> bool:
    """Return whether most of the text of a column stands in lines of nearly its width."""
    rows = visual_rows(side)
    extents = sorted(max(run.x1 for run in row) - min(run.x0 for run in row) for row in rows)
    width = extents[int(0.9 * (len(extents) - 1))]
    characters = [(sum(len(run.text) for run in row), max(run.x1 for run in row) - min(run.x0 for run in row)) for row in rows]
    full = sum(number for number, extent in characters if extent >= 0.7 * width)
    return full >= 0.55 * sum(number for number, _ in characters) and sum(number for number, _ in characters) >= 14 * len(rows)
