"""C, C++, CUDA and HIP source by tree-sitter's syntax trees: one section per function or class, with the comment before it; nothing is preprocessed or compiled.

What does not parse is kept: tree-sitter goes on behind an error, and every line of the file is in exactly one section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document
from kb_ingest.readers.outline import Heading, build_tree

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Tree

LEAST_MEMBER_LINES = 8
"""Members of a class become sections of their own when they are this long; shorter ones stay in the text of their class."""
MAX_NAME = 120
MAX_DEPTH = 60
"""Nested namespaces, conditionals and classes looked into."""
SLICE_BYTES = 4096
SLICE_STEPS = 250
"""The parser's steps (of a hundred operations) for one slice: real code takes up to about 120, text that is far from C++ thousands."""
FILE_STEPS = (2000, 40)
"""So many steps for a whole file, and one more for each so many bytes; real code takes one step for 100 bytes or more."""
_WINDOW = 65536
_CUDA = re.compile(rb"__global__|__device__|__shared__|<<<")
_CONTAINERS = frozenset(
    {
        "namespace_definition",
        "linkage_specification",
        "declaration_list",
        "preproc_if",
        "preproc_ifdef",
        "preproc_else",
        "preproc_elif",
        "preproc_elifdef",
        "ERROR",
    }
)
_CLASSES = {"class_specifier": "class", "struct_specifier": "struct", "union_specifier": "union", "enum_specifier": "enum"}
_WRAPPERS = frozenset({"template_declaration", "declaration", "type_definition", "friend_declaration"})
_SPACES = re.compile(r"\s+")
_KERNEL = "__global__"


class CppReader:
    """`*.cu`, `*.cpp`, `*.h` and relatives."""

    suffixes: tuple[str, ...] = (
        ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".hip", ".cl", ".ino",
    )  # fmt: skip

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content is text."""
        return b"\0" not in file.data[:65536]

    def read(self, file: RawFile) -> Document:
        """Return the document: a section per definition, what stands between them in sections named after the file.

        Raises:
            DocumentError: It is binary.
        """
        text = decode(file)
        lines = text.split("\n")
        name = file.source.rsplit("/", 1)[-1]
        headings = _Walk(text.encode("utf-8", "replace"), lines, bool(_CUDA.search(file.data))).headings()
        return make_document(file, _title(name, lines), build_tree(name, lines, headings, syntax="code"), {}, Kind.GUIDE)


_LICENCE = re.compile(r"copyright|licen[cs]e|spdx|all rights reserved|redistribution|warranty|permission is hereby", re.IGNORECASE)
_BRIEF = re.compile(r"^\s*(?:/\*+!?|\*+|//+[!/]?)\s*(?:[\\@](?:brief|file\S*)\s+)?(\S.*?)\s*(?:\*/)?\s*$")


def _title(name: str, lines: list[str]) -> str:
    """Return the file's name with the first line of its leading comment, licences left out."""
    in_block = False
    said: list[str] = []
    for line in lines[:200]:
        stripped = line.strip()
        if not stripped or stripped in ("/*", "*/", "/**", "//", "*"):
            if _LICENCE.search(" ".join(said)):
                said = []
            elif said:
                break
            in_block = (in_block or stripped.startswith("/*")) and stripped != "*/"
            continue
        if not (in_block or stripped.startswith(("//", "/*"))):
            break
        in_block = (in_block or stripped.startswith("/*")) and "*/" not in stripped
        match = _BRIEF.match(line)
        if match:
            said.append(match.group(1))
    if not said or _LICENCE.search(" ".join(said)) or not any(map(str.isalpha, said[0])) or len(said[0]) < 8:
        return name
    return f"{name}: {said[0]}"[:MAX_NAME]


def _is_parsable(parser: Parser, data: bytes) -> bool:
    """Return whether every slice parses with little work: text that is far from C++ takes the parser work that grows with the square of its length."""
    slices = (data[begin : begin + SLICE_BYTES] for begin in range(0, len(data), SLICE_BYTES))
    return all(_parsed(parser, part, SLICE_STEPS) is not None for part in slices)


def _parsed(parser: Parser, data: bytes, max_steps: int) -> Tree | None:
    """Return the syntax tree, or None if it takes more than so many steps: a bound on work, not on time, so that it is the same on every machine."""
    steps = 0

    def is_enough(offset: int, has_error: bool) -> bool:
        nonlocal steps
        steps += 1
        return steps > max_steps

    parser.reset()
    try:
        return parser.parse(lambda offset, point: data[offset : offset + _WINDOW], progress_callback=is_enough)
    except ValueError:  # how the binding says that the callback stopped it
        return None


