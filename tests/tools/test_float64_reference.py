"""The reference is computed in float64 whatever the problem's own code makes, and where it cannot be, PyTorch's own error is told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tools.check.decision import precision_class, reject
from tools.worker import spread, tensors
from tools.worker.reference import ReferenceWorker
from tools.worker.wide import NotWideError, Wide, widen

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
"""
TAIL = """
def get_inputs():
    return [torch.rand(4, 24, 16)]
def get_init_inputs():
    return []
"""
LSTM = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(16, 24, 2, batch_first=True)
        self.first = 0.3 * torch.randn(2, 1, 24)
        self.fc = nn.Linear(24, 10)
    def forward(self, x):
        h0 = self.first.expand(2, x.shape[0], 24).contiguous()
        torch.manual_seed(5)
        c0 = torch.randn(2, x.shape[0], 24, device=x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :] + torch.zeros(24)).float()
"""
BITS = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 256), nn.Linear(256, 16)
    def forward(self, x):
        signs = x.view(torch.int32) >> 31
        return self.second(torch.tanh(self.first(x))) * (1 + 2 * signs)
"""


class Worker(ReferenceWorker):
    """A reference process's inside without a process."""

    def __init__(self, source: str, directory: Path) -> None:
        super().__init__(None, {"device": "cpu", "num_threads": 1})  # type: ignore[arg-type]  # nothing is sent
        path = directory / "problem.py"
        path.write_text(HEAD + source + TAIL, encoding="utf-8")
        self._open({"path": str(path), "seed": 3}, [])

    def judge(self, make: Any, kind: str = "as_given") -> tuple[list[dict[str, Any]], str]:  # Any: of model and inputs, JSON
        draw = self._make_draw(0, 11, kind)
        return self._judged([make(self._model, draw.inputs)], draw.inputs, draw.native)

    def native(self, kind: str = "as_given") -> Any:  # Any: an output tree
        return self._make_draw(0, 11, kind).native


