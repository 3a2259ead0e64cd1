"""Causes of slowness, one rule each: which figures show it, how strongly, what to ask next. A rule that lacks its figures says so and claims nothing.

Thresholds are rules of thumb, stated beside each rule; they rank causes, they do not measure them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tools.profiling.causes import Cause, ProfileDiagnosis
from tools.profiling.host_rules import host_causes
from tools.profiling.types import Figure, KernelProfile, Profile
from tools.types import Evidence


@dataclass(frozen=True)
class Seen:
    """What a rule finds in one kernel."""

    claim: str
    severity: float
    """Share of the kernel's time that it may account for, 0 to 1."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Rule:
    """One cause."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """Alternatives: the rule can judge a kernel that has all figures of one of them."""
    judge: Callable[[View], Seen | None]
    questions: tuple[str, ...]

    @property
    def is_static(self) -> bool:
        """True if a compiled kernel that never ran can show it."""
        return any(set(names) <= STATIC for names in self.needs)


STATIC = frozenset(
    {
        "registers_per_thread", "spill_bytes", "shared_per_block_bytes", "num_warps", "occupancy_limit_fraction", "widest_load_bytes", "narrowest_load_bytes", "binary_bytes", "num_matrix_kinds",
        "programs", "static_float64", "static_conversions", "static_atomics", "static_arithmetic", "static_async_copies", "static_global_loads", "static_barriers", "static_divisions", "static_dots",
        "static_wide_integer", "static_instructions", "static_loops", "static_masked_loads", "static_special",
    }
)  # fmt: skip
"""Figures that need no run."""


class View:
    """One kernel as rules see it, with the target's limits."""

    def __init__(self, kernel: KernelProfile, limits: Mapping[str, float]) -> None:
        self.kernel = kernel
        self.limits = limits

    def __call__(self, name: str) -> float | None:
        return self.kernel.value(name)

    def seen(self, claim: str, severity: float, *names: str) -> Seen:
        """Return a finding with the figures behind it."""
        figures = tuple(figure for name in names if (figure := self.kernel.figure(name)) is not None)
        return Seen(claim, min(1.0, max(0.0, severity)), figures)

    def first(self, *names: str) -> float | None:
        """Return the first figure that is known."""
        return next((value for name in names if (value := self(name)) is not None), None)


def _spills(view: View) -> Seen | None:
    spilled = view("spill_bytes") or 0.0
    local = (view("local_load_requests") or 0.0) + (view("local_store_requests") or 0.0)
    total = local + (view("global_load_requests") or 0.0) + (view("global_store_requests") or 0.0)
    if spilled <= 0 and (not total or local / total < 0.05):
        return None
    severity = 0.35 + min(0.5, spilled / 1024) if spilled else min(0.9, 2 * local / total)
    return view.seen("Registers do not suffice: values are written to and read from local memory.", severity, "spill_bytes", "local_load_requests", "registers_per_thread")  # fmt: skip


def _uncoalesced(view: View) -> Seen | None:
    worst: tuple[float, str] | None = None
    for kind in ("load", "store"):
        used = view(f"global_{kind}_bytes_per_sector")
        if used is not None and 0 < used < 20:  # of the 32 bytes of a sector
            worst = max(worst or (0.0, ""), (1 - used / 32, f"global_{kind}_bytes_per_sector"))
        sectors = view(f"sectors_per_{kind}_request")
        if used is None and sectors is not None and sectors > 17:  # 16 sectors are a full 16-byte access of each lane
            worst = max(worst or (0.0, ""), (1 - 4 / sectors, f"sectors_per_{kind}_request"))
    if worst is None:
        return None
    return view.seen("Neighbouring lanes touch distant addresses: each access fetches sectors of which little is used.", worst[0], worst[1], "sectors_per_load_request")  # fmt: skip


def _narrow(view: View) -> Seen | None:
    widest, narrowest = view("widest_load_bytes"), view("narrowest_load_bytes")
    if widest is None or widest > 4 or (view("num_matrix_kinds") or 0) > 0:
        return None
    claim = f"No load moves more than {widest:.0f} bytes a thread (16 are possible): the compiler cannot prove that addresses are contiguous and aligned, so accesses are narrow or scattered."
    return view.seen(claim, 0.45 if (narrowest or widest) <= 2 else 0.35, "widest_load_bytes", "narrowest_load_bytes")


