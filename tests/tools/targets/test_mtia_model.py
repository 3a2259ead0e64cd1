"""The MTIA model reproduces what it was not fitted to within its stated error, and orders schedules as published."""

from __future__ import annotations

import pytest

from tools.compile.workload import work_of
from tools.docs import docs_root
from tools.targets.base import LaunchRecord, TimeEstimate
from tools.targets.mtia_model import Step, Work, estimate, gemm, sensitivity
from tools.targets.mtia_validation import Check, Claim, checks, claims, gemm_share_of_peak, layer_us, table
from tools.targets.profile import load_profiles

TWO_I = load_profiles()["mtia:2i"].limits


@pytest.mark.parametrize("check", checks(), ids=lambda check: f"{check.role}-{check.name}")
def test_model_is_within_its_stated_error_of_published_numbers(check: Check) -> None:
    assert check.error <= check.tolerance, f"published {check.published}, model {check.predict()}"


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.name)
def test_model_agrees_with_what_was_published_in_words(claim: Claim) -> None:
    assert claim.holds, f"{claim.says}: model {claim.predict()}"


def test_at_most_half_of_the_measurements_were_used_for_fitting() -> None:
    roles = [check.role for check in checks()]
    assert roles.count("fitted") <= roles.count("held out")


def test_document_holds_the_table_that_the_model_gives() -> None:
    assert table() in (docs_root() / "guide" / "mtia-model.md").read_text(encoding="utf-8")


def test_larger_tiles_are_faster_without_broadcast_and_equal_with_it() -> None:
    shares = [gemm_share_of_peak((size, size, 64)) for size in (32, 64, 128)]
    assert shares == sorted(shares) and shares[2] > 3 * shares[0]
    assert gemm_share_of_peak((64, 64, 64), broadcast=4) == pytest.approx(gemm_share_of_peak((128, 128, 64), broadcast=4), rel=0.02)


def test_overlap_and_broadcast_order_the_layer_as_published() -> None:
    best, overlap, broadcast, neither = (layer_us(overlap=o, broadcast=b) for o, b in ((True, 4), (True, 1), (False, 4), (False, 1)))
    assert best <= overlap < 0.7 * neither and overlap < broadcast <= neither


def test_dot_bound_time_agrees_with_hand_calculation() -> None:
    time = estimate(gemm(128 * 8, 128 * 8, 64 * 100, tile=(128, 128, 64), broadcast=8), TWO_I)
    # 64 programs, one wave: 100 steps of 128*128*64 products at 1,024 a cycle, 1.35 GHz, 95 %: 79.84 us.
    assert time.bound_by == "dot"
    assert time.value_us == pytest.approx(100 * 1024 / (1.35e3 * 0.95), rel=0.05)
    assert time.counters["dot_utilisation"] > 0.95 and time.counters["load_balance"] == 1.0 and time.counters["waves"] == 1


def test_one_program_more_than_a_wave_costs_a_whole_wave() -> None:
    def time(programs: int) -> float:
        return estimate(Work("k", programs, 200, Step(8192, 0, 1, (64, 64, 64), 2, 0, 0, 0, 5), 1e6, 1e6), TWO_I).value_us

    assert time(65) > 1.7 * time(64)
    assert time(65) == pytest.approx(time(128), rel=0.05)


def test_interval_widens_only_with_what_is_not_public() -> None:
    gather = Work("g", 64, 1, Step(1024, 1024, 2, None, 4, 0, 0, 1000, 5), 1e6, 1e6)
    low_high = sensitivity(gather, TWO_I)
    assert low_high["gather_ns"][1] > 1.5 * low_high["gather_ns"][0]
    assert estimate(gather, TWO_I).bound_by == "gather"
    streaming = estimate(Work("s", 640, 1, Step(65536, 65536, 2, None, 2, 100, 0, 0, 2), 8.4e7), TWO_I)
    assert streaming.high_us / streaming.low_us < 1.1 and streaming.bound_by == "dma"


def test_estimate_refuses_impossible_intervals() -> None:
    with pytest.raises(ValueError, match="ordered"):
        TimeEstimate("k", 2.0, 1.0, 3.0, "dma", {})


SOURCE = """import triton
import triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x * 2.0 + 1.0, mask=offsets < n)
"""


def launch(**arguments: object) -> LaunchRecord:
    tensor = {"dtype": "float32", "shape": [65536], "stride": [1]}
    return LaunchRecord("kernel", {"x_ptr": tensor, "y_ptr": tensor, "n": 65536, "BLOCK": 1024, **arguments}, ("BLOCK",), {}, (64,))


def test_work_of_a_pointwise_kernel_counts_its_bytes_and_operations() -> None:
    work = work_of(SOURCE, launch())
    assert work is not None
    assert (work.programs, work.steps, work.unique_bytes) == (64, 1, 2 * 4 * 65536)
    assert (work.step.loaded_bytes, work.step.stored_bytes) == (4096, 4096)
    assert work.step.simd_ops == 2 * 1024


def test_no_time_where_a_loop_is_not_proven() -> None:
    source = SOURCE.replace(
        "    x = tl.load", "    for i in range(0, tl.load(x_ptr)):\n        tl.store(y_ptr + offsets, 0.0)\n    x = tl.load"
    )
    assert work_of(source, launch()) is None
