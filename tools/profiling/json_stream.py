"""JSON that does not fit into memory: the members of the outermost value, one at a time. Standard library only; memory is bounded by the largest member.

Not a validator: what follows a damaged place is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_MEMBER_CHARACTERS = 64 * 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=False)


class DamagedError(Exception):
    """The text is not JSON from here on. `is_end`: it simply stops."""

    def __init__(self, message: str, *, is_end: bool) -> None:
        super().__init__(message)
        self.is_end = is_end


class _Buffer:
    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text = ""
        self._at = 0
        self._is_done = False

    def _grow(self) -> bool:
        wanted = max(len(self._text) - self._at, 1)  # at least double what is there, so that a long member is decoded few times
        parts, got = [self._text[self._at :]], 0
        while got < wanted and not self._is_done:
            piece = next(self._pieces, None)
            if piece is None:
                self._is_done = True
            else:
                parts.append(piece)
                got += len(piece)
        self._text, self._at = "".join(parts), 0
        return got > 0

    def peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def skip(self) -> None:
        self._at += 1

    def value(self) -> Any:  # Any: JSON
        self.peek()
        while True:
            error = "it stops in the middle of a value"
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._is_done:  # else a number might go on
                    self._at = end
                    return found
            except (json.JSONDecodeError, RecursionError) as raised:
                error = str(raised)
            if len(self._text) - self._at > MAX_MEMBER_CHARACTERS:
                raise DamagedError(f"a value of more than {MAX_MEMBER_CHARACTERS:,} characters, or damage before it: {error}", is_end=False)
            if not self._grow():
                raise DamagedError(error, is_end=self._stops_early())

    def _stops_early(self) -> bool:
        """Tell an end in the middle of a value from damage: the value has no end even when each bracket is counted."""
        depth, quoted, escaped = 0, False, False
        for character in self._text[self._at :]:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = quoted
            elif character == '"':
                quoted = not quoted
            elif not quoted:
                depth += (character in "{[") - (character in "}]")
                if depth == 0 and character in "}]":
                    return False
        return True


def members(pieces: Iterator[str], array: str) -> Iterator[tuple[str, Any]]:  # Any: JSON
    """Yield (key, value) of the outermost object; of the array named `array`, each item under that key. An outermost array yields its items likewise.

    Raises:
        DamagedError: The text stops early or is not JSON; what was yielded before is good.
    """
    buffer = _Buffer(pieces)
    first = buffer.peek()
    if first == "[":
        for item in _items(buffer):
            yield array, item
        return
    if first != "{":
        raise DamagedError("neither an object nor an array", is_end=not first)
    buffer.skip()
    while True:
        sign = buffer.peek()
        if sign == "}":
            return
        if sign == ",":
            buffer.skip()
            continue
        key = buffer.value()
        if not isinstance(key, str) or buffer.peek() != ":":
            raise DamagedError("an object's key is missing", is_end=not buffer.peek())
        buffer.skip()
        if key == array and buffer.peek() == "[":
            for item in _items(buffer):
                yield key, item
        else:
            yield key, buffer.value()


def _items(buffer: _Buffer) -> Iterator[Any]:  # Any: JSON
    buffer.skip()
    while True:
        sign = buffer.peek()
        if sign == "]":
            buffer.skip()
            return
        if sign == ",":
            buffer.skip()
        elif sign:
            yield buffer.value()
        else:
            raise DamagedError("the array has no end", is_end=True)
