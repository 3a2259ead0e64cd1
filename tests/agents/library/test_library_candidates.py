"""Candidates for real: C++ kernels compiled and run, Triton kernels in the interpreter, each against PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from library_cases import CASES

HERE = Path(__file__).resolve().parent
MAY_STAY_WITH_PYTORCH = {"cpu": {"half", "integers"}, "cuda:sm_90": set()}


COMPILED_HERE = (
    "activations_0",
    "broadcast",
    "layer_norm_both_slots",
    "masked_softmax",
    "permuted_results",
    "residual_in_place",
    "reshaped_chain",
)
"""Compiling takes seconds a case, so the C++ run takes a part; `python library_cases.py cpu` runs them all."""


def _run(target: str, folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder), "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[2])])}
    if target != "cpu":
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "library_cases.py"), target, *names],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "cuda:sm_90"])
def test_every_feature_agrees_with_pytorch(target: str, tmp_path: Path) -> None:
    names = COMPILED_HERE if target == "cpu" else tuple(CASES)
    outcomes = _run(target, tmp_path, names)
    wrong = {name: outcome for name, outcome in outcomes.items() if not outcome.startswith("ok ")}
    assert not wrong and outcomes.keys() == set(names)
    plain = {name for name, outcome in outcomes.items() if outcome == "ok []"}
    assert plain <= MAY_STAY_WITH_PYTORCH[target]
