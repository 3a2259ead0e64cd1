"""Each rule fires on its minimal kernel and stays silent on the near-miss; kernels of the knowledge base raise no error."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.compile.server import CompileServer
from tools.compile.toolchain import KernelDocument, compile_document, read_kernel_document
from tools.docs import docs_root
from tools.lint import rules
from tools.lint.engine import lint
from tools.lint.rule import RULES
from tools.lint.values import Value
from tools.targets.base import LintFinding, lineage
from tools.targets.profile import load_profiles
from tools.targets.registry import get_target, known_targets

HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n"
CASES = [
    case
    for name in ("rules.yaml", "rules_mtia.yaml")
    if (path := Path(__file__).parent / name).exists()
    for case in yaml.safe_load(path.read_text())
]


def source_of(part: dict[str, str]) -> str:
    if "module" in part:
        return HEADER + part["module"]
    body = textwrap.indent(part["body"], "    ")
    kernel = f"@triton.jit\ndef kernel(x_ptr, y_ptr, n, stride, BLOCK: tl.constexpr):\n{body}\n"
    return f"{HEADER}triton.set_allocator(None)\n\n{kernel}\ndef launch(x, y):\n    kernel[(1,)](x, y, 1000, 128, BLOCK=64)\n"


def findings(case: dict[str, Any], part: str) -> list[LintFinding]:
    target = case.get("target", "cuda:sm_90")
    stated = {name: Value("pointer", (), value["pointer"]) for name, value in case.get("bindings", {}).items()}
    found = lint(source_of(case[part]), target=target, limits=get_target(target).limits(), bindings={"kernel": stated})
    return [finding for finding in found if finding.rule == case["rule"] and case["message"] in finding.message]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}-{case['message'][:30]}")
def test_rule_fires_on_its_minimal_kernel(case: dict[str, Any]) -> None:
    found = findings(case, "trigger")
    assert len(found) == 1, [str(finding) for finding in found]
    source = source_of(case["trigger"])
    assert 0 < found[0].line <= len(source.splitlines())
    assert found[0].fix and found[0].why


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}-{case['message'][:30]}")
def test_rule_stays_silent_on_the_near_miss(case: dict[str, Any]) -> None:
    assert not findings(case, "near_miss")


def test_every_rule_has_a_trigger() -> None:
    rules.load()
    untested = set(RULES) - {case["rule"] for case in CASES}
    assert not untested


KERNELS = [
    document
    for path in sorted((docs_root() / "kernels").rglob("*.md"))
    if (document := read_kernel_document(path)) is not None and document.language == "triton"
]


@pytest.fixture(scope="module")
def server() -> Iterator[CompileServer]:
    with CompileServer() as running:
        yield running


@pytest.mark.parametrize("document", KERNELS, ids=lambda document: document.name)
def test_error_on_a_kernel_of_the_knowledge_base_is_confirmed_by_the_compiler(document: KernelDocument, server: CompileServer) -> None:
    profiles = load_profiles()
    for target in known_targets():
        if target.startswith(("mtia", "cpu")) or not set(document.targets) & set(lineage(target)):
            continue
        errors = [str(item) for item in lint(document.source, target=target, limits=profiles[target].limits) if item.severity == "error"]
        if errors:
            assert compile_document(document, profiles[target], server).status == "error", f"false error on {target}: {errors}"


def test_every_rule_names_knowledge_that_exists() -> None:
    rules.load()
    for rule in RULES.values():
        path, _, anchor = rule.document.partition("#")
        text = (docs_root() / path).read_text(encoding="utf-8")
        assert f"\n## {anchor.upper()} " in text, f"{rule.rule}: {rule.document} has no such heading"
        assert rule.why in text and rule.fix in text, (
            f"{rule.rule}: the document and the rule disagree; run `python -m tools.lint --document`"
        )


def test_source_that_is_not_python_is_one_finding() -> None:
    found = lint("def f(:\n", target="cuda:sm_90", limits={})
    assert [finding.rule for finding in found] == ["L00"]
    assert found[0].line == 1


def test_errors_come_first_and_findings_read_as_one_line() -> None:
    source = source_of({"body": "row = tl.program_id(0) * stride\nx = tl.load(x_ptr, other=0.0)"})
    found = lint(source, target="cuda:sm_90", limits=get_target("cuda:sm_90").limits())
    assert next(finding.severity for finding in found) == "error"
    assert re.match(r"L04 line \d+: `other` cannot be provided without `mask`; pass ", str(found[0]))
