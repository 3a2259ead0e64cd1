"""Numerics of a Triton candidate without its device: run it in Triton's interpreter beside the reference, in a process of its own.

For studies with trusted writers: the process has no sandbox. It proves values, shapes and dtypes at the sizes of the problem given (a device may still differ:
see `tools.compile.perturb`), nothing about speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.targets.interpreter import accept_launch_options, fresh, verdict, without_bfloat16
from tools.types import Status

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (11, 23)


@dataclass(frozen=True)
class Numerics:
    """What the interpreter said."""

    status: Status
    reason: str = ""
    first_mismatch: str = ""
    error: str = ""


def check(candidate: str, problem: str, *, timeout_s: float = 300.0, seeds: tuple[int, ...] = SEEDS) -> Numerics:
    """Compare a candidate with its reference in float64 on fresh inputs; see `tools.check.compare` for the bounds.

    Args:
        candidate: Source that defines `ModelNew`.
        problem: Source of the reference, at sizes that the interpreter can run in time.
        timeout_s: Wall-clock limit; the process is killed beyond it.
        seeds: Of the inputs.
    """
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    request = json.dumps({"candidate": candidate, "problem": problem, "seeds": seeds})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "evaluation.interpreted"],
            input=request,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
            cwd=ROOT,
        )
    except subprocess.TimeoutExpired:
        return Numerics(Status.TIMEOUT, f"the interpreter was still running after {timeout_s:g} s")
    answer = done.stdout.rpartition("\n@")[2] if "\n@" in done.stdout else ""
    if not answer:
        return Numerics(Status.RUNTIME_ERROR, f"the process ended with code {done.returncode}", error=done.stderr[-1500:])
    told: dict[str, str] = json.loads(answer)
    return Numerics(Status(told.pop("status")), **told)


def _load(name: str, source: str, folder: Path) -> Any:  # Any: a module made from text
    import importlib.util

    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def judge(request: Mapping[str, Any], folder: Path) -> dict[str, str]:  # Any: JSON
    """Return status, reason and first mismatch. Runs both sources in this process.

    PyTorch's own error, which widens the bounds, is that of convolutions with inputs rounded to TF32, PyTorch's default on NVIDIA GPUs.

    Raises:
        Exception: What the reference raises.
    """
    import torch
    from torch.utils._pytree import tree_flatten, tree_map_only

    from tools.compile.job import digest

    accept_launch_options()
    problem = _load("problem", request["problem"], folder)
    try:
        kernel = _load("kernel", without_bfloat16(request["candidate"], request["problem"]), folder)
    except Exception as error:  # the candidate's code runs here: whatever it raises is its failure
        return {"status": "runtime_error", "reason": "the file cannot be imported", "error": digest(error)}
    for seed in request["seeds"]:
        torch.manual_seed(seed)
        arguments = problem.get_init_inputs() if hasattr(problem, "get_init_inputs") else []
        inputs = list(problem.get_inputs())
        torch.manual_seed(seed)
        model = problem.Model(*arguments)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            with _rounded_convolutions():
                native, form = tree_flatten(model(*fresh(inputs)))
            exact = problem.Model(*arguments)
            exact.load_state_dict(state)
            wide = tree_map_only(torch.Tensor, lambda item: item.double() if item.is_floating_point() else item, fresh(inputs))
            wanted, _ = tree_flatten(exact.double()(*wide))
            try:
                made = kernel.ModelNew(*arguments)
                made.load_state_dict(state, strict=True)
                got, got_form = tree_flatten(made(*fresh(inputs)))
            except Exception as error:  # the candidate's code runs here: whatever it raises is its failure
                return {"status": "runtime_error", "reason": "it raises when it runs", "error": digest(error)}
        if got_form != form:
            return {"status": "wrong_shape", "reason": f"it returns {got_form}, not {form}"}
        for ours, exact_value, plain in zip(got, wanted, native, strict=True):
            found = verdict(ours, exact_value, plain)
            if found:
                return found
    return {"status": "passed"}


def _rounded_convolutions() -> Any:  # Any: a mode of torch, which is imported late
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    def rounded(value: Any) -> Any:
        if not torch.is_tensor(value) or value.dtype is not torch.float32:
            return value
        return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    class Rounded(TorchDispatchMode):  # type: ignore[misc] # torch gives this class no type
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution.default:
                args = (rounded(args[0]), rounded(args[1]), *args[2:])
            return func(*args, **(kwargs or {}))

    return Rounded()


def main() -> int:
    """Serve one request on stdin."""
    import tempfile

    request = json.loads(sys.stdin.read())
    with tempfile.TemporaryDirectory() as folder:
        answer = judge(request, Path(folder))
    sys.stdout.write("\n@" + json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
