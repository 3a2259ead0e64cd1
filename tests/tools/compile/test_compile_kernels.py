"""Kernels compile for chips that are not here; reports agree with an independent reader; crashes, hangs and bad limits are reported."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tools.compile import amd, nvidia
from tools.compile.example import launch_arguments
from tools.compile.job import Job
from tools.compile.server import CompileServer, report_from_json
from tools.compile.toolchain import compile_candidate, numbers, read_kernel_document
from tools.docs import docs_root
from tools.errors import MachineError, ProblemError
from tools.expressions import evaluate
from tools.targets.base import CompileReport
from tools.targets.profile import load_profiles
from tools.types import Candidate, Problem

HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n"
SCALE = """
@triton.jit
def scale_kernel(x_ptr, y_ptr, n, factor, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(y_ptr + offsets, x * factor, mask=offsets < n)


def launch(x, factor):
    y = torch.empty_like(x)
    grid = lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)
    scale_kernel[grid](x, y, x.numel(), factor, BLOCK=1024, num_warps=4)
    return y
"""
GEMM = """
@triton.jit
def gemm_kernel(a_ptr, b_ptr, c_ptr, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.arange(0, BM)
    columns = tl.arange(0, BN)
    inner = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_ptr + rows[:, None] * K + start + inner[None, :])
        b = tl.load(b_ptr + (start + inner)[:, None] * BN + columns[None, :])
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows[:, None] * BN + columns[None, :], acc)


def launch(a, b, stages=3):
    c = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=torch.float32)
    gemm_kernel[(1,)](a, b, c, a.shape[1], BM=128, BN=128, BK=64, num_warps=8, num_stages=stages)
    return c
