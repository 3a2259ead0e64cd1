"""Algebra on captured graphs: the same values as the reference, without the operator that was saved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from library_support import capture_here, module, task, write

from agents.coders.library.compose import Piece, compose
from agents.coders.library.regions import make_plan
from agents.coders.library.rewrites import rewrite

LINEAR = "self.l = nn.Linear(6, 10)"


def transposed(arguments: str, dims: int = 2) -> str:
    return f"self.c = nn.ConvTranspose{dims}d(3, 5, {arguments})"


SAVED: dict[str, tuple[str, str, str]] = {
    "linear_sum": ("return (self.l(x) / 2).sum(1, keepdim=True) * 1.5", "torch.rand(4, 6)", LINEAR),
    "linear_without_bias": ("return self.l(x).mean(-1)", "torch.rand(2, 3, 6)", "self.l = nn.Linear(6, 10, bias=False)"),
    "linear_minus_vector": ("return torch.mean(self.l(x) - self.v + 3.0, dim=1, keepdim=True)", "torch.rand(4, 6)", f"{LINEAR}; self.v = nn.Parameter(torch.rand(10))"),
    "sum_with_column": ("return torch.sum(self.l(x) + self.v, dim=-1)", "torch.rand(4, 6)", f"{LINEAR}; self.v = nn.Parameter(torch.rand(4, 1))"),
    "turned_matrix": ("return torch.sum(torch.matmul(x, self.w.T) / 2, dim=1, keepdim=True)", "torch.rand(4, 6)", "self.w = nn.Parameter(torch.rand(10, 6))"),
    "matrix": ("return torch.matmul(x, self.w).sum(-1)", "torch.rand(2, 4, 6)", "self.w = nn.Parameter(torch.rand(6, 10))"),
    "sums_of_one": (
        "y = torch.max(self.l(x).sum(1, keepdim=True), dim=1, keepdim=True)[0]\nreturn torch.logsumexp(torch.mean(y, 1, True), 1, True)",
        "torch.rand(4, 6)",
        LINEAR,
    ),
    "transposed_plain": ("return self.c(x).mean(dim=(2, 3), keepdim=True) + 1", "torch.rand(2, 3, 7, 6)", transposed("3")),
    "transposed_cut": ("return torch.mean(self.c(x) * 0.5, dim=[2, 3], keepdim=True)", "torch.rand(2, 3, 7, 6)", transposed("3, 2, 1, output_padding=1")),
    "transposed_dilated": ("return self.c(x).sum((2, 3))", "torch.rand(2, 3, 9, 8)", transposed("(3, 2), 3, (2, 1), dilation=2, bias=False")),
    "transposed_1d": ("return self.c(x).mean(-1)", "torch.rand(2, 3, 9)", transposed("4, 2, 1", 1)),
    "transposed_3d": ("return F.adaptive_avg_pool3d(self.c(x), 1)", "torch.rand(2, 3, 5, 6, 7)", transposed("3, 2, 1", 3)),
    "convolution": ("return F.adaptive_avg_pool2d(self.c(x), (1, 1))", "torch.rand(2, 3, 9, 8)", "self.c = nn.Conv2d(3, 5, 3, padding=1)"),
    "pooled_linear": ("return F.avg_pool1d(self.l(x).unsqueeze(1), 5).squeeze(1).relu()", "torch.rand(4, 6)", LINEAR),
}  # fmt: skip
KEPT: dict[str, tuple[str, str, str]] = {
    "not_linear_between": ("return torch.relu(self.l(x)).sum(1)", "torch.rand(4, 6)", LINEAR),
    "another_user": ("y = self.l(x)\nreturn y.sum(1, keepdim=True) + y", "torch.rand(4, 6)", LINEAR),
    "another_axis": ("return self.l(x).sum(0)", "torch.rand(4, 6)", LINEAR),
    "stride": ("return self.c(x).mean((2, 3))", "torch.rand(2, 3, 9, 8)", "self.c = nn.Conv2d(3, 5, 3, stride=2)"),
    "groups": ("return self.c(x).mean((2, 3))", "torch.rand(2, 3, 9, 8)", "self.c = nn.Conv2d(3, 6, 3, groups=3)"),
    "half": ("return self.l(x).sum(1)", "torch.rand(4, 6).bfloat16()", "self.l = nn.Linear(6, 10).bfloat16()"),
    "overlapping_windows": ("return F.avg_pool1d(self.l(x).unsqueeze(1), 4, 2)", "torch.rand(4, 6)", LINEAR),
    "a_tensor_as_factor": ("return (self.l(x) * self.v).sum(1)", "torch.rand(4, 6)", f"{LINEAR}; self.v = nn.Parameter(torch.rand(10))"),
}


def built(source: str) -> tuple[Any, Any, tuple[str, ...]]:
    """Return the reference, the rewritten forward as PyTorch runs it, and the notes."""
    graph = capture_here(source).workloads[0][1]
    found = rewrite(graph)
    text = compose(
        source, [Piece("only", graph, make_plan(found, [], [], {}, {}, "triton"), {}, simplified=found.simplified)], "triton", "t"
    )
    namespace: dict[str, Any] = {"__name__": "candidate"}
    exec(text, namespace)
    assert all(f"- algebra: {note}" in text for note in found.simplified)
    reference: dict[str, Any] = {"__name__": "reference"}
    exec(source, reference)
    return reference, namespace, found.simplified


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_gives_the_same_values(name: str) -> None:
    forward, inputs, init = SAVED[name]
    source = module(forward, inputs, init)
    reference, namespace, notes = built(source)
    assert len(notes) == 1
    torch.manual_seed(0)
    model = reference["Model"]()
    candidate = namespace["ModelNew"]()
    candidate.load_state_dict(model.state_dict())
    with torch.no_grad():
        x = reference["get_inputs"]()[0]
        actual, expected = candidate(x), model.double()(x.double())
    assert actual.shape == expected.shape and torch.allclose(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_linear_or_would_lose_bits_stays(name: str) -> None:
    forward, inputs, init = KEPT[name]
    assert rewrite(capture_here(module(forward, inputs, init)).workloads[0][1]).simplified == ()


def test_an_input_is_not_handed_back_in_place_of_its_sum() -> None:
    graph = rewrite(capture_here(module("return x.view(4, 1).sum(1)", "torch.rand(4, 1)")).workloads[0][1]).graph
    assert "aten.sum.dim_IntList" in [node.op for node in graph.nodes]


def test_the_saved_operator_is_gone_and_the_candidate_says_so() -> None:
    source = module(*SAVED["linear_sum"])
    graph = rewrite(capture_here(source).workloads[0][1]).graph
    assert "aten.linear.default" not in [node.op for node in graph.nodes]
    drafts = [write(task(source, sibling=index)).candidate for index in range(6)]
    assert drafts[0] is not None and drafts[0].provenance["simplified"]
    assert any(draft is not None and "same algebra" in draft.provenance["note"] and "@torch.compile" in draft.source for draft in drafts)
