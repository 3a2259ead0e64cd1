"""Networks whose outputs hardly depend on their inputs get weights and inputs with which they do; outputs that are constant stay untestable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tools.check.decision import far_off, passing_nulls, reject
from tools.check.variation import contrast
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.types import QUICK, Candidate, Status
from tools.worker.allowed import Tf32Operands
from tools.worker.amplify import amplify, damp_branches
from tools.worker.reference import ReferenceWorker
from tools.worker.session import _untestable

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
"""
VGG = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M", 16, 16, 16):
            layers += [nn.MaxPool2d(2)] if width == "M" else [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = channels if width == "M" else width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(16 * 16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 20))
    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))
def get_inputs():
    return [torch.rand(4, 3, 32, 32)]
"""
SQUEEZE = """
class Fire(nn.Module):
    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(channels, squeeze, 1), nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)
    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 12, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(12, 4, 8), Fire(16, 4, 8), Fire(16, 4, 8),
            nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 6, 8), Fire(16, 6, 8), Fire(16, 6, 8), Fire(16, 6, 8), Fire(16, 6, 8))
        self.classifier = nn.Sequential(nn.Conv2d(16, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    def forward(self, x):
        return torch.flatten(self.classifier(self.features(x)), 1)
def get_inputs():
    return [torch.rand(4, 3, 64, 64)]
"""
RESNET = """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.n, self.m = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
    def forward(self, x):
        return F.relu(x + self.m(self.b(F.relu(self.n(self.a(x))))))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*[Block(16) for _ in range(8)])
        self.fc = nn.Linear(16, 20)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        return self.fc(self.blocks(x).mean((2, 3)))
def get_inputs():
    return [torch.rand(4, 3, 64, 64)]
"""
AVERAGE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(3, 20))
    def forward(self, x):
        x = (x - x.mean()) / x.std()
        return (x.mean((2, 3)) @ self.weight + torch.linspace(1, 2, 20)).bfloat16()
def get_inputs():
    return [torch.rand(4, 3, 64, 64)]
"""
CONSTANT = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 24)
    def forward(self, x):
        x = self.fc(x).max(1, keepdim=True).values
        return F.gelu(x - x.mean(1, keepdim=True))
def get_inputs():
    return [torch.randn(8, 16)]
"""
BLIND = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.fc = nn.Parameter(torch.randn(1, 16)), nn.Linear(16, 24)
    def forward(self, x):
        return self.fc(torch.cat([self.token.expand(x.shape[0], -1)[:, None], x[:, None]], 1)[:, 0])
def get_inputs():
    return [torch.randn(8, 16)]
"""


class Worker(ReferenceWorker):
    """A reference process's inside without a process."""

    def __init__(self, source: str, directory: Path) -> None:
        super().__init__(None, {"device": "cpu", "num_threads": 1})  # type: ignore[arg-type]  # nothing is sent
        path = directory / "problem.py"
        path.write_text(HEAD + source + "\ndef get_init_inputs():\n    return []\n", encoding="utf-8")
        self._open({"path": str(path), "seed": 3}, [])

    def _call_native(self, inputs: list[Any]) -> Any:  # Any: trees
        """Convolutions round their operands, as cuDNN's do by default: what is lost in that is more than these networks' outputs differ by."""
        with Tf32Operands():
            return super()._call_native(inputs)

    def _call_after_another(self, inputs: list[Any]) -> list[torch.Tensor]:  # Any: argument trees
        return []

    def survey(self) -> dict[str, Any]:  # Any: JSON
        return self._survey({"workload": 0, "seeds": [5, 6]}, [])


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[Worker, dict[str, torch.Tensor], dict[str, Any]]:
    worker = Worker(VGG, tmp_path_factory.mktemp("vgg"))
    return worker, worker._weights(), worker.survey()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def stale(worker: Worker, seed: int, *, plain: bool) -> list[str]:
    """Return why the result for other inputs is wrong, if it is."""
    old, new = (worker._make_draw(0, seed + step, "as_given", plain=plain) for step in (1, 0))
    return [reject(item) for item in worker._judged([old.native], new.inputs, new.native)[0]]


