"""Constructor arguments that are objects, and outputs that hold more than tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tools.types import Status
from tools.worker import attempt, objects, reference, tensors
from tools.worker.server import CommandError


@dataclass
class Inner:
    scale: torch.Tensor


@dataclass
class Config:
    width: int = 8
    layers: list[int] = field(default_factory=lambda: [2, 3])
    inner: Inner = field(default_factory=lambda: Inner(torch.ones(2)))


def _module(*kinds: type) -> ModuleType:
    module = ModuleType("problem")
    for kind in kinds:
        setattr(module, kind.__name__, kind)
    return module


def test_a_configuration_crosses_as_data_and_is_built_from_the_other_sides_class() -> None:
    data = objects.to_data([Config(), SimpleNamespace(eps=1e-5), 3], _module(Config, Inner))
    tensors.describe(data)
    theirs = type("Config", (), {})
    made, plain, number = objects.from_data(data, _module(theirs, Inner))
    assert type(made) is theirs and made.width == 8 and made.layers == [2, 3] and torch.equal(made.inner.scale, torch.ones(2))
    assert plain.eps == 1e-5 and number == 3


def test_an_object_of_foreign_origin_stays_what_cannot_be_sent() -> None:
    with pytest.raises(tensors.UnsupportedValueError, match="Config"):
        tensors.describe(objects.to_data([Config()], _module()))


def test_a_class_that_the_candidate_lacks_is_named() -> None:
    with pytest.raises(AttributeError, match="define the class Inner too"):
        objects.from_data(objects.to_data(Config(), _module(Config, Inner)), _module())


@pytest.mark.parametrize("result", [(torch.ones(1), None), {"a": [torch.ones(1), 3, True, "text"]}])
def test_none_and_whole_numbers_may_stand_beside_tensors(result: Any) -> None:
    reference._require_tensors(result)


@pytest.mark.parametrize(("result", "found"), [(None, "NoneType"), ((), "tuple"), ((torch.ones(1), 0.5), "float"), ({"a": {1}}, "dict")])
def test_outputs_that_cannot_be_compared_are_a_fault_of_the_problem(result: Any, found: str) -> None:
    wanted = "set" if isinstance(result, dict) else found
    with pytest.raises(CommandError, match=f"got {wanted}"):
        reference._require_tensors(result)


def test_values_beside_tensors_must_be_equal() -> None:
    expected, _ = tensors.describe((torch.ones(1), None, 3))
    attempt._require_same_outputs(expected, expected)
    for other in ((torch.ones(1), None, 4), (torch.ones(1), None, 3.0), (torch.ones(1), False, 3)):
        with pytest.raises(attempt.Rejected) as raised:
            attempt._require_same_outputs(tensors.describe(other)[0], expected)
        assert raised.value.status is Status.WRONG_VALUES
