"""Text of a PDF page with its geometry, by pdfium: runs of characters that stand on one line in one style, and the rules drawn on the page.

Coordinates are points from the upper left corner of the page as it is shown, rotation applied: y grows downwards.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage  # type: ignore[import-untyped]  # publishes no types

MAX_CHARACTERS = 200_000
"""Of one page; a page with more is cut there, and the cut is reported."""
MAX_OBJECTS = 20_000
"""Page objects looked at for rules and images."""
WIDE_GAP = 0.9
"""A gap of more than this many font sizes ends a run."""
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00a0": " ", "\u00ad": "-", "\u200b": ""}
_MONO = re.compile(
    r"courier|mono|consol|menlo|typewriter|cmtt|nimbusmon|lucidacon|sourcecode|inconsol|terminal|fixed|sftt|txtt", re.IGNORECASE
)
_BOLD = re.compile(r"bold|black|heavy|semibold|demi|cmbx|sfbx", re.IGNORECASE)
_FIXED_PITCH = 1  # ISO 32000-1, table 123: bit 1 of the font flags


@dataclass(frozen=True)
class Run:
    """Characters on one line in one style without a wide gap."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    is_bold: bool
    is_mono: bool
    is_upright: bool = True
    """False: written at an angle to the page, such as a watermark or a stamp in the margin."""

    @property
    def middle(self) -> float:
        """Height of its middle."""
        return (self.y0 + self.y1) / 2


@dataclass(frozen=True)
class Rule:
    """A straight line or the edge of a box."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def is_horizontal(self) -> bool:
        """Whether it is wider than high."""
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(frozen=True)
class Page:
    """What stands on one page."""

    number: int
    """From 1."""
    width: float
    height: float
    runs: tuple[Run, ...]
    rules: tuple[Rule, ...]
    num_images: int
    num_unreadable: int = 0
    """Characters whose font does not say what they are."""
    num_cut: int = 0
    """Characters beyond `MAX_CHARACTERS`."""


def read_page(document: PdfDocument, number: int) -> Page:
    """Return a page (numbers from 1); everything pdfium holds for it is released."""
    page = document[number - 1]
    try:
        text_page = page.get_textpage()
        try:
            place = _Frame(page)
            total = text_page.count_chars()
            rules, images = _objects(page, place)
            runs, unreadable = _runs(text_page.raw, min(total, MAX_CHARACTERS), place, _Walls(rules))
            return Page(number, place.width, place.height, tuple(runs), tuple(rules), images, unreadable, max(0, total - MAX_CHARACTERS))
        finally:
            text_page.close()
    finally:
        page.close()


class _Frame:
    """Page coordinates to those of `Run`."""

    def __init__(self, page: PdfPage) -> None:
        self._left, self._bottom, right, top = page.get_cropbox()
        self._w, self._h = max(right - self._left, 1.0), max(top - self._bottom, 1.0)
        self.rotation = page.get_rotation() % 360
        self.width, self.height = (self._h, self._w) if self.rotation in (90, 270) else (self._w, self._h)

    def box(self, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1."""
        left, right, bottom, top = left - self._left, right - self._left, bottom - self._bottom, top - self._bottom
        if self.rotation == 90:
            return bottom, left, top, right
        if self.rotation == 180:
            return self._w - right, bottom, self._w - left, top
        if self.rotation == 270:
            return self._h - top, self._w - right, self._h - bottom, self._w - left
        return left, self._h - top, right, self._h - bottom

    def contains(self, box: tuple[float, float, float, float]) -> bool:
        """Return whether a box is at least in part on the page."""
        return box[2] > -1 and box[3] > -1 and box[0] < self.width + 1 and box[1] < self.height + 1