def test_deep_network_without_normalisation_gets_amplified_weights(vgg: tuple[Worker, dict[str, torch.Tensor], dict[str, Any]]) -> None:
    worker, given, answer = vgg
    assert answer["varied"] == ["weights_amplified"] and not _untestable(answer) and far_off(answer["nulls"], ["replay"])
    assert set(worker._amplified) == set(given) and not same(worker._amplified, given)
    assert all(stale(worker, seed, plain=False)[0] for seed in (21, 31))


def test_first_draw_is_the_problems_own_and_the_others_and_the_timed_ones_are_telling(
    vgg: tuple[Worker, dict[str, torch.Tensor], dict[str, Any]],
) -> None:
    worker, given, _ = vgg
    message = {"workload": 0, "seed": 9, "kind": "as_given", "fresh_weights": False}
    assert worker._draw({**message, "plain": True}, [])["varied"] == [] and same(worker._weights(), given)
    assert not stale(worker, 41, plain=True)[0], "with its own weights the network is as good as constant"
    fresh = worker._draw({**message, "fresh_weights": True, "plain": False}, [])
    assert fresh["varied"] == ["weights_amplified"] and not same(worker._weights(), worker._amplified)
    assert stale(worker, 51, plain=False)[0], "and so with weights near the amplified ones"
    worker._prepare({"workload": 0, "seeds": [1, 2], "restore": False}, [])
    assert same(worker._weights(), worker._amplified)


@pytest.mark.parametrize(
    ("source", "varied"), [(SQUEEZE, ["weights_amplified"]), (AVERAGE, ["inputs_contrasted"])], ids=["squeeze", "average"]
)
def test_network_that_hardly_looks_at_its_inputs_gets_the_least_variation_that_tells(
    tmp_path: Path, source: str, varied: list[str]
) -> None:
    worker = Worker(source, tmp_path)
    answer = worker.survey()
    assert answer["varied"] == varied and not _untestable(answer) and far_off(answer["nulls"], ["replay"])
    assert all(stale(worker, seed, plain=False)[0] for seed in (21, 31))


DEEP = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(12))
    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x.bfloat16()
def get_inputs():
    return [torch.rand(32, 48)]
def get_init_inputs():
    return []
