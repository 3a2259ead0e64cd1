"""MTIA judges launches by public rules: a GPU-flavoured matmul is rejected with rule, line and fix; the corrected one passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.compile.legality import judge, recording_job
from tools.compile.server import CompileServer
from tools.targets.base import CompileReport
from tools.targets.profile import load_profiles
from tools.types import Evidence

HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n"
GPU_MATMUL = """
@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = (tl.program_id(0) * BM + tl.arange(0, BM)) % M
    columns = (tl.program_id(1) * BN + tl.arange(0, BN)) % N
    inner = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_ptr + rows[:, None] * K + (start + inner)[None, :])
        b = tl.load(b_ptr + (start + inner)[:, None] * N + columns[None, :])
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], acc.to(tl.float16))


def launch(a, b):
    M, K = a.shape
    N = b.shape[1]
    c = torch.empty((M, N), device=a.device, dtype=a.dtype)
    matmul_kernel[(triton.cdiv(M, 64), triton.cdiv(N, 64))](a, b, c, M, N, K, BM=64, BN=64, BK=64, num_warps=4)
    return c
"""
MTIA_MATMUL = (
    GPU_MATMUL.replace(" % M\n", "\n")
    .replace(" % N\n", "\n")
    .replace(
        "a = tl.load(a_ptr + rows[:, None] * K + (start + inner)[None, :])",
        "a = tl.load(a_ptr + rows[:, None] * K + (start + inner)[None, :], mask=(rows < M)[:, None], other=0.0)",
    )
    .replace(
        "b = tl.load(b_ptr + (start + inner)[:, None] * N + columns[None, :])",
        "b = tl.load(b_ptr + (start + inner)[:, None] * N + columns[None, :], mask=(columns < N)[None, :], other=0.0)",
    )
    .replace("acc.to(tl.float16))", "acc.to(tl.float16), mask=(rows < M)[:, None] & (columns < N)[None, :])")
    .replace(", num_warps=4", "")
)


@pytest.fixture(scope="module")
def server() -> Iterator[CompileServer]:
    with CompileServer() as running:
        yield running


def judged(server: CompileServer, source: str, sizes: tuple[int, int, int], target: str = "mtia:2i") -> CompileReport:
    m, n, k = sizes
    example = {"a": {"shape": [m, k], "dtype": "float16"}, "b": {"shape": [k, n], "dtype": "float16"}}
    recorded = server.compile(recording_job(HEADER + source, example=example))
    return judge(HEADER + source, recorded, load_profiles()[target])


def test_gpu_matmul_is_rejected_with_rule_line_and_fix(server: CompileServer) -> None:
    report = judged(server, GPU_MATMUL, (500, 501, 1024))
    assert (report.status, report.evidence) == ("error", Evidence.SIMULATED)
    assert "M07 line 8: `%` of a range wraps addresses; mask the lanes beyond the end" in report.error
    assert "M01 line 14: `tl.load`: a row step of 501 elements is not a multiple of 32 bytes; pad the inner dimension" in report.error
    assert any("M13" in warning and "num_warps has no meaning" in warning for warning in report.warnings)


def test_corrected_matmul_passes(server: CompileServer) -> None:
    report = judged(server, MTIA_MATMUL, (512, 512, 1024))
    assert report.status == "compiled", report.error
    assert report.launches[0].programs == 64
    assert not any("M13" in warning for warning in report.warnings)


def test_corrected_matmul_with_rows_that_are_not_padded_is_rejected_by_alignment_alone(server: CompileServer) -> None:
    report = judged(server, MTIA_MATMUL, (512, 500, 1024))
    assert report.status == "error"
    assert {line.split()[0] for line in report.error.splitlines()} == {"M01"}


def test_tiles_that_fit_one_generation_do_not_fit_another(server: CompileServer) -> None:
    source = MTIA_MATMUL.replace("BM=64, BN=64, BK=64", "BM=256, BN=128, BK=128")
    assert "M04" in judged(server, source, (512, 512, 1024), "mtia:v1").error
    assert judged(server, source, (512, 512, 1024), "mtia:300").status == "compiled"


def test_nearly_empty_last_wave_is_pointed_out(server: CompileServer) -> None:
    report = judged(server, MTIA_MATMUL, (64 * 10, 64 * 7, 1024))
    assert report.status == "compiled"
    assert any("70 programs on 64 processing elements" in warning for warning in report.warnings)


def test_source_that_fails_on_the_host_is_reported(server: CompileServer) -> None:
    report = judged(server, MTIA_MATMUL.replace("K = a.shape", "K, z = a.shape"), (64, 64, 64))
    assert report.status == "error" and "not enough values to unpack" in report.error
