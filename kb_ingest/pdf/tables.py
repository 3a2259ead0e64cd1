"""Tables of a PDF page: by ruled grids, by horizontal rules alone (as typesetters print them), and by three or more aligned columns without rules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from kb_ingest.pdf.pages import Page, Rule, Run

TOUCH = 3.0
"""Rules nearer than this many points touch."""
LEAST_ROWS = 3
"""Rows of a table without rules."""
LEAST_COLUMNS = 3
"""Columns of a table without rules: two would take in every page set in two columns."""
LEAST_DRAWN = 0.3
"""Part of a table's width or height that a rule must be drawn along to divide it."""
MAX_CELL = 1500
"""Characters of a cell; with more in one, the rules frame text."""
MAX_RULES = 3000
"""A page with more is a drawing; its rules are not looked at."""


_MARKS = frozenset(" -–•▪◦‣●■○➢✓·*\uf0b7\uf0a7")


@dataclass(frozen=True)
class Table:
    """Rows of cells and the place they were found at."""

    rows: tuple[tuple[str, ...], ...]
    x0: float
    y0: float
    x1: float
    y1: float

    def to_markdown(self) -> list[str]:
        """Return the lines of a pipe table; the first row is its header."""
        width = max(len(row) for row in self.rows)
        lines = []
        for number, row in enumerate(self.rows):
            cells = [cell.replace("|", "\\|") for cell in (*row, *[""] * (width - len(row)))]
            lines.append("| " + " | ".join(cells) + " |")
            if number == 0:
                lines.append("|" + "---|" * width)
        return lines


