"""Every C++ kernel document: it follows the contract, compiles with the preamble, and equals the operator in float64, with and without fused slots."""

from __future__ import annotations

import ctypes
import functools
import inspect
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from cpp_kernel_cases import CASES, INF, NAN, Case, randn

from agents.coders.library.documents import Kernel, kernels_from_folder
from agents.coders.library.graph import TensorSpec
from tools.expressions import Expression

ROOT = Path(__file__).parents[2]
PREAMBLE = (ROOT / "agents/coders/library/preamble.h").read_text(encoding="utf-8")
COMPILER = shutil.which("g++") or shutil.which("c++")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-Wall",
    "-Wno-unused-parameter",
    "-Wno-unused-variable",
    "-Wno-unknown-pragmas",
)
DOCUMENTS = {kernel.name: kernel for kernel in kernels_from_folder(ROOT / "docs/kernels", ("cpu",)) if kernel.language == "cpp"}
NAMES = sorted(DOCUMENTS)
FUSED = [name for name in NAMES if DOCUMENTS[name].slots and name in CASES]
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def with_slot(source: str, name: str, text: str) -> str:
    replaced, count = re.subn(
        rf"(// slot {name} begin\n).*?(// slot {name} end)", lambda match: match[1] + text + "\n" + match[2], source, flags=re.DOTALL
    )
    assert count == 1, f"slot {name} is marked {count} times"
    return replaced


def fused(kernel: Kernel) -> str:
    """The source with `value / 2 + extra` as prologue and `tanh(value) - 3 * extra` as epilogue, where it has these slots."""
    structs = []
    for slot, kind in (("prologue", "Prologue"), ("epilogue", "Epilogue")):
        structs.append(f"struct {kind}Extra {{ const float* a; int64_t columns; }};")
        structs.append(
            f"static inline {kind}Extra make_{slot}_extra(void* const* e) {{ return {{static_cast<const float*>(e[0]), e[1] ? *static_cast<const int64_t*>(e[1]) : 0}}; }}"
        )
    source = with_slot(kernel.cpp, "extra", "\n".join(structs))
    element = "extra.a[row * extra.columns + col]"
    if "prologue" in kernel.slots:
        source = with_slot(
            source,
            "prologue",
            f"static inline float prologue(float value, const PrologueExtra& extra, int64_t row, int64_t col) {{ return value * 0.5f + {element}; }}",
        )
    if "epilogue" in kernel.slots:
        source = with_slot(
            source,
            "epilogue",
            f"static inline float epilogue(float value, const EpilogueExtra& extra, int64_t row, int64_t col) {{ return ktanh(value) - 3.0f * {element}; }}",
        )
    return source