"""


@pytest.mark.parametrize(
    ("start", "status"), [("", Status.PASSED), ("x = torch.full_like(x, 0.5)", Status.WRONG_VALUES)], ids=["honest", "inputs ignored"]
)
def test_candidate_that_ignores_the_inputs_is_seen_though_the_problems_own_weights_would_hide_it(
    tmp_path: Path, start: str, status: Status
) -> None:
    candidate = (HEAD + DEEP).replace("class Model(", "class ModelNew(").replace("        for", f"        {start or 'pass'}\n        for")
    with LocalEvaluator(tmp_path, use_lint=False, use_compiled_baseline=False) as evaluator:
        problem = problem_from_source(HEAD + DEEP, problem_id="deep", path=None, name="deep")
        outcome = evaluator.evaluate(Candidate(candidate, language="torch"), problem, target="cpu", effort=QUICK, seed=0)
    assert outcome.status is status, outcome.reason
    assert ("weights_amplified" in outcome.labels) == (status is Status.PASSED)


@pytest.mark.parametrize("source", [CONSTANT, BLIND], ids=["constant", "blind"])
def test_outputs_that_no_weights_and_inputs_change_stay_untestable_and_the_problem_as_it_was(tmp_path: Path, source: str) -> None:
    worker = Worker(source, tmp_path)
    given = worker._weights()
    answer = worker.survey()
    assert answer["varied"] == [] and "replay" in passing_nulls(answer["nulls"]) and _untestable(answer)
    assert same(worker._weights(), given) and not worker._amplified


def test_random_reference_is_untestable_for_its_randomness(tmp_path: Path) -> None:
    worker = Worker(BLIND.replace("return self.fc(", "return F.dropout(x, 0.2) + self.fc("), tmp_path)
    worker._model.fc = torch.nn.Linear(16, 16)
    answer = worker.survey()
    assert "different outputs for the same inputs" in _untestable(answer) and answer["varied"] == []


def test_problem_whose_weights_are_constant_keeps_them(tmp_path: Path) -> None:
    worker = Worker(VGG + "WEIGHTS_CONSTANT = True\n", tmp_path)
    given = worker._weights()
    assert "weights_amplified" not in worker.survey()["varied"] and same(worker._weights(), given)


def test_problem_that_depends_on_its_inputs_stays_as_it_is(tmp_path: Path) -> None:
    worker = Worker(RESNET, tmp_path)
    given = worker._weights()
    answer = worker.survey()
    assert answer["varied"] == [] and not _untestable(answer) and same(worker._weights(), given)


def test_branches_that_end_in_a_normalisation_are_damped_and_rounding_weighs_less(tmp_path: Path) -> None:
    worker = Worker(RESNET, tmp_path)

    def error() -> float:
        draw = worker._make_draw(0, 4, "as_given")
        stats = worker._judged([draw.native], draw.inputs, draw.native)[0][0]
        return float(stats["rmse"] / stats["rms_reference"])

    given, before = worker._weights(), error()
    inputs = worker._generate(0, 4, "as_given")
    with worker._unchanged_state():
        assert damp_branches(worker._model, lambda: worker._model(*inputs)) == 8
    names = {name.rsplit(".", 1)[0] for name, value in worker._weights().items() if not torch.equal(value, given[name])}
    assert names == {f"blocks.{number}.m" for number in range(8)}
    assert error() < 0.5 * before


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 20), (40, 12)),
        (nn.Conv1d(6, 8, 3, groups=2), (4, 6, 30)),
        (nn.Conv2d(6, 8, 3, bias=False), (4, 6, 9, 9)),
        (nn.ConvTranspose2d(6, 8, 3), (4, 6, 9, 9)),
        (nn.ConvTranspose3d(6, 8, 3, groups=2), (2, 6, 5, 5, 5)),
        (nn.Linear(12, 20), (1, 12)),
    ],
    ids=["linear", "grouped", "no bias", "transposed", "grouped transposed", "one row"],
)
def test_amplified_layer_gives_what_the_next_one_was_amplified_for(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x, seen = nn.Sequential(layer, nn.ReLU()), torch.rand(shape), []
    watch = model[1].register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].clone()))
    assert amplify(model, lambda: model(x)) == 1
    watch.remove()
    made = layer(x)
    assert torch.allclose(made, seen[0], rtol=1e-4, atol=1e-5) and 0.5 < float(made.detach().square().mean()) < 2.0


@pytest.mark.parametrize("shape", [(6, 3, 20, 20), (5, 30, 8), (12, 3, 5, 6, 7), (64, 50)])
def test_contrasted_samples_differ_in_their_means_and_stay_in_range(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    made = contrast([x, torch.arange(9), torch.linspace(0, 1, 30)], torch.Generator().manual_seed(1))
    assert made[0].shape == x.shape and made[0].stride() == x.stride() and x.min() <= made[0].min() and made[0].max() <= x.max()
    axes = tuple(range(1, x.dim()))
    assert float(made[0].mean(axes).std()) > 2 * float(x.mean(axes).std())
    assert torch.equal(made[1], torch.arange(9)) and torch.equal(made[2], torch.linspace(0, 1, 30))
    assert torch.equal(contrast([x], torch.Generator().manual_seed(1))[0], made[0])
