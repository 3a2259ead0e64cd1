from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.code_suite import functions, main
from evaluation.errors import EvaluationError

SOURCE = (
    '''
class Box:
    @staticmethod
    def widest(items, key):
        """Return the widest of the items by key.

        More about it.
        """
'''
    + "".join(f"        value{number} = key(items[{number}])\n" for number in range(10))
    + "        return max(items, key=key)\n"
)


def test_question_is_the_docstring_and_the_answer_lacks_it() -> None:
    (function,) = functions(SOURCE, "box")
    assert function.question == "Return the widest of the items by key."
    assert "Return the widest" not in function.code and "More about it" not in function.code
    assert function.code.lstrip().startswith("@staticmethod") and function.code.endswith("return max(items, key=key)")


def test_suite_is_the_same_again_and_every_question_has_its_function(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main([str(tmp_path / name), "--package", "json", "--package", "argparse", "--questions", "5"]) == 0
    for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
        assert (tmp_path / "first" / name).read_text() == (tmp_path / "second" / name).read_text()
    queries = [json.loads(line) for line in (tmp_path / "first" / "queries.jsonl").read_text().splitlines()]
    corpus = {row["_id"]: row["text"] for row in map(json.loads, (tmp_path / "first" / "corpus.jsonl").read_text().splitlines())}
    assert len(queries) == 5
    assert all(query["text"] not in corpus[query["_id"].replace("q", "d")] for query in queries)


def test_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no_such_package"):
        main([str(tmp_path), "--package", "no_such_package"])
