"""Bandwidth and latency of each level of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from evaluation.device_facts import assembly, kernels
from evaluation.device_facts.groups import Arm, Group, Setting, relative_error

_LINE = 16
"""Words of 8 bytes of one hop of a chase: 128 bytes."""
_MIB = 1 << 20


def hbm(setting: Setting) -> Sequence[Arm]:
    """Return streams over 1 GiB (a copy reads and writes as much)."""
    count = setting.size(256 * _MIB, 1 << 12)
    source, target = setting.random(count), torch.empty(count, device=setting.device)
    sums = torch.empty(setting.multiprocessors * 16, device=setting.device)
    programs, block = (setting.multiprocessors * 16, 1024) if not setting.small else (4, 1024)

    def copied() -> float:
        target.fill_(float("nan"))
        kernels.copy[(programs,)](source, target, count // 16, BLOCK=block, HINT=16, LOAD="", STORE="", num_warps=4)
        return relative_error(target, source)

    return [
        Arm("copy, torch", "GB/s", lambda: target.copy_(source), 8.0 * count),
        Arm(
            "copy, Triton",
            "GB/s",
            lambda: kernels.copy[(programs,)](source, target, count // 16, BLOCK=block, HINT=16, LOAD="", STORE="", num_warps=4),
            8.0 * count,
            copied,
        ),
        Arm("read", "GB/s", lambda: kernels.read[(programs,)](source, sums, count, 1, BLOCK=block, num_warps=4), 4.0 * count),
        Arm("write", "GB/s", lambda: kernels.fill[(count // block,)](target, count, BLOCK=block, num_warps=4), 4.0 * count),
    ]


def l2(setting: Setting) -> Sequence[Arm]:
    """Return repeated reads of buffers that fit in the second level, one that does not, and shared memory."""
    arms = []
    programs = setting.size(setting.multiprocessors * 8, 2)
    sums = torch.empty(programs, device=setting.device)
    for mib in (4, 16, 32, 256):
        block = 1024
        count = setting.size(mib * _MIB // 4, 4096) // (programs * block) * programs * block or programs * block
        repeats = setting.size(max(2, 512 // mib), 2)
        source = setting.random(count)
        arms.append(
            Arm(f"read of {mib} MiB, repeated", "GB/s", _reading(source, sums, count, repeats, programs, block), 4.0 * count * repeats)
        )
    turns, threads = setting.size(2048, 2), 1024
    blocks = setting.multiprocessors * 2
    target = torch.empty(blocks * threads, dtype=torch.int32, device=setting.device)
    asm = assembly.shared_stream()
    arms.append(
        Arm(
            "shared memory, 16 B a thread",
            "GB/s",
            lambda: kernels.loop[(blocks,)](target, target, turns, ASM=asm, SCALE=16, THREADS=threads, num_warps=32),
            16.0 * assembly.UNROLL * turns * threads * blocks,
        )
    )
    return arms


def _reading(source: torch.Tensor, sums: torch.Tensor, count: int, repeats: int, programs: int, block: int) -> Callable[[], object]:
    return lambda: kernels.read[(programs,)](source, sums, count, repeats, BLOCK=block, num_warps=4)


def chain(num_bytes: int, setting: Setting) -> torch.Tensor:
    """Return a ring of addresses in random order, one each 128 bytes, as int64 words."""
    slots = num_bytes // (8 * _LINE)
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    order = torch.randperm(slots, generator=generator, device=setting.device)
    ring = torch.zeros(slots * _LINE, dtype=torch.int64, device=setting.device)
    ring[order * _LINE] = ring.data_ptr() + order.roll(-1) * (8 * _LINE)
    return ring


def _latency(
    first: torch.Tensor, turns: int, asm: str, warm: bool = False
) -> tuple[Callable[[], object], Callable[[int], Callable[[], float]]]:
    """Return how to chase, and how to sample the cycles (0) or the nanoseconds (1) of a hop.

    A chase through global memory goes on where the one before it ended: a ring larger than the caches is then never found in them.

    Args:
        first: Address at which each lane starts, int64 or (shared memory) int32 of shape (32,).
        turns: Turns of the loop of a sample.
        asm: What `assembly.chase` or `assembly.shared_chase` returned.
        warm: Chase once untimed before each sample: the arms take turns, and the others' data would be found in the cache instead.
    """
    out = [torch.zeros(32, dtype=torch.int64, device=first.device) for _ in range(3)]

    def run() -> object:
        return kernels.chase[(1,)](first, out[0], out[1], out[2], turns, ASM=asm, num_warps=1)

    def sampling(which: int) -> Callable[[], float]:
        def sample() -> float:
            if warm:
                run()
            run()
            spent = float(out[which].max()) / (turns * assembly.UNROLL)
            if first.dtype is out[2].dtype:
                first.copy_(out[2])
            return spent

        return sample

    return run, sampling


def latency(setting: Setting) -> Sequence[Arm]:
    """Return chases through buffers of growing size.

    A pass over the buffer comes first where it fits into the L2; the L1 is emptied between launches, so its short ring is walked so often in one that the first walk
    does not count.
    """
    arms: list[Arm] = []
    for name, num_bytes, modifier in (
        ("L1, 16 KiB", 16 << 10, "ca"),
        ("L2, 2 MiB", 2 * _MIB, "cg"),
        ("L2, 24 MiB", 24 * _MIB, "cg"),
        ("HBM, 256 MiB", 256 * _MIB, "cg"),
        ("HBM, 4 GiB", 4096 * _MIB, "cg"),
    ):
        ring = chain(setting.size(num_bytes, 1 << 12), setting)
        # The ring's slots are in random order, so any of them is a fair start; through the L2 every sample is one whole walk.
        hops = ring.numel() // _LINE if "L2" in name else setting.size(65536, 64)
        run, sampling = _latency(
            ring[:: ring.numel()].expand(32).contiguous(), max(1, hops // assembly.UNROLL), assembly.chase(modifier), warm="L2" in name
        )
        arms += _both(name, run, sampling, ring)
    return arms


def shared_latency(setting: Setting) -> Sequence[Arm]:
    """Return chases through shared memory where 1 to 32 lanes of a warp share a bank."""
    lanes = torch.arange(32, dtype=torch.int32, device=setting.device)
    asm = assembly.shared_chase()
    arms: list[Arm] = []
    for stride in (1, 2, 4, 8, 16, 32):
        run, sampling = _latency(lanes * (4 * stride), setting.size(4096, 2), asm)
        name = "no conflict" if stride == 1 else f"{stride} lanes a bank"
        arms.append(Arm(name, "cycles", run, sample=sampling(0)))
    return arms


def _both(name: str, run: Callable[[], object], sampling: Callable[[int], Callable[[], float]], keep: torch.Tensor) -> Sequence[Arm]:
    """Return the cycles and the nanoseconds of one chase; `keep` stays alive as long as the arms, for the kernel knows its address alone."""

    def held() -> object:
        return run(), keep

    return [Arm(name, "cycles", held, sample=sampling(0)), Arm(f"{name}, by time", "ns", held, sample=sampling(1))]


GROUPS = (
    Group("hbm", "Device memory bandwidth", "float32, 1 GiB in each tensor; a copy counts the bytes read and written.", hbm),
    Group(
        "l2",
        "L2 and shared memory bandwidth",
        "The same buffer is read again and again with `.cg`, each program another part each time; shared memory: `ld.shared.v4`, 2048 threads an SM.",
        l2,
    ),
    Group("latency", "Latency of a dependent load", "One warp follows addresses in random order, 128 bytes apart.", latency),
    Group(
        "bank_conflicts",
        "Latency of shared memory with bank conflicts",
        "One warp, dependent 4-byte loads, the lanes' words 1 to 32 words apart.",
        shared_latency,
        baseline="no conflict",
    ),
)
