"""What a writer is asked about and gets to read: topics of a problem, whole sections, whole kernel documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.diagnosis import diagnose
from agents.reading import MAX_KERNELS, is_index, joined_text, opened
from agents.subject import description, operators, questions, topics
from agents.types import Attempt
from kb.brief import Brief, Finding
from kb.store import KnowledgeBase
from kb.types import Chunk, Hit, Source
from kb_ingest.pipeline import ingest
from tools.types import Candidate, Evaluation, Evidence, Feedback, Problem, Status

KERNELS = Path(__file__).resolve().parents[2] / "docs" / "kernels" / "gemm"
NAMES = ("linear_split_fp16", "matmul_split_fp16", "bmm_fp32")
SOURCE = '''"""Gated projection: the product with one matrix times the GELU of another. More words."""
class Model:
    def forward(self, x, w):
        return (x @ w) * F.gelu(x)
'''


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path_factory.mktemp("reading") / "kb", embedder="hashing") as store:
        ingest([*(KERNELS / f"{name}.md" for name in NAMES), KERNELS.parents[1] / "cpu" / "gemm.md"], store)
        yield store


def finding(base: KnowledgeBase, chunk: Chunk) -> Finding:
    document = base.get_document(chunk.document_id)
    hit = Hit(
        1, 1.0, chunk.chunk_id, document.title, chunk.section_path, document.kind, ("generic",), Source(document.source, 1, 2), chunk.text
    )
    return Finding("", "", hit, 1.0, "query")


def pieces(base: KnowledgeBase, name: str) -> list[Chunk]:
    (stored,) = (item for item in base.documents() if Path(item.source).stem == name)
    return base.chunks_of(stored.document_id)


def test_kernel_that_most_passages_point_to_is_read_whole_and_torn_code_of_the_others_is_left_out(base: KnowledgeBase) -> None:
    chunks = [pieces(base, name)[index] for name, count in zip(NAMES, (3, 2, 1), strict=True) for index in range(-count, 0)]
    found = opened(base, Brief("q", (), tuple(finding(base, chunk) for chunk in chunks), (), ())).findings
    assert len(found) == MAX_KERNELS
    for item, name in zip(found, NAMES, strict=False):
        code = (KERNELS / f"{name}.md").read_text().partition("```python kernel\n")[2].rpartition("```")[0]
        assert [line for line in code.splitlines() if line.strip()] == [
            line for line in item.hit.text.partition("```python kernel\n")[2].rpartition("```")[0].splitlines() if line.strip()
        ]


def test_passages_of_one_section_become_that_section_once(base: KnowledgeBase) -> None:
    chunks = pieces(base, "gemm")
    path = chunks[-1].section_path
    section = [chunk for chunk in chunks if chunk.section_path == path]
    found = opened(base, Brief("q", (), tuple(finding(base, chunk) for chunk in section), (), ())).findings
    assert [item.hit.text for item in found] == [joined_text(section)]
    assert found[0].hit.chunk_id == section[0].chunk_id


def test_table_of_contents_is_no_reading() -> None:
    rows = "\n".join(f"| work {number} | [kernel](gemm/kernel_{number}.md) |" for number in range(4))
    assert is_index(f"| you have | start from |\n|---|---|\n{rows}")
    assert not is_index("A sentence.\nAnother one, see [tiling](tiling.md).\nA third.") and not is_index("[one](a.md)")


def test_base_is_asked_about_the_kinds_of_work_and_on_mtia_about_its_rules_first() -> None:
    problem = Problem("p", "gated", SOURCE)
    assert description(problem).endswith("times the GELU of another.") and operators(problem) == ("matmul", "gelu")
    assert "tensor cores" in topics(problem, "cuda:sm_90")[0] and "cache blocking" in topics(problem, "cpu")[0]
    assert topics(problem, "mtia:2i") == () and len(questions(problem, "mtia:2i")) == 2


def test_correct_kernel_without_a_time_is_diagnosed_and_asked_about_by_what_it_computes() -> None:
    problem = Problem("p", "file_name", SOURCE)
    evaluation = Evaluation("c", "p", "cuda:sm_90", Evidence.COMPILED, Status.PASSED, feedback=Feedback(profile={"k.num_warps": 4.0}))
    told = diagnose(problem, "cuda:sm_90", [Attempt(Candidate("x = 1\n", language="triton"), evaluation)], [])
    assert "not timed" in told.summary and "k.num_warps 4" in told.summary
    assert "Gated projection" in told.questions[0] and not any("file_name" in question for question in told.questions)
