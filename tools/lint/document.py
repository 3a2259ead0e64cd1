"""The rules as a document of the knowledge base, so that an agent that meets a finding can read why."""

from __future__ import annotations

from tools.lint import rules
from tools.lint.rule import RULES

_HEAD = """---
title: Lint rules for Triton kernels
kind: constraint
targets: [generic]
trust: documented
valid_for: {triton: ">=3.6"}
---

# Lint rules for Triton kernels

What the linter checks before anything is compiled. An *error* will not compile or is wrong everywhere and stops the evaluation; a *warning* is a risk; *performance* is legal and slow.
Written from the rules themselves by `python -m tools.lint --document`; messages that Triton raises itself are quoted as it words them. Rules from L01 hold for Triton everywhere or on the targets they name,
rules from M01 for MTIA.
"""


def rules_document() -> str:
    """Return the Markdown document of every registered rule, one section per rule."""
    rules.load()
    parts = [_HEAD]
    for name in sorted(RULES):
        rule = RULES[name]
        parts.append(f"\n## {name} {rule.title}\n\n*{rule.severity}, {', '.join(rule.targets)}.* {rule.why}\n\nFix: {rule.fix}.\n")
    return "".join(parts)
