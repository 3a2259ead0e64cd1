"""Make sense of what models write in almost the right form: code in fences, tool calls as text, arguments that are nearly JSON."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

_FENCE = re.compile(r"(?:^|\n)[ \t]*(```+|~~~+)[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:\n[ \t]*\1[ \t]*(?=\n|$)|\Z)", re.DOTALL)
_CALL = re.compile(r"<(tool_call|function_call)>\s*(.*?)\s*(?:</\1>|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_CALL_BLOCKS = ("json", "tool_call", "tool_code")
_PYTHON = ("python", "py", "python3", "kernel.py", "")
_ALIASES = {
    "file": "path", "filename": "path", "file_path": "path", "filepath": "path", "code": "content", "text": "content", "source": "content",
    "contents": "content", "file_text": "content", "old_str": "old", "old_string": "old", "old_text": "old", "search": "old", "new_str": "new",
    "new_string": "new", "new_text": "new", "replace": "new", "question": "query", "q": "query", "message": "summary", "notes": "summary",
}  # fmt: skip
"""Names of arguments that other tools use, and ours."""


def code_in(text: str) -> str | None:
    """Return the Python source in an answer: the longest fenced block that defines `ModelNew`, else the longest Python block; None without any."""
    blocks = [(found[2].lower(), found[3]) for found in _FENCE.finditer(text) if found[3].strip()]
    fitting = [body for language, body in blocks if "class ModelNew" in body and language not in ("json", "diff")]
    python = fitting or [body for language, body in blocks if language in _PYTHON]
    if python:
        return max(python, key=len).rstrip() + "\n"
    return text.strip() + "\n" if "class ModelNew" in text and "import torch" in text and "```" not in text else None


def is_open(text: str) -> bool:
    """Return whether a fenced block was begun and not ended: the answer is incomplete."""
    return len(re.findall(r"(?:^|\n)[ \t]*```", text)) % 2 == 1


def calls_in(text: str, names: frozenset[str]) -> list[tuple[str, dict[str, Any]]]:  # Any: JSON
    """Return tool calls that a model wrote as text: `<tool_call>{…}</tool_call>`, or a fenced JSON object with a known tool's name."""
    blocks = list(_FENCE.finditer(text))
    bodies = [found[3] for found in blocks if found[2].lower() in _CALL_BLOCKS]
    # What stands inside a block of code is code, whatever it looks like.
    outside = text
    for found in blocks:
        outside = outside.replace(found[0], "\n")
    bodies += [found[2] for found in _CALL.finditer(outside)]
    found_calls = []
    for body in bodies:
        data = loose_object(body)
        if data is None:
            continue
        inner = data.get("function")
        item = inner if isinstance(inner, dict) else data
        name, arguments = item.get("name") or item.get("tool"), item.get("arguments", item.get("args", item.get("parameters", {})))
        if isinstance(arguments, str):
            arguments = loose_object(arguments)
        if name in names and isinstance(arguments, dict):
            found_calls.append((str(name), arguments))
    return found_calls


def loose_object(text: str) -> dict[str, Any] | None:  # Any: JSON
    """Return the object in a text that is JSON, or nearly: raw line breaks in strings, trailing commas, Python's literals, a missing end; None otherwise."""
    stripped = text.strip().removeprefix("```json").removesuffix("```").strip()
    for candidate in (stripped, _TRAILING_COMMA.sub(r"\1", stripped), stripped + "}", stripped + '"}'):
        try:
            data = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            return data
    try:
        literal = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return literal if isinstance(literal, dict) else None


def known_names(arguments: Mapping[str, Any], wanted: frozenset[str]) -> dict[str, Any]:  # Any: JSON
    """Return arguments under our names where they came under another tool's."""
    renamed: dict[str, Any] = {}
    for name, value in arguments.items():
        ours = _ALIASES.get(name, name)
        renamed[ours if name not in wanted and ours in wanted and ours not in arguments else name] = value
    return renamed
