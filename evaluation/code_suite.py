"""Make a suite "question → function" in BEIR form from the functions of installed packages.

The question is the first sentence of a function's docstring; the document is the function without its docstring, so that only its names and its code can
answer. Functions whose question is short, or asked of several functions, are left out. The same packages give the same suite.

    python -m evaluation.code_suite OUT --package torch.nn --package triton --questions 400
    kb eval OUT
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError

LEAST_WORDS = 5
LEAST_CODE = 200
"""Characters of a function without its docstring."""


@dataclass(frozen=True)
class Function:
    """A function with the question that its docstring asks."""

    identifier: str
    question: str
    code: str


def functions(source: str, name: str) -> Iterator[Function]:
    """Yield the documented functions of a module's source.

    Args:
        source: Python source.
        name: Put before the functions' names in their identifiers.
    """
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        question = " ".join(re.split(r"(?<=[.!?])\s|\n\s*\n", (ast.get_docstring(node) or "").strip(), maxsplit=1)[0].split())
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        code = "\n".join([*lines[first - 1 : node.body[0].lineno - 1], *lines[node.body[1].lineno - 1 : node.end_lineno]])
        if len(question.split()) >= LEAST_WORDS and len(code) >= LEAST_CODE:
            yield Function(f"{name}.{node.name}:{node.lineno}", question, code)


def collect(packages: Sequence[str]) -> list[Function]:
    """Return the documented functions of packages, each question once, in an order that depends only on their text.

    Raises:
        EvaluationError: A package is not installed.
    """
    found: dict[str, Function] = {}
    for package in packages:
        for path in _sources(package):
            try:
                for function in functions(path.read_text(encoding="utf-8"), f"{package}/{path.name}"):
                    found.setdefault(function.code, function)
            except (SyntaxError, UnicodeDecodeError):
                continue  # a template or a test of the parser: nothing to ask about
    counts = Counter(function.question for function in found.values())
    kept = [function for function in found.values() if counts[function.question] == 1]
    return sorted(kept, key=lambda function: hashlib.sha256(f"{function.question}\0{function.code}".encode()).hexdigest())


def _sources(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise EvaluationError(f"no package {package!r}; install it or name another one")
    origin = Path(spec.origin)
    paths = origin.parent.rglob("*.py") if origin.name == "__init__.py" else [origin]
    return sorted(path for path in paths if not {"test", "tests", "testing"} & set(path.relative_to(origin.parent).parts))


def write_suite(found: Sequence[Function], folder: Path, num_questions: int, num_documents: int) -> None:
    """Write `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`; the first functions are asked about."""
    documents, asked = found[:num_documents], found[: min(num_questions, num_documents)]
    folder.mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": f"d{index}", "title": "", "text": function.code} for index, function in enumerate(documents)]
    queries = [{"_id": f"q{index}", "text": function.question} for index, function in enumerate(asked)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    pairs = "".join(f"q{index}\td{index}\t1\n" for index in range(len(asked)))
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{pairs}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.code_suite", description="Make a suite of questions about functions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--package", action="append", default=[], help="for example torch.nn; repeatable (default: torch.nn and triton)")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--documents", type=int, default=1500)
    options = parser.parse_args(arguments)
    found = collect(options.package or ["torch.nn", "triton"])
    write_suite(found, options.folder, options.questions, options.documents)
    sys.stderr.write(f"{min(len(found), options.documents)} functions, {min(len(found), options.questions, options.documents)} questions\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
