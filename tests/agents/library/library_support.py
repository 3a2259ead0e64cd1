"""Support for the tests of the library coder: kernel documents from the repository behind the knowledge base's seam, and drafts in a row."""

from __future__ import annotations

import asyncio
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from agents.coders.base import CoderTask, Draft
from agents.coders.library import LibraryCoder, capture_worker
from agents.coders.library.capture import Capture
from agents.coders.library.errors import CaptureError
from agents.coders.library.graph import graph_from_json
from agents.types import Attempt
from kb.targets import visible
from kb.types import CodeBlock, KernelDocument
from tools.types import Evaluation, Evidence, Feedback, Interval, Problem, Status

DOCUMENTS = Path(__file__).resolve().parents[3] / "docs" / "kernels"


class FolderBase:
    """Answers `kernel_documents` from Markdown files, for tests that need no index."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def kernel_documents(self, target: str) -> tuple[KernelDocument, ...]:
        found = []
        for path in sorted(DOCUMENTS.rglob("*.md")):
            head, _, body = path.read_text(encoding="utf-8")[4:].partition("\n---\n")
            front = yaml.safe_load(head)
            if not isinstance(front, dict) or front.get("kind") != "kernel" or not set(front["targets"]) & set(visible(target)):
                continue
            if self.names and front["kernel"] not in self.names:
                continue
            blocks = tuple(
                CodeBlock(" ".join(token.info.split()), token.content, 0, 0) for token in MarkdownIt().parse(body) if token.type == "fence"
            )
            found.append(
                KernelDocument(
                    path.stem, str(path), front["title"], tuple(front["targets"]), front, blocks, (f"{path.stem}:1",), str(hash(body))
                )
            )
        return tuple(found)


def capture_here(source: str) -> Capture:
    """Capture without a child process."""
    try:
        workloads = capture_worker.capture(source)["workloads"]
    except Exception as error:
        raise CaptureError(str(error)) from error
    return Capture(tuple((item["name"], graph_from_json(item["graph"])) for item in workloads))


def module(forward: str, inputs: str, init: str = "pass", parameters: str = "x", arguments: str = "", values: str = "") -> str:
    """Return the source of a small problem."""
    body = "\n".join(f"        {line}" for line in forward.split("\n"))
    built = "\n".join(f"        {line}" for line in init.split("\n"))
    return f"""import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self{arguments}):
        super(Model, self).__init__()
{built}

    def forward(self, {parameters}):
{body}


def get_inputs():
    return [{inputs}]


def get_init_inputs():
    return [{values}]
"""


def task(source: str, target: str = "cuda:sm_90", base: object | None = None, **more: object) -> CoderTask:
    """Return a coder's task for a small problem."""
    return CoderTask(Problem("tests/small", "small", source), target, base=base or FolderBase(), **more)  # type: ignore[arg-type] # a fake at the seam


def write(request: CoderTask) -> Draft:
    """Return one draft."""
    return asyncio.run(LibraryCoder().write(request))


def passed(draft: Draft, speedup: float = 1.5, **baselines: float) -> Attempt:
    """Return the attempt that a draft becomes when it passes, with its speedup over eager or over each of some baselines."""
    assert draft.candidate is not None
    values = {name: Interval(value, value, value) for name, value in (baselines or {"eager": speedup}).items()}
    speedup = min(interval.value for interval in values.values())
    evaluation = Evaluation(
        draft.candidate.candidate_id, "tests/small", "cuda:sm_90", Evidence.MEASURED, Status.PASSED, latency_ms=1 / speedup, speedup=values
    )
    return Attempt(draft.candidate, evaluation)


def failed(draft: Draft, status: Status = Status.WRONG_VALUES, error: str = "") -> Attempt:
    """Return the attempt that a draft becomes when it fails."""
    assert draft.candidate is not None
    evaluation = Evaluation(
        draft.candidate.candidate_id, "tests/small", "cuda:sm_90", Evidence.MEASURED, status, reason="no", feedback=Feedback(error=error)
    )
    return Attempt(draft.candidate, evaluation)