"""
TENSOR = {"shape": [1000, 1000], "dtype": "float32"}
HALVES = {"a": {"shape": [128, 1024], "dtype": "float16"}, "b": {"shape": [1024, 128], "dtype": "float16"}}


@pytest.fixture(scope="module")
def server() -> Iterator[CompileServer]:
    with CompileServer() as running:
        yield running


def compiled(server: CompileServer, source: str, target: str, example: dict[str, object], timeout_s: float = 120.0) -> CompileReport:
    job = Job(HEADER + textwrap.dedent(source), target, numbers(load_profiles()[target]), example=example)
    return server.compile(job, timeout_s=timeout_s)


@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "rocm:gfx942", "rocm:gfx950"])
def test_memory_bound_kernel_compiles_with_wide_loads_and_full_occupancy(server: CompileServer, target: str) -> None:
    report = compiled(server, SCALE, target, {"x": TENSOR, "factor": 2.0})
    assert (report.status, report.error) == ("compiled", "")
    (kernel,) = report.kernels
    assert kernel.kernel == "scale_kernel"
    assert kernel.load_vector_bytes == 16
    assert kernel.spill_bytes == 0 and kernel.shared_bytes == 0
    assert kernel.occupancy_fraction == 1.0
    assert kernel.registers is not None and 0 < kernel.registers <= 64
    assert "x_ptr=*float32" in kernel.specialisation and "BLOCK=1024" in kernel.specialisation


@pytest.mark.parametrize(
    "target, kind", [("cuda:sm_80", "mma.sync"), ("cuda:sm_90", "wgmma"), ("cuda:sm_100", "tcgen05"), ("rocm:gfx942", "mfma")]
)
def test_gemm_uses_the_matrix_unit_of_the_chip(server: CompileServer, target: str, kind: str) -> None:
    report = compiled(server, GEMM, target, {**HALVES, "stages": 2})
    assert report.status == "compiled", report.error
    assert any(name.startswith(kind) for name in report.kernels[0].mma)


def test_shared_memory_beyond_the_chip_is_an_error_though_it_compiles(server: CompileServer) -> None:
    fits = compiled(server, GEMM, "cuda:sm_90", {**HALVES, "stages": 4})
    assert fits.status == "compiled" and fits.kernels[0].shared_bytes > 65536
    report = compiled(server, GEMM, "rocm:gfx942", {**HALVES, "stages": 4})
    assert report.status == "error"
    assert re.search(r"gemm_kernel needs [\d,]+ bytes of shared memory; rocm:gfx942 has 65,536 per block", report.error)


def test_compile_error_names_the_reason_and_leaves_the_server_alive(server: CompileServer) -> None:
    broken = SCALE.replace("tl.arange(0, BLOCK)", "tl.arange(0, 1000)")
    report = compiled(server, broken, "cuda:sm_90", {"x": TENSOR, "factor": 2.0})
    assert report.status == "error" and "arange's range must be a power of 2" in report.error
    assert compiled(server, SCALE, "cuda:sm_90", {"x": TENSOR, "factor": 2.0}).status == "compiled"


def test_host_code_that_hangs_is_killed_and_reported(server: CompileServer) -> None:
    report = compiled(server, "import time\ndef launch(x):\n    time.sleep(600)\n", "cuda:sm_90", {"x": TENSOR}, timeout_s=2.0)
    assert report.status == "timeout" and "killed" in report.error  # long before the 600 seconds


def test_crash_of_the_compiler_is_reported_with_its_signal(server: CompileServer) -> None:
    report = compiled(server, "import os\ndef launch(x):\n    os.kill(os.getpid(), 11)\n", "cuda:sm_90", {"x": TENSOR})
    assert report.status == "error" and "signal 11" in report.error


def test_wrong_argument_of_launch_is_reported(server: CompileServer) -> None:
    report = compiled(server, SCALE, "cuda:sm_90", {"y": TENSOR})
    assert report.status == "error" and "unexpected keyword argument 'y'" in report.error


def test_host_code_that_reads_values_runs_on_real_tensors(server: CompileServer) -> None:
    source = (
        SCALE
        + "\ndef launch_again(x):\n    return launch(x, float(x.sum().item()) * 0 + 2.0)\nlaunch, launch_plain = launch_again, launch\n"
    )
    source = source.replace("return launch(x, float", "return launch_plain(x, float")
    report = compiled(server, source, "cuda:sm_90", {"x": TENSOR})
    assert report.status == "compiled", report.error


def test_autotuned_kernel_reports_each_configuration_and_survives_one_that_does_not_fit(server: CompileServer) -> None:
    source = GEMM.replace(
        "@triton.jit",
        "@triton.autotune(configs=[triton.Config({}, num_stages=2, num_warps=8), triton.Config({}, num_stages=8, num_warps=8)], key=['K'])\n@triton.jit",
    )
    source = source.replace(", num_warps=8, num_stages=stages)", ")")
    report = compiled(server, source, "cuda:sm_90", HALVES)
    assert report.status == "compiled", report.error
    assert len(report.kernels) == 2
    assert any("bytes of shared memory" in warning for warning in report.warnings)


def test_candidate_is_compiled_as_its_problem_launches_it() -> None:
    problem = Problem(
        "p",
        "p",
        "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x * 3\n"
        "def get_inputs():\n    return [torch.rand(64, 1000)]\ndef get_init_inputs():\n    return []\n",
    )
    candidate = Candidate(
        HEADER
        + SCALE
        + "\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        assert x.is_cuda\n        return launch(x, 3.0)\n"
    )
    report = compile_candidate(candidate, problem, load_profiles()["cuda:sm_90"], timeout_s=60, cache=None)
    assert report.status == "compiled", report.error
    assert "n=64000" in report.kernels[0].specialisation


def test_reports_are_remembered_and_survive_json(tmp_path: Path) -> None:
    job = Job(HEADER + SCALE, "cuda:sm_90", numbers(load_profiles()["cuda:sm_90"]), example={"x": TENSOR, "factor": 2.0})
    with CompileServer(tmp_path) as server:
        first = server.compile(job)
        assert server.compile(job) == first
        assert len(list(tmp_path.glob("*.json"))) == 1
    assert report_from_json(json.loads(json.dumps(dataclasses.asdict(first)))) == first
    with CompileServer(tmp_path) as idle:
        assert idle.compile(job) == first
        assert idle._process is None, "a remembered report must not start a compiler"


def test_cache_directory_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        CompileServer(tmp_path / "file" / "cache")


def test_register_count_equals_what_the_cubin_itself_states(tmp_path: Path) -> None:
    script = tmp_path / "cubin.py"
    script.write_text(
        "import sys, os\n"
        "os.environ['TRITON_CACHE_DIR'] = sys.argv[1]\n"
        "from pathlib import Path\n"
        "from tools.compile import nvidia\n"
        "from tools.compile.device import stand_in\n"
        "from tools.compile.job import Job, _run_host_code\n"
        "from tools.compile.toolchain import numbers\n"
        "from tools.targets.profile import load_profiles\n"
        "source, example = eval(Path(sys.argv[2]).read_text())\n"
        "for target in ('cuda:sm_80', 'cuda:sm_90', 'cuda:sm_100'):\n"
        "    job = Job(source, target, numbers(load_profiles()[target]), example=example)\n"
        "    stand_in(job.device)\n"
        "    launches = []\n"
        "    _run_host_code(job, Path(sys.argv[1]), launches)\n"
        "    cubin = launches[0].compiled.asm['cubin']\n"
        "    print(nvidia.resource_usage(cubin)[0], nvidia.elf_registers(cubin))\n"
        "    from triton.runtime.jit import JITFunction\n"
        "    [kernel.device_caches.clear() for kernel in list(vars(sys.modules['kevolve_kernel']).values()) if isinstance(kernel, JITFunction)]\n"
    )
    (tmp_path / "case").write_text(repr((HEADER + GEMM, {**HALVES, "stages": 2})))
    environment = {**os.environ, "PYTHONPATH": str(Path(nvidia.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(tmp_path / "case")], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 3
    assert all(tool == own and int(own) > 16 for tool, own in rows), rows


def test_occupancy_agrees_with_hand_calculation() -> None:
    limits = numbers(load_profiles()["cuda:sm_90"])
    fits = nvidia.blocks_per_multiprocessor(limits, registers=168, shared_bytes=100_000, num_warps=4)
    # 168 registers x 32 threads = 5,376 per warp; 16,384 per scheduler hold 3 warps, 12 in all: 3 blocks of 4. 233,472 / (100,096 + 1,024) = 2 blocks.
    assert fits == {"registers": 3, "shared_memory": 2, "warps": 16, "blocks": 32}
    amd_limits = numbers(load_profiles()["rocm:gfx942"])
    assert amd.blocks_per_multiprocessor(amd_limits, waves_per_simd=2, shared_bytes=32768, num_warps=4) == {
        "registers": 2,
        "shared_memory": 2,
        "warps": 8,
    }


def test_load_widths_are_read_from_assembly() -> None:
    ptx = "@%p1 ld.global.L1::evict_first.L2::cache_hint.v4.b32 { %r1 }, [ %rd1 ], %rd2;\nld.global.b16 %rs1, [ %rd3 ];\ncp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;\n"
    assert nvidia.instruction_mix(ptx) == ((), (16, 2, 16))
    gcn = "\tbuffer_load_dwordx4 v[0:3], v0\n\tglobal_load_ushort v1, v2\n\tv_mfma_f32_16x16x16_f16 a\n"
    assert amd.instruction_mix(gcn) == (("mfma 16x16x16",), (16, 2))


def test_kernel_that_is_only_a_trap_is_recognised() -> None:
    assert nvidia.is_only_a_trap(".visible .entry k()\n{\n\ttrap;\n}\n")
    assert not nvidia.is_only_a_trap("{\n\t@%p1 trap;\n\tst.global.b32 [%rd1], %r1;\n}\n")


def test_expressions_of_documents_are_evaluated_and_nothing_else() -> None:
    names = {"input": launch_arguments({"n": 3}, {})["n"], "shape": (4, 5)}
    assert evaluate("8 if prod(shape) > 16 else 4", names) == 8
    assert evaluate("next_pow2(shape[1]) + cdiv(7, 2)", names) == 12
    for bad in ("__import__('os')", "shape.__class__", "[x for x in shape]", "open('f')"):
        with pytest.raises(ProblemError):
            evaluate(bad, names)


def test_tunables_take_their_defaults_over_the_example() -> None:
    example = {"input": {"shape": [64, 4096], "dtype": "float32"}}
    tunables = {
        "num_warps": {"default": "8 if input.shape[1] > 2048 else 4"},
        "BLOCK": {"default": 64},
        "T": {"default": "output.shape[0]"},
    }
    assert launch_arguments(example, tunables) == {**example, "num_warps": 8, "BLOCK": 64}


def test_every_triton_document_of_the_knowledge_base_can_be_read() -> None:
    documents = [read_kernel_document(path) for path in sorted((docs_root() / "kernels").rglob("*.md"))]
    triton_kernels = [document for document in documents if document is not None and document.language == "triton"]
    assert triton_kernels
    assert all("def launch" in document.source for document in triton_kernels)


CASES = [case for case in yaml.safe_load((Path(__file__).parents[1] / "lint" / "rules.yaml").read_text()) if "triton" in case]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}-{case['message'][:30]}")
def test_triton_itself_refuses_what_the_linter_calls_an_error(server: CompileServer, case: dict[str, object]) -> None:
    trigger = case["trigger"]
    assert isinstance(trigger, dict)
    if "module" in trigger:
        source = f"{trigger['module']}\n"
    else:
        source = (
            f"@triton.jit\ndef kernel(x_ptr, y_ptr, n, stride, BLOCK: tl.constexpr):\n{textwrap.indent(str(trigger['body']), '    ')}\n"
        )
    source += "\ndef launch(x):\n    kernel[(1,)](x, x, 1000, 128, BLOCK=64)\n"
    bindings = case.get("bindings")
    dtype = next(iter(bindings.values()))["pointer"] if isinstance(bindings, dict) else "float32"
    report = compiled(server, source, str(case.get("target", "cuda:sm_90")), {"x": {"shape": [1000], "dtype": dtype}})
    assert report.status == "error", "the linter reports an error, Triton compiles it"
    assert str(case["triton"]) in report.error