def visual_rows(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs grouped into the lines a reader sees, from top to bottom, each from left to right."""
    rows: list[list[Run]] = []
    spans: list[tuple[float, float]] = []
    for run in sorted(runs, key=lambda run: (run.middle, run.x0)):
        placed = False
        for back in range(len(rows) - 1, max(-1, len(rows) - 4), -1):
            low, high = spans[back]
            overlap = min(high, run.y1) - max(low, run.y0)
            if overlap >= 0.5 * min(high - low, run.y1 - run.y0):
                rows[back].append(run)
                taller = run if run.y1 - run.y0 > high - low else None
                spans[back] = (taller.y0, taller.y1) if taller and overlap > 0.8 * (high - low) else (low, high)
                placed = True
                break
        if not placed:
            rows.append([run])
            spans.append((run.y0, run.y1))
    order = sorted(range(len(rows)), key=lambda index: spans[index][0])
    return [sorted(rows[index], key=lambda run: run.x0) for index in order]


def find_tables(page: Page) -> tuple[list[Table], list[Run]]:
    """Return the tables that rules mark on a page, and the upright runs that belong to none."""
    runs = [run for run in page.runs if run.is_upright]
    tables: list[Table] = []
    for group in _groups(page.rules):
        inside = [run for run in runs if _inside(run, group)]
        table = _ruled(group, inside)
        if table is not None:
            tables.append(table)
            taken = set(map(id, inside))
            runs = [run for run in runs if id(run) not in taken]
    return sorted(tables, key=lambda table: table.y0), runs


@dataclass(frozen=True)
class _Group:
    rules: tuple[Rule, ...]
    x0: float
    y0: float
    x1: float
    y1: float


def _groups(rules: Sequence[Rule]) -> list[_Group]:
    """Return rules that touch each other, and stacks of horizontal rules of equal extent, as groups, largest first."""
    if not rules or len(rules) > MAX_RULES:
        return []
    parent = list(range(len(rules)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    order = sorted(range(len(rules)), key=lambda index: rules[index].x0)
    active: list[int] = []
    for index in order:
        rule = rules[index]
        active = [other for other in active if rules[other].x1 >= rule.x0 - TOUCH]
        for other in active:
            if rules[other].y0 <= rule.y1 + TOUCH and rule.y0 <= rules[other].y1 + TOUCH:
                parent[root(index)] = root(other)
        active.append(index)
    by_extent: dict[tuple[int, int], list[int]] = {}
    for index, rule in enumerate(rules):
        if rule.is_horizontal and rule.x1 - rule.x0 > 60:
            by_extent.setdefault((round(rule.x0 / 4), round(rule.x1 / 4)), []).append(index)
    for stack in by_extent.values():
        if len(stack) >= 3:
            for index in stack[1:]:
                parent[root(index)] = root(stack[0])
    members: dict[int, list[Rule]] = {}
    for index, rule in enumerate(rules):
        members.setdefault(root(index), []).append(rule)
    found = [
        _Group(
            tuple(group),
            min(rule.x0 for rule in group),
            min(rule.y0 for rule in group),
            max(rule.x1 for rule in group),
            max(rule.y1 for rule in group),
        )
        for group in members.values()
        if len(group) >= 3
    ]
    return sorted(found, key=lambda group: -(group.x1 - group.x0) * (group.y1 - group.y0))


def _inside(run: Run, group: _Group) -> bool:
    middle = (run.x0 + run.x1) / 2
    return group.x0 - TOUCH <= middle <= group.x1 + TOUCH and group.y0 - TOUCH <= run.middle <= group.y1 + TOUCH


def _drawn(rules: Sequence[tuple[float, float]], least: float) -> list[float]:
    """Return the places at which rules of at least this length in all stand, neighbours nearer than `TOUCH` made one."""
    found: list[list[float]] = []
    for place, length in sorted(rules):
        if found and place - found[-1][0] <= TOUCH:
            found[-1][1] += length
        else:
            found.append([place, length])
    return [place for place, length in found if length >= least]


def _ruled(group: _Group, runs: Sequence[Run]) -> Table | None:
    if len(runs) < 4:
        return None
    width = group.x1 - group.x0
    heights = _drawn([(rule.y0, rule.x1 - rule.x0) for rule in group.rules if rule.is_horizontal], LEAST_DRAWN * width)
    edges = _drawn([(rule.x0, rule.y1 - rule.y0) for rule in group.rules if not rule.is_horizontal], LEAST_DRAWN * (group.y1 - group.y0))
    is_code = sum(len(run.text) for run in runs if run.is_mono) > 0.7 * sum(len(run.text) for run in runs)
    inner = [edge for edge in edges if group.x0 + TOUCH < edge < group.x1 - TOUCH]
    if inner:
        columns = [group.x0, *inner, group.x1]
    elif is_code:
        return None
    else:
        columns = _gaps(visual_rows(runs), group.x0, group.x1)
    bands = [group.y0, *[height for height in heights if group.y0 + TOUCH < height < group.y1 - TOUCH], group.y1]
    if len(columns) < 3 or (len(bands) < 3 and not inner):
        return None
    return _filled(runs, columns, bands, group)


def _filled(runs: Sequence[Run], columns: Sequence[float], bands: Sequence[float], group: _Group) -> Table | None:
    rows: list[tuple[str, ...]] = []
    for low, high in itertools.pairwise(bands):
        inside = [
            run
            for run in runs
            if low <= run.middle < high or (high == bands[-1] and run.middle >= high) or (low == bands[0] and run.middle < low)
        ]
        lines = [_cells(row, columns) for row in visual_rows(inside)]
        if len(lines) > 1 and sum(1 for line in lines if line[0] and sum(map(bool, line)) > 1) >= 0.6 * len(lines):
            rows += [tuple(line) for line in lines]
        elif lines:
            rows.append(tuple(" ".join(part for part in parts if part) for parts in zip(*lines, strict=True)))
    rows = [row for row in rows if any(row)]
    used = [index for index in range(len(columns) - 1) if any(row[index] for row in rows)]
    rows = [tuple(row[index] for index in used) for row in rows]
    if any(all(set(cell) <= _MARKS for cell in column) for column in zip(*rows, strict=True)):
        return None  # a framed list: one column holds nothing but its marks
    filled = sum(1 for row in rows for cell in row if cell)
    if len(rows) < 2 or len(used) < 2 or filled < 0.35 * len(rows) * len(used):
        return None
    if sum(1 for row in rows if sum(map(bool, row)) > 1) < 0.5 * len(rows) or max(len(cell) for row in rows for cell in row) > MAX_CELL:
        return None
    return Table(tuple(rows), group.x0, group.y0, group.x1, group.y1)


def _cells(row: Sequence[Run], columns: Sequence[float]) -> list[str]:
    cells: list[list[str]] = [[] for _ in range(len(columns) - 1)]
    for run in row:
        middle = (run.x0 + run.x1) / 2
        index = next((number for number in range(len(columns) - 2, 0, -1) if middle >= columns[number]), 0)
        if run.x1 - run.x0 > columns[index + 1] - columns[index]:  # it spans columns: it belongs to the first
            index = next((number for number in range(len(columns) - 2, 0, -1) if run.x0 >= columns[number] - TOUCH), 0)
        cells[index].append(run.text)
    return [" ".join(cell) for cell in cells]


def _gaps(rows: Sequence[Sequence[Run]], left: float, right: float) -> list[float]:
    """Return column edges: the places that almost no run of the rows covers."""
    runs = [run for row in rows if len(row) > 1 for run in row]
    if not runs:
        return [left, right]
    size = sorted(run.size for run in runs)[len(runs) // 2]
    edges = [left]
    reach = -1.0
    for run in sorted(runs, key=lambda run: run.x0):
        if reach >= 0 and run.x0 - reach > 0.5 * size:
            edges.append((reach + run.x0) / 2)
        reach = max(reach, run.x1)
    return [*edges, right]


def aligned_tables(runs: Sequence[Run]) -> tuple[list[Table], list[Run]]:
    """Return the tables without rules in a region that is not set in columns of text, and the runs that are left."""
    rows = visual_rows(runs)
    tables: list[Table] = []
    taken: set[int] = set()
    index = 0
    while index < len(rows):
        end = index
        while (
            end < len(rows) and _is_tabular(rows[end]) and (end == index or rows[end][0].y0 - rows[end - 1][0].y1 < 2.5 * rows[end][0].size)
        ):
            end += 1
        if end - index >= LEAST_ROWS:
            part = rows[index:end]
            inside = [run for row in part for run in row]
            left, right = min(run.x0 for run in inside), max(run.x1 for run in inside)
            columns = _gaps(part, left, right)
            cells = tuple(tuple(_cells(row, columns)) for row in part)
            filled = sum(bool(cell) for row in cells for cell in row) / max(1, len(cells) * (len(columns) - 1))
            if len(columns) > LEAST_COLUMNS and filled >= 0.6 and not _is_prose(inside, columns):
                tables.append(Table(cells, left, part[0][0].y0, right, max(run.y1 for run in part[-1])))
                taken |= set(map(id, inside))
        index = max(end, index + 1)
    return tables, [run for run in runs if id(run) not in taken]


def _is_tabular(row: Sequence[Run]) -> bool:
    if len(row) < LEAST_COLUMNS or all(run.is_mono for run in row):
        return False
    return sum(1 for left, right in itertools.pairwise(row) if right.x0 - left.x1 > 0.8 * max(left.size, 1.0)) >= LEAST_COLUMNS - 1


def _is_prose(runs: Sequence[Run], columns: Sequence[float]) -> bool:
    """Return whether the columns are filled to their edges with words: text set in columns."""
    widths = [right - left for left, right in itertools.pairwise(columns)]
    full = sum(1 for run in runs if run.x1 - run.x0 > 0.85 * min(widths) and len(run.text.split()) > 3)
    return full > 0.6 * len(runs)
