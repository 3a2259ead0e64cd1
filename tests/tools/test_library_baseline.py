"""The baseline `library`: a vendor's operator in the place of what a problem spells out, in the reference's process and judged like a candidate."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tools.problems import problem_from_source
from tools.sandbox.environment import base_environment, private_environment
from tools.worker.library import NoLibraryFormError, library_form
from tools.worker.processes import Zygote
from tools.worker.session import ReferenceSession

SPELLED = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.weight
def get_inputs():
    return [torch.randn(16, 64)]
def get_init_inputs():
    return [64]
"""
LIBRARY = """
class ModelLibrary(Model):
    def forward(self, x):
        return nn.functional.rms_norm(x, (x.shape[-1],), self.weight, 1e-6)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return what `compile(0, "library")` says of a problem; a reply of the arm is asked for where it says nothing."""
    folder = tmp_path_factory.mktemp("library")
    zygote = Zygote(folder, base_environment(folder))

    def run(source: str) -> str:
        directory = folder / secrets.token_hex(4)
        directory.mkdir()
        config = {"environment": private_environment(directory, directory), "num_threads": 1, "data_bytes": None}
        session = ReferenceSession(zygote, problem_from_source(source, problem_id="p"), "cpu", Path(directory), config)
        try:
            session.ask("prepare", 60.0, workload=0, seeds=[1, 2], restore=False)
            note = session.compile(0, "library")
            if not note:
                session.ask("warm", 60.0, arm="library", calls=3)
                assert session.ask("block", 60.0, arm="library", calls=3, seed=5, ahead_ms=0.0)["device_ms"] == []
            return note
        finally:
            session.close()

    yield run
    zygote.close()


def test_a_problem_that_names_its_library_operator_has_the_baseline(compiled: Callable[[str], str]) -> None:
    assert compiled(SPELLED + LIBRARY) == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (SPELLED, "eager calls the library already"),
        (SPELLED + LIBRARY.replace("1e-6", "1e-1"), "it does not compute what Model does"),
        (SPELLED + LIBRARY.replace("1e-6)", "1e-6).half()"), "other shapes or dtypes"),
        (
            SPELLED + LIBRARY + "    def __init__(self, width):\n        super().__init__(width + 1)\n",
            "ModelLibrary cannot be made like Model",
        ),
    ],
    ids=["none", "wrong", "dtype", "state"],
)
def test_without_a_right_one_it_is_said_why_there_is_none(compiled: Callable[[str], str], source: str, words: str) -> None:
    assert words in compiled(source)


def test_it_shares_the_weights_of_the_model_so_that_new_ones_reach_it() -> None:
    names: dict[str, object] = {}
    exec(SPELLED + LIBRARY, names)
    module = SimpleNamespace(**names)
    model = module.Model(64)
    form = library_form(module, model, [64], "cpu", ())
    with torch.no_grad():
        model.weight.copy_(torch.rand(64))
    x = torch.randn(3, 64)
    assert torch.allclose(form(x), model(x), atol=1e-6)


def test_on_a_gpu_convolutions_are_the_librarys_best_and_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    form = library_form(SimpleNamespace(), lambda x: seen.append(torch.backends.cudnn.benchmark), [], "cuda", ["aten.convolution.default"])
    form(1)
    assert seen == [True] and torch.backends.cudnn.benchmark is False
    with pytest.raises(NoLibraryFormError):
        library_form(SimpleNamespace(), lambda x: x, [], "cpu", ["aten.convolution.default"])
