"""C++ candidates under sanitizers: an overrun by one element is caught, the right kernel passes, reports are read, flags are added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.check import sanitizers
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.types import QUICK, Candidate, Status

PROBLEM = problem_from_source(
    "import torch\nfrom torch import nn\nclass Model(nn.Module):\n    def forward(self, x):\n        return x * 3.0\n"
    "def get_inputs():\n    return [torch.randn(1000)]\ndef get_init_inputs():\n    return []\n",
    problem_id="triple",
)
CANDIDATE = '''
import ctypes
import os
import torch
from torch import nn
from torch.utils import cpp_extension

folder = os.path.join(os.environ["TORCH_EXTENSIONS_DIR"], "triple")
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, "kernel.cpp")
with open(path, "w") as file:
    file.write("""
extern "C" void run(const float* a, float* b, long n) {
  for (long i = 0; i < n; ++i) {
    float other = BODY;
    b[i] = a[i] * 3.0f + (other > 1e30f ? 1.0f : 0.0f);
  }
}
""")
cpp_extension.load(name="triple", sources=[path], extra_cflags=["-O2"], build_directory=folder, is_python_module=False)
library = ctypes.CDLL(os.path.join(folder, "triple.so"))


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        library.run(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_long(x.numel()))
        return y
'''
needs_libraries = pytest.mark.skipif(not sanitizers.libraries(), reason="the compiler has no sanitizer libraries")


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEvaluator]:
    home = tmp_path_factory.mktemp("sanitizers")
    with LocalEvaluator(home, use_compiled_baseline=False, sanitizers="always") as opened:
        yield opened


@needs_libraries
@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a[i]", ""),
        ("a[i + 1]", r"AddressSanitizer: heap-buffer-overflow, read of 4 bytes in run at kernel\.cpp:4; .*0 bytes .*4000-byte region"),
        ("(float)(((int)i + 1) << (31 + (int)(i == 0)))", r"UndefinedBehaviorSanitizer: (shift exponent|left shift).* at kernel\.cpp:4"),
    ],
)
def test_an_overrun_by_one_and_a_bad_shift_are_caught_and_the_right_kernel_passes(evaluator: LocalEvaluator, body: str, found: str) -> None:
    candidate = Candidate(CANDIDATE.replace("BODY", body), language="cpp")
    evaluation = evaluator.evaluate(candidate, PROBLEM, "cpu", dataclasses.replace(QUICK, pairs=3))
    if not found:
        assert evaluation.status is Status.PASSED, evaluation.reason
        assert '"sanitizers": "clean"' in Path(evaluation.receipt).read_text()
    else:
        assert evaluation.status is Status.RUNTIME_ERROR
        import re

        assert re.match(found, evaluation.reason), evaluation.reason
        assert evaluation.feedback.error == evaluation.reason


@needs_libraries
@pytest.mark.slow
def test_sanitizers_that_do_not_work_are_no_fault_of_the_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.evaluator.sanitizer_environment", lambda: {"PATH": ""})  # no compiler for the instrumented build
    candidate = Candidate(CANDIDATE.replace("BODY", "a[i]"), language="cpp")
    with LocalEvaluator(tmp_path, use_compiled_baseline=False, sanitizers="always") as opened:
        evaluation = opened.evaluate(candidate, PROBLEM, "cpu", dataclasses.replace(QUICK, pairs=3))
    assert evaluation.status is Status.PASSED, evaluation.reason
    assert '"sanitizers": "not run' in Path(evaluation.receipt).read_text()


LOG = """
=================================================================
==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x621000002ca0 at pc 0x7f bp 0x7f sp 0x7f
READ of size 4 at 0x621000002ca0 thread T0
    #0 0x7f71 in rows(float const*, long) /home/someone/kernel.cpp:12
    #1 0x7f72 in run /home/someone/kernel.cpp:40
0x621000002ca0 is located 0 bytes to the right of 4000-byte region [0x621000001d00,0x621000002ca0)
"""


def test_a_report_is_one_sentence_with_the_place_in_the_source() -> None:
    text = "AddressSanitizer: heap-buffer-overflow, read of 4 bytes in rows at kernel.cpp:12; the address is 0 bytes to the right of 4000-byte region"
    assert sanitizers.finding("building ...\n" + LOG) == text
    log = "/tmp/a/kernel.cpp:7:21: runtime error: signed integer overflow: 2147483647 + 1 cannot be represented in type 'int'\n    #0 0x7f in run"
    assert sanitizers.finding(log).startswith(
        "UndefinedBehaviorSanitizer: signed integer overflow"
    ) and "kernel.cpp:7:21" in sanitizers.finding(log)
    assert sanitizers.finding("Traceback ...\nRuntimeError: shapes differ\n") == ""


def test_flags_are_added_behind_the_candidates_own() -> None:
    def build(name: str, sources: list[str], extra_cflags: list[str] | None = None, extra_ldflags: list[str] | None = None) -> object:
        return extra_cflags, extra_ldflags

    compiled, linked = sanitizers._with_flags(build)("kernel", ["a.cpp"], ["-O3"])  # type: ignore[misc]  # what the fake returns
    assert compiled == ["-O3", *sanitizers.FLAGS] and linked == ["-fsanitize=address,undefined"]


def test_only_candidates_that_build_cpp_are_run_again() -> None:
    assert sanitizers.builds_cpp(CANDIDATE) and not sanitizers.builds_cpp("import triton")
