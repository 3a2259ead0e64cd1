"""Every block marked ```python triton targets=... in the documents compiles for the targets that it names, without a device.

A block starts with one or more comment lines `# compile: kernel(argument=type, CONSTANT=value) num_warps=4 num_stages=3`. Types are Triton's
(`*fp16`, `i32`, `fp32`, `tensordesc<fp16[64, 64]>`; `i32:16` is an integer known to be a multiple of 16), values are constexpr.
Pointers count as 16-byte aligned, as PyTorch's allocations are.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDERS = ("constraints", "guidance", "triton", "nvidia", "amd", "mtia", "cpu")
BLOCK = re.compile(r"^```python triton targets=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^# compile: (\w+)\((.*)\)((?: \w+=\d+)*)\s*$", re.MULTILINE)
SHARED_LIMIT_BYTES = {"sm_80": 166912, "sm_90": 232448, "sm_100": 232448, "gfx942": 65536, "gfx950": 163840}


@dataclass(frozen=True)
class DocKernel:
    """One kernel of one document for one target."""

    path: Path
    line: int
    source: str
    kernel: str
    arguments: dict[str, Any]  # Any: a type as text, or a constexpr value
    options: dict[str, int]
    target: str


def parse_arguments(text: str) -> dict[str, Any]:  # Any: as in DocKernel
    """Split `x=*fp16, d=tensordesc<fp16[64, 64]>, BLOCK=1024` at top-level commas."""
    parts = re.split(r",\s*(?![^<]*>)", text)
    values: dict[str, Any] = {}  # Any: as in DocKernel
    for part in parts:
        name, _, value = part.strip().partition("=")
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value
    return values


def doc_kernels() -> list[DocKernel]:
    """Collect the marked blocks of all knowledge documents."""
    found = []
    for folder in FOLDERS:
        for path in sorted((DOCS / folder).rglob("*.md")):
            text = path.read_text()
            for block in BLOCK.finditer(text):
                line = text.count("\n", 0, block.start()) + 1
                directives = DIRECTIVE.findall(block.group(2))
                assert directives, f"{path}:{line}: a triton block needs a '# compile: kernel(...)' line"
                for target in block.group(1).split(","):
                    for kernel, arguments, options in directives:
                        pairs = dict(pair.split("=") for pair in options.split())
                        found.append(
                            DocKernel(
                                path,
                                line,
                                block.group(2),
                                kernel,
                                parse_arguments(arguments),
                                {k: int(v) for k, v in pairs.items()},
                                target,
                            )
                        )
    return found


def load_module(kernel: DocKernel, directory: Path) -> ModuleType:
    """Import the block from a file, since Triton reads the source of its functions."""
    name = f"doc_{kernel.path.stem}_{kernel.line}"
    path = directory / f"{name}.py"
    path.write_text(kernel.source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def compile_kernel(kernel: DocKernel, directory: Path) -> Any:  # Any: triton has no public type for it
    """Compile one kernel for its target and return Triton's compiled object."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    arch = kernel.target.partition(":")[2]
    target = GPUTarget("cuda", int(arch.removeprefix("sm_")), 32) if arch.startswith("sm_") else GPUTarget("hip", arch, 64)
    function = getattr(load_module(kernel, directory), kernel.kernel)
    constants = {name: value for name, value in kernel.arguments.items() if not isinstance(value, str)}
    types = {name: str(value) for name, value in kernel.arguments.items() if name not in constants}
    signature = {name: "constexpr" if name in constants else types[name].removesuffix(":16") for name in function.arg_names}
    aligned = [i for i, name in enumerate(function.arg_names) if types.get(name, "").startswith("*") or types.get(name, "").endswith(":16")]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options=dict(kernel.options))


KERNELS = doc_kernels()


def test_arguments_of_a_compile_line_are_parsed() -> None:
    parsed = parse_arguments("x=*fp16, d=tensordesc<fp16[64, 64]>, BLOCK=1024, FLAG=True")
    assert parsed == {"x": "*fp16", "d": "tensordesc<fp16[64, 64]>", "BLOCK": 1024, "FLAG": True}


def test_the_documents_hold_kernels() -> None:
    assert len(KERNELS) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.path.stem}:{k.line}:{k.kernel}:{k.target}")
def test_kernel_of_a_document_compiles(kernel: DocKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    compiled = compile_kernel(kernel, tmp_path)
    limit = SHARED_LIMIT_BYTES[kernel.target.partition(":")[2]]
    assert compiled.metadata.shared <= limit
