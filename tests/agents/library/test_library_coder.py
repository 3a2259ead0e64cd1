"""What the library coder proposes, in which order, and how it reacts to what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from library_support import FolderBase, capture_here, failed, module, passed, task, write

from agents.coders.library.coder import LibraryCoder, signature
from agents.types import BudgetLeft
from kb.types import Winner
from tools.types import Problem, Status

SOFTMAX = module("return torch.softmax(x * 0.5, dim=-1) + 1", "torch.rand(64, 96)")
LINEAR = module("return self.l(x).relu()", "torch.rand(64, 96)", "self.l = nn.Linear(96, 32)")


def test_the_first_draft_fuses_neighbours_into_the_best_kernel() -> None:
    draft = write(task(SOFTMAX, base=FolderBase("softmax_rows", "pointwise_stream")))
    assert draft.candidate is not None and draft.candidate.provenance["kernels"] == ["softmax_rows"]
    region = draft.candidate.provenance["regions"][0]
    assert (region["prologue"], region["epilogue"]) == (True, True)
    assert draft.chunk_ids == ("softmax_rows:1",)
    assert "docs/kernels/" in draft.candidate.source and "class ModelNew(nn.Module)" in draft.candidate.source


def test_equal_tasks_give_equal_drafts() -> None:
    first, second = write(task(SOFTMAX)), write(task(SOFTMAX))
    assert first.candidate is not None and first.candidate == second.candidate


def test_no_candidate_is_written_twice_and_the_search_ends() -> None:
    base, history = FolderBase("softmax_rows"), ()
    seen = set()
    for _ in range(200):
        draft = write(task(SOFTMAX, base=base, history=history))
        if draft.exhausted:
            break
        assert draft.candidate is not None and draft.candidate.candidate_id not in seen
        seen.add(draft.candidate.candidate_id)
        history = (*history, passed(draft, 1.0))
    assert draft.exhausted and len(seen) > 5


def test_siblings_get_different_candidates() -> None:
    drafts = [write(task(SOFTMAX, sibling=index)) for index in range(3)]
    assert len({draft.candidate.candidate_id for draft in drafts if draft.candidate}) == 3


def test_tunables_move_one_step_from_the_best_attempt() -> None:
    base, history = FolderBase("softmax_rows"), ()
    while not history or "→" not in history[-1].candidate.provenance["note"]:
        draft = write(task(SOFTMAX, base=base, history=history))
        assert draft.candidate is not None
        history = (*history, passed(draft, 2.0 if not history else 1.0))
    best = history[0].candidate.provenance["regions"][0]["tunables"]
    last = history[-1].candidate.provenance["regions"][0]["tunables"]
    assert sum(best[name] != last[name] for name in best) == 1


SMALL_STEPS = module("\n".join(["for _ in range(8):", "    x = torch.softmax(x, dim=-1).relu()", "return x"]), "torch.rand(64, 96)")
LARGE = module("return torch.softmax(x * 0.5, dim=-1) + 1", "torch.rand(8192, 16384)")


def test_what_waits_for_its_launches_is_recorded_first_and_what_does_not_is_not() -> None:
    small, large = write(task(SMALL_STEPS)), write(task(LARGE))
    assert small.candidate is not None and small.candidate.provenance["is_recorded"]
    assert "torch.cuda.CUDAGraph()" in small.candidate.source and "def _launch(self, x)" in small.candidate.source
    assert large.candidate is not None and not large.candidate.provenance["is_recorded"]
    assert "CUDAGraph" not in large.candidate.source


def test_nothing_is_recorded_on_the_cpu() -> None:
    draft = write(task(SMALL_STEPS, target="cpu", base=FolderBase("softmax_rows_cpp")))
    assert draft.candidate is not None and "CUDAGraph" not in draft.candidate.source


def test_convolutions_are_tried_with_the_channels_innermost() -> None:
    problem = module("return self.c(x).relu()", "torch.rand(2, 3, 8, 8)", "self.c = nn.Conv2d(3, 4, 3)")
    base, history = FolderBase("pointwise_stream"), ()
    for _ in range(12):
        draft = write(task(problem, base=base, history=history))
        assert draft.candidate is not None
        if draft.candidate.provenance.get("layout"):
            break
        history = (*history, passed(draft, 1.0))
    assert draft.candidate is not None and draft.candidate.provenance["layout"] == "channels_last"
    namespace: dict[str, Any] = {"__name__": "candidate"}
    exec(draft.candidate.source.replace("torch.compile(_laid_out, dynamic=False)", "_laid_out"), namespace)
    torch.manual_seed(0)
    model, x = namespace["ModelNew"](), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = torch.relu(model.c(x))
        actual = model(x)
    assert torch.allclose(actual, expected, atol=1e-6) and actual.is_contiguous()
    assert model.c.weight.is_contiguous(memory_format=torch.channels_last)


def test_after_a_failure_something_that_passes_comes_first_and_the_blamed_kernel_no_more() -> None:
    base = FolderBase("linear_fp32", "linear_split_bf16", "pointwise_stream")
    first = write(task(LINEAR, base=base))
    assert first.candidate is not None
    blamed = first.candidate.provenance["kernels"][0]
    history = (failed(first, Status.RUNTIME_ERROR, f"in {blamed}__kernel: bad"),)
    second = write(task(LINEAR, base=base, history=history))
    assert second.candidate is not None and second.candidate.provenance["kind"] == "compiled"
    third = write(task(LINEAR, base=base, history=(*history, failed(second, Status.RUNTIME_ERROR, "no compiler"))))
    assert third.candidate is not None and blamed not in third.candidate.provenance["kernels"]


CHAIN = """import torch