def _occupancy(view: View) -> Seen | None:
    achieved, possible = view("occupancy_fraction"), view("occupancy_limit_fraction")
    level = achieved if achieved is not None else possible
    matrix = (view("num_matrix_kinds") or 0) > 0 or (view("tensor_pipe_fraction") or 0) > 0.1
    bound = 0.12 if matrix else 0.26  # matrix kernels live with few warps, since their loads are asynchronous
    if level is None or level >= bound or (view("memory_peak_fraction") or 0) > 0.7 or (view("compute_peak_fraction") or 0) > 0.7:
        return None
    name = (
        f" ({view.kernel.limiter.replace('_', ' ')} limit it)" if view.kernel.limiter and possible is not None and possible < bound else ""
    )
    return view.seen(f"Too few warps are resident to hide latency{name}.", 0.55 * (1 - level), "occupancy_fraction", "occupancy_limit_fraction", "registers_per_thread", "shared_per_block_bytes")  # fmt: skip


def _conflicts(view: View) -> Seen | None:
    share = view("bank_conflict_fraction")
    if share is None or share < 0.2 or (view("shared_bank_conflicts") or 0) < 1000:
        return None
    return view.seen(
        "Lanes of a warp hit the same bank of shared memory and wait for each other.",
        share,
        "bank_conflict_fraction",
        "shared_bank_conflicts",
    )


def _few_programs(view: View) -> Seen | None:
    programs = view.first("programs", "grid_size")
    count = view.limits.get("multiprocessors")
    if programs is None or not count or programs >= count:
        return None
    return view.seen(f"{programs:.0f} programs leave {count - min(programs, count):.0f} of {count:.0f} multiprocessors without work.", 1 - programs / count, "programs", "grid_size")  # fmt: skip


def _tail(view: View) -> Seen | None:
    imbalance, waves = view("imbalance_fraction"), view("waves")
    if imbalance is not None and imbalance > 0.3:
        return view.seen(
            "Some multiprocessors finish long before others: work is uneven, or a few programs run on alone.",
            imbalance,
            "imbalance_fraction",
            "waves",
        )
    if waves is None or not 1.0 < waves < 2.5 or waves % 1 < 0.05 or waves % 1 > 0.6:
        return None
    return view.seen(f"The last of {waves:.2f} waves fills the chip only partly.", (1 - waves % 1) / (waves + 1), "waves")


def _dram(view: View) -> Seen | None:
    share = view.first("dram_peak_fraction", "dram_of_peak_fraction")
    if share is None or share < 0.6:
        return None
    return view.seen(
        f"Device memory works at {share:.0%} of its peak: only fewer bytes make it faster.",
        share,
        "dram_peak_fraction",
        "dram_of_peak_fraction",
        "dram_bytes",
    )


def _redundant(view: View) -> Seen | None:
    if _spills(view) is not None:
        return None  # the traffic is that of the spilled registers
    moved, needed, launches = view("dram_bytes"), view("tensor_bytes"), view.kernel.launches
    if moved is not None and needed and launches and moved / launches > 2 * needed:
        ratio = moved / launches / needed
        return view.seen(f"Device memory moves {ratio:.1f} times the bytes of the tensors: data is fetched again after falling out of the L2.", 1 - 1 / ratio, "dram_bytes", "tensor_bytes", "l2_hit_fraction")  # fmt: skip
    hit, share = view("l2_hit_fraction"), view.first("dram_peak_fraction", "dram_of_peak_fraction")
    l2, dram = view("l2_bytes"), view("dram_bytes")
    if hit is None or hit > 0.4 or (share or 0) < 0.4 or not l2 or not dram or dram / l2 < 0.7 or (view("num_matrix_kinds") or 0) == 0:
        return None
    return view.seen(f"Only {hit:.0%} of accesses hit the L2 although operands are reused: the order of programs defeats the cache.", 0.5, "l2_hit_fraction", "l2_bytes", "dram_bytes")  # fmt: skip


def _matrix_bound(view: View) -> Seen | None:
    share = view("tensor_pipe_fraction")
    if share is None or share < 0.6:
        return None
    return view.seen(
        f"The matrix units are busy {share:.0%} of the time: fewer or narrower operations are what is left.", share, "tensor_pipe_fraction"
    )