class _Walls:
    """The vertical rules of a page: no run goes through one."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = sorted((rule for rule in rules if not rule.is_horizontal), key=lambda rule: rule.x0)
        self._edges = [rule.x0 for rule in self._rules]

    def between(self, left: float, right: float, height: float) -> bool:
        """Return whether one stands between two places on a line."""
        if not self._edges:
            return False
        first, last = bisect.bisect_left(self._edges, left - 1), bisect.bisect_right(self._edges, right + 1)
        return any(rule.y0 <= height <= rule.y1 for rule in self._rules[first:last])


class _Open:
    """A run that grows; its style is that of most of its characters."""

    def __init__(self, character: str, box: tuple[float, float, float, float], style: tuple[float, bool, bool, bool]) -> None:
        self.parts = [character]
        self.box = box
        self.style = style
        self._styles = {style: 1}

    def add(self, character: str, box: tuple[float, float, float, float], style: tuple[float, bool, bool, bool]) -> None:
        """Take one more character."""
        self.parts.append(character)
        mine = self.box
        self.box = (min(mine[0], box[0]), min(mine[1], box[1]), max(mine[2], box[2]), max(mine[3], box[3]))
        self._styles[style] = self._styles.get(style, 0) + 1
        self.style = style

    def finish(self) -> Run | None:
        """Return the run, or None if it is blank."""
        text = "".join(self.parts).strip()
        if not text:
            return None
        size, bold, mono, upright = max(self._styles, key=lambda style: self._styles[style])
        x0, y0, x1, y1 = (round(value, 1) for value in self.box)
        return Run(text, x0, y0, x1, y1, size, bold, mono, upright)


def _runs(raw: ctypes.c_void_p, count: int, frame: _Frame, walls: _Walls) -> tuple[list[Run], int]:
    import pypdfium2.raw as pdfium  # type: ignore[import-untyped]  # publishes no types

    runs: list[Run] = []
    styles: dict[int, tuple[float, bool, bool, bool]] = {}
    box = pdfium.FS_RECTF()
    current: _Open | None = None
    pending_space = False
    unreadable = 0

    def close() -> None:
        nonlocal current, pending_space
        finished = current.finish() if current is not None else None
        if finished is not None:
            runs.append(finished)
        current, pending_space = None, False

    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if code in (10, 13):
            close()
            continue
        if code == 0 or 0xD800 <= code < 0xE000:
            unreadable += 1
            continue
        if 0xE000 <= code < 0xF8FF or code == 0xFFFD:
            unreadable += 1
        character = "-" if code == 2 else chr(code)  # pdfium writes U+0002 for the hyphen that breaks a word
        character = _LIGATURES.get(character, character)
        if not character or (code < 32 and code not in (2, 9)):
            continue
        if character.isspace():
            pending_space = True
            continue
        pdfium.FPDFText_GetLooseCharBox(raw, index, box)
        here = frame.box(box.left, box.bottom, box.right, box.top)
        if not frame.contains(here):
            continue
        style = _style(raw, index, styles, frame)
        if current is not None and (
            not _continues(current, here, style) or (pending_space and walls.between(current.box[2], here[0], (here[1] + here[3]) / 2))
        ):
            close()
        if current is None:
            current = _Open(character, here, style)
            pending_space = False
            continue
        if pending_space or (style[3] and here[0] - current.box[2] > 0.25 * style[0]):
            current.parts.append(" ")
            pending_space = False
        current.add(character, here, style)
    close()
    return runs, unreadable


def _continues(current: _Open, here: tuple[float, float, float, float], style: tuple[float, bool, bool, bool]) -> bool:
    """Return whether a character goes on with a run: on its line, near its end, upright like it, and as wide as its style lets expect."""
    if style[3] != current.style[3]:
        return False
    if not style[3]:
        return True  # at an angle: pdfium's own line ends decide
    size = max(style[0], current.style[0], 1.0)
    middle, gap = (here[1] + here[3]) / 2, here[0] - current.box[2]
    return current.box[1] - 0.2 * size <= middle <= current.box[3] + 0.2 * size and -size * 0.6 <= gap <= WIDE_GAP * size


def _style(
    raw: ctypes.c_void_p, index: int, known: dict[int, tuple[float, bool, bool, bool]], frame: _Frame
) -> tuple[float, bool, bool, bool]:
    """Return size, boldness, fixed pitch and uprightness of a character; looked up once per text object."""
    import pypdfium2.raw as pdfium

    handle = pdfium.FPDFText_GetTextObject(raw, index)
    key = ctypes.cast(handle, ctypes.c_void_p).value or 0
    found = known.get(key) if key else None
    if found is not None:
        return found
    matrix = pdfium.FS_MATRIX()
    scale, angle = 1.0, 0.0
    if pdfium.FPDFText_GetMatrix(raw, index, matrix):
        scale = math.hypot(matrix.c, matrix.d) or 1.0
        angle = math.degrees(math.atan2(matrix.b, matrix.a))
    size = abs(pdfium.FPDFText_GetFontSize(raw, index)) * scale
    flags = ctypes.c_int()
    length = pdfium.FPDFText_GetFontInfo(raw, index, None, 0, flags)
    buffer = ctypes.create_string_buffer(max(int(length), 1))
    pdfium.FPDFText_GetFontInfo(raw, index, buffer, length, flags)
    name = buffer.value.decode("utf-8", "replace")
    weight = pdfium.FPDFText_GetFontWeight(raw, index)
    is_upright = (
        abs((angle - frame.rotation + 180) % 360 - 180) < 5
    )  # a page shown turned clockwise has its text written turned counter-clockwise
    is_mono = bool(_MONO.search(name)) or bool(flags.value & _FIXED_PITCH and not _BOLD.search(name))
    found = (round(size, 1), bool(_BOLD.search(name)) or weight >= 600, is_mono, is_upright)
    if key:
        known[key] = found
    return found


def _objects(page: PdfPage, frame: _Frame) -> tuple[list[Rule], int]:
    """Return the thin lines and box edges of a page, and how many images it shows."""
    rules: list[Rule] = []
    images = 0
    for kind, bounds in _bounds(page):
        if kind == "image":
            images += 1
            continue
        x0, y0, x1, y1 = frame.box(*bounds)
        if not frame.contains((x0, y0, x1, y1)):
            continue
        width, height = x1 - x0, y1 - y0
        if (width >= 10 and height <= 2.5) or (height >= 6 and width <= 2.5):
            rules.append(Rule(x0, y0, x1, y1))
        elif width >= 10 and height >= 6 and width < frame.width * 0.98:
            rules += [Rule(x0, y0, x1, y0), Rule(x0, y1, x1, y1), Rule(x0, y0, x0, y1), Rule(x1, y0, x1, y1)]
    return rules, images


def _bounds(page: PdfPage) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    import pypdfium2.raw as pdfium

    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    for index in range(min(pdfium.FPDFPage_CountObjects(page.raw), MAX_OBJECTS)):
        item = pdfium.FPDFPage_GetObject(page.raw, index)
        kind = pdfium.FPDFPageObj_GetType(item)
        if kind not in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_IMAGE):
            continue
        if pdfium.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            yield (
                "image" if kind == pdfium.FPDF_PAGEOBJ_IMAGE else "path",
                (left.value, bottom.value, right.value, top.value),
            )
