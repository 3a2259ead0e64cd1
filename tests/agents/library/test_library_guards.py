"""When a candidate's kernels stand in and when the reference's own forward has to: nothing about a call or a model may differ from what was captured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from library_support import FolderBase, capture_here, module, task, write

from agents.coders.library import capture_worker
from agents.coders.library.module_source import default_checks, forward_parameters


def _fallbacks(source: str, folder: Path) -> tuple[ModuleType, list[int]]:
    """Return a candidate whose kernels are not compiled, and a list that grows with every call of the reference's forward."""
    draft = write(task(source, "cuda:sm_90", FolderBase()))
    assert draft.candidate is not None and draft.candidate.provenance["kernels"]
    path = folder / "candidate.py"
    path.write_text(draft.candidate.source, encoding="utf-8")
    import importlib.util

    spec = importlib.util.spec_from_file_location("guarded_candidate", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    calls: list[int] = []
    plain = made.ModelNew.forward_reference

    def counted(self: Any, *inputs: Any, **keywords: Any) -> Any:  # Any: whatever the problem's forward takes
        calls.append(1)
        return plain(self, *inputs, **keywords)

    made.ModelNew.forward_reference = counted
    return made, calls


class _Kernels(Exception):
    """The guard let the call through to the kernels."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A candidate for a row softmax with a linear layer; where kernels would run it raises `_Kernels`."""
    source = module(
        "y = self.lin(xs[0]).softmax(-1) * named['scale']\nreturn y if mask is None else y * mask",
        "[torch.randn(4, 8)], {'scale': torch.rand(8)}, True",
        "self.lin = nn.Linear(width, width)",
        "xs, named, flag, mask=None, *, power=2.0",
        ", width, bias=True",
        "8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.coders.library.coder.capture", capture_here)
        made, calls = _fallbacks(source, tmp_path_factory.mktemp("guards"))

    def stop(*arguments: Any, **keywords: Any) -> None:
        raise _Kernels

    for name, value in list(vars(made).items()):
        if callable(value) and getattr(value, "__module__", "") == made.__name__ and "softmax" in name:
            setattr(made, name, stop)
    return made, calls


def _kernels_run(guarded: Any, change: Callable[[Any, dict[str, Any]], Any] | None = None, *, grad: bool = False, **built: Any) -> bool:
    made, calls = guarded
    calls.clear()
    call: dict[str, Any] = {"xs": [torch.randn(4, 8)], "named": {"scale": torch.rand(8)}, "flag": True}
    model = made.ModelNew(*([] if "width" in built else [8]), **built)
    if change is not None:
        change(model, call)
    with torch.set_grad_enabled(grad):
        try:
            model(**call)
        except _Kernels:
            return True
    assert calls
    return False


def test_the_captured_call_runs_the_kernels(guarded: Any) -> None:
    assert _kernels_run(guarded)
    assert _kernels_run(guarded, width=8)


CHANGES: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "another batch": lambda model, call: call.update(xs=[torch.randn(5, 8)]),
    "a transposed input": lambda model, call: call.update(xs=[torch.randn(8, 4).t()]),
    "a longer list": lambda model, call: call["xs"].append(torch.randn(4, 8)),
    "another key": lambda model, call: call["named"].update(more=torch.rand(8)),
    "another number": lambda model, call: call.update(flag=1),
    "an optional input": lambda model, call: call.update(mask=torch.rand(8)),
    "a keyword": lambda model, call: call.update(power=3.0),
    "weights of another dtype": lambda model, call: (
        model.double(),
        call.update(xs=[call["xs"][0].double()], named={"scale": torch.rand(8).double()}),
    ),
    "weights of another layout": lambda model, call: setattr(model.lin.weight, "data", model.lin.weight.data.t().contiguous().t()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_anything_else_runs_the_reference(guarded: Any, name: str) -> None:
    assert not _kernels_run(guarded, CHANGES[name])


def test_a_model_moved_after_its_first_call_is_looked_at_again(guarded: Any) -> None:
    def change(model: Any, call: dict[str, Any]) -> None:
        with torch.no_grad(), pytest.raises(_Kernels):
            model(**call)
        model.to(torch.float64)
        call.update(xs=[call["xs"][0].double()], named={"scale": torch.rand(8).double()})

    assert not _kernels_run(guarded, change)


def test_another_argument_of_the_constructor_runs_the_reference(guarded: Any) -> None:
    assert not _kernels_run(guarded, width=8, bias=False)


def test_wanted_gradients_run_the_reference(guarded: Any) -> None:
    assert not _kernels_run(guarded, grad=True)


def test_the_training_mode_is_checked_where_it_changes_what_is_computed() -> None:
    def modes(layer: str) -> Any:
        source = module("return self.layer(x) + 1", "torch.randn(4, 8)", f"self.layer = {layer}")
        return capture_here(source).workloads[0][1].modes

    assert modes("nn.Dropout(0.5)") == (("", True), ("layer", True))
    assert modes("nn.BatchNorm1d(8)") == (("", True), ("layer", True))
    assert modes("nn.LayerNorm(8)") == ()
    assert modes("nn.Dropout(0.0)") == ()
    assert modes("nn.Sequential(nn.Linear(8, 8), nn.ReLU())") == ()


def test_inputs_with_gaps_or_repeats_are_made_contiguous_first() -> None:
    source = module("return (x * y).softmax(-1)", "torch.randn(4, 16)[:, ::2], torch.randn(8).expand(4, 8)", parameters="x, y")
    graph = capture_here(source).workloads[0][1]
    assert [(item.is_packed, item.spec.stride) for item in graph.placeholders if item.spec] == [(True, (8, 1)), (True, (8, 1))]
    draft = write(task(source, "cuda:sm_90", FolderBase()))
    assert draft.candidate is not None and "v_x = x.contiguous()" in draft.candidate.source and "x.stride()" not in draft.candidate.source


@pytest.mark.parametrize("use", ["x.mul_(2)", "x = x.as_strided((4, 8), (16, 1))"])
def test_inputs_that_are_written_or_read_by_place_keep_their_layout(use: str) -> None:
    source = module(f"{use}\nreturn x.softmax(-1)", "torch.randn(4, 16)[:, ::2]")
    assert not any(item.is_packed for item in capture_here(source).workloads[0][1].placeholders)


def test_gradient_modes_and_autocasting_inside_of_a_forward_are_captured() -> None:
    source = module(
        "with torch.no_grad():\n    scale = x.abs().amax()\nwith torch.autocast('cpu', enabled=False):\n    y = x.float() / scale\n"
        "with torch.autocast('cpu', dtype=torch.bfloat16):\n    y = self.lin(y)\nreturn y.float().softmax(-1)",
        "torch.randn(4, 8)",
        "self.lin = nn.Linear(8, 8)",
    )
    nodes = capture_here(source).workloads[0][1].nodes
    assert all(node.op.startswith("aten.") for node in nodes) and any(node.spec and node.spec.dtype == "bfloat16" for node in nodes)


def test_configurations_scripted_functions_and_complex_numbers_are_captured() -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport torch\nimport torch.nn as nn\n\n\n"
        "@dataclass\nclass Config:\n    width: int = 8\n\n\n@torch.jit.script\ndef double(x):\n    return x * 2\n\n\n"
        "class Base(nn.Module):\n    def forward(self, x, scale=None):\n        return torch.view_as_real(double(x) * 1j)\n\n\n"
        "class Model(Base):\n    def __init__(self, config):\n        super().__init__()\n\n\n"
        "def get_inputs():\n    return [torch.randn(4, 8)]\n\n\ndef get_init_inputs():\n    return [Config()]\n"
    )
    graph = capture_worker.capture(source)["workloads"][0]["graph"]
    assert graph["input_names"] == ["inputs[0]"] and graph["containers"] == [["inputs", "tuple", 1]] and graph["built_with"] is None
    draft = write(task(source, "cuda:sm_90", FolderBase()))
    assert draft.candidate is not None and "could not be captured" not in draft.summary


def test_values_of_parameters_that_were_left_out_are_checked() -> None:
    source = "class Model:\n    def forward(self, x, mask=None, scale=1.5, act=F.relu, *rest, flag: bool = True, **more): pass\n"
    checks = default_checks(forward_parameters(source), {"x", "rest"})
    assert checks == ["mask is not None", "type(scale) is not float or scale != 1.5", "act is not F.relu", "flag is not True", "more"]


def test_named_tuples_and_ordered_dicts_come_back_as_what_they_are() -> None:
    source = module("return Pair(x.softmax(-1), OrderedDict(a=x + 1, b=None, n=x.shape[0]))", "torch.randn(4, 8)")
    source = f"from collections import OrderedDict, namedtuple\n\nPair = namedtuple('Pair', 'left right')\n{source}"
    graph = capture_here(source).workloads[0][1]
    assert graph.output_form.startswith('Pair({0}, __import__("collections").OrderedDict({{')
    outputs = eval(graph.output_form.format(*range(4)), {"Pair": lambda left, right: (left, right)})  # our own text
    assert list(outputs[1]) == ["a", "b", "n"]
