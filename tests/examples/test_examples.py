"""Every example problem: it is in KernelBench's format, honest (inputs and outputs vary) and can be exported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
PATTERN_OPERATORS = {
    "map_id_transform": ["bucketize.Tensor", "clamp.default", "gather.default", "eq.Tensor", "add.Tensor", "where.ScalarOther"],
    "merge_bucketized_dense": ["searchsorted.Tensor", "unsqueeze.default", "add.Tensor"],
}
"""What the `pattern` kernels of these problems match."""


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def draw(module: ModuleType, seed: int) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    torch.manual_seed(seed)
    return module.Model(*module.get_init_inputs()).eval(), module.get_inputs()


def test_the_three_kinds_of_problem_are_there() -> None:
    assert {"layer_norm_gelu", "masked_softmax", "map_id_transform"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_is(name: str) -> None:
    module = load(name)
    assert module.__doc__ and "Pattern:" in module.__doc__
    for item in (module.Model, module.Model.forward, module.get_inputs, module.get_init_inputs):
        assert item.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_problems_and_different_seeds_different_outputs(name: str) -> None:
    module = load(name)
    with torch.no_grad():
        outputs = []
        for seed in (0, 0, 1):
            model, inputs = draw(module, seed)
            outputs.append(model(*inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_no_constant_and_no_copy_of_an_input(name: str) -> None:
    model, inputs = draw(load(name), 0)
    with torch.no_grad():
        output = model(*inputs)
    assert torch.isfinite(output.double()).all()
    if output.numel() > 1:
        assert float(output.double().std()) > 0.5 * float(output.double().abs().mean())
    assert all(item.shape != output.shape or not torch.allclose(item.double(), output.double(), atol=0.05) for item in inputs)


@pytest.mark.parametrize("name", sorted(PATTERN_OPERATORS))
def test_a_pattern_problem_exports_to_the_operators_of_its_kernel(name: str) -> None:
    model, inputs = draw(load(name), 0)
    graph = torch.export.export(model, tuple(inputs)).graph
    operators = [str(node.target).removeprefix("aten.") for node in graph.nodes if node.op == "call_function"]
    assert operators == PATTERN_OPERATORS[name]


def test_map_id_transform_gives_the_published_answer() -> None:
    model = load("map_id_transform").Model()
    answer = model(torch.tensor([100, 300, 500, 200, 999]), torch.tensor([100, 200, 300, 400, 500]))
    assert answer.tolist() == [1, 3, 5, 2, 0]


def test_merge_bucketized_dense_gives_the_published_answer() -> None:
    model = load("merge_bucketized_dense").Model()
    x = torch.tensor([[0.1, 0.4, 0.8], [0.2, 0.5, 0.9]])
    assert model(x, torch.tensor([[0.3, 0.6], [0.4, 0.7]]), torch.tensor([0, 3])).tolist() == [[0, 1, 2], [3, 4, 5]]
