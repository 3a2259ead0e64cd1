"""The protocol of readers and what they share: decoding, front matter, the document's metadata."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kb.errors import DocumentError
from kb.targets import normalise
from kb.types import Document, Kind, Section, Trust

MAX_LINE_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class RawFile:
    """One file as it was found."""

    source: str
    """Its name in the store."""
    data: bytes
    defaults: Mapping[str, Any] = field(default_factory=dict)  # Any: front matter values
    """Metadata for files that state none: `kind`, `targets`, `trust`, `valid_for`."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the bytes and the defaults, hexadecimal."""
        digest = hashlib.sha256(self.data)
        if self.defaults:
            digest.update(repr(sorted(self.defaults.items())).encode())
        return digest.hexdigest()


class Reader(Protocol):
    """Bytes of one format to a document. Stateless; never executes what it reads."""

    suffixes: tuple[str, ...]
    """File name endings of the format, lower case."""

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content is of this format; called for files with one of the suffixes and for unknown ones."""

    def read(self, file: RawFile) -> Document:
        """Return the document.

        Raises:
            DocumentError: The content is broken beyond reading.
        """


def decode(file: RawFile) -> str:
    """Return the text of a file: by byte order mark, else UTF-8, else Windows-1252; line ends become newlines.

    Raises:
        DocumentError: It is binary.
    """
    data = file.data
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        encoding = "utf-32"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
        if b"\0" in data[:65536]:
            raise DocumentError(file.source, "is a binary file; give a text format (md, txt, py, …)")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        odd = sum(1 for character in text[:65536] if ord(character) < 32 and character not in "\t\n\r\f")
        if odd > len(text[:65536]) // 50:
            raise DocumentError(file.source, "is a binary file; give a text format (md, txt, py, …)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\x00", "")


_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def split_front_matter(source: str, text: str) -> tuple[dict[str, Any], int]:  # Any: YAML
    """Return the parsed YAML front matter and the number of lines it takes (0: there is none).

    Raises:
        DocumentError: It is not YAML, or not a mapping.
    """
    match = _FRONT_MATTER.match(text)
    if not match:
        return {}, 0
    import yaml

    try:
        values = yaml.safe_load(match.group(1))
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f" at line {mark.line + 2}" if mark is not None else ""
        raise DocumentError(
            source, f"the front matter between the --- lines is not YAML{where}: {getattr(err, 'problem', err)}; correct it"
        ) from err
    except (ValueError, RecursionError) as err:
        raise DocumentError(source, f"the front matter between the --- lines cannot be read: {err}") from err
    if values is None:
        return {}, match.group(0).count("\n")
    if not isinstance(values, dict):
        if ":" not in match.group(1):
            return {}, 0  # a paragraph between two rules, not front matter
        raise DocumentError(source, f"the front matter is a {type(values).__name__}, not a mapping of names to values")
    lines = match.group(0).count("\n") + (0 if match.group(0).endswith("\n") else 1)
    return {str(key): value for key, value in values.items()}, lines


def make_document(
    file: RawFile,
    title: str,
    root: Section,
    front_matter: Mapping[str, Any],  # Any: YAML
    kind: Kind = Kind.GUIDE,
    lost: Mapping[str, int] | None = None,
) -> Document:
    """Return the document with the metadata its front matter (else the file's defaults) states.

    Raises:
        DocumentError: `kind`, `trust`, `targets` or `valid_for` is not one.
    """
    values = {**file.defaults, **front_matter}
    return Document(
        source=file.source,
        title=str(values.get("title") or title or file.source),
        kind=_closed(file.source, "kind", values.get("kind"), Kind, kind),
        root=root,
        content_hash=file.content_hash,
        targets=_targets(file.source, values.get("targets", values.get("target"))),
        trust=_closed(file.source, "trust", values.get("trust"), Trust, Trust.DOCUMENTED),
        valid_for=_versions(file.source, values.get("valid_for")),
        front_matter=_json_ready(front_matter),
        lost=dict(lost or {}),
    )


def _json_ready(value: Any) -> Any:  # Any: YAML as written
    """Return the value with dates and other YAML objects as text, so that it can be stored as JSON."""
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json_ready(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _closed(source: str, name: str, value: Any, names: Any, default: Any) -> Any:  # Any: an Enum class and its member
    if value is None:
        return default
    try:
        return names(str(value))
    except ValueError as err:
        raise DocumentError(
            source, f"unknown {name} {value!r} in the front matter; known: {', '.join(item.value for item in names)}"
        ) from err


def _targets(source: str, value: Any) -> tuple[str, ...]:  # Any: YAML
    if value is None:
        return ("generic",)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise DocumentError(source, f"`targets` in the front matter must be a list of names, got {value!r}")
    try:
        return tuple(dict.fromkeys(normalise(item) for item in listed)) or ("generic",)
    except ValueError as err:
        raise DocumentError(source, str(err)) from err


def _versions(source: str, value: Any) -> dict[str, str]:  # Any: YAML
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(source, f"`valid_for` in the front matter must map a package to a version range, got {value!r}")
    return {str(name): str(spec) for name, spec in value.items()}
