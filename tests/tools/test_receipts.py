"""What receipts say of the machine."""

from __future__ import annotations

import json

import pytest

from tools import receipts


def test_a_receipt_names_processor_compiler_and_packages() -> None:
    facts = receipts.host_facts()
    assert (
        facts["processor"] and facts["cores"] >= 1 and {"torch", "numpy"} <= set(facts["packages"]) and isinstance(facts["compiler"], str)
    )


def test_a_compiler_that_is_not_there_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    receipts.compiler_version.cache_clear()
    monkeypatch.setenv("CXX", "/no/such/compiler -O2")
    assert receipts.compiler_version() == ""
    receipts.compiler_version.cache_clear()


def test_what_compiled_code_depends_on_makes_another_key_where_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.dumps(receipts.environment_facts(), sort_keys=True)
    assert json.dumps(receipts.environment_facts(), sort_keys=True) == before and "commit" not in before
    monkeypatch.setattr(receipts, "compiler_version", lambda: "another one")
    assert json.dumps(receipts.environment_facts(), sort_keys=True) != before
