"""An LLM coder stops the compiler at a stage and edits its text: the edit travels in kernel.py and in the candidate's provenance."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from sources import TRIPLE, TRIPLE_KERNEL

from agents.coders.base import CoderTask
from agents.coders.workspace import Workspace, tools_for
from tools.types import Candidate


class NoInstruments:
    """Stands for a compiler and an evaluator that this test does not ask."""

    async def compile(self, candidate: Candidate) -> str:
        raise AssertionError("not asked here")

    async def test(self, candidate: Candidate) -> None:
        raise AssertionError("not asked here")


def task(target: str = "cuda:sm_90", **more: Any) -> CoderTask:
    return CoderTask(problem=TRIPLE, target=target, instruments=NoInstruments(), **more)  # type: ignore[arg-type]  # a stand-in


def names(of: CoderTask) -> set[str]:
    return {tool["function"]["name"] for tool in tools_for(of)}


def test_the_tools_are_offered_where_a_compiler_goes_on_from_an_edited_text() -> None:
    assert {"emit_ir", "edit_ir"} <= names(task())
    assert not {"emit_ir", "edit_ir"} & names(task("rocm:gfx950")) and not {"emit_ir"} & names(task("cpu"))
    assert "emit_ir" not in names(CoderTask(problem=TRIPLE, target="cuda:sm_90"))


@pytest.mark.slow
def test_an_edit_is_part_of_the_file_and_of_its_provenance_until_the_file_is_written_anew() -> None:
    workspace = Workspace(task(), lambda candidate: (), "triton")

    def ask(name: str, **words: str) -> str:
        return asyncio.run(workspace.call(name, words))

    assert "not written yet" in ask("emit_ir", stage="ptx")
    ask("write_file", path="kernel.py", content=TRIPLE_KERNEL)
    assert "call emit_ir first" in ask("edit_ir", path="triple-0.ptx", old="a", new="b")
    assert "no stage 'sass' for cuda:sm_90; known: ttir, ttgir, llir, ptx" in ask("emit_ir", stage="sass")
    assert "triple-0.ptx: triple [" in ask("emit_ir", stage="ptx")
    text = ask("read_file", path="triple-0.ptx")
    constant = re.search(r"0f40400000", text, re.IGNORECASE)
    assert constant is not None
    line = next(line for line in text.splitlines() if constant[0] in line and text.count(line) == 1)
    assert "occurs 0 times" in ask("edit_ir", path="triple-0.ptx", old="no such text", new="x")
    before = workspace.candidate()
    assert "carries the edited text" in ask("edit_ir", path="triple-0.ptx", old=line, new=line.replace(constant[0], "0f40A00000"))
    assert "0f40A00000" in workspace.files["kernel.py"] and workspace.candidate().candidate_id != before.candidate_id
    assert workspace.edited_ir == {"of": before.candidate_id, "kernel": "triple", "stage": "ptx"}
    ask("write_file", path="kernel.py", content=TRIPLE_KERNEL)
    assert workspace.edited_ir == {}
