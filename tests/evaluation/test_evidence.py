"""Measured evidence goes from raw records into kernel documents, and every entry in the documents has its record."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evaluation.evidence import evidence_of, has_code_of, with_evidence
from evaluation.records import read

ROOT = Path(__file__).resolve().parents[2]
RECORDS = [Path("evaluation/results") / name / "records.jsonl" for name in ("kernelbench-seven-h100", "kernelbench-h100")]
DOCUMENT = "---\ntitle: T\nevidence: []\nexample: {a: 1}\n---\n\n# T\n\nevidence: not this\n"


def test_an_entry_is_written_and_replaced_and_the_rest_stays() -> None:
    once = with_evidence(DOCUMENT, [{"problem": "p", "speedup": {"eager": [1.5, 1.4, 1.6]}}, {"problem": "q"}])
    assert yaml.safe_load(once.split("---\n")[1])["evidence"] == [{"problem": "p", "speedup": {"eager": [1.5, 1.4, 1.6]}}, {"problem": "q"}]
    assert with_evidence(once, []) == DOCUMENT


def test_evidence_at_the_end_of_the_front_matter_is_found() -> None:
    text = "---\ntitle: T\nevidence: []\n---\n# T\n"
    assert yaml.safe_load(with_evidence(text, [{"problem": "p"}]).split("---\n")[1])["evidence"] == [{"problem": "p"}]


def test_a_document_without_the_key_is_refused() -> None:
    with pytest.raises(ValueError, match="evidence"):
        with_evidence("---\ntitle: T\n---\n# T\n", [])


def test_the_documents_state_what_the_records_say_of_their_present_code() -> None:
    found = evidence_of([(path.as_posix(), record) for path in RECORDS for record in read([ROOT / path])], ROOT / "docs")
    assert found
    for path in sorted((ROOT / "docs" / "kernels").rglob("*.md")):
        front = yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])
        expected = found.get(path.relative_to(ROOT / "docs").as_posix(), [])
        assert (front.get("evidence") or []) == expected, f"{path.name}: run `python -m evaluation.evidence {' '.join(map(str, RECORDS))}`"


def test_a_record_speaks_for_a_document_while_the_code_is_the_same() -> None:
    code = "import triton\n\n\ndef epilogue(value):\n    return value\n\n\ndef helper(x):\n    return x + 1\n\n\ndef launch(x):\n    return helper(x)\n"
    document = f"---\nkernel: add_one\n---\n\n```python kernel\n{code}```\n"
    composed = code.replace("helper", "add_one_2__helper").replace("launch", "add_one_2").replace("return value", "return value * 2")
    assert has_code_of(document, composed)
    assert not has_code_of(document, composed.replace("x + 1", "x + 2"))
    assert not has_code_of("---\nkernel: add_one\n---\n", composed)


def test_every_entry_in_the_documents_names_a_record_that_exists() -> None:
    for path in sorted((ROOT / "docs" / "kernels").rglob("*.md")):
        front = yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])
        for entry in front.get("evidence") or []:
            file, _, run_id = entry["record"].partition("#")
            assert any(record.run_id == run_id for record in read([ROOT / file])), f"{path.name}: {entry['record']}"