class _Walk:
    """Finds the definitions of one file."""

    def __init__(self, data: bytes, lines: list[str], is_cuda: bool) -> None:
        import tree_sitter
        import tree_sitter_cpp
        import tree_sitter_cuda

        language = tree_sitter.Language(tree_sitter_cuda.language() if is_cuda else tree_sitter_cpp.language())
        self._data = data
        self._lines = lines
        parser = tree_sitter.Parser(language)
        tree = _parsed(parser, data, FILE_STEPS[0] + len(data) // FILE_STEPS[1]) if _is_parsable(parser, data) else None
        self._root = (tree or tree_sitter.Parser(language).parse(b"")).root_node
        self._found: list[Heading] = []

    def headings(self) -> list[Heading]:
        """Return a heading of no lines before each definition, and one for what goes on after it."""
        self._visit(self._root, 1, "", 0)
        kept: list[Heading] = []
        for heading in self._found:  # in order of their place; two on one line: the first speaks for both
            if not kept or heading.begin > kept[-1].begin:
                kept.append(heading)
        return kept

    def _visit(self, node: Node, level: int, owner: str, depth: int) -> None:
        after_definition = False
        comment: Node | None = None
        for child in node.named_children:
            if child.type == "comment":
                is_new = comment is None and not (self._found and child.start_point[0] <= self._end_of_last)
                if is_new or (comment is not None and child.start_point[0] > self._last_comment + 1):
                    comment = child
                self._last_comment = child.end_point[0]
                continue
            begin = child.start_point[0]
            if comment is not None and self._last_comment >= begin - 1:
                begin = comment.start_point[0]
            comment = None
            definition = _definition(child)
            name = self._name(definition) if definition is not None else ""
            if definition is not None and name and (level == 1 or child.end_point[0] - child.start_point[0] + 1 >= LEAST_MEMBER_LINES):
                kind = self._kind(definition, child)
                self._add(f"{kind} {owner}{name}", level, begin)
                body = definition.child_by_field_name("body")
                if definition.type in _CLASSES and definition.type != "enum_specifier" and body is not None and depth < MAX_DEPTH:
                    self._visit(body, level + 1, f"{owner}{name.split('<')[0].strip()}::", depth + 1)
                after_definition = True
                self._end_of_last = child.end_point[0]
            elif child.type in _CONTAINERS and depth < MAX_DEPTH:
                inner = child.child_by_field_name("body") or child
                label = self._text(child.child_by_field_name("name")) if child.type == "namespace_definition" else ""
                before = len(self._found)
                self._visit(inner, level, f"{owner}{label}::" if label else owner, depth + 1)
                after_definition = len(self._found) > before or after_definition
            elif after_definition:
                self._add(owner[:-2] or "file scope", level, begin)
                after_definition = False

    _last_comment = -2
    _end_of_last = -1

    def _add(self, title: str, level: int, begin: int) -> None:
        self._found.append(Heading(_SPACES.sub(" ", title)[:MAX_NAME], min(level, 6), begin, begin))

    def _kind(self, definition: Node, outer: Node) -> str:
        if definition.type in _CLASSES:
            return _CLASSES[definition.type]
        if definition.type == "concept_definition":
            return "concept"
        head = self._data[outer.start_byte : outer.start_byte + 2000].split(b"{", 1)[0]
        return "kernel" if _KERNEL.encode() in head else "function"

    def _name(self, definition: Node) -> str:
        """Return the name of a definition with its template arguments, without parameters."""
        if definition.type == "function_definition":
            declarator = definition.child_by_field_name("declarator")
            for _ in range(MAX_DEPTH):
                if declarator is None:
                    return ""
                if declarator.type in (
                    "function_declarator",
                    "pointer_declarator",
                    "reference_declarator",
                    "parenthesized_declarator",
                    "array_declarator",
                ):
                    inner = declarator.child_by_field_name("declarator")
                    declarator = inner if inner is not None else next(iter(declarator.named_children), None)
                    continue
                return self._text(declarator)
            return ""
        return self._text(definition.child_by_field_name("name"))

    def _text(self, node: Node | None) -> str:
        return self._data[node.start_byte : node.end_byte].decode("utf-8", "replace") if node is not None else ""


def _definition(node: Node) -> Node | None:
    """Return the function, class or concept with a body that a declaration holds, or None."""
    for candidate in _unwrapped(node):
        if candidate.type == "function_definition" or candidate.type == "concept_definition":
            return candidate
        if candidate.type in _CLASSES and candidate.child_by_field_name("body") is not None:
            return candidate
    return None


def _unwrapped(node: Node) -> Iterator[Node]:
    """Yield the node, and what it wraps: the templated declaration, the type of a declaration."""
    for _ in range(MAX_DEPTH):
        yield node
        if node.type == "linkage_specification":
            inner = node.child_by_field_name("body")  # of one declaration; a list of them is a container
            if inner is None or inner.type == "declaration_list":
                return
            node = inner
            continue
        if node.type not in _WRAPPERS:
            return
        inner = next(
            (child for child in node.named_children if child.type in ("function_definition", "concept_definition", *_CLASSES, *_WRAPPERS)),
            None,
        )
        if inner is None:
            return
        node = inner
