"""The roofline estimate against hand calculations: what a pass reads, writes and computes, and what is a pass."""

from __future__ import annotations

import pytest

from agents.coders.library.capture import capture
from agents.coders.library.graph import Argument, Graph, Node, Placeholder, Ref, TensorSpec
from agents.coders.library.roofline import LAUNCH_S, Roofline, estimate
from evaluation.roofline_table import correlations, own_times, spearman

LIMITS = {
    "dram_gb_per_s": 1000.0,
    "l2_bytes": 50e6,
    "l2_gb_per_s": 4000.0,
    "multiprocessors": 100.0,
    "shared_memory_per_multiprocessor_bytes": 200e3,
    "flops_per_s_float32": 50e12,
    "flops_per_s_tf32": 400e12,
    "flops_per_s_float16": 800e12,
}
MB = 1 << 20


def tensor(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(shape, dtype, ()).contiguous()


def graph(inputs: dict[str, TensorSpec], *nodes: Node) -> Graph:
    placeholders = tuple(Placeholder(name, "input", str(number), spec) for number, (name, spec) in enumerate(inputs.items()))
    return Graph(placeholders, nodes, Ref(nodes[-1].name))


def node(name: str, op: str, output: TensorSpec, *refs: str, **literals: object) -> Node:
    arguments = [Argument(f"input{number}", Ref(ref)) for number, ref in enumerate(refs)]
    return Node(name, op, (*arguments, *(Argument(key, value) for key, value in literals.items())), output)  # type: ignore[arg-type]  # literals of tests


def total(result: Roofline) -> tuple[int, int]:
    return sum(item.read_bytes for item in result.passes), sum(item.written_bytes for item in result.passes)


def test_a_chain_of_pointwise_operators_is_one_pass_when_compiled_and_one_each_when_eager() -> None:
    x = tensor(64, MB)  # 256 MB: beyond the cache
    chain = graph({"x": x}, node("a", "aten.exp.default", x, "x"), node("b", "aten.mul.Tensor", x, "a", "x"))
    size = 64 * MB * 4
    assert total(estimate(chain, LIMITS, "eager")) == (3 * size, 2 * size)
    compiled = estimate(chain, LIMITS, "compiled")
    assert len(compiled.passes) == 1 and total(compiled) == (size, size)
    assert compiled.seconds == pytest.approx(2 * size / 1e12) and compiled.bound == "memory"


def test_two_branches_of_one_input_are_one_pass_and_a_reduction_between_them_is_read_back() -> None:
    x, row = tensor(128, MB), tensor(128, 1)
    size = 128 * MB * 4
    norm = graph(
        {"x": x},
        node("square", "aten.mul.Tensor", x, "x", "x"),
        node("sum", "aten.sum.dim_IntList", row, "square"),
        node("out", "aten.div.Tensor", x, "x", "sum"),
    )
    # a row of 4 MB does not fit a multiprocessor (0.2 MB), nor do the 100 rows in flight fit half of the cache: x is read twice
    (item,) = estimate(norm, LIMITS, "compiled").passes
    assert (item.read_bytes, item.written_bytes) == (2 * size, size)
    short, one = tensor(128 * 1024, 1024), tensor(128 * 1024, 1)
    narrow = graph({"x": short}, node("sum", "aten.sum.dim_IntList", one, "x"), node("out", "aten.div.Tensor", short, "x", "sum"))
    assert total(estimate(narrow, LIMITS, "compiled")) == (size, size)


def test_a_pass_between_keeps_two_pointwise_operators_apart() -> None:
    x, w = tensor(4096, 4096), tensor(4096, 4096)
    apart = graph(
        {"x": x, "w": w},
        node("a", "aten.exp.default", x, "x"),
        node("m", "aten.mm.default", x, "a", "w"),
        node("b", "aten.add.Tensor", x, "m", "a"),
    )
    assert [item.nodes for item in estimate(apart, LIMITS, "compiled").passes] == [("a",), ("m",), ("b",)]
    fused = estimate(apart, LIMITS, "fused")
    assert [item.nodes for item in fused.passes] == [("a",), ("m", "b")]
    assert fused.passes[1].flops == pytest.approx(2 * 4096**3 + 4096**2) and fused.bound == "compute"


def test_what_was_just_written_and_fits_half_of_the_cache_is_read_from_there() -> None:
    x = tensor(1024, 1024)  # 4 MB
    pair = graph({"x": x}, node("a", "aten.exp.default", x, "x"), node("b", "aten.exp.default", x, "a"))
    first, second = estimate(pair, LIMITS, "eager").passes
    assert (first.read_bytes, second.read_bytes, second.cached_bytes) == (4 * MB, 0, 4 * MB)


def test_a_convolution_of_a_library_is_converted_and_padded_and_that_of_the_chip_is_not() -> None:
    x, w, y = tensor(8, 16, 256, 256), tensor(64, 16, 3, 3), tensor(8, 64, 254, 254)
    conv = graph({"x": x, "w": w}, node("y", "aten.conv2d.default", y, "x", "w", groups=1))
    flops = 2.0 * y.numel * 16 * 9
    into, product, back = estimate(conv, LIMITS, "compiled").passes
    assert (into.anchor, back.anchor) == ("channels_last", "contiguous") and product.peak == "flops_per_s_tf32"
    assert product.flops == pytest.approx(2 * flops)  # 16 channels fill half of a step of 32
    assert back.read_bytes == back.written_bytes == y.numel * 4
    (alone,) = estimate(conv, LIMITS, "fused").passes
    assert alone.flops == pytest.approx(flops)


def test_windows_read_the_cache_once_per_element_of_the_result() -> None:
    x, y = tensor(16, 64, 256, 256), tensor(16, 64, 253, 253)
    (item,) = estimate(graph({"x": x}, node("y", "aten.max_pool2d.default", y, "x", kernel_size=(4, 4))), LIMITS, "compiled").passes
    assert item.cached_bytes + item.read_bytes == y.numel * 16 * 4 and item.read_bytes == x.numel * 4


def test_many_small_passes_are_bound_by_launches() -> None:
    x = tensor(4)
    steps = [node(f"s{i}", "aten.sum.default", x, f"s{i - 1}" if i else "x") for i in range(10)]
    result = estimate(graph({"x": x}, *steps), LIMITS, "compiled")
    assert result.bound == "launch" and result.seconds == pytest.approx(10 * LAUNCH_S)


def test_a_captured_problem_is_estimated_whole() -> None:
    source = (
        "import torch\nfrom torch import nn\nclass Model(nn.Module):\n    def forward(self, x):\n        return torch.softmax(torch.relu(x), dim=1)\n"
        "def get_inputs():\n    return [torch.rand(8192, 16384)]\ndef get_init_inputs():\n    return []\n"
    )
    ((_, captured),) = capture(source).workloads
    result = estimate(captured, LIMITS, "compiled")
    assert result.bytes_moved == 2 * 8192 * 16384 * 4 and result.share["memory"] == 1.0


def test_rank_correlation_equals_hand_calculations() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 400]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5.0) ** 0.5)  # ties share rank 1.5
    assert spearman([1, 2], [1, 2]) is None and spearman([1, 1, 1], [1, 2, 3]) is None


