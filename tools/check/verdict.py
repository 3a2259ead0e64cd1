"""How an evaluation ends early: one exception inside the evaluator, carrying the status and what a coder may be told."""

from __future__ import annotations

import re

from tools.types import Feedback, Status

_DIGEST_LIMIT = 2000
_COMPILE_SIGNS = (
    "CompilationError", "Error building extension", "ninja: build stopped", "OutOfResources", "triton/compiler", "PTXASError", "fatal error:", "CompileError",
    "UnsupportedLanguageConstruct", "undefined symbol",
)  # fmt: skip


class Rejected(Exception):
    """The candidate's evaluation ends with a status other than passed."""

    def __init__(self, status: Status, reason: str, feedback: Feedback | None = None) -> None:
        super().__init__(status, reason, feedback)
        self.status = status
        self.reason = reason
        self.feedback = feedback or Feedback()


class Crowded(Rejected):
    """The reference found too little memory on an accelerator, where neighbours come and go; alone it may fit."""


class Unmeasurable(Rejected):
    """No candidate can be measured for this problem on this machine: the problem is at fault, not the candidate."""

    def __init__(self, reason: str) -> None:
        super().__init__(Status.NOT_MEASURED, reason)


def failure(kind: str, text: str, where: str) -> Rejected:
    """Return the outcome for an error that a candidate's process reported.

    Args:
        kind: The reported kind (`import`, `construct`, `state`, `oom`, `exit`, `missing_model`, `error`).
        text: Its traceback or message.
        where: What was being done, for the reason, for example `the first call`.
    """
    digest = digest_error(text)
    last = digest.strip().splitlines()[-1][:300] if digest.strip() else kind
    if kind == "oom":
        return Rejected(Status.OUT_OF_MEMORY, f"out of memory during {where}", Feedback(error=digest))
    if kind == "missing_model":
        return Rejected(Status.COMPILE_ERROR, "the candidate does not define ModelNew", Feedback(error=text))
    if kind == "state":
        return Rejected(Status.RUNTIME_ERROR, "the candidate's state dict differs from the reference's", Feedback(error=digest))
    is_compile = kind == "import" or any(sign in text for sign in _COMPILE_SIGNS)
    status = Status.COMPILE_ERROR if is_compile else Status.RUNTIME_ERROR
    return Rejected(status, f"{where} failed: {last}", Feedback(error=digest))


def digest_error(text: str) -> str:
    """Return the part of a compiler's or interpreter's output that says what is wrong, at most about 2,000 characters."""
    compiler = [line for line in text.splitlines() if re.search(r"\b(error|fatal error)\b\s*:", line) and "subprocess" not in line]
    if compiler:
        lines = list(dict.fromkeys(line.strip() for line in compiler))[:12]
        return "\n".join(lines)[:_DIGEST_LIMIT]
    lines = text.strip().splitlines()
    own = [number for number, line in enumerate(lines) if "candidate_" in line and line.lstrip().startswith("File")]
    kept = lines[own[-1] :] if own else lines[-12:]
    return "\n".join(kept)[-_DIGEST_LIMIT:]