def _no_matrix(view: View) -> Seen | None:
    dots, kinds = view("static_dots"), view("num_matrix_kinds")
    if not dots or kinds is None or kinds > 0:
        return None
    return view.seen(
        "A dot is computed by vector units: dtype, precision or tile size keeps the matrix units out.",
        0.85,
        "static_dots",
        "num_matrix_kinds",
    )


def _single_stage(view: View) -> Seen | None:
    kinds, copies, loads, loops = view("num_matrix_kinds"), view("static_async_copies"), view("static_global_loads"), view("static_loops")
    if not kinds or copies is None or copies > 0 or not loads or not loops:
        return None
    return view.seen("Operands of the dot are loaded and waited for in each turn: nothing is fetched ahead (one stage).", 0.5, "static_async_copies", "static_global_loads", "num_matrix_kinds")  # fmt: skip


def _float64(view: View) -> Seen | None:
    count = view.first("static_float64", "thread_dfma", "thread_dadd")
    if not count or (view("static_float64") is not None and count < 2):
        return None
    return view.seen(
        "It computes in float64: on most chips at a small fraction of the float32 rate.",
        0.7,
        "static_float64",
        "thread_dfma",
        "thread_dadd",
    )


def _conversions(view: View) -> Seen | None:
    converted, arithmetic = view("static_conversions"), view("static_arithmetic")
    if converted is not None and arithmetic is not None:
        share = converted / max(converted + arithmetic, 1)
        if converted >= 16 and share > 0.4:
            return view.seen(
                "Conversions between dtypes are a large part of the arithmetic.", 0.3 * share, "static_conversions", "static_arithmetic"
            )
        return None
    ran, total = view.first("instructions_op_conversion", "instructions_convert"), view.first("warp_instructions", "instructions_valu")
    if ran is None or not total or ran / total < 0.15:
        return None
    return view.seen(
        "Conversions between dtypes are a large part of the instructions.",
        ran / total,
        "instructions_op_conversion",
        "instructions_convert",
    )


def _atomics(view: View) -> Seen | None:
    ran = (view("atomic_sectors") or 0) + (view("reduction_sectors") or 0) + (view("atomic_requests") or 0)
    if ran:
        total = view.first("global_store_sectors", "global_load_sectors") or 0.0
        if ran < 1000 or ran < 0.05 * total:
            return None
        return view.seen(
            "Atomic updates are serialised where they meet in memory.",
            min(0.9, 0.3 + ran / (ran + total)),
            "atomic_sectors",
            "reduction_sectors",
            "atomic_requests",
        )
    return (
        view.seen("It updates memory with atomics; whether they collide shows only when it runs.", 0.4, "static_atomics")
        if view("static_atomics")
        else None
    )


def _divisions(view: View) -> Seen | None:
    count, all_ = view("static_divisions"), view("static_instructions")
    if not count or not all_ or count < 4:
        return None
    return view.seen("Integer divisions or remainders by values not known to the compiler: tens of instructions each.", min(0.5, 0.1 + 20 * count / all_), "static_divisions", "static_instructions")  # fmt: skip


def _special(view: View) -> Seen | None:
    count, others = view("static_special"), view("static_arithmetic")
    if not count or others is None or count < 8:
        return None
    share = (
        8 * count / (8 * count + others)
    )  # 16 results a cycle and multiprocessor against 128 (CUDA C++ Programming Guide, arithmetic throughput, 9.0)
    if share < 0.4:
        return None
    return view.seen(
        "Transcendental functions take a large part of the arithmetic: they run at an eighth of the rate.",
        0.25 * share,
        "static_special",
        "static_arithmetic",
    )


def _stalls(reason: str, claim: str) -> Callable[[View], Seen | None]:
    def judge(view: View) -> Seen | None:
        stalls = [
            figure
            for figure in view.kernel.group("stall")
            if figure.unit != "cycles" and not figure.name.endswith(("_selected", "_not_issued"))
        ]
        total = sum(figure.value for figure in stalls)
        value = view(f"stall_{reason}")
        if not value or not total or value / total < 0.35 or value < 1.0:
            return None
        return view.seen(claim, 0.6 * value / total, f"stall_{reason}")

    return judge


def _latency(view: View) -> Seen | None:
    memory, compute = view.first("memory_peak_fraction", "dram_of_peak_fraction"), view("compute_peak_fraction")
    if memory is None or compute is None or memory > 0.6 or compute > 0.6:
        return None
    return view.seen(f"Neither memory ({memory:.0%} of peak) nor arithmetic ({compute:.0%}) is busy: it waits for latencies.", 0.3 * (1 - max(memory, compute)), "memory_peak_fraction", "compute_peak_fraction")  # fmt: skip


