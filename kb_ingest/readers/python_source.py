"""Python source by its syntax tree: one section per function or class, with decorators, signature and docstring; nothing is executed."""

from __future__ import annotations

import ast
import warnings

from kb.errors import DocumentError
from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document
from kb_ingest.readers.outline import Heading, build_tree

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class PythonReader:
    """`*.py`, Triton kernels among them."""

    suffixes: tuple[str, ...] = (".py", ".pyi")

    def accepts(self, file: RawFile) -> bool:
        """Return whether the file parses as Python."""
        return True

    def read(self, file: RawFile) -> Document:
        """Return the document: a section per definition, module code in between.

        Raises:
            DocumentError: It is not valid Python.
        """
        text = decode(file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
            raise DocumentError(file.source, f"is not valid Python: {err}; correct it, or rename it to .txt") from err
        lines = text.split("\n")
        name = file.source.rsplit("/", 1)[-1]
        docstring = ast.get_docstring(tree)
        title = f"{name}: {docstring.splitlines()[0]}"[:120] if docstring else name
        return make_document(file, title, build_tree(title, lines, _headings(tree), syntax="code"), {}, Kind.GUIDE)


def _headings(tree: ast.Module) -> list[Heading]:
    """Return a heading of no lines before each definition, and one named after the module where its own code goes on."""
    found: list[Heading] = []

    def visit(nodes: list[ast.stmt], level: int, owner: str) -> None:
        previous_was_definition = False
        for node in nodes:
            if isinstance(node, _DEFINITIONS):
                begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
                word = "class" if isinstance(node, ast.ClassDef) else "def"
                found.append(Heading(f"{word} {owner}{node.name}", level, begin, begin))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, level + 1, f"{owner}{node.name}.")
                previous_was_definition = True
            elif previous_was_definition:
                found.append(Heading("module code" if not owner else f"class {owner[:-1]}", level, node.lineno - 1, node.lineno - 1))
                previous_was_definition = False

    visit(tree.body, 1, "")
    return found
