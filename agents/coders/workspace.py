"""The files and tools that an LLM coder works with inside one `write`: text in memory, nothing runs. Every tool answers with text that a model can act on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agents.coders.base import CoderTask
from tools.types import Candidate

if TYPE_CHECKING:
    from kb.types import Hit

KERNEL = "kernel.py"
MAX_ANSWER = 12_000
"""Most characters that a tool answers with."""


def _schema(name: str, description: str, **parameters: str) -> dict[str, Any]:  # Any: JSON schema
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": text} for key, text in parameters.items()},
                "required": list(parameters),
                "additionalProperties": False,
            },
        },
    }


TOOLS: tuple[dict[str, Any], ...] = (
    _schema(
        "read_file",
        "Return a file: kernel.py (yours), problem.py (the reference) or parent.py (what you improve on).",
        path="Name of the file.",
    ),
    _schema("write_file", "Replace kernel.py as a whole.", path="kernel.py", content="The complete new text."),
    _schema(
        "replace_in_file",
        "Replace one passage of kernel.py. The old text must occur exactly once; include enough of its surroundings.",
        path="kernel.py",
        old="Text to find, verbatim.",
        new="Text to put in its place.",
    ),
    _schema("lint", "Check kernel.py by static rules. Returns one finding a line, or `no findings`."),
    _schema(
        "kb_search",
        "Search the knowledge base for passages on kernels and hardware. Returns at most five, with ids.",
        query="What you want to know.",
    ),
    _schema("submit", "Hand in kernel.py for evaluation. Ends your work.", summary="One or two sentences: what you changed and why."),
)


class Workspace:
    """The tools of one `write`.

    Args:
        task: What is to be written.
        lint: Findings of every severity for a candidate, one line each.
        language: What the candidate's kernels are written in.
    """

    def __init__(self, task: CoderTask, lint: Callable[[Candidate], tuple[str, ...]], language: str) -> None:
        self._task = task
        self._lint = lint
        self._language = language
        self.files = {"problem.py": task.problem.source}
        if task.parents:
            self.files["parent.py"] = self.files[KERNEL] = task.parents[-1].candidate.source
        self.is_written = False
        self.submitted: str | None = None
        self.chunk_ids: list[str] = []
        self._tools: dict[str, Callable[..., str]] = {
            "read_file": self._read_file,
            "write_file": self._write_file,
            "replace_in_file": self._replace_in_file,
            "lint": self._lint_kernel,
            "kb_search": self._kb_search,
            "submit": self._submit,
        }

    def call(self, name: str, args: Mapping[str, object]) -> str:
        """Run a tool; a call that cannot be carried out is answered with what was wrong and what is allowed."""
        if name not in self._tools:
            return f"There is no tool {name!r}; the tools are {', '.join(self._tools)}."
        wanted = next(tool["function"]["parameters"]["required"] for tool in TOOLS if tool["function"]["name"] == name)
        wrong = [key for key in wanted if not isinstance(args.get(key), str)]
        unknown = sorted(set(args) - set(wanted))
        if wrong or unknown:
            return f"{name} takes {', '.join(wanted) or 'no arguments'} as text. Missing or not text: {', '.join(wrong) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        answer = self._tools[name](**{key: str(args[key]) for key in wanted})
        return answer if len(answer) <= MAX_ANSWER else f"{answer[:MAX_ANSWER]}\n[cut after {MAX_ANSWER} characters]"

    def _read_file(self, path: str) -> str:
        if path not in self.files:
            return f"There is no {path!r}; the files are {', '.join(sorted(self.files))}."
        return self.files[path]

    def _write_file(self, path: str, content: str) -> str:
        if path != KERNEL:
            return f"Only {KERNEL} can be written, not {path!r}."
        self.files[KERNEL] = content
        self.is_written = True
        return f"Wrote {len(content)} characters."

    def _replace_in_file(self, path: str, old: str, new: str) -> str:
        if path != KERNEL or KERNEL not in self.files:
            return f"Only {KERNEL} can be changed, and it must be written first."
        count = self.files[KERNEL].count(old) if old else 0
        if count != 1:
            return f"The old text occurs {count} times in {KERNEL}; it must occur exactly once. Read the file and give a longer or exact passage."
        self.files[KERNEL] = self.files[KERNEL].replace(old, new)
        self.is_written = True
        return "Replaced."

    def _lint_kernel(self) -> str:
        if KERNEL not in self.files:
            return f"{KERNEL} is not written yet."
        return "\n".join(self._lint(Candidate(source=self.files[KERNEL], language=self._language))) or "no findings"

    def _kb_search(self, query: str) -> str:
        if self._task.base is None:
            return "This run goes without a knowledge base."
        if not query.strip():
            return "The query is empty."
        from kb.types import Filters

        result = self._task.base.query(query, top_k=5, filters=Filters(target=self._task.target))
        if result.abstained:
            return f"Nothing in the knowledge base answers this: {result.reason}"
        self.chunk_ids += [hit.chunk_id for hit in result.hits]
        return "\n\n".join(_passage(hit) for hit in result.hits)

    def _submit(self, summary: str) -> str:
        if KERNEL not in self.files or not self.is_written:
            return f"Nothing was written: write {KERNEL} first."
        self.submitted = summary
        return "Submitted."


def _passage(hit: Hit) -> str:
    return f"<data>\n[{hit.chunk_id}] {' > '.join(hit.section_path)}\n{hit.text}\n</data>"