class Compiler:
    """Compiles sources in two threads and remembers the results for the session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = ThreadPoolExecutor(2)
        self.jobs: dict[str, Future[ctypes.CDLL]] = {}

    def start(self, key: str, source: str, tunables: Mapping[str, Any]) -> None:
        text = "".join(f"#define {name} {value}\n" for name, value in tunables.items()) + PREAMBLE + source
        self.jobs[key] = self.pool.submit(self._compile, key, text)

    def _compile(self, key: str, text: str) -> ctypes.CDLL:
        path = self.folder / f"{key}.cpp"
        path.write_text(text, encoding="utf-8")
        library = path.with_suffix(".so")
        done = subprocess.run(
            [str(COMPILER), *FLAGS, str(path), "-o", str(library)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "warning" not in done.stderr, done.stderr[-2000:]
        return ctypes.CDLL(str(library))

    def library(self, key: str) -> Callable[..., None]:
        run = self.jobs[key].result().run
        run.restype = None

        def call(
            inputs: Sequence[Any],
            outputs: Sequence[Any],
            sizes: Sequence[int],
            scalars: Sequence[float],
            prologue_extra: Sequence[Any] = (),
            epilogue_extra: Sequence[Any] = (),
        ) -> None:
            def pointers(tensors: Sequence[Any]) -> Any:
                return (ctypes.c_void_p * max(2, len(tensors)))(*(None if item is None else item.data_ptr() for item in tensors))

            integers = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
            numbers = (ctypes.c_double * max(1, len(scalars)))(*scalars)
            run(pointers(inputs), pointers(outputs), integers, numbers, pointers(prologue_extra), pointers(epilogue_extra))

        return call


def last_tunables(kernel: Kernel) -> dict[str, Any]:
    """The last value of every tunable: streaming stores, prefetch and the like switched on."""
    return {item.name: item.values[-1] for item in kernel.tunables}


def first_tunables(kernel: Kernel) -> dict[str, Any]:
    return {item.name: item.values[0] for item in kernel.tunables}


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    made = Compiler(tmp_path_factory.mktemp("cpp_kernels"))
    for name in NAMES:
        kernel = DOCUMENTS[name]
        made.start(f"{name}_plain", kernel.cpp, first_tunables(kernel))
        if name in FUSED:
            made.start(f"{name}_fused", fused(kernel), last_tunables(kernel))
        elif name in CASES:
            made.start(f"{name}_last", kernel.cpp, last_tunables(kernel))
    return made


def launch_of(kernel: Kernel) -> Callable[..., torch.Tensor]:
    namespace: dict[str, Any] = {}
    exec(compile(kernel.python, kernel.source, "exec"), namespace)
    return namespace["launch"]  # type: ignore[no-any-return]  # a function from the document


def spec(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch."), value.stride())
    return tuple(value) if isinstance(value, list) else value


def scope_of(kernel: Kernel, case: Case) -> dict[str, Any]:
    """Names for the document's expressions: the arguments, with the defaults of `launch` for what the case leaves out."""
    parameters = inspect.signature(launch_of(kernel)).parameters.values()
    scope = {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}
    scope |= {name: spec(value) for name, value in {**case.arguments, **case.extra}.items()}
    return scope


def double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def assert_close(actual: torch.Tensor, expected: torch.Tensor, label: str) -> None:
    """Equal to about 40 units in the last place of the row's scale; exactly equal for integers, infinities and NaN."""
    assert actual.shape == expected.shape, label
    if not expected.is_floating_point():
        assert actual.dtype == expected.dtype and torch.equal(actual, expected), label
        return
    assert actual.dtype == torch.float32, label
    finite = expected[torch.isfinite(expected)].abs()
    atol = 5e-6 * float(finite.max()) if finite.numel() else 0.0
    torch.testing.assert_close(actual.double(), expected, rtol=5e-6, atol=atol, equal_nan=True, msg=lambda text: f"{label}: {text}")


def test_there_are_at_least_twelve_documents_and_each_has_cases() -> None:
    assert len(NAMES) >= 12
    assert set(NAMES) - set(CASES) == {"pointwise_rows_cpp"}


@pytest.mark.parametrize("name", NAMES)
def test_launch_takes_the_arguments_of_its_operator_and_all_tunables(name: str) -> None:
    kernel = DOCUMENTS[name]
    keyword_only = {"prologue_extra", "epilogue_extra", "out_dtype", "lib"} | {item.name for item in kernel.tunables}
    assert keyword_only <= kernel.keywords
    for anchor in kernel.matches:
        if anchor.startswith("aten."):
            _, operator, overload = anchor.split(".")
            schema = getattr(getattr(torch.ops.aten, operator), overload)._schema
            assert {argument.name for argument in schema.arguments} == kernel.keywords - keyword_only
    if kernel.pattern:
        namespace: dict[str, Any] = {"aten": torch.ops.aten}
        exec(kernel.pattern, namespace)
        assert set(inspect.signature(namespace["pattern"]).parameters) == kernel.keywords - keyword_only


@pytest.mark.parametrize("name", NAMES)
def test_the_body_explains_the_kernel(name: str) -> None:
    text = Path(DOCUMENTS[name].source).read_text(encoding="utf-8")
    for heading in ("## When to use", "## Why it is fast", "## Numerics", "## Limits"):
        assert heading in text


