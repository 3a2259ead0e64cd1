"""Capture: sizes cost nothing, names survive, failures say why."""

from __future__ import annotations

import subprocess

import pytest
from library_support import capture_here, module

from agents.coders.library.capture import capture
from agents.coders.library.errors import CaptureError
from agents.coders.library.graph import Ref
from agents.coders.library.rewrites import rewrite


@pytest.mark.slow
def test_the_child_process_gives_the_same_graph() -> None:
    source = module("return torch.tanh(x) * self.s", "torch.rand(8, 4)", "self.s = nn.Parameter(torch.rand(4))")
    assert capture(source) == capture_here(source)


@pytest.mark.slow
def test_a_capture_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CaptureError, match="longer than 1 s"):
        capture("while True: pass", timeout_s=1.0)


def test_why_a_capture_failed_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        raise subprocess.TimeoutExpired("capture", 1.0)

    monkeypatch.setattr("agents.coders.library.capture.subprocess.run", run)
    for _ in range(2):
        with pytest.raises(CaptureError, match="longer than 5 s"):
            capture("# a problem that only this test captures", timeout_s=5.0)
    assert len(calls) == 1


def test_sixteen_gigabytes_of_inputs_are_captured_without_allocating_them() -> None:
    source = module("return F.layer_norm(x * self.s, (4096,))", "torch.rand(1_048_576, 4096)", "self.s = nn.Parameter(torch.rand(4096))")
    (name, graph), *rest = capture_here(source).workloads
    assert name == "default" and not rest
    assert [node.op for node in graph.nodes] == ["aten.mul.Tensor", "aten.layer_norm.default"]
    assert graph.nodes[1].spec is not None and graph.nodes[1].spec.shape == (1_048_576, 4096)
    assert [item.target for item in graph.placeholders if item.kind == "parameter"] == ["s"]


def test_every_workload_is_captured_under_its_name() -> None:
    source = "WORKLOADS = [{'name': 'short', 'rows': 2}, {'rows': 8}]\n" + module("return x + 1", "torch.rand(rows, 3)").replace(
        "get_inputs()", "get_inputs(rows=4)"
    )
    workloads = capture_here(source).workloads
    assert [(name, graph.nodes[0].spec.shape) for name, graph in workloads if graph.nodes[0].spec] == [
        ("short", (2, 3)),
        ("workload_1", (8, 3)),
    ]


def test_source_that_raises_is_a_capture_error_with_its_message() -> None:
    with pytest.raises(CaptureError, match="no such luck"):
        capture_here("raise RuntimeError('no such luck')")


def test_vmap_becomes_batched_operators() -> None:
    source = module("return torch.vmap(lambda row: torch.tanh(row) * row.sum())(x)", "torch.rand(3, 4)")
    ((_, graph),) = capture_here(source).workloads
    assert {"aten.tanh.default", "aten.mul.Tensor"} <= {node.op for node in graph.nodes}
    assert graph.nodes[-1].spec is not None and graph.nodes[-1].spec.shape == (3, 4)


def test_a_forward_that_depends_on_earlier_calls_is_refused() -> None:
    with pytest.raises(CaptureError):
        capture_here(module("self.last = x + self.last\nreturn self.last", "torch.rand(3)", "self.last = torch.zeros(3)"))


def test_recurrent_layers_are_captured_whole_with_the_layout_that_they_return() -> None:
    source = module("y, (h, c) = self.l(x)\nreturn y, c", "torch.rand(3, 10_000, 16)", "self.l = nn.LSTM(16, 24, 2, batch_first=True)")
    ((_, graph),) = capture_here(source).workloads
    (layer,) = (node for node in graph.nodes if node.op == "aten.lstm.input")
    assert [(item.shape, item.stride) for item in layer.output] == [
        ((3, 10_000, 24), (24, 72, 1)),
        ((2, 3, 24), (72, 24, 1)),
        ((2, 3, 24), (72, 24, 1)),
    ]
    assert len([item for item in graph.placeholders if item.kind == "parameter"]) == 8


def test_rewriting_drops_copies_and_makes_in_place_work_functional() -> None:
    source = module(
        "y = x * 2\ny.relu_()\nz = y.detach().contiguous()\nreturn F.dropout(z, 0.3, False) + torch.tensor(0.5)", "torch.rand(3, 4)"
    )
    rewritten = rewrite(capture_here(source).workloads[0][1])
    assert [node.op for node in rewritten.graph.nodes] == ["aten.mul.Tensor", "aten.relu.default", "aten.add.Tensor"]
    assert rewritten.graph.nodes[2].refs()[0] == rewritten.graph.nodes[1].name and not rewritten.pinned


def test_a_write_through_a_view_pins_everything_that_shares_the_memory() -> None:
    source = module("y = x * 2\ny[:, 0] = 1.0\nreturn y + 1", "torch.rand(3, 4)")
    rewritten = rewrite(capture_here(source).workloads[0][1])
    first = rewritten.graph.nodes[0]
    assert first.op == "aten.mul.Tensor" and first.name in rewritten.pinned


@pytest.mark.parametrize(
    ("forward", "op"),
    [
        ("torch.multiply(torch.tanh(F.softplus(x)), x)", "aten.mish.default"),
        ("x * torch.tanh(F.softplus(x))", "aten.mish.default"),
        ("x * torch.tanh(F.softplus(x, beta=2))", "aten.mul.Tensor"),
        ("x * torch.tanh(F.softplus(x + 1))", "aten.mul.Tensor"),
    ],
)
def test_mish_in_parts_is_seen(forward: str, op: str) -> None:
    assert rewrite(capture_here(module(f"return {forward}", "torch.randn(4, 40)")).workloads[0][1]).graph.nodes[-1].op == op


def test_losses_unfold_unless_a_kernel_wants_them_whole() -> None:
    graph = capture_here(module("return F.mse_loss(x, y)", "torch.rand(3, 4), torch.rand(3, 4)", parameters="x, y")).workloads[0][1]
    assert [node.op for node in rewrite(graph).graph.nodes] == ["aten.sub.Tensor", "aten.mul.Tensor", "aten.mean.default"]
    assert [node.op for node in rewrite(graph, {"aten.mse_loss.default"}).graph.nodes] == ["aten.mse_loss.default"]
    assert isinstance(graph.outputs, tuple) and isinstance(graph.outputs[0], Ref)
