"""`einsum` as matrix products: the same values and the same layout as PyTorch's, and left alone where that is not certain."""

from __future__ import annotations

import pytest
import torch
from library_support import capture_here, module, task, write

from agents.coders.library.graph import Argument, Graph, Node, Placeholder, Ref
from agents.coders.library.rewrites import rewrite
from tools.expressions import TensorSpec

UNFOLDED = {
    "rows_times_matrix": ("bijl,lk->bijk", [(2, 3, 4, 5), (5, 6)], 1),
    "matrices": ("ik,kj->ij", [(3, 4), (4, 5)], 1),
    "batches": ("bnqd,bnkd->bnqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 1),
    "heads_inside": ("bqnd,bknd->bnqk", [(2, 4, 3, 5), (2, 6, 3, 5)], 1),
    "columns_first": ("bln,blp->bpn", [(2, 4, 3), (2, 4, 5)], 1),
    "outer_product": ("i,j->ij", [(3,), (4,)], 0),
    "pointwise": ("bij,bj->bij", [(2, 3, 4), (2, 4)], 0),
    "four": ("bclhn,bcshn,bhcls,bcshp->bclhp", [(2, 2, 4, 3, 5), (2, 2, 6, 3, 5), (2, 3, 2, 4, 6), (2, 2, 6, 3, 7)], 2),
    "three": ("bclhn,bhcl,bclhp->bchpn", [(2, 2, 4, 3, 5), (2, 3, 2, 4), (2, 2, 4, 3, 7)], 1),
    "factor_last": ("bclhn,bchpn,bhcl->bclhp", [(2, 2, 4, 3, 5), (2, 2, 3, 6, 5), (2, 3, 2, 4)], 1),
}
PATHS = {"four": (0, 1, 0, 2, 0, 1), "three": (1, 2, 0, 1), "factor_last": (0, 2, 0, 1), "matrices": (0, 1)}
KEPT = {
    "ellipsis": ("...ik,kj->...ij", [(2, 3, 4), (4, 5)]),
    "diagonal": ("ii,ij->ij", [(3, 3), (3, 4)]),
    "sum_of_one": ("ikl,kj->ij", [(2, 3, 4), (3, 5)]),
    "one_operand": ("ij->ji", [(2, 3)]),
    "no_arrow": ("ik,kj", [(3, 4), (4, 5)]),
    "size_of_one": ("ik,kj->ij", [(3, 1), (4, 5)]),
}


def problem(equation: str, shapes: list[tuple[int, ...]]) -> str:
    names = ", ".join("abcd"[: len(shapes)])
    return module(f"return torch.einsum({equation!r}, {names})", ", ".join(f"torch.rand({shape})" for shape in shapes), parameters=names)


@pytest.mark.parametrize(("name", "path"), [*((name, ()) for name in UNFOLDED), *((name, path) for name, path in PATHS.items())])
def test_products_give_pytorchs_values_in_pytorchs_layout(name: str, path: tuple[int, ...]) -> None:
    """With a path, too: `torch.einsum` finds one where the package opt_einsum is installed."""
    equation, shapes, num_products = UNFOLDED[name]
    torch.manual_seed(0)
    values = dict(zip("abcd", (torch.rand(shape) for shape in shapes), strict=False))
    expected = torch.ops.aten.einsum(equation, list(values.values()), path=list(path) or None)
    inputs = tuple(Placeholder(key, "input", key, TensorSpec(tuple(item.shape), "float32", item.stride())) for key, item in values.items())
    arguments = (
        Argument("equation", equation),
        Argument("tensors", tuple(map(Ref, values))),
        Argument("path", path or None, bool(path), True),
    )
    node = Node("einsum", "aten.einsum.default", arguments, TensorSpec(tuple(expected.shape), "float32", expected.stride()))
    graph = rewrite(Graph(inputs, (node,), Ref("einsum"))).graph
    assert "aten.einsum.default" not in [node.op for node in graph.nodes]
    assert path or [node.op for node in graph.nodes].count("aten.matmul.default") == num_products
    for node in graph.nodes:
        packet, overload = node.op.split(".")[1:]
        given = [values[item.value.name] if isinstance(item.value, Ref) else item.value for item in node.arguments]
        made = getattr(getattr(torch.ops.aten, packet), overload)(*given)
        assert node.spec is not None and made.shape == node.spec.shape
        if node.op == "aten.mul.Tensor":
            made = made.contiguous()  # as a kernel writes it
        assert all(size == 1 or a == b for size, a, b in zip(made.shape, made.stride(), node.spec.stride, strict=True)), node
        values[node.name] = made
    assert made.stride() == expected.stride() and torch.allclose(made, expected)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_chain_of_products_stays(name: str) -> None:
    graph = rewrite(capture_here(problem(*KEPT[name])).workloads[0][1]).graph
    assert [node.op for node in graph.nodes] == ["aten.einsum.default"]


def test_a_kernel_takes_the_product() -> None:
    draft = write(task(problem("bijl,lk->bijk", [(2, 8, 32, 64), (64, 96)])))
    assert draft.candidate is not None and any("matmul" in kernel for kernel in draft.candidate.provenance["kernels"])
