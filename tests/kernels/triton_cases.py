"""Small cases for every Triton kernel document, and the child process that runs them under the Triton interpreter.

Run as `TRITON_INTERPRET=1 python triton_cases.py DOCS OUT`: writes one JSON line per case. Each case runs the kernel as documented, and, where
the document has slots, once more with a prologue and an epilogue that read extras by row, by column and by element.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROLOGUE = """@triton.jit
def prologue(value, extra, row, col, mask):
    index = row * {columns} + col
    return value * 0.5 + tl.load(extra[0] + index % {columns}, mask=mask, other=0) - tl.load(extra[1] + index // {columns}, mask=mask, other=0.0)
"""
EPILOGUE = """@triton.jit
def epilogue(value, extra, row, col, mask):
    index = row * {columns} + col
    return tl.maximum(value, {floor}) * tl.load(extra[0] + index, mask=mask, other=0) + tl.load(extra[1] + index % {columns}, mask=mask, other=0.0)
"""


@dataclass(frozen=True)
class Document:
    """One kernel document: front matter and code."""

    path: Path
    front: dict[str, Any]
    code: str
    pattern: str | None


@dataclass(frozen=True)
class Case:
    """One call of a kernel and the ATen computation it must equal."""

    arguments: dict[str, Any]
    reference: Callable[..., Any]
    """Takes the arguments with floating tensors in float64."""
    tunables: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """Arguments of `launch` that the reference does not take."""
    tolerance: float = 3e-5
    slots: bool = True


class Shaped:
    """A tensor as expressions of the front matter see it."""

    def __init__(self, tensor: Any) -> None:
        self.shape, self.ndim, self.numel = tuple(tensor.shape), tensor.ndim, tensor.numel()
        self.dtype, self.stride, self.is_contiguous = str(tensor.dtype).removeprefix("torch."), tensor.stride(), tensor.is_contiguous()


def documents(root: Path) -> Iterator[Document]:
    """Yield the Triton kernel documents below `root`."""
    import yaml

    for path in sorted(root.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        head = re.match(r"---\n(.*?)\n---\n", text, re.S)
        front = yaml.safe_load(head.group(1)) if head else {}
        if front.get("kind") == "kernel" and front.get("language") == "triton":
            code = re.findall(r"^```python kernel\n(.*?)^```", text, re.S | re.M)
            pattern = re.findall(r"^```python pattern\n(.*?)^```", text, re.S | re.M)
            yield Document(path, front, code[0] if len(code) == 1 else "", pattern[0] if pattern else None)


def evaluate(expression: Any, arguments: dict[str, Any]) -> Any:
    """Evaluate an expression of a front matter over plain arguments (test data; the product has its own safe evaluator)."""
    import torch

    if not isinstance(expression, str):
        return expression
    arguments = {k: v[0] if isinstance(v, tuple | list) and len(v) and isinstance(v[0], torch.Tensor) else v for k, v in arguments.items()}
    names: dict[str, Any] = {k: Shaped(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    names |= {"prod": math.prod, "cdiv": lambda a, b: -(-a // b), "next_pow2": lambda n: 1 << (n - 1).bit_length() if n > 1 else 1}
    return eval(expression, {"__builtins__": {"len": len, "min": min, "max": max, "abs": abs}}, names)


def load(document: Document, slots: dict[str, str], folder: Path, label: str) -> Any:
    """Import the document's code with some slots replaced.

    The interpreter has no bfloat16 arithmetic and no bf16x6 products: float16 and IEEE products stand in for them.
    """
    code = document.code.replace("bfloat16", "float16").replace('"bf16x6"', '"ieee"')
    for name, text in slots.items():
        code, count = re.subn(rf"@triton\.jit\ndef {name}\(.*?(?=\n\n|\Z)", lambda _, text=text: text.strip(), code, flags=re.S)
        if count != 1:
            raise ValueError(f"{document.path.name}: slot {name!r} occurs {count} times")
    path = folder / f"{document.front['kernel']}_{label}.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def wide(value: Any) -> Any:
    """Return floating tensors in float64, the rest unchanged."""
    import torch

    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def deviation(got: Any, want: Any) -> float:
    """Return the largest error relative to the value, small values counting as a tenth of the largest; inf where shapes differ.

    0 is equal, 1e-7 is float32 rounding, 1 is as wrong as the values are large.
    """
    import torch

    if isinstance(want, tuple | list):
        return max(deviation(g, w) for g, w in zip(got, want, strict=True))
    if got.shape != want.shape:
        return math.inf
    if want.numel() == 0:
        return 0.0
    got, want = got.double(), want.double()
    if not bool((torch.isfinite(got) == torch.isfinite(want)).all()):
        return math.inf
    finite = torch.isfinite(want)
    if not bool(torch.equal(got[~finite].nan_to_num(7.0), want[~finite].nan_to_num(7.0))):
        return math.inf
    scale = want[finite].abs().max().item() if bool(finite.any()) else 1.0
    error = (got - want)[finite].abs() / (want[finite].abs() + 0.1 * scale + 1e-30)
    return float(error.max().item()) if error.numel() else 0.0


def plain(document: Document, case: Case, folder: Path) -> float:
    """Run the kernel as documented."""
    module = load(document, {}, folder, "plain")
    got = module.launch(**case.arguments, **case.extra, **case.tunables)
    return deviation(got, case.reference(**{k: wide(v) for k, v in case.arguments.items()}))


def with_slots(document: Document, case: Case, folder: Path) -> float:
    """Run the kernel with non-trivial slots."""
    import torch

    random = torch.Generator().manual_seed(7)
    slots: dict[str, str] = {}
    extra: dict[str, Any] = {}
    arguments = dict(case.arguments)
    expected = {k: wide(v) for k, v in arguments.items()}
    declared = document.front.get("slots") or {}
    if "prologue" in declared:
        name = declared["prologue"]["of"]
        columns = evaluate(declared["prologue"]["columns"], {**arguments, "output": case.reference(**expected)})
        rows = arguments[name].numel() // columns
        by_col = torch.randint(-2, 3, (columns,), generator=random)
        by_row = torch.rand(rows, generator=random) - 0.5
        slots["prologue"] = PROLOGUE.format(columns=columns)
        extra["prologue_extra"] = (by_col, by_row)
        changed = expected[name].reshape(rows, columns) * 0.5 + by_col - by_row[:, None].double()
        expected[name] = changed.reshape(arguments[name].shape)
    want = case.reference(**expected)
    if "epilogue" in declared:
        columns = evaluate(declared["epilogue"]["columns"], {**arguments, "output": want})
        by_element = torch.randint(1, 4, tuple(want.shape), generator=random)
        by_col = torch.rand(columns, generator=random)
        floor = float(want.double().mean()) if want.numel() else 0.0
        slots["epilogue"] = EPILOGUE.format(columns=columns, floor=floor)
        extra["epilogue_extra"] = (by_element, by_col)
        want = (want.clamp(min=floor).reshape(-1, columns) * by_element.reshape(-1, columns) + by_col.double()).reshape(want.shape)
        extra["out_dtype"] = torch.float32
    module = load(document, slots, folder, "slots")
    got = module.launch(**arguments, **case.extra, **extra, **case.tunables)
    return deviation(got, want)


def run(root: Path, only: list[str]) -> Iterator[dict[str, Any]]:
    """Run all cases of all documents below `root`."""
    from triton_case_table import cases

    table = cases()
    with tempfile.TemporaryDirectory(prefix="triton-cases-") as folder:
        for document in documents(root):
            kernel = document.front["kernel"]
            if only and kernel not in only:
                continue
            for number, case in enumerate(table.get(kernel, [])):
                for kind, runner in (("plain", plain), ("slots", with_slots)):
                    if kind == "slots" and not (case.slots and document.front.get("slots")):
                        continue
                    record: dict[str, Any] = {"kernel": kernel, "case": number, "kind": kind, "tolerance": case.tolerance}
                    try:
                        record["deviation"] = runner(document, case, Path(folder))
                    except Exception:
                        record["error"] = traceback.format_exc(limit=-4)
                    yield record


def main() -> None:
    """Write the records of all cases to the file given."""
    import torch

    torch.set_num_threads(1)
    out = Path(sys.argv[2])
    with out.open("w", encoding="utf-8") as stream:
        for record in run(Path(sys.argv[1]), sys.argv[3:]):
            stream.write(json.dumps(record) + "\n")
            stream.flush()


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET") == "1"
    main()