@pytest.mark.parametrize("name", sorted(CASES))
def test_requirements_hold_for_the_cases_and_refuse_float64(name: str) -> None:
    kernel = DOCUMENTS[name]
    for case in CASES[name]():
        scope = scope_of(kernel, case)
        scope.setdefault("output", spec(torch.empty(1)))
        assert [item.text for item in kernel.requires if not item.evaluate(scope)] == [], case.label
        for item in kernel.tunables:
            default = item.default.evaluate(scope) if isinstance(item.default, Expression) else item.default
            assert default in item.values
        wider = {
            key: TensorSpec(value.shape, "float64", value.stride) if isinstance(value, TensorSpec) else value
            for key, value in scope.items()
        }
        assert not all(item.evaluate(wider) for item in kernel.requires)


@pytest.mark.parametrize(
    ("name", "variant"), [(name, "plain") for name in sorted(CASES)] + [(name, "last") for name in sorted(CASES) if name not in FUSED]
)
def test_launch_equals_the_operator_in_float64(compiler: Compiler, name: str, variant: str) -> None:
    kernel = DOCUMENTS[name]
    launch = functools.partial(launch_of(kernel), lib=compiler.library(f"{name}_{variant}"))
    for case in CASES[name]():
        before = {key: value.clone() for key, value in case.arguments.items() if isinstance(value, torch.Tensor)}
        actual = launch(**case.arguments)
        assert_close(actual, case.reference(**{key: double(value) for key, value in case.arguments.items()}), case.label)
        for key, value in before.items():
            torch.testing.assert_close(case.arguments[key], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", FUSED)
def test_launch_with_fused_prologue_and_epilogue_equals_the_composition(compiler: Compiler, name: str) -> None:
    kernel = DOCUMENTS[name]
    launch = functools.partial(launch_of(kernel), lib=compiler.library(f"{name}_fused"))
    for case in CASES[name]():
        scope = scope_of(kernel, case)
        arguments = {key: double(value) for key, value in case.arguments.items()}
        extras: dict[str, tuple[torch.Tensor, ...]] = {}
        if "prologue" in kernel.slots:
            of = kernel.slots["prologue"].of
            columns = torch.tensor([kernel.slots["prologue"].columns.evaluate(scope)])
            added = randn(*case.arguments[of].shape, scale=0.3).flip(0).contiguous()
            extras["prologue_extra"] = (added, columns)
            arguments[of] = arguments[of] * 0.5 + added
        expected = case.reference(**arguments)
        if "epilogue" in kernel.slots:
            scope["output"] = spec(torch.empty(expected.shape))
            columns = torch.tensor([kernel.slots["epilogue"].columns.evaluate(scope)])
            taken = randn(*expected.shape, scale=2.0).contiguous()
            extras["epilogue_extra"] = (taken, columns)
            expected = torch.tanh(expected) - 3.0 * taken
        assert_close(launch(**case.arguments, **extras), expected, case.label)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")
@pytest.mark.parametrize("name", [name for name in FUSED if not DOCUMENTS[name].name.startswith("cumsum")])
def test_extras_are_read_with_contiguous_loads(compiler: Compiler, name: str) -> None:
    compiler.library(f"{name}_fused")
    path = compiler.folder / f"{name}_fused.so"
    text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "gather" not in text


@pytest.mark.parametrize("shape", [(), (1,), (5_003,), (3, 1), (7, 4_099), (2, 3, 17)])
def test_pointwise_kernel_walks_every_element_once(compiler: Compiler, shape: tuple[int, ...]) -> None:
    kernel = DOCUMENTS["pointwise_rows_cpp"]
    if "pointwise_fused" not in compiler.jobs:
        compiler.start("pointwise_fused", fused(kernel), last_tunables(kernel))
    launch = functools.partial(launch_of(kernel), lib=compiler.library("pointwise_fused"))
    x = randn(*shape)
    columns = torch.tensor([kernel.slots["epilogue"].columns.evaluate({"output": spec(x)})])
    assert_close(launch(shape, epilogue_extra=(x, columns)), -3.0 * x.double(), str(shape))


def test_a_target_outside_the_classes_is_an_index_error(compiler: Compiler) -> None:
    launch = launch_of(DOCUMENTS["cross_entropy_rows_cpp"])
    with pytest.raises(IndexError, match="2 targets lie outside the 5 classes"):
        launch(randn(3, 5), torch.tensor([5, 0, -1]), lib=compiler.library("cross_entropy_rows_cpp_plain"))


def test_an_index_outside_the_table_is_an_index_error(compiler: Compiler) -> None:
    launch = launch_of(DOCUMENTS["embedding_rows_cpp"])
    with pytest.raises(IndexError, match="1 indices lie outside the 5 rows"):
        launch(randn(5, 3), torch.tensor([0, 5, 4]), lib=compiler.library("embedding_rows_cpp_plain"))


MATHEMATICS = {
    "kexp": torch.exp,
    "kexp_nonpositive": torch.exp,
    "klog": torch.log,
    "ktanh": torch.tanh,
    "kerf": torch.erf,
    "ksigmoid": torch.sigmoid,
}
UNITS = {"kexp": 1.1, "kexp_nonpositive": 1.1, "klog": 1.0, "ktanh": 1.5, "kerf": 6.5, "ksigmoid": 2.1}
"""Largest error in units of the last place, as the preamble states it."""


@pytest.fixture(scope="session")
def mathematics(compiler: Compiler) -> ctypes.CDLL:
    source = "".join(
        f'extern "C" void v_{name}(const float* x, float* y, int64_t n) {{\n#pragma omp simd\nfor (int64_t i = 0; i < n; ++i) y[i] = {name}(x[i]); }}\n'
        for name in MATHEMATICS
    )
    compiler.start("mathematics", source, {})
    return compiler.jobs["mathematics"].result()


@pytest.mark.parametrize("name", sorted(MATHEMATICS))
def test_vector_mathematics_is_accurate_over_all_exponents(mathematics: ctypes.CDLL, name: str) -> None:
    bits = torch.arange(-(2**31), 2**31, 4_001, dtype=torch.int64).to(torch.int32)
    x = torch.cat([bits.view(torch.float32), torch.tensor([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 88.72, 88.73, -87.4, -103.9])])
    if name == "kexp_nonpositive":
        x = x[~(x > 0)]
    y = torch.empty_like(x)
    getattr(mathematics, f"v_{name}")(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_int64(x.numel()))
    expected = MATHEMATICS[name](x.double())
    if name in ("kexp_nonpositive", "ksigmoid"):
        flushed = expected < 1.1754944e-38
        assert float(y[flushed].max()) <= 1.1754944e-38
        x, y, expected = x[~flushed], y[~flushed], expected[~flushed]
    rounded = expected.float()
    special = ~torch.isfinite(rounded)
    torch.testing.assert_close(y[special], rounded[special], rtol=0, atol=0, equal_nan=True)
    y, expected = y[~special], expected[~special]
    unit = torch.exp2(torch.floor(torch.log2(expected.abs().clamp_min(1.1754944e-38))) - 23)
    assert float(((y.double() - expected).abs() / unit).max()) <= UNITS[name]


def test_streaming_copies_every_element_at_any_alignment(compiler: Compiler) -> None:
    compiler.start(
        "stream",
        'extern "C" void copy(float* target, const float* source, int64_t count) { kstream(target, source, count); kstream_fence(); }',
        {},
    )
    copy = compiler.jobs["stream"].result().copy
    source = randn(200)
    for begin in range(17):
        for count in (0, 1, 15, 16, 17, 100):
            target = torch.zeros(200)
            copy(ctypes.c_void_p(target[begin:].data_ptr()), ctypes.c_void_p(source.data_ptr()), ctypes.c_int64(count))
            assert torch.equal(target[begin : begin + count], source[:count])
            assert not target[:begin].any() and not target[begin + count :].any()