def _issue(view: View) -> Seen | None:
    busy = view.first("issue_active_fraction")
    if busy is None or busy < 0.7 or (view("tensor_pipe_fraction") or 0) > 0.5:
        return None
    return view.seen(
        f"Instructions are issued in {busy:.0%} of the cycles: fewer instructions make it faster.",
        busy,
        "issue_active_fraction",
        "warp_instructions",
    )


def _compute(view: View) -> Seen | None:
    share = view("compute_peak_fraction")
    if (
        share is None
        or share < 0.8
        or (view("tensor_pipe_fraction") or 0) > 0.5
        or (view.first("dram_peak_fraction", "dram_of_peak_fraction") or 0) > share
    ):
        return None
    claim = f"The multiprocessors are busy: one of their pipes works at {share:.0%} of its peak. Only less arithmetic, or arithmetic on another pipe such as the matrix units, makes it faster."
    return view.seen(claim, share, "compute_peak_fraction", "issue_active_fraction")


def _divergence(view: View) -> Seen | None:
    active = view("active_threads_per_warp")
    if active is None or active > 22:
        return None
    return view.seen(f"On average {active:.0f} of 32 lanes are active.", 1 - active / 32, "active_threads_per_warp")


def _model_unit(view: View) -> Seen | None:
    busy = [figure for figure in view.kernel.figures if figure.evidence is Evidence.SIMULATED and figure.name.endswith("_busy_fraction")]
    top = max(busy, key=lambda figure: figure.value, default=None)
    if top is None or top.value < 0.4:
        return None
    unit = top.name.removesuffix("_busy_fraction")
    return view.seen(f"By the model {unit.replace('_', ' ')} is the busiest unit ({top.value:.0%}).", top.value, top.name)


RULES: tuple[Rule, ...] = (
    Rule("register_spills", (("spill_bytes",), ("local_load_requests",)), _spills, ("avoid register spills in a Triton kernel", "smaller tiles or more warps")),
    Rule("uncoalesced_access", (("global_load_bytes_per_sector",), ("sectors_per_load_request",), ("sectors_per_store_request",)), _uncoalesced, ("coalesced memory access", "transpose through shared memory")),
    Rule("narrow_loads", (("widest_load_bytes",),), _narrow, ("vectorised 16-byte loads, alignment and contiguity hints", "coalesced memory access")),
    Rule("low_occupancy", (("occupancy_fraction",), ("occupancy_limit_fraction",)), _occupancy, ("raise occupancy: registers, shared memory and num_warps",)),
    Rule("bank_conflicts", (("bank_conflict_fraction",),), _conflicts, ("shared memory bank conflicts, swizzling and padding",)),
    Rule("too_few_programs", (("programs",), ("grid_size",)), _few_programs, ("grid too small: split the work, split-K, split reductions",)),
    Rule("uneven_work", (("imbalance_fraction",), ("waves",)), _tail, ("tail effect and load balance: persistent kernels, wave quantisation",)),
    Rule("dram_bandwidth", (("dram_peak_fraction",), ("dram_of_peak_fraction",)), _dram, ("reduce memory traffic: fusion, narrower dtypes",)),
    Rule("redundant_traffic", (("dram_bytes", "tensor_bytes"), ("l2_hit_fraction", "l2_bytes")), _redundant, ("L2 reuse: grouped program order, tile sizes",)),
    Rule("matrix_bound", (("tensor_pipe_fraction",),), _matrix_bound, ("matrix unit throughput: tile shapes, wgmma, narrower dtypes",)),
    Rule("no_matrix_unit", (("static_dots", "num_matrix_kinds"),), _no_matrix, ("make tl.dot use tensor cores: dtypes, tf32, tile sizes",)),
    Rule("single_stage_pipeline", (("static_async_copies", "num_matrix_kinds"),), _single_stage, ("software pipelining: num_stages, asynchronous copies, TMA",)),
    Rule("float64_arithmetic", (("static_float64",), ("thread_dfma",)), _float64, ("accidental float64 in a kernel: scalar arguments and constants",)),
    Rule("needless_conversions", (("static_conversions", "static_arithmetic"), ("instructions_op_conversion",), ("instructions_convert",)), _conversions, ("avoid dtype conversions in the inner loop",)),
    Rule("atomics", (("static_atomics",), ("atomic_sectors",), ("reduction_sectors",), ("atomic_requests",)), _atomics, ("replace atomics by two-stage reductions",)),
    Rule("integer_divisions", (("static_divisions",),), _divisions, ("index arithmetic without division and modulo",)),
    Rule("special_functions", (("static_special", "static_arithmetic"),), _special, ("cheaper exp, log, tanh: exp2, approximations",)),
    Rule("waits_for_barriers", (("stall_barrier",),), _stalls("barrier", "Warps wait for each other at barriers."), ("fewer barriers: reductions within a warp, warp specialisation",)),
    Rule("waits_for_memory", (("stall_long_scoreboard",),), _stalls("long_scoreboard", "Warps wait for data from device memory or the L2."), ("prefetch and more loads in flight",)),
    Rule("waits_for_shared_memory", (("stall_short_scoreboard",), ("stall_mio_throttle",)), _stalls("short_scoreboard", "Warps wait for shared memory or special functions."), ("shared memory access patterns",)),
    Rule("latency_bound", (("memory_peak_fraction", "compute_peak_fraction"),), _latency, ("latency-bound kernels: more parallelism, more loads in flight",)),
    Rule("issue_bound", (("issue_active_fraction",),), _issue, ("reduce instruction count: vectorise, hoist, cheaper arithmetic",)),
    Rule("compute_bound", (("compute_peak_fraction",),), _compute, ("fewer or cheaper instructions: algorithm, precision, matrix units",)),
    Rule("divergence", (("active_threads_per_warp",),), _divergence, ("branch divergence and masks",)),
    Rule("busiest_unit", (("dma_busy_fraction",),), _model_unit, ("MTIA: balance DMA, dot product engine and vector cores",)),
)  # fmt: skip
"""In no order; causes are ordered by weight."""


