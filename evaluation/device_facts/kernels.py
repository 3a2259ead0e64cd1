# mypy: ignore-errors
"""The kernels that are measured: small, fixed, and equal but for what a figure varies."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def nothing(first, second, third, count):
    """Do nothing: what is timed is the launch."""


@triton.jit(do_not_specialize=["units"])
def copy(source, target, units, BLOCK: tl.constexpr, HINT: tl.constexpr, LOAD: tl.constexpr, STORE: tl.constexpr):
    """Copy `units * HINT` elements with a loop over the grid; `HINT` is all that the compiler knows of the divisibility of the mask's bound."""
    count = units * HINT  # `tl.multiple_of` on an argument of the kernel is lost: the hint needs an operation to stand on
    for start in range(tl.program_id(0) * BLOCK, count, tl.num_programs(0) * BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < count
        values = tl.load(source + at, mask=inside, eviction_policy=LOAD)
        tl.store(target + at, values, mask=inside, eviction_policy=STORE)


@triton.jit
def read(source, target, count, repeats, BLOCK: tl.constexpr):
    """Read `count` elements `repeats` times, past the first level of cache, and keep one sum a program. `count` is a multiple of `BLOCK`."""
    total = tl.zeros((BLOCK,), tl.float32)
    for repeat in range(repeats):
        # Each turn a program reads what another one read before, so that only a level that all share can serve it.
        shifted = ((tl.program_id(0) + repeat * 37) % tl.num_programs(0)) * BLOCK
        for start in range(shifted, count, tl.num_programs(0) * BLOCK):
            total += tl.load(source + start + tl.arange(0, BLOCK), cache_modifier=".cg")
    tl.store(target + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit
def fill(target, count, BLOCK: tl.constexpr):
    """Write `count` elements; `count` is a multiple of `BLOCK`."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + at, tl.full((BLOCK,), 1.0, tl.float32))


@triton.jit
def chase(first, cycles, nanoseconds, last, turns, ASM: tl.constexpr):
    """Follow addresses with one warp; see `assembly.chase` and `assembly.shared_chase`. `first` is int64 for global and int32 for shared memory."""
    lanes = tl.arange(0, 32)
    begin = tl.load(first + lanes)
    narrow: tl.constexpr = begin.dtype == tl.int32
    constraints: tl.constexpr = "=l,=l,=l,r,r" if narrow else "=l,=l,=l,l,r"
    count = tl.full((32,), 0, tl.int32) + turns
    c, n, at = tl.inline_asm_elementwise(ASM, constraints, [begin, count], (tl.int64, tl.int64, tl.int64), is_pure=False, pack=1)
    tl.store(cycles + lanes, c)
    tl.store(nanoseconds + lanes, n)
    tl.store(last + lanes, at)


@triton.jit
def loop(values, target, turns, ASM: tl.constexpr, SCALE: tl.constexpr, THREADS: tl.constexpr):
    """Run a loop of assembly in every thread: on its number times `SCALE`, or on `values` where `SCALE` is 0."""
    lanes = tl.arange(0, THREADS)
    given = tl.load(values + lanes) if SCALE == 0 else lanes * SCALE
    count = tl.full((THREADS,), 0, tl.int32) + turns
    out = tl.inline_asm_elementwise(ASM, "=r,r,r", [given, count], tl.int32, is_pure=False, pack=1)
    tl.store(target + tl.program_id(0) * THREADS + lanes, out)


@triton.jit
def arithmetic(values, target, turns, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Sixteen operations an element and turn on registers: multiply-adds or base-2 exponentials."""
    at = tl.arange(0, BLOCK)
    x = tl.load(values + at)
    for _ in range(turns):
        for _ in tl.static_range(16):
            x = x * 0.999 + 0.001 if KIND == "fma" else tl.exp2(x) - 1.5
    tl.store(target + tl.program_id(0) * BLOCK + at, x)


@triton.jit
def dot_rate(a_ptr, b_ptr, target, turns, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply the same two tiles again and again: what the matrix units give when nothing else is in the way."""
    rows, cols, inner = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    a = tl.load(a_ptr + rows[:, None] * BK + inner[None, :])
    b = tl.trans(tl.load(b_ptr + cols[:, None] * BK + inner[None, :]))  # the only order that all types take
    acc = tl.zeros((BM, BN), ACC)
    for _ in range(turns):
        for _ in tl.static_range(4):
            acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
    tl.store(target + tl.program_id(0) * BM + rows, tl.sum(acc, axis=1))


@triton.jit
def tile_of(pid, num_m, num_n, GROUP_M: tl.constexpr):
    """Return the tile's row and column in an order that walks groups of `GROUP_M` rows."""
    width = GROUP_M * num_n
    first = (pid // width) * GROUP_M
    size = min(num_m - first, GROUP_M)
    return first + (pid % width) % size, (pid % width) // size


@triton.jit
def matmul(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP_M: tl.constexpr,
    PRECISION: tl.constexpr, PAIRS: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """C = A @ B of row-major operands whose sizes are multiples of the tile; with `SPLIT` parts of K added atomically.

    `PAIRS`: each float32 operand as two float16 values, the second scaled by 2048; three products.
    """
    m, n = tile_of(tl.program_id(0), M // BM, N // BN, GROUP_M)
    rows = (m * BM + tl.arange(0, BM)).to(tl.int64)
    cols = n * BN + tl.arange(0, BN)
    ks = tl.program_id(1) * BK + tl.arange(0, BK)
    a_at = a_ptr + rows[:, None] * K + ks[None, :]
    b_at = b_ptr + ks[:, None].to(tl.int64) * N + cols[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    cross = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK * SPLIT):
        a = tl.load(a_at)
        b = tl.load(b_at)
        if PAIRS:
            a_high = a.to(tl.float16)
            b_high = b.to(tl.float16)
            a_low = ((a - a_high.to(tl.float32)) * 2048.0).to(tl.float16)
            b_low = ((b - b_high.to(tl.float32)) * 2048.0).to(tl.float16)
            cross = tl.dot(a_high, b_low, cross)
            cross = tl.dot(a_low, b_high, cross)
            acc = tl.dot(a_high, b_high, acc)
        else:
            acc = tl.dot(a, b, acc, input_precision=PRECISION)
        a_at += BK * SPLIT
        b_at += BK * SPLIT * N
    if PAIRS:
        acc += cross * (1.0 / 2048.0)
    c_at = c_ptr + rows[:, None] * N + cols[None, :]
    if SPLIT == 1:
        tl.store(c_at, acc.to(c_ptr.dtype.element_ty))
    else:
        tl.atomic_add(c_at, acc)


@triton.jit
def matmul_bulk(
    a, b, c, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP_M: tl.constexpr, SPECIALIZE: tl.constexpr, FLATTEN: tl.constexpr,
):  # fmt: skip
    """C = A @ B through tensor descriptors; a grid smaller than the number of tiles makes it persistent."""
    num_m = tl.cdiv(M, BM)
    num_n = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), num_m * num_n, tl.num_programs(0), flatten=FLATTEN, warp_specialize=SPECIALIZE):
        m, n = tile_of(tile, num_m, num_n, GROUP_M)
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(a.load([m * BM, k]), b.load([k, n * BN]), acc)
        c.store([m * BM, n * BN], acc.to(c.dtype))


@triton.jit
def softmax(source, target, COLUMNS: tl.constexpr):
    """Softmax of one row a program."""
    at = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    x = tl.load(source + at).to(tl.float32)
    x = tl.exp(x - tl.max(x, axis=0))
    tl.store(target + at, (x / tl.sum(x, axis=0)).to(target.dtype.element_ty))


@triton.jit
def centre(source, target, columns, BLOCK: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, STAGES: tl.constexpr):
    """Subtract each row's mean, reading the row twice; `columns` is a multiple of `BLOCK`."""
    row = tl.program_id(0).to(tl.int64) * columns
    total = tl.zeros((BLOCK,), tl.float32)
    for start in tl.range(0, columns, BLOCK, num_stages=STAGES):
        total += tl.load(source + row + start + tl.arange(0, BLOCK), eviction_policy=FIRST)
    mean = tl.sum(total, axis=0) / columns
    for start in tl.range(0, columns, BLOCK, num_stages=STAGES):
        at = row + start + tl.arange(0, BLOCK)
        tl.store(target + at, tl.load(source + at, eviction_policy=SECOND) - mean, eviction_policy=SECOND)
