"""Kernel documents as the coder uses them: front matter checked, expressions parsed, code blocks at hand."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.coders.library.errors import DocumentError
from tools.errors import ExpressionError
from tools.expressions import Expression, parse

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)

LANGUAGES = ("triton", "cpp")


@dataclass(frozen=True)
class Slot:
    """Where pointwise work may be fused into a kernel."""

    of: str
    """The tensor whose elements pass through: an argument's name or `output`."""
    columns: Expression
    """Length of a row of its row-major order."""


@dataclass(frozen=True)
class Reductions:
    """Reductions of its results that a kernel makes while it holds them: `launch` gets `reduce="amin"` or `reduce="amin_positions"`."""

    operators: tuple[str, ...]
    """ATen operators over the second axis: `aten.amin.default`, `aten.min.dim` (its values alone), …"""
    positions: tuple[str, ...]
    """ATen operators over all axes after the second."""
    requires: tuple[Expression, ...]
    """As `requires` of the document."""


@dataclass(frozen=True)
class Tunable:
    """One number or word a kernel may be built with."""

    name: str
    values: tuple[Any, ...]  # Any: numbers or words from YAML
    default: Any  # Any: a value, or an `Expression` over the arguments


@dataclass(frozen=True)
class Kernel:
    """One kernel document, read and checked."""

    name: str
    title: str
    source: str
    """Path of the document."""
    language: str
    matches: tuple[str, ...]
    """ATen operators, or (`pointwise`,), or (`pattern`,)."""
    requires: tuple[Expression, ...]
    slots: Mapping[str, Slot]
    tunables: tuple[Tunable, ...]
    constraints: tuple[Expression, ...]
    python: str
    """The `python kernel` block."""
    cpp: str
    """The `cpp kernel` block; empty for Triton."""
    pattern: str
    """The `python pattern` block; empty unless it matches one."""
    keywords: frozenset[str]
    """Parameter names of `launch`."""
    priority: float = 0
    precision_class: str = "ieee_fp32"
    reduces: Reductions | None = None
    """What it can do to its own results before it writes them; None: nothing."""
    chunk_ids: tuple[str, ...] = ()
    content_hash: str = ""
    front_matter: Mapping[str, Any] = field(default_factory=dict)  # Any: YAML as written


def kernels_from_base(base: KnowledgeBase, target: str) -> tuple[Kernel, ...]:
    """Return the kernels that a knowledge base holds for a target; documents that break the contract are logged and left out."""
    found = []
    for document in base.kernel_documents(target):
        blocks = [(block.info, block.code) for block in document.blocks]
        try:
            found.append(read_kernel(document.front_matter, blocks, document.source, document.chunk_ids, document.content_hash))
        except DocumentError as error:
            logger.warning("kernel document left out: %s", error)
    return tuple(found)


def kernels_from_folder(folder: Path, families: Sequence[str]) -> tuple[Kernel, ...]:
    """Read kernel documents below a folder, without a knowledge base.

    Args:
        folder: Searched for `*.md` at any depth.
        families: Names of `targets` to keep, for example `("cuda:sm_90", "nvidia", "generic")`.

    Raises:
        DocumentError: A document breaks the contract.
    """
    import hashlib

    import yaml
    from markdown_it import MarkdownIt

    found = []
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("---\n"):
            continue
        head, _, body = text[4:].partition("\n---\n")
        front = yaml.safe_load(head)
        if front.get("kind") != "kernel" or not set(front.get("targets", [])) & set(families):
            continue
        blocks = [(" ".join(token.info.split()), token.content) for token in MarkdownIt().parse(body) if token.type == "fence"]
        found.append(read_kernel(front, blocks, str(path), (), hashlib.sha256(text.encode()).hexdigest()))
    return tuple(found)


def read_kernel(
    front: Mapping[str, Any],  # Any: YAML as written
    blocks: Sequence[tuple[str, str]],
    source: str,
    chunk_ids: Sequence[str] = (),
    content_hash: str = "",
) -> Kernel:
    """Build a kernel from front matter and code blocks (info string, code).

    Raises:
        DocumentError: Something required is missing or has the wrong form; the message names the document and the field.
    """
    try:
        return _read(front, blocks, source, tuple(chunk_ids), content_hash)
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError, ExpressionError) as error:
        what = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise DocumentError(f"{source}: {what}; see docs/architecture.md, Kernel documents") from error


def _read(
    front: Mapping[str, Any], blocks: Sequence[tuple[str, str]], source: str, chunk_ids: tuple[str, ...], content_hash: str
) -> Kernel:
    code: dict[str, str] = {}
    for info, text in blocks:
        code.setdefault(info, text)
    name, language = str(front["kernel"]), str(front["language"])
    if not name.isidentifier():
        raise ValueError(f"kernel must be a Python identifier, got {name!r}")
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {LANGUAGES}, got {language!r}")
    matches = front["matches"]
    matches = (matches,) if isinstance(matches, str) else tuple(matches)
    if "python kernel" not in code:
        raise ValueError("no block ```python kernel")
    if language == "cpp" and "cpp kernel" not in code:
        raise ValueError("no block ```cpp kernel")
    if "pattern" in matches and "python pattern" not in code:
        raise ValueError("no block ```python pattern")
    slots = {}
    for slot, value in (front.get("slots") or {}).items():
        if slot not in ("prologue", "epilogue"):
            raise ValueError(f"slots are prologue and epilogue, got {slot!r}")
        slots[slot] = Slot(str(value["of"]), parse(str(value.get("columns", "output.numel"))))
    return Kernel(
        name=name,
        title=str(front.get("title", name)),
        source=source,
        language=language,
        matches=matches,
        requires=tuple(parse(str(text)) for text in front.get("requires") or ()),
        slots=slots,
        tunables=tuple(_tunable(key, value) for key, value in (front.get("tunables") or {}).items()),
        constraints=tuple(parse(str(text)) for text in front.get("constraints") or ()),
        python=code["python kernel"],
        cpp=code.get("cpp kernel", "") if language == "cpp" else "",
        pattern=code.get("python pattern", "") if "pattern" in matches else "",
        keywords=_launch_parameters(code["python kernel"]),
        priority=float(front.get("priority", 0)),
        precision_class=str(front.get("precision_class", "")),
        reduces=_reductions(front["reduces"]) if front.get("reduces") else None,
        chunk_ids=chunk_ids,
        content_hash=content_hash,
        front_matter=front,
    )


def _reductions(value: Mapping[str, Any]) -> Reductions:
    operators, positions = (tuple(map(str, value.get(name, ()))) for name in ("operators", "positions"))
    return Reductions(operators, positions, tuple(parse(str(text)) for text in value.get("requires") or ()))


def _tunable(name: str, value: Mapping[str, Any]) -> Tunable:
    values = tuple(value["values"])
    if not values:
        raise ValueError(f"tunable {name!r} has no values")
    default = value.get("default", values[0])
    if isinstance(default, str) and default not in values:
        default = parse(default)
    return Tunable(name, values, default)


def _launch_parameters(code: str) -> frozenset[str]:
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "launch":
            arguments = statement.args
            return frozenset(item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
    raise ValueError("the python kernel block defines no function `launch`")
