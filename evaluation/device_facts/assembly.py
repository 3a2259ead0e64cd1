"""PTX for `tl.inline_asm_elementwise`: what the language has no words for. Needs no device; every text is one scope, so names and labels stay inside it."""

from __future__ import annotations

from dataclasses import dataclass

UNROLL = 8
"""Dependent loads, or independent products, of one turn of a loop."""


@dataclass(frozen=True)
class Instruction:
    """One `mma.sync` instruction."""

    name: str
    """The instruction without `mma.sync.aligned.`."""
    flops: int
    """Operations of one warp: 2 x M x N x K."""
    a_registers: int
    b_registers: int
    accumulator: str
    """PTX type of the four accumulator registers."""


MMA_SYNC = {
    "fp16": Instruction("m16n8k16.row.col.f32.f16.f16.f32", 2 * 16 * 8 * 16, 4, 2, "f32"),
    "bf16": Instruction("m16n8k16.row.col.f32.bf16.bf16.f32", 2 * 16 * 8 * 16, 4, 2, "f32"),
    "tf32": Instruction("m16n8k8.row.col.f32.tf32.tf32.f32", 2 * 16 * 8 * 8, 4, 2, "f32"),
    "int8": Instruction("m16n8k32.row.col.s32.s8.s8.s32", 2 * 16 * 8 * 32, 4, 2, "s32"),
}


def chase(modifier: str) -> str:
    """Return a pointer chase through global memory: (cycles, nanoseconds, last address) of (first address, turns); `UNROLL` hops a turn.

    Args:
        modifier: `ca` (all caches) or `cg` (not the first level).
    """
    hops = "\n".join(f"ld.global.{modifier}.b64 at, [at];" for _ in range(UNROLL))
    return _timed("mov.b64 at, $3;", hops, "mov.b64 $2, at;", ".reg .b64 at;", turns="$4")


def shared_chase() -> str:
    """Return a chase through shared memory: (cycles, nanoseconds, last address) of (lane times stride in bytes, turns).

    Each lane follows a word that holds its own address; lanes whose words share a bank wait for each other.
    """
    hops = "\n".join("ld.volatile.shared.b32 at, [at];" for _ in range(UNROLL))
    first = "mov.u32 at, pool;\nadd.u32 at, at, $3;\nst.volatile.shared.b32 [at], at;\nbar.warp.sync 0xffffffff;"
    names = ".reg .b32 at;\n.shared .align 16 .b8 pool[4096];"
    return _timed(first, hops, "cvt.u64.u32 $2, at;", names, turns="$4")


def shared_stream() -> str:
    """Return reads of 16 bytes a thread from shared memory: a sum of (thread times 16, turns); `UNROLL` reads a turn. Blocks have at most 1024 threads."""
    reads = "\n".join(f"ld.volatile.shared.v4.b32 {{w0, w1, w2, w3}}, [at];\nxor.b32 s{i % 4}, s{i % 4}, w{i % 4};" for i in range(UNROLL))
    return f"""{{
.reg .pred more;
.reg .b32 left, at, w0, w1, w2, w3, s0, s1, s2, s3;
.shared .align 16 .b8 pool[16384];
mov.u32 at, pool;
add.u32 at, at, $1;
mov.b32 s0, 0; mov.b32 s1, 0; mov.b32 s2, 0; mov.b32 s3, 0;
st.volatile.shared.v4.b32 [at], {{s0, s1, s2, s3}};
mov.b32 left, $2;
again:
{reads}
sub.s32 left, left, 1;
setp.gt.s32 more, left, 0;
@more bra again;
xor.b32 s0, s0, s1;
xor.b32 s2, s2, s3;
xor.b32 $0, s0, s2;
}}"""


def mma_stream(instruction: Instruction) -> str:
    """Return products on registers: a sum of (bits of the operands, turns); `UNROLL` independent accumulators, one product each a turn."""
    kind = instruction.accumulator
    sums = [[f"c{product * 4 + i}" for i in range(4)] for product in range(UNROLL)]
    a = [f"a{i}" for i in range(instruction.a_registers)]
    b = [f"b{i}" for i in range(instruction.b_registers)]
    zero = "0f00000000" if kind == "f32" else "0"
    starts = [f"mov.{kind} {name}, {zero};" for quad in sums for name in quad]
    operands = [f"mov.b32 {name}, $1;" for name in (*a, *b)]
    products = [
        f"mma.sync.aligned.{instruction.name} {{{', '.join(quad)}}}, {{{', '.join(a)}}}, {{{', '.join(b)}}}, {{{', '.join(quad)}}};"
        for quad in sums
    ]
    added = [f"add.{kind} c0, c0, {name};" for quad in sums for name in quad if name != "c0"]
    listed = "\n".join
    return f"""{{
.reg .pred more;
.reg .b32 left, {", ".join((*a, *b))};
.reg .{kind} {", ".join(name for quad in sums for name in quad)};
{listed(operands)}
{listed(starts)}
mov.b32 left, $2;
again:
{listed(products)}
sub.s32 left, left, 1;
setp.gt.s32 more, left, 0;
@more bra again;
{listed(added)}
mov.b32 $0, c0;
}}"""


def _timed(first: str, body: str, last: str, names: str, *, turns: str) -> str:
    """Return a loop between two readings of the clocks; $0 is cycles, $1 nanoseconds."""
    return f"""{{
.reg .pred more;
.reg .b32 left;
.reg .b64 c0, c1, n0, n1;
{names}
{first}
mov.b32 left, {turns};
mov.u64 n0, %globaltimer;
mov.u64 c0, %clock64;
again:
{body}
sub.s32 left, left, 1;
setp.gt.s32 more, left, 0;
@more bra again;
{last}
mov.u64 c1, %clock64;
mov.u64 n1, %globaltimer;
sub.u64 $0, c1, c0;
sub.u64 $1, n1, n0;
}}"""
