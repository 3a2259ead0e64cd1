"""Numbers and units as profilers print them: thousands separators, decimal commas, scaled units."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

Style = Literal["point", "comma"]
"""What marks the decimals."""

_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_SPACES = str.maketrans("", "", "    '’")
_SCALE = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_MICROSECONDS = {"n": 1e-3, "u": 1.0, "µ": 1.0, "m": 1e3, "": 1e6}
_SECONDS = re.compile(r"(?P<scale>[nuµm]?)(?:second|sec|s)")
_BYTES = re.compile(r"(?P<scale>[KkMGTP]?)(?P<binary>i?)(?:bytes?|B)(?P<per>/.*)?")
_COUNT = re.compile(r"(?P<scale>[KMGT])?(?P<word>inst|sector|request|warp|thread|block|register/thread|cycle|register)s?")


def decimal_style(texts: Iterable[str]) -> Style:
    """Return which mark separates decimals, judged from the texts that allow one reading only; a point where none does."""
    votes: Counter[Style] = Counter()
    for text in texts:
        votes.update(_vote(text.strip()))
    return "comma" if votes["comma"] > votes["point"] else "point"


def _vote(text: str) -> list[Style]:
    if not re.fullmatch(r"[+-]?[\d.,]+", text):
        return []
    points, commas = text.count("."), text.count(",")
    if points and commas:
        return ["comma"] if text.rfind(",") > text.rfind(".") else ["point"]
    if points > 1:
        return ["comma"]
    if commas > 1:
        return ["point"]
    mark = "." if points else "," if commas else ""
    if mark and (len(text) - text.index(mark) - 1 != 3 or len(text.lstrip("+-").split(mark)[0]) > 3 or text.lstrip("+-").startswith("0")):
        return ["point" if mark == "." else "comma"]
    return []


def number(text: str, style: Style = "point") -> float | None:
    """Return the value of a printed number, None if it is none (`n/a`, empty, text, not finite)."""
    cleaned = text.strip().translate(_SPACES)
    cleaned = cleaned.replace(".", "").replace(",", ".") if style == "comma" else cleaned.replace(",", "")
    if not _PLAIN.fullmatch(cleaned):
        return None
    value = float(cleaned)
    return value if math.isfinite(value) else None


def to_base(value: float, unit: str) -> tuple[float, str]:
    """Return a value in the unit that records use: µs, bytes, bytes/s, fractions for percentages, plain counts; other units as they are.

    Prefixes are decimal (1 Kbyte = 1000 bytes), as NVIDIA's tools print them; `KiB` is 1024.
    """
    text = unit.strip()
    if text == "%":
        return value / 100.0, "fraction"
    if match := _SECONDS.fullmatch(text):
        return value * _MICROSECONDS[match["scale"]], "us"
    if match := _BYTES.fullmatch(text):
        step = 1024.0 if match["binary"] else 1000.0
        power = "KMGTP".find(match["scale"].upper()) + 1 if match["scale"] else 0
        return _per_second(value * step**power, match["per"] or "")
    if match := _COUNT.fullmatch(text):
        return value * _SCALE.get(match["scale"] or "", 1.0), "1"
    return value, text or "1"


def _per_second(value: float, per: str) -> tuple[float, str]:
    if not per:
        return value, "bytes"
    rest = per[1:]
    if match := _SECONDS.fullmatch(rest):
        return value / _SCALE.get(match["scale"], 1.0), "bytes/s"
    return value, "bytes" if rest in ("block", "thread", "launch") else f"bytes/{rest}"
