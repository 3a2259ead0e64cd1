"""Every Triton kernel document is complete, and equals its ATen operator under the Triton interpreter on small odd shapes."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "kernels"
sys.path.insert(0, str(HERE))

from triton_case_table import cases  # noqa: E402
from triton_cases import Document, documents  # noqa: E402

DOCUMENTS = {document.front["kernel"]: document for document in documents(DOCS)}
KEYS = {"title", "kind", "kernel", "family", "language", "targets", "matches", "tunables", "precision_class", "deterministic", "example"}
SECTIONS = ("## When to use", "## Why it is fast", "## Numerics", "## Limits")


@pytest.fixture(params=sorted(DOCUMENTS))
def document(request: pytest.FixtureRequest) -> Document:
    return DOCUMENTS[request.param]


def test_kernel_names_are_unique() -> None:
    names = [document.front["kernel"] for document in documents(DOCS)]
    assert len(names) == len(set(names))


def test_front_matter_has_every_key_and_lies_in_its_family(document: Document) -> None:
    assert set(document.front) >= KEYS
    assert document.front["family"] == document.path.parent.name
    assert document.front["kernel"].isidentifier()


def test_body_says_when_why_how_exact_and_where_not(document: Document) -> None:
    text = document.path.read_text(encoding="utf-8")
    positions = [text.find(section) for section in SECTIONS]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_default_of_a_tunable_is_one_of_its_values_or_an_expression(document: Document) -> None:
    for name, tunable in document.front["tunables"].items():
        assert isinstance(tunable["default"], str) or tunable["default"] in tunable["values"], name


def test_expressions_parse(document: Document) -> None:
    front = document.front
    expressions = [*front.get("requires", []), *front.get("constraints", [])]
    expressions += [slot["columns"] for slot in (front.get("slots") or {}).values()]
    expressions += [tunable["default"] for tunable in front["tunables"].values() if isinstance(tunable["default"], str)]
    for expression in expressions:
        ast.parse(str(expression), mode="eval")


def test_launch_takes_the_tunables_slots_and_example(document: Document) -> None:
    launch = next(node for node in ast.parse(document.code).body if isinstance(node, ast.FunctionDef) and node.name == "launch")
    names = {argument.arg for argument in launch.args.args + launch.args.kwonlyargs}
    keyword_only = {argument.arg for argument in launch.args.kwonlyargs}
    assert set(document.front["tunables"]) | {"out_dtype"} <= keyword_only
    assert {f"{slot}_extra" for slot in document.front.get("slots") or {}} <= keyword_only
    assert set(document.front["example"]) <= names
    needed = [argument.arg for argument in launch.args.args[: len(launch.args.args) - len(launch.args.defaults)]]
    assert set(needed) <= set(document.front["example"])


def test_slots_are_identities_in_the_document(document: Document) -> None:
    functions = {node.name: node for node in ast.parse(document.code).body if isinstance(node, ast.FunctionDef)}
    for slot in ("prologue", "epilogue"):
        assert (slot in functions) == (slot in (document.front.get("slots") or {}))
        if slot in functions:
            assert ast.unparse(functions[slot].body[0]) == "return value"


def test_pattern_documents_say_their_pattern(document: Document) -> None:
    assert (document.front["matches"] == "pattern") == (document.pattern is not None)


def example_scope(document: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Return the arguments of the example, with the output that `launch` allocates, as expressions see them."""
    import torch
    from triton.runtime.jit import JITFunction

    from agents.coders.library.graph import TensorSpec

    monkeypatch.setattr(JITFunction, "run", lambda self, *args, **more: None)
    arguments: dict[str, Any] = {}
    for name, value in document.front["example"].items():
        arguments[name] = getattr(torch, value) if name.endswith("dtype") else without_memory(value)
    if document.front["matches"] == "pointwise":
        arguments["device"] = "meta"
    path = tmp_path / f"{document.front['kernel']}_example.py"
    path.write_text(document.code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    output = module.launch(**arguments)
    defaults = {p.name: p.default for p in inspect.signature(module.launch).parameters.values() if p.default is not p.empty}
    scope = {**defaults, **arguments, "output": output[0] if isinstance(output, tuple) else output}
    return {k: specify(v, TensorSpec) for k, v in scope.items()}


def without_memory(value: Any) -> Any:
    import torch

    if isinstance(value, list):
        return [without_memory(item) for item in value]
    return torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]), device="meta") if isinstance(value, dict) else value


def specify(value: Any, spec: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return spec(tuple(value.shape), str(value.dtype).removeprefix("torch."), value.stride())
    return tuple(specify(item, spec) for item in value) if isinstance(value, list) else value


def test_example_meets_the_requirements_and_defaults_meet_the_constraints(
    document: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tools.expressions import evaluate

    scope = example_scope(document, monkeypatch, tmp_path) | {"limits": {"shared_memory_per_block_bytes": 232448}}
    for expression in document.front.get("requires", []):
        assert evaluate(expression, scope), f"requires: {expression}"
    for slot in (document.front.get("slots") or {}).values():
        columns = evaluate(slot["columns"], scope)
        assert columns and scope[slot["of"]].numel % columns == 0
    tunables = {name: evaluate_default(tunable["default"], scope) for name, tunable in document.front["tunables"].items()}
    for name, value in tunables.items():
        assert value in document.front["tunables"][name]["values"], f"default of {name} is {value}"
    for expression in document.front.get("constraints", []):
        assert evaluate(expression, scope | tunables), f"constraint: {expression} with {tunables}"


def evaluate_default(default: Any, scope: dict[str, Any]) -> Any:
    from tools.expressions import evaluate

    return default if isinstance(default, str) and default in ("bf16x6", "ieee", "tf32", "tf32x3") else evaluate(default, scope)


@pytest.fixture(scope="session")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return the records of all cases by kernel, from one child process."""
    out = tmp_path_factory.mktemp("triton-cases") / "records.jsonl"
    command = [sys.executable, "-W", "ignore", str(HERE / "triton_cases.py"), str(DOCS), str(out)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    if done.returncode:
        raise RuntimeError(f"the child process ended with {done.returncode} after {records[-1:]}: {done.stderr[-2000:]}")
    by_kernel: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_kernel[record["kernel"]].append(record)
    return by_kernel


def test_every_case_names_a_document() -> None:
    assert set(cases()) <= set(DOCUMENTS)


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first of these waits for the child process, which shares its cores
def test_kernel_equals_its_operator_in_float64(document: Document, interpreted: dict[str, list[dict[str, Any]]]) -> None:
    records = interpreted.get(document.front["kernel"], [])
    assert records, "no case for this kernel in triton_case_table.py"
    failures = [record for record in records if "error" in record or not record["deviation"] <= record["tolerance"]]
    assert not failures, json.dumps(failures, indent=1)