class Model(torch.nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = torch.nn.Sequential(
            *(layer for _ in range(depth) for layer in (torch.nn.Conv2d(16, 16, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU()))
        )

    def forward(self, x):
        return self.layers(x)


def get_inputs():
    return [torch.rand(256, 16, 64, 64)]


def get_init_inputs():
    return [DEPTH]
"""


@pytest.mark.parametrize("source", [LINEAR, CHAIN.replace("DEPTH", "2"), SOFTMAX])
def test_four_evaluations_always_hold_the_compiled_and_the_plain_reference(source: str) -> None:
    base, history, told = FolderBase(), (), []
    for _ in range(4):
        draft = write(task(source, base=base, history=history))
        assert draft.candidate is not None
        told.append((draft.candidate.provenance["kind"], draft.candidate.provenance["is_recorded"]))
        history = (*history, failed(draft))
    assert told[0][0] == "kernels" and told[1][0] == "compiled" and ("eager", False) in told


@pytest.mark.parametrize(
    ("speedup", "stronger"), [({"eager": 0.8, "compiled": 0.9}, "eager"), ({"eager": 0.9, "compiled": 0.8}, "compiled")]
)
def test_what_is_slower_than_pytorch_is_followed_by_the_stronger_baseline_then_by_the_other_references(speedup: Any, stronger: str) -> None:
    base = FolderBase("softmax_rows", "conv_pointwise_gemm", "batch_norm_training")
    other = "compiled" if stronger == "eager" else "eager"
    for source, more in (
        (LARGE, [(other, "")]),
        (CHAIN.replace("DEPTH", "2").replace("256", "4096"), [("compiled", "channels_last"), (other, "")]),
    ):
        history, told = (passed(write(task(source, base=base)), **speedup),), []
        for _ in [stronger, *more]:
            draft = write(task(source, base=base, history=history))
            assert draft.candidate is not None
            told.append((draft.candidate.provenance["kind"], draft.candidate.provenance["layout"]))
            history = (*history, passed(draft, 0.9))
        assert told == [(stronger, ""), *more]


def test_the_last_evaluation_of_a_budget_goes_to_the_baseline_itself() -> None:
    base = FolderBase("softmax_rows", "pointwise_stream")
    first = write(task(SMALL_STEPS, base=base))
    drafts = [
        write(task(SMALL_STEPS, base=base, history=(passed(first, 0.8),), budget_left=BudgetLeft(evaluations=left))) for left in (2, 1)
    ]
    assert [draft.candidate and draft.candidate.provenance["is_recorded"] for draft in drafts] == [True, False]


NETWORK = CHAIN.replace("DEPTH", "3").replace("16", "64").replace("64, 64)]", "8, 8)]")


def test_convolutions_that_cudnn_is_made_for_run_channels_last_first_and_depthwise_ones_as_they_lie() -> None:
    base = FolderBase("conv_pointwise_gemm", "batch_norm_training")
    first, second = (write(task(NETWORK, base=base, sibling=index)).candidate for index in range(2))
    assert first is not None and (first.provenance["kind"], first.provenance["layout"]) == ("compiled", "channels_last")
    assert second is not None and second.provenance["kind"] == "kernels"
    depthwise = write(
        task(NETWORK.replace("bias=False)", "bias=False), torch.nn.Conv2d(64, 64, 3, padding=1, groups=64)"), base=base)
    ).candidate
    assert depthwise is not None and (depthwise.provenance["kind"], depthwise.provenance["layout"]) == ("compiled", "")


def test_wrong_values_of_tf32_products_lead_to_more_exact_ones() -> None:
    base, source = FolderBase("conv_pointwise_gemm", "batch_norm_training"), CHAIN.replace("DEPTH", "2")
    first = write(task(source, base=base))
    second = write(task(source, base=base, history=(failed(first),)))
    third = write(task(source, base=base, history=(failed(first), passed(second, 1.0))))
    assert first.candidate is not None and third.candidate is not None
    chosen = [
        {region["tunables"]["PRECISION"] for region in candidate.provenance["regions"] if region["kernel"] == "conv_pointwise_gemm"}
        for candidate in (first.candidate, third.candidate)
    ]
    assert chosen == [{"tf32"}, {"bf16x6"}]


def test_convolutions_that_cudnn_does_not_round_are_not_rounded() -> None:
    source = module(
        "return self.b(torch.relu(self.a(x)))",
        "torch.rand(2, 3, 32, 32)",
        "self.a, self.b = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)",
    )
    first = write(task(source, base=FolderBase("conv_nhwc_gemm")))
    assert first.candidate is not None
    assert [region["tunables"]["PRECISION"] for region in first.candidate.provenance["regions"]] == ["bf16x6", "tf32"]


def test_when_every_kernel_fails_the_reference_itself_is_left() -> None:
    base, history, kinds = FolderBase("softmax_rows"), (), []
    for _ in range(20):
        draft = write(task(SOFTMAX, base=base, history=history))
        if draft.candidate is None:
            break
        kinds.append(draft.candidate.provenance["kind"])
        history = (*history, failed(draft))
    assert kinds[-1] == "eager" and draft.exhausted and len(kinds) < 15


def test_without_a_knowledge_base_pytorch_does_the_work() -> None:
    request = task(SOFTMAX)
    draft = write(type(request)(request.problem, request.target, base=None))
    assert draft.candidate is not None and draft.candidate.language == "torch"


class EmptyBase:
    """A knowledge base without kernel documents."""

    def kernel_documents(self, target: str) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("source", "target", "first"),
    [
        (LARGE, "cuda:sm_90", ("compiled", False)),
        (SMALL_STEPS, "cuda:sm_90", ("compiled", True)),
        (SMALL_STEPS, "cpu", ("compiled", False)),
        (module("return self.l(x).sum(1)", "torch.rand(4, 6)", "self.l = nn.Linear(6, 10)"), "cpu", ("kernels", False)),
    ],
    ids=["large", "launches", "cpu", "algebra"],
)
def test_without_kernel_documents_the_compiler_comes_first_and_the_reference_last(
    source: str, target: str, first: tuple[str, bool]
) -> None:
    history, found = (), []
    while (draft := write(task(source, target, EmptyBase(), history=history))).candidate is not None:
        assert not draft.candidate.provenance.get("kernels") and draft.candidate.language == "torch"
        assert target != "cpu" or "CUDAGraph" not in draft.candidate.source
        found.append((draft.candidate.provenance["kind"], draft.candidate.provenance["is_recorded"]))
        history = (*history, passed(draft))
    assert found[0] == first and found[-1] == ("eager", False)
    assert "torch.compile" in write(task(source, target, EmptyBase())).candidate.source  # type: ignore[union-attr] # just asserted


def test_what_cannot_be_captured_falls_back_and_says_so() -> None:
    source = module("return x if x.sum().item() > 0 else -x", "torch.rand(4)")
    draft = write(task(source))
    assert draft.candidate is not None and draft.candidate.language == "torch" and "could not be captured" in draft.summary


def test_signature_ignores_sizes_and_sees_operators_dtypes_and_ranks() -> None:
    graphs = [
        capture_here(module("return torch.softmax(x * 0.5, dim=-1) + 1", shape)).workloads[0][1]
        for shape in ("torch.rand(64, 96)", "torch.rand(8, 7)")
    ]
    assert signature(graphs[0]) == signature(graphs[1]) == "mul.Tensor(f32:2) softmax.int(f32:2) add.Tensor(f32:2)"
    half = capture_here(module("return torch.softmax(x * 0.5, dim=-1) + 1", "torch.rand(8, 7).half()")).workloads[0][1]
    assert signature(half) != signature(graphs[0])


def test_signature_of_what_cannot_be_captured_is_empty() -> None:
    assert asyncio.run(LibraryCoder().signature(Problem("p", "p", "raise ValueError('no')"), "cpu")) == ""


def test_a_sibling_starts_from_the_winners_tunables() -> None:
    base = FolderBase("softmax_rows")
    draft = write(task(SOFTMAX, base=base))
    tuned = write(task(SOFTMAX, base=base, history=(passed(draft), passed(write(task(SOFTMAX, base=base, sibling=1)), 1.0)))).candidate
    assert tuned is not None
    other = SOFTMAX.replace("64, 96", "128, 96")
    winner = Winner("tests/small", "0" * 64, "s", "cuda:sm_90", tuned.candidate_id, tuned.source, "triton", tuned.provenance, {}, "run")
    first = write(task(other, base=base, winners=(winner,)))
    assert first.candidate is not None and "sibling" in first.summary
    if tuned.provenance["regions"]:
        assert first.candidate.provenance["regions"][0]["tunables"] == tuned.provenance["regions"][0]["tunables"]
