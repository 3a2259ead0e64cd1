"""Run a kernel in Triton's interpreter under perturbations that a device is free to make, and say where the result changes.

Runs on the same small inputs: as it is; with libdevice functions by lookup tables, as the SIMD engine of an MTIA has them, where it uses any; with masked-off lanes
of loads without `other` poisoned (NaN, or the least integer), which the interpreter would fill with 0; with the programs in reverse order. Memory that the kernel does
not write shows as NaN. MTIA's extensions of the language are there (`mtia_language`). What it does not do: races inside one program, alignment, time, masked loads of
one element. bfloat16 is not faithful in the interpreter: use float32 inputs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_PACKAGES = Path(__file__).resolve().parent.parent.parent
_TOLERANCE = 1e-3
"""Relative difference that reordering float additions may make; beyond it programs depend on each other."""
_TABLE_TOLERANCE = 1e-2
"""Relative difference that lookup tables may make (activations are used under 1e-2 to 1e-3)."""


@dataclass(frozen=True)
class PerturbReport:
    """What the perturbed runs showed."""

    status: Literal["stable", "unstable", "error", "timeout"]
    findings: tuple[str, ...] = ()
    """One sentence per perturbation that changed the result, or the error."""


def perturb(source: str, example: Mapping[str, Any], *, seed: int = 0, timeout_s: float = 120.0) -> PerturbReport:
    """Run `launch` of a source in a process of its own.

    Args:
        source: A module with `launch`, as in kernel documents.
        example: Its arguments; tensors as {shape, dtype}, small: one program takes milliseconds.
        seed: Of the inputs.
        timeout_s: Wall-clock limit; the process is killed beyond it.
    """
    request = json.dumps({"source": source, "example": dict(example), "seed": seed})
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "tools.compile.perturb"]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return PerturbReport("timeout", (f"the interpreter was still running after {timeout_s:g} s: use a smaller example",))
    answer = done.stdout.rpartition("\n@")[2] if "\n@" in done.stdout else ""
    if not answer:
        cause = (
            "an access outside a tensor" if done.returncode == -11 else done.stderr.strip().splitlines()[-1:] or f"code {done.returncode}"
        )
        return PerturbReport("error", (f"the interpreter's process ended without an answer: {cause}",))
    reported = json.loads(answer)
    return PerturbReport(reported["status"], tuple(reported["findings"]))


def main() -> int:
    """Serve one request on stdin."""
    from tools.compile.job import digest

    request = json.loads(sys.stdin.read())
    try:
        findings = list(_findings(request))
        answer = {"status": "unstable" if findings else "stable", "findings": findings}
    except Exception as error:  # the candidate's code runs here: whatever it raises becomes the answer
        answer = {"status": "error", "findings": [digest(error)]}
    sys.stdout.write("\n@" + json.dumps(answer))
    return 0


def _findings(request: Mapping[str, Any]) -> Iterator[str]:
    import torch

    from tools.compile import mtia_language

    torch.use_deterministic_algorithms(True, warn_only=True)  # fills fresh memory with NaN
    mtia_language.install()
    _name_programs(mtia_language.start_program)
    with tempfile.TemporaryDirectory() as folder:
        run = _runner(request, Path(folder))
        plain = run()
        missing = sum(int(torch.isnan(item).sum()) for item in plain if item.is_floating_point())
        if missing:
            yield f"{missing} elements of the output are NaN without any perturbation: never written, or computed from what is not"
            return
        yield from mtia_language.problems()
        if mtia_language.functions_used():
            mtia_language.use_tables(True)
            changed = sum(_different(a, b, _TABLE_TOLERANCE) for a, b in zip(plain, run(), strict=True))
            mtia_language.use_tables(False)
            if changed:
                names = ", ".join(sorted(mtia_language.functions_used()))
                yield f"lookup tables of {names} change {changed} elements of the output by more than {_TABLE_TOLERANCE:g}: use the function of `tl` there"
                return
        _poison_masked_lanes()
        changed = sum(_different(a, b) for a, b in zip(plain, run(), strict=True))
        if changed:
            yield f"masked-off lanes of a load without `other` reach {changed} elements of the output: pass `other=` or select with `tl.where`"
            return
        _reverse_programs()
        changed = sum(_different(a, b) for a, b in zip(plain, run(), strict=True))
        if changed:
            yield f"{changed} elements of the output depend on the order in which programs run: a program must not read what another writes"


def _runner(request: Mapping[str, Any], folder: Path) -> Callable[[], list[Any]]:
    import torch

    from tools.compile.job import _load

    module = _load(folder / "kernel.py", request["source"])

    def value(item: Any, generator: torch.Generator) -> Any:
        if isinstance(item, Mapping) and set(item) >= {"shape", "dtype"}:
            dtype = getattr(torch, item["dtype"])
            if dtype.is_floating_point:
                return torch.randn(item["shape"], generator=generator).to(dtype)
            return torch.randint(0, 2, item["shape"], generator=generator).to(dtype)
        return getattr(torch, item) if isinstance(item, str) and isinstance(getattr(torch, item, None), torch.dtype) else item

    def run() -> list[Any]:
        generator = torch.Generator().manual_seed(int(request["seed"]))
        output = module.launch(**{name: value(item, generator) for name, item in request["example"].items()})
        return [output] if isinstance(output, torch.Tensor) else list(output)

    return run


def _different(a: Any, b: Any, tolerance: float = _TOLERANCE) -> int:
    import torch

    same = torch.isclose(a.double(), b.double(), rtol=tolerance, atol=tolerance * float(a.double().abs().mean()))
    return int((~same).sum())


def _name_programs(start: Callable[[tuple[int, ...]], None]) -> None:
    """Have the interpreter say which program begins."""
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.set_grid_idx

    def named(self: Any, x: int, y: int, z: int) -> None:
        start((x, y, z))
        plain(self, x, y, z)

    interpreter.InterpreterBuilder.set_grid_idx = named


def _poison_masked_lanes() -> None:
    import numpy as np
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_masked_load

    def poisoned(self: Any, pointers: Any, mask: Any, other: Any, *options: Any) -> Any:
        if other is None and pointers.data.size > 1:  # a scalar `other` of 0 is falsy, and Triton drops it: not told apart from none
            dtype = interpreter._get_np_dtype(pointers.get_element_ty())
            bad = np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min if np.issubdtype(dtype, np.signedinteger) else 1
            other = interpreter.TensorHandle(np.full_like(pointers.data, bad, dtype=dtype), pointers.get_element_ty())
        return plain(self, pointers, mask, other, *options)

    interpreter.InterpreterBuilder.create_masked_load = poisoned


def _reverse_programs() -> None:
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.set_grid_idx

    def reversed_index(self: Any, x: int, y: int, z: int) -> None:
        size = self.grid_dim
        plain(self, size[0] - 1 - x, size[1] - 1 - y, size[2] - 1 - z)

    interpreter.InterpreterBuilder.set_grid_idx = reversed_index


if __name__ == "__main__":
    sys.exit(main())