def test_correlations_leave_out_what_was_not_measured() -> None:
    item = {"ms": 1.0, "bound": "memory"}
    rows = [
        {"level": 1, "error": "", "eager_ms": n + 1.0, "best_ms": n + 1.0, "ours_ms": None, "eager": {**item, "ms": n + 2.0}, "compiled": {**item, "ms": n + 2.0}, "fused": item}
        for n in range(5)
    ]  # fmt: skip
    rows.append({"level": 1, "error": "not captured", "eager_ms": 1.0, "best_ms": 1.0, "ours_ms": None})
    lines = correlations(rows)
    assert {line["estimate"] for line in lines} == {"eager", "compiled"}
    assert all(line["problems"] == 5 and line["spearman"] == pytest.approx(1.0) for line in lines)


def test_our_own_times_are_the_best_of_the_passed_records(tmp_path) -> None:  # type: ignore[no-untyped-def]  # pytest's path
    path = tmp_path / "records.jsonl"
    path.write_text(
        '{"problem_id": "kernelbench:1/40", "best": {"status": "passed", "latency_ms": 2.0}}\n'
        '{"problem_id": "kernelbench:1/40", "best": {"status": "passed", "latency_ms": 1.5}}\n'
        '{"problem_id": "kernelbench:1/41", "best": {"status": "timeout", "latency_ms": null}}\nnot json\n'
    )
    assert own_times([path]) == {"1/40": 1.5}
