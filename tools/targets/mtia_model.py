"""How long a launch takes on MTIA, from public peaks and ratios. A model: it ranks legal kernels, it does not predict silicon.

One program runs on one processing element (PE); programs beyond the PEs run in further waves. Within a program the units work at once on circular buffers:
a step takes as long as the slowest unit if buffers are at least two deep, and the sum of all if not. What is not public (issue and DMA costs, efficiencies
without a measurement) is named in the chip's document with trust `unverified` and varied by a factor of two each way: a time is an interval.
Not modelled: network latency and contention, cache policy, instruction fetch, imbalance between programs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from tools.targets.base import Limit, TimeEstimate

TIME_MODEL = "the analytical model of docs/guide/mtia-model.md"
"""What simulated times come from, for people."""
_NOT_PUBLIC = ("issue_cycles", "dma_issue_cycles", "dma_latency_ns", "gather_ns", "libm_vector_ops")
_SPREAD = 2.0
"""Factor by which a constant that is not public is varied each way."""


@dataclass(frozen=True)
class Step:
    """What one program does in one turn of its inner loop (or once, if it has none)."""

    loaded_bytes: float = 0.0
    """Bytes that DMA brings into local memory."""
    stored_bytes: float = 0.0
    """Bytes that DMA writes back, averaged over the steps."""
    transfers: float = 0.0
    """DMA instructions."""
    dot: tuple[int, int, int] | None = None
    """(M, N, K) of the tile product, None without one."""
    element_bytes: int = 2
    """Width of the dot's operands, in bytes."""
    simd_ops: float = 0.0
    """Elementwise operations on the SIMD engine (elements × operations), table lookups included."""
    vector_functions: float = 0.0
    """Transcendental functions (elements) that run on the RISC-V vector cores for want of a lookup table."""
    gathered: float = 0.0
    """Elements that are fetched one by one through loaded addresses."""
    instructions: float = 0.0
    """Instructions that a core issues to the units."""


@dataclass(frozen=True)
class Work:
    """One launch as the model sees it."""

    kernel: str
    programs: int
    steps: int
    """Turns of the inner loop per program."""
    step: Step
    unique_bytes: float
    """Bytes of all tensors of the launch: what must come from or go to DRAM at least once."""
    resident_bytes: float = 0.0
    """Part of them that is already in shared SRAM, for example activations of the layer before."""
    overlap: bool = True
    """Circular buffers at least two deep and steps independent of each other."""
    broadcast: float = 1.0
    """How many PEs share one read of shared SRAM (directional loads)."""


def estimate(work: Work, limits: Mapping[str, Limit]) -> TimeEstimate:
    """Return the simulated time of a launch.

    Args:
        work: The launch.
        limits: Limits of the chip's document.
    """
    numbers = {name: limit.value for name, limit in limits.items()}
    varied = [name for name in _NOT_PUBLIC if name in numbers]
    low = _time(work, {**numbers, **{name: numbers[name] / _SPREAD for name in varied}})[0]
    high = _time(work, {**numbers, **{name: numbers[name] * _SPREAD for name in varied}})[0]
    value, terms = _time(work, numbers)
    return TimeEstimate(
        work.kernel, low * 1e6, value * 1e6, high * 1e6, max(terms, key=lambda name: terms[name]), _counters(work, numbers, value, terms)
    )


def sensitivity(work: Work, limits: Mapping[str, Limit]) -> dict[str, tuple[float, float]]:
    """Return, for each constant that is not public, the time in µs with that constant halved and doubled."""
    numbers = {name: limit.value for name, limit in limits.items()}
    return {
        name: (
            _time(work, {**numbers, name: numbers[name] / _SPREAD})[0] * 1e6,
            _time(work, {**numbers, name: numbers[name] * _SPREAD})[0] * 1e6,
        )
        for name in _NOT_PUBLIC
        if name in numbers
    }


def gemm(
    m: int,
    n: int,
    k: int,
    *,
    tile: tuple[int, int, int],
    element_bytes: int = 2,
    broadcast: float = 1.0,
    overlap: bool = True,
    resident_bytes: float | None = None,
) -> Work:
    """Return the work of a tiled matrix product, one output tile per program.

    Args:
        m: Rows of the output.
        n: Columns of the output.
        k: Length of the inner products.
        tile: (BM, BN, BK).
        element_bytes: Width of the operands; the output has the same.
        broadcast: PEs that share one read of shared SRAM.
        overlap: Whether transfers and arithmetic overlap.
        resident_bytes: Bytes already in shared SRAM; None: everything.
    """
    bm, bn, bk = tile
    unique = float(element_bytes * (m * k + k * n + m * n))
    steps = math.ceil(k / bk)
    step = Step(
        loaded_bytes=(bm + bn) * bk * element_bytes,
        stored_bytes=bm * bn * element_bytes / steps,
        transfers=2 + 1 / steps,
        dot=tile,
        element_bytes=element_bytes,
        instructions=2 + math.ceil(bm / 32) * math.ceil(bn / 32),
    )
    programs = math.ceil(m / bm) * math.ceil(n / bn)
    return Work(
        f"gemm {m}x{n}x{k}", programs, steps, step, unique, unique if resident_bytes is None else resident_bytes, overlap, broadcast
    )