def by_hand(model: Any, inputs: list[torch.Tensor], cast: Any = lambda tensor: tensor) -> torch.Tensor:
    """Compute what `LSTM` computes step by step, products with operands that are cast."""
    (x,) = inputs
    torch.manual_seed(5)
    cells = list(torch.randn(2, x.shape[0], 24).unbind())
    hidden = list(model.first.expand(2, x.shape[0], 24).unbind())
    for step in range(x.shape[1]):
        value = x[:, step]
        for layer in range(2):
            weights = [getattr(model.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            gates = (cast(weights[0]) @ cast(value).mT + cast(weights[1]) @ cast(hidden[layer]).mT).mT + weights[2] + weights[3]
            i, f, g, o = gates.float().chunk(4, 1)
            cells[layer] = f.sigmoid() * cells[layer] + i.sigmoid() * g.tanh()
            value = hidden[layer] = o.sigmoid() * cells[layer].tanh()
    return (cast(value) @ cast(model.fc.weight).mT + model.fc.bias).float()


@pytest.mark.parametrize("kind", ["as_given", "outliers"])
def test_model_that_draws_its_state_in_forward_is_referred_to_float64(tmp_path: Path, kind: str) -> None:
    worker = Worker(LSTM, tmp_path)
    with torch.no_grad():
        stats, how = worker.judge(by_hand, kind)
        assert how == "float64" and 0 < stats[0]["rmse_native"] < 1e-5 * stats[0]["rms_reference"]
        assert not reject(stats[0]) and precision_class(stats) in ("ieee_fp32", "split_fp32")
        rounded, _ = worker.judge(lambda model, inputs: by_hand(model, inputs, lambda tensor: tensor.bfloat16().float()), kind)
    assert reject(rounded[0])


def test_problem_that_looks_at_bits_has_pytorchs_own_spread_for_a_yardstick(tmp_path: Path) -> None:
    worker = Worker(BITS, tmp_path)

    def other(model: Any, inputs: list[torch.Tensor], cast: Any = lambda tensor: tensor) -> torch.Tensor:
        signs = inputs[0].view(torch.int32) >> 31
        first = torch.tanh((cast(inputs[0]) * 0.5) @ cast(model.first.weight).mT * 2 + model.first.bias)
        parts = [cast(first[..., k::4]) @ cast(model.second.weight[:, k::4]).mT for k in range(4)]
        return (sum(parts) + model.second.bias) * (1 + 2 * signs)

    with torch.no_grad():
        stats, how = worker.judge(other)
        assert how == "native" and 0 < stats[0]["rmse_native"] < 1e-6 * stats[0]["rms_reference"]
        assert not reject(stats[0])
        for dtype in (torch.bfloat16, torch.float16):
            assert reject(worker.judge(lambda model, inputs, to=dtype: other(model, inputs, lambda tensor: tensor.to(to).float()))[0][0])


def test_ill_conditioned_fall_back_takes_what_its_condition_allows_and_no_lower_precision(tmp_path: Path) -> None:
    steep = BITS.replace("return ", "x = 1e4 * (x + 300.0) - 3e6\n        return ")
    worker = Worker(steep, tmp_path)

    def other(model: Any, inputs: list[torch.Tensor], lost: float = 0.0) -> torch.Tensor:
        (x,) = inputs
        signs = x.view(torch.int32) >> 31
        wide = (1.0 + lost) * 1e4 * (x.double() + 300.0) - 3e6
        return model.second(torch.tanh(model.first(wide.float()))) * (1 + 2 * signs)

    with torch.no_grad():
        stats, how = worker.judge(other)
        assert how == "native" and not reject(stats[0]), reject(stats[0])
        assert reject(worker.judge(lambda model, inputs: other(model, inputs, 2.0**-11))[0][0])


def test_functions_that_make_read_or_cast_to_float32_give_float64() -> None:
    x = torch.rand(3, 5, dtype=torch.float64)
    table = torch.rand(5)
    with Wide(torch.float32) as mode, torch.no_grad():
        made = [
            torch.zeros(5), torch.ones(5, dtype=torch.float32), torch.full((5,), 0.1), torch.arange(5.0), torch.linspace(0, 1, 5), torch.eye(5),
            torch.tensor([0.5]), torch.empty(5), x.float(), x.to(torch.float32), x.new_zeros(5, dtype=torch.float32), torch.zeros_like(x, dtype=torch.float32),
            torch.arange(5).float(), x.softmax(-1, dtype=torch.float32), x.sum(0, dtype=torch.float32), x @ table, table[1:], torch.rand(5), torch.randn_like(x),
            torch.nn.functional.dropout(x, 0.5), x.clone().uniform_(), torch.normal(0.0, 1.0, (5,)), torch.bernoulli(x),
        ]  # fmt: skip
        assert x.half().dtype == torch.float16 and torch.arange(5).dtype == torch.int64 and x.to(torch.bfloat16).dtype == torch.bfloat16
        assert torch.equal(x.float(), x)
    assert mode.used and [item.dtype for item in made] == [torch.float64] * len(made)
    assert torch.equal(made[2], torch.full((5,), 0.1).double()), "the values are those of the problem's dtype"
    with Wide(torch.float32) as mode:
        torch.nn.functional.gelu(x @ x.mT) + 1.0
    assert not mode.used


def test_a_seed_gives_the_same_random_numbers_in_either_width() -> None:
    def draws(x: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(7)
        return [
            torch.randn(40),
            torch.rand_like(x),
            torch.empty_like(x).normal_(),
            torch.nn.functional.dropout(torch.ones_like(x), 0.3),
            torch.randn(3, dtype=x.dtype),
        ]

    own = draws(torch.rand(64, 33))
    with Wide(torch.float32):
        wide = draws(torch.rand(64, 33, dtype=torch.float64))
    assert all(b.dtype == torch.float64 and torch.allclose(a.double(), b, rtol=1e-6, atol=0) for a, b in zip(own, wide, strict=True))


def test_code_that_casts_to_half_beside_half_weights_runs_in_float64_with_its_roundings() -> None:
    model = nn.Linear(8, 8).to(torch.bfloat16)
    x = torch.rand(4, 8)
    wide = widen(model, "cpu")
    with torch.no_grad(), Wide(torch.float32, carries=True):
        made = wide(x.double().bfloat16())
    with torch.no_grad():
        expected = x.bfloat16().double() @ model.weight.double().mT + model.bias.double()
    assert made.dtype == torch.float64 and torch.equal(made, expected)


def test_bits_and_another_devices_random_numbers_are_refused() -> None:
    with Wide(torch.float32, draws=False), pytest.raises(NotWideError):
        torch.rand(3)
    with Wide(torch.float32), pytest.raises(NotWideError):
        torch.rand(3).view(torch.int32)


def test_widened_copy_holds_no_narrow_tensor_and_leaves_the_model_alone() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 4)
            self.state = [torch.rand(3), {"b": torch.rand(2, dtype=torch.bfloat16), "n": torch.arange(3)}]
            self.table = torch.rand(3, dtype=torch.complex64)

    model = Held()
    made = widen(model, "cpu")
    assert [item.dtype for item in tensors.tensors_of(made.state)] == [torch.float64, torch.float64, torch.int64]
    assert made.table.dtype == torch.complex128 and model.table.dtype == torch.complex64 and model.state[0].dtype == torch.float32
    assert made.rnn._flat_weights[0] is made.rnn.weight_ih_l0 and made.rnn.weight_ih_l0.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nudged_values_are_neighbours(dtype: torch.dtype) -> None:
    values = torch.randn(4000).to(dtype)
    moved = spread.nudged(values, torch.Generator().manual_seed(1))
    step = (moved.double() - values.double()).abs() / (values.double().abs() * torch.finfo(dtype).eps)
    assert float(step.max()) <= 2.0 and float((step > 0).double().mean()) > 0.1
    mask = (values > 0).to(dtype)
    assert torch.equal(spread.nudged(mask, torch.Generator()), mask)
    edges = torch.linspace(0, 1, 40)
    assert torch.equal(spread.nudged(edges, torch.Generator()), edges)
