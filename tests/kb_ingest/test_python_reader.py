from __future__ import annotations

from kb_ingest.readers.base import RawFile
from kb_ingest.readers.python_source import PythonReader

SOURCE = '''"""Normalisation kernels."""
import triton

LIMIT = 4

@triton.jit
def kernel(x, y):
    """Normalise rows."""
    return x

class Model:
    size = 3

    def forward(self, x):
        return kernel(x, 1)

DONE = True
'''


def test_definitions_become_sections_with_decorators_and_signature() -> None:
    root = PythonReader().read(RawFile("pkg/norm.py", SOURCE.encode())).root
    assert root.title == "norm.py: Normalisation kernels."
    assert [child.title for child in root.children] == ["def kernel", "class Model", "module code"]
    assert root.children[0].text.startswith("@triton.jit\ndef kernel(x, y):")
    assert root.children[1].children[0].title == "def Model.forward"
    assert root.children[0].line_start == 6


def test_every_line_is_in_exactly_one_section() -> None:
    def lines(section: object) -> list[str]:
        found = section.text.split("\n") if section.text or section.children else []  # type: ignore[attr-defined]  # a Section
        for child in section.children:  # type: ignore[attr-defined]  # a Section
            found = found + lines(child)
        return found

    root = PythonReader().read(RawFile("norm.py", SOURCE.encode())).root
    assert [line for line in lines(root) if line] == [line for line in SOURCE.split("\n") if line]