def _time(work: Work, numbers: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Return the time in seconds, and the seconds that each unit is busy on the critical path."""
    hertz = numbers["clock_ghz"] * 1e9
    active = min(int(numbers["processing_elements"]), work.programs)
    turns = math.ceil(work.programs / numbers["processing_elements"]) * work.steps
    step, per_step = work.step, _terms(work, numbers, hertz, active)
    turn = max(per_step.values()) if work.overlap else sum(per_step.values())
    fill = numbers["dma_latency_ns"] * 1e-9 + per_step["dma"]
    drain = per_step["vector"] + step.stored_bytes * work.steps / (numbers["sram_gb_per_s"] * 1e9 / active)
    launch = numbers["launch_us"] * 1e-6
    terms = {name: seconds * turns for name, seconds in per_step.items()} | {"launch": launch + fill + drain}
    return max(launch + fill + turns * turn + drain, _floor(work, numbers)), terms


def _terms(work: Work, numbers: Mapping[str, float], hertz: float, active: int) -> dict[str, float]:
    step = work.step
    moved = step.loaded_bytes + step.stored_bytes
    total = moved * work.steps * work.programs
    from_dram = _dram_bytes(work, numbers, total) / (work.steps * work.programs)
    shared = (step.loaded_bytes / work.broadcast + step.stored_bytes) / (numbers["sram_gb_per_s"] * 1e9 / active)
    device = from_dram / (numbers["dram_gb_per_s"] * 1e9 / active * numbers["dram_efficiency_fraction"])
    issued = step.transfers * numbers["dma_issue_cycles"] / hertz
    vector_rate = numbers["vector_cores"] * numbers["vector_bytes"] / 4
    return {
        "dma": max(shared, device, issued),
        "dot": _dot_seconds(step, numbers, hertz),
        "vector": (step.simd_ops / numbers["simd_ops_per_cycle"] + step.vector_functions * numbers["libm_vector_ops"] / vector_rate)
        / hertz,
        "local_memory": 2 * moved / numbers["local_memory_bytes_per_cycle"] / hertz,
        "issue": step.instructions * numbers["issue_cycles"] / hertz,
        "gather": step.gathered * numbers["gather_ns"] * 1e-9,
    }


def _dot_seconds(step: Step, numbers: Mapping[str, float], hertz: float) -> float:
    """One streamed row per cycle against 32 cached rows: tiles × 32 × (tile bytes / element bytes) products per cycle."""
    if step.dot is None:
        return 0.0
    m, n, k = step.dot
    chunk = numbers["dpe_tile_bytes"] / step.element_bytes
    products = math.ceil(m / 32) * 32 * math.ceil(n / 32) * 32 * math.ceil(k / chunk) * chunk
    return products / (numbers["dpe_tiles"] * 32 * chunk * hertz * numbers["dpe_efficiency_fraction"])


def _dram_bytes(work: Work, numbers: Mapping[str, float], total: float) -> float:
    """Return bytes to and from DRAM: each byte that is not resident once; of the re-reads, the share that shared SRAM cannot hold."""
    cold = max(work.unique_bytes - work.resident_bytes, 0.0)
    spilled = 1.0 - min(1.0, numbers["sram_bytes"] / max(work.unique_bytes, 1.0))
    return cold + max(total - work.unique_bytes, 0.0) / work.broadcast * spilled


def _floor(work: Work, numbers: Mapping[str, float]) -> float:
    """Return the least time that peaks allow, whatever the schedule."""
    dots = math.prod(work.step.dot) * 2.0 * work.steps * work.programs if work.step.dot else 0.0
    peak = (
        numbers["dpe_tiles"]
        * 32
        * numbers["dpe_tile_bytes"]
        / work.step.element_bytes
        * 2
        * numbers["clock_ghz"]
        * 1e9
        * numbers["processing_elements"]
    )
    cold = max(work.unique_bytes - work.resident_bytes, 0.0)
    return max(dots / peak, cold / (numbers["dram_gb_per_s"] * 1e9 * numbers["dram_efficiency_fraction"]))


def _counters(work: Work, numbers: Mapping[str, float], seconds: float, terms: Mapping[str, float]) -> dict[str, float]:
    elements = numbers["processing_elements"]
    waves = math.ceil(work.programs / elements)
    moved = (work.step.loaded_bytes + work.step.stored_bytes) * work.steps * work.programs
    busy = {f"{name}_utilisation": min(1.0, value / seconds) for name, value in terms.items() if name != "launch"}
    ordered = sorted((value for name, value in terms.items() if name != "launch"), reverse=True)
    return {
        **busy,
        "stall_fraction": max(0.0, 1.0 - ordered[0] / seconds),
        "sram_bytes": moved / work.broadcast,
        "dram_bytes": _dram_bytes(work, numbers, moved),
        "waves": float(waves),
        "load_balance": work.programs / (waves * elements),
        "second_term_ratio": next(itertools.islice(ordered, 1, None), 0.0) / ordered[0] if ordered[0] else 0.0,
    }
