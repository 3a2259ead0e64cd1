"""The files and tools that an LLM coder works with inside one `write`. Every tool answers with text that a model can act on; nothing it says decides anything."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from agents.coders.base import CoderTask
from agents.coders.feedback import describe
from agents.coders.repair import known_names
from agents.coders.stages import StageEditor, can_replay, is_edited
from agents.reading import is_own_guide
from agents.threads import in_thread
from tools.types import Candidate, Status

if TYPE_CHECKING:
    from agents.coders.base import Instruments

KERNEL = "kernel.py"
MAX_ANSWER = 12_000
"""Most characters that a tool answers with."""
_OWN_GUIDE = re.compile(
    r'<(retrieved-\w+) [^>]*source="(?:[^">]*/)?docs/(?:guide/(?!lint-rules)|architecture\.md)[^>]*>.*?</\1>\n*', re.DOTALL
)
MAX_FILE = 400_000
"""Most characters of `kernel.py`."""


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


_FILES = (
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
)
_INSTRUMENTS = (
    _schema(
        "compile", "Compile kernel.py without running it. Returns errors, or what each kernel needs (registers, shared memory, spills)."
    ),
    _schema(
        "test",
        "Check kernel.py against the reference and time it. Costs one evaluation of this session; submitting the same file afterwards costs nothing more.",
    ),
    _schema(
        "profile",
        "Run kernel.py under a profiler, if it passed a test as it is now; else return the counters of the last test. Returns the dominant cause with its evidence.",
    ),
)
_STAGES = (
    _schema(
        "emit_ir",
        "Compile kernel.py up to a stage and keep the texts as files. For the last factor that the source cannot express: layouts, vector width, single instructions.",
        stage="ttgir (layouts, pipelining), llir or ptx (instructions).",
    ),
    _schema(
        "edit_ir",
        "Replace one passage of an emitted text; kernel.py carries the edited text from then on. The old text must occur exactly once.",
        path="Name of the text, as emit_ir listed it.",
        old="Text to find, verbatim.",
        new="Text to put in its place.",
    ),
)
_KNOWLEDGE = _schema(
    "kb_search",
    "Search the knowledge base for passages on kernels and hardware. Returns at most five, with ids.",
    query="What you want to know.",
)
_SUBMIT = _schema("submit", "Hand in kernel.py for evaluation. Ends your work.", summary="One or two sentences: what you changed and why.")


def tools_for(task: CoderTask) -> list[dict[str, Any]]:  # Any: JSON schema
    """Return the schemas of the tools that a task offers."""
    offered = [*_FILES]
    if task.instruments is not None:
        is_built_when_tested = task.target.partition(":")[0] == "cpu"  # C++ in a Python file has nothing to compile before
        offered += [tool for tool in _INSTRUMENTS if not (is_built_when_tested and tool["function"]["name"] == "compile")]
        if can_replay(task.target):
            offered += _STAGES
    if task.base is not None:
        offered.append(_KNOWLEDGE)
    return [*offered, _SUBMIT]


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
        self._last_test = ""
        self._tested: Candidate | None = None
        """The latest candidate that passed a test."""
        self._stages = StageEditor(task.problem, task.target)
        self._edit: Mapping[str, Any] = {}  # Any: JSON
        self._schemas = {tool["function"]["name"]: tool["function"]["parameters"]["required"] for tool in tools_for(task)}
        self._tools: dict[str, Callable[..., Awaitable[str]]] = {
            "read_file": self._read_file,
            "write_file": self._write_file,
            "replace_in_file": self._replace_in_file,
            "lint": self._lint_kernel,
            "compile": self._compile,
            "test": self._test,
            "profile": self._profile,
            "emit_ir": self._emit_ir,
            "edit_ir": self._edit_ir,
            "kb_search": self._kb_search,
            "submit": self._submit,
        }

    @property
    def tool_names(self) -> frozenset[str]:
        """Names of the tools that are offered."""
        return frozenset(self._schemas)

    def candidate(self) -> Candidate:
        """Return `kernel.py` as a candidate."""
        return Candidate(source=self.files[KERNEL], language=self._language)

    @property
    def edited_ir(self) -> Mapping[str, Any]:  # Any: JSON
        """Provenance of an edit that `kernel.py` carries: of which candidate, which kernel, which stage; empty without one."""
        return self._edit if self._edit and is_edited(self.files.get(KERNEL, "")) else {}

    async def call(self, name: str, args: Mapping[str, object]) -> str:
        """Run a tool; a call that cannot be carried out is answered with what was wrong and what is allowed."""
        if name not in self._schemas:
            return f"There is no tool {name!r}; the tools are {', '.join(self._schemas)}."
        wanted = self._schemas[name]
        args = known_names(args, frozenset(wanted))
        if "path" in wanted and "path" not in args and name != "read_file":
            args = {**args, "path": KERNEL}
        wrong = [key for key in wanted if not isinstance(args.get(key), str)]
        unknown = sorted(set(args) - set(wanted))
        if wrong or unknown:
            return f"{name} takes {', '.join(wanted) or 'no arguments'} as text. Missing or not text: {', '.join(wrong) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        # A lone surrogate, as JSON can bring one, is no text that could be stored.
        answer = await self._tools[name](**{key: str(args[key]).encode("utf-8", "replace").decode() for key in wanted})
        return answer if len(answer) <= MAX_ANSWER else f"{answer[:MAX_ANSWER]}\n[cut after {MAX_ANSWER} characters]"

    async def _read_file(self, path: str) -> str:
        if path not in self.files:
            return f"There is no {path!r}; the files are {', '.join(sorted(self.files))}."
        return self.files[path]

    async def _write_file(self, path: str, content: str) -> str:
        if path != KERNEL:
            return f"Only {KERNEL} can be written, not {path!r}."
        if len(content) > MAX_FILE:
            return f"{len(content)} characters are too many for {KERNEL}; at most {MAX_FILE}."
        self.files[KERNEL] = content
        self.is_written = True
        return f"Wrote {len(content)} characters."

    async def _replace_in_file(self, path: str, old: str, new: str) -> str:
        if path != KERNEL or KERNEL not in self.files:
            return f"Only {KERNEL} can be changed, and it must be written first."
        count = self.files[KERNEL].count(old) if old else 0
        if count != 1:
            return f"The old text occurs {count} times in {KERNEL}; it must occur exactly once. Read the file and give a longer or exact passage."
        return await self._write_file(KERNEL, self.files[KERNEL].replace(old, new))

    async def _lint_kernel(self) -> str:
        if KERNEL not in self.files:
            return f"{KERNEL} is not written yet."
        candidate = self.candidate()
        return "\n".join(await in_thread(lambda: self._lint(candidate))) or "no findings"

    async def _compile(self) -> str:
        if KERNEL not in self.files:
            return f"{KERNEL} is not written yet."
        return await self._given.compile(self.candidate())

    async def _test(self) -> str:
        if not self.is_written:
            return f"{KERNEL} is not written yet."
        findings = [line for line in await in_thread(lambda: self._lint(self.candidate())) if line]
        evaluation = await self._given.test(self.candidate())
        if evaluation is None:
            return "No evaluation is left for tests in this session; submit instead."
        self._last_test = describe(evaluation)
        self._tested = self.candidate() if evaluation.status is Status.PASSED else None
        return self._last_test if not findings else "\n".join([self._last_test, "lint:", *findings[:10]])

    async def _profile(self) -> str:
        look = getattr(self._given, "profile", None)
        if look is None or self._tested is None or self._tested.source != self.files[KERNEL]:
            return self._last_test or "Nothing was tested yet; call test first. Its answer holds the counters."
        found: str = await look(self._tested)
        return "\n".join([found, self._last_test])

    async def _emit_ir(self, stage: str) -> str:
        if KERNEL not in self.files:
            return f"{KERNEL} is not written yet."
        candidate = self.candidate()
        answer = await in_thread(lambda: self._stages.emit(candidate, stage.strip()))
        self.files |= self._stages.files
        return answer

    async def _edit_ir(self, path: str, old: str, new: str) -> str:
        if KERNEL not in self.files:
            return f"{KERNEL} is not written yet."
        answer, edited = self._stages.edit(self.candidate(), path, old, new)
        if edited is not None:
            await self._write_file(KERNEL, edited.source)
            self._edit = dict(edited.provenance["edited_ir"])
        return answer

    @property
    def _given(self) -> Instruments:
        assert self._task.instruments is not None, "offered only where there are instruments"
        return self._task.instruments

    async def _kb_search(self, query: str) -> str:
        from kb.errors import KnowledgeError
        from kb.server.tools import search
        from kb.types import Filters

        base, target = self._task.base, self._task.target
        assert base is not None, "offered only where there is a knowledge base"
        try:
            answer = await in_thread(lambda: search(base, query, top_k=5, target=target, max_characters=MAX_ANSWER - 500))
            result = await in_thread(lambda: base.query(query, top_k=5, filters=Filters(target=target)))
        except (KnowledgeError, ValueError) as error:
            return f"The search cannot be made: {error}"
        if not result.abstained:
            self.chunk_ids += [hit.chunk_id for hit in result.hits if not is_own_guide(hit.source.path)]
        # How candidates are judged is no knowledge for writing them.
        return _OWN_GUIDE.sub("", answer)

    async def _submit(self, summary: str) -> str:
        if KERNEL not in self.files or not self.is_written:
            return f"Nothing was written: write {KERNEL} first."
        self.submitted = " ".join(summary.split())[:1000]
        return "Submitted."
