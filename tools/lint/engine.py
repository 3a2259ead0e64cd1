"""Run every rule that concerns a target over a source."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tools.errors import ProfileError
from tools.lint.inference import trace_kernel
from tools.lint.module import parse
from tools.lint.rule import RULES, Context
from tools.lint.values import Value
from tools.targets.base import Limit, LintFinding, lineage

_ORDER = {"error": 0, "warning": 1, "performance": 2}


def lint(
    source: str,
    *,
    target: str,
    limits: Mapping[str, Limit],
    bindings: Mapping[str, Mapping[str, Value]] | None = None,
    rules: Collection[str] = (),
) -> tuple[LintFinding, ...]:
    """Return what the rules say about a Python source, errors first, then by line; empty if nothing.

    Rules report an error only where the source alone proves it; where a value is only known at the launch they stay silent,
    unless `bindings` (kernel name to parameter name to value, from a recorded launch) states it.
    `rules` names rules that hold for the target although they are written for others, as a chip's document may state.

    Raises:
        ProfileError: There is no rule of a name in `rules`.
    """
    from tools.lint import rules as catalogue

    catalogue.load()
    if unknown := sorted(set(rules) - set(RULES)):
        raise ProfileError(
            f"the document of {target} names rules that do not exist: {', '.join(unknown)}; known: {', '.join(sorted(RULES))}"
        )
    try:
        module = parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return (_syntax_error(error),)
    traces = tuple(trace_kernel(module, kernel, (bindings or {}).get(kernel.name)) for kernel in module.kernels.values())
    context = Context(target=target, lineage=lineage(target), limits=limits, traces=traces)
    found = {
        LintFinding(
            rule=rule.rule,
            line=violation.line,
            severity=violation.severity or rule.severity,
            message=violation.message,
            fix=violation.fix or rule.fix,
            why=rule.why,
            document=rule.document,
        )
        for rule in RULES.values()
        if rule.holds_for(context.lineage) or rule.rule in rules
        for violation in rule.check(module, context)
    }
    return tuple(sorted(found, key=lambda finding: (_ORDER[finding.severity], finding.line, finding.rule, finding.message)))


def _syntax_error(error: SyntaxError | ValueError | RecursionError) -> LintFinding:
    line = error.lineno if isinstance(error, SyntaxError) else None
    message = f"the source is not valid Python: {getattr(error, 'msg', error)}"
    return LintFinding("L00", line or 0, "error", message, "correct the syntax", "A candidate is one Python module.", "")
