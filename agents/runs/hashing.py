"""Ids that depend on content alone: the normalised hash by which duplicates are found, and ids derived from parts."""

from __future__ import annotations

import ast
import hashlib
import json
import re

from tools.types import Candidate, Evaluation, Status


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        body = [item for item in node.body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]  # type: ignore[attr-defined]  # only nodes with a body
        node.body = body if body or isinstance(node, ast.Module) else [ast.Pass()]  # type: ignore[attr-defined]  # only nodes with a body
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


def normalised_hash(candidate: Candidate) -> str:
    """Return a hash that ignores comments, docstrings and layout of the Python source, but not of strings inside it.

    Two candidates with equal hashes run the same code: the second needs no evaluation. A source that does not parse is compared by its non-blank lines.
    """
    try:
        text = ast.unparse(_WithoutDocstrings().visit(ast.parse(candidate.source)))
    except (SyntaxError, ValueError, RecursionError):
        text = "\n".join(line.rstrip() for line in candidate.source.splitlines() if line.strip())
    return derived_id(text, candidate.language, sorted(candidate.build_options.items()))


def derived_id(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over the JSON of the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def derived_seed(*parts: object) -> int:
    """Return a seed from 0 to 2^31 - 1 that depends on the parts alone."""
    return int(derived_id(*parts)[:12], 16) % 2**31


def error_signature(evaluation: Evaluation) -> str:
    """Return a hash of the kind of failure, equal for failures that differ only in numbers, addresses and quoted names; empty if it passed."""
    if evaluation.status is Status.PASSED:
        return ""
    feedback = evaluation.feedback
    text = next(iter(feedback.lint), "") or feedback.error or evaluation.reason
    line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return derived_id(evaluation.status.value, _VARIABLE.sub("#", line)[:300])


_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|'[^']*'|\"[^\"]*\"|`[^`]*`|\d+(?:\.\d+)?")
"""Parts of a message that differ between two failures of the same kind."""