def diagnose_profile(profile: Profile, limits: Mapping[str, float]) -> ProfileDiagnosis:
    """Return the dominant cause, the deferred ones, and what cannot be told from the figures.

    Args:
        limits: The target's numbers by name; rules that need one that is missing are silent.
    """
    found: list[Cause] = []
    judged: set[str] = set()
    shares = _shares(profile)
    for kernel in profile.kernels:
        if kernel.kind != "kernel":
            continue
        view = View(kernel, limits)
        for rule in RULES:
            if not any(all(view(name) is not None for name in names) for names in rule.needs):
                continue
            judged.add(rule.name)
            seen = rule.judge(view)
            if seen is not None:
                found.append(_cause(rule, seen, kernel, shares[kernel.name]))
    found += host_causes(profile)
    ordered = sorted(found, key=lambda cause: (-cause.weight, cause.name, cause.kernel))
    has_kernels = any(kernel.kind == "kernel" for kernel in profile.kernels)
    cannot = tuple(rule.name for rule in RULES if rule.name not in judged and rule.name != "busiest_unit") if has_kernels else ()
    questions = tuple(dict.fromkeys(question for cause in ordered[:3] for question in cause.questions))
    return ProfileDiagnosis(ordered[0] if ordered else None, tuple(ordered[1:]), cannot, questions)


def _cause(rule: Rule, seen: Seen, kernel: KernelProfile, share: float) -> Cause:
    evidence = tuple(
        f"{figure.name} = {figure.value:.6g}{'' if figure.unit == '1' else ' ' + figure.unit} ({figure.source})" for figure in seen.figures
    )
    weakest = max(
        (figure.evidence for figure in seen.figures),
        key=[Evidence.MEASURED, Evidence.COMPILED, Evidence.SIMULATED].index,
        default=Evidence.MEASURED,
    )
    return Cause(rule.name, seen.claim, evidence, seen.severity * share, kernel.name, rule.questions, weakest)


def _shares(profile: Profile) -> dict[str, float]:
    """Return each kernel's share of the time; all alike where nothing ran."""
    kernels = [kernel for kernel in profile.kernels if kernel.kind == "kernel"]
    total = profile.device_time_us
    span = profile.host_value("device_span_us")
    whole = max(total, span or 0.0)
    return {
        kernel.name: kernel.time_us / whole if whole and kernel.time_us else 1.0 / len(kernels) if not total else 0.0 for kernel in kernels
    }
