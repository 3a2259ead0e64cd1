"""The planted faults. Each is a Triton kernel with its launch; `is_static` says whether the compiled binary alone can show the fault, which a test holds it to."""

from __future__ import annotations

from dataclasses import dataclass

from tools.types import Candidate, Problem

_HEAD = "import torch\nimport triton\nimport triton.language as tl\n"


@dataclass(frozen=True)
class Planted:
    """One kernel and what is wrong with it."""

    name: str
    cause: str
    """Name of the rule that should fire."""
    is_static: bool
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    """Shape and dtype of each argument of `launch`."""
    source: str

    @property
    def candidate(self) -> Candidate:
        """Return it as a candidate."""
        tail = "\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, *inputs):\n        return launch(*inputs)\n"
        return Candidate(_HEAD + self.source + tail)

    @property
    def problem(self) -> Problem:
        """Return a problem that makes its inputs (it has no reference worth the name: nothing is checked)."""
        made = ", ".join(_input(shape, dtype) for shape, dtype in self.inputs)
        source = f"import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, *inputs):\n        return inputs[0]\n\n\ndef get_inputs():\n    return [{made}]\n\n\ndef get_init_inputs():\n    return []\n"
        return Problem(f"planted/{self.name}", self.name, source)


def _input(shape: tuple[int, ...], dtype: str) -> str:
    return (
        f"torch.randint(0, {min(shape[0], 100) if dtype == 'int8' else shape[0]}, {shape}, dtype=torch.{dtype})"
        if "int" in dtype
        else f"torch.randn({shape}).to(torch.{dtype})"
    )


_GEMM = """
@triton.jit
def kernel(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_ptr + rows[:, None] * K + start + inner[None, :])
        b = tl.load(b_ptr + (start + inner)[:, None] * N + columns[None, :])
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], acc)


def launch(a, b):
    c = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=torch.float32)
    kernel[(a.shape[0] // @BM@, b.shape[1] // @BN@)](a, b, c, a.shape[0], b.shape[1], a.shape[1], BM=@BM@, BN=@BN@, BK=@BK@, PRECISION="@PRECISION@", num_warps=@WARPS@, num_stages=@STAGES@)
    return c
"""


def _gemm(*, bm: int = 128, bn: int = 128, bk: int = 64, precision: str = "tf32", warps: int = 8, stages: int = 3) -> str:
    text = _GEMM
    for name, value in (("BM", bm), ("BN", bn), ("BK", bk), ("PRECISION", precision), ("WARPS", warps), ("STAGES", stages)):
        text = text.replace(f"@{name}@", str(value))
    return text


def _pointwise(
    body: str, *, block: int = 1024, warps: int = 4, grid: str = "(triton.cdiv(x.numel(), {block}),)", extra: str = "", dtype: str = ""
) -> str:
    return f"""
@triton.jit
def kernel(x_ptr, y_ptr, n, k, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
{body}


def launch(x):
    y = torch.empty_like(x{dtype})
    kernel[{grid.format(block=block)}](x, y, x.numel(), {extra or 7}, BLOCK={block}, num_warps={warps})
    return y
"""


PLANTED: tuple[Planted, ...] = (
    Planted("spilled", "register_spills", True, (((1 << 24,), "float32"),), _pointwise(
        """
    a = tl.load(x_ptr + offsets)
    b = tl.load(x_ptr + offsets + k * 4)
    c = tl.load(x_ptr + offsets + k * 8)
    for _ in range(k):
        total = tl.sum(a, 0)
        a = a * b + total
        b = b * c + total
        c = c * a + total
    tl.store(y_ptr + offsets, a + b + c)
""", block=16384, grid="(x.numel() // {block} - 1,)", extra="16")),
    Planted("uncoalesced", "uncoalesced_access", False, (((4096, 4096), "float32"),), _pointwise(
        """
    row = offsets % k
    column = offsets // k
    tl.store(y_ptr + offsets, tl.load(x_ptr + row * k + column) + 1.0)
""", extra="x.shape[0]").replace("// k", "// 4096").replace("% k", "% 4096")),
    Planted("narrow", "narrow_loads", True, (((1 << 24,), "float16"),), _pointwise(
        """
    mask = offsets < n - 1
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets + 1, mask=mask) * 2.0, mask=mask)
""")),
    Planted("low_occupancy", "low_occupancy", True, (((1 << 24,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    other = tl.load(x_ptr + offsets + 4 * k)
    for _ in range(k):
        value = value * other + tl.sum(other, 0)
        other = other * 0.5 + value
    tl.store(y_ptr + offsets, value + other)
""", block=2048, warps=1, grid="(x.numel() // {block} - 1,)", extra="16")),
    Planted("bank_conflicts", "bank_conflicts", False, (((1 << 22,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    index = (tl.arange(0, BLOCK) * 32) % BLOCK
    for _ in range(k):
        value = tl.gather(value, index, 0) + 1.0
    tl.store(y_ptr + offsets, value)
""", block=4096, extra="64")),
    Planted("few_programs", "too_few_programs", True, (((1 << 22,), "float32"),), _pointwise(
        """
    for start in range(0, n, BLOCK * 4):
        tl.store(y_ptr + start + offsets, tl.load(x_ptr + start + offsets) * 2.0)
""", grid="(4,)")),
    Planted("serial_tail", "uneven_work", False, (((1 << 22,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    turns = tl.where(tl.program_id(0) == 0, 20000, 10)
    for _ in range(turns):
        value = value * 1.0001 + 0.5
    tl.store(y_ptr + offsets, value)
""")),
    Planted("streaming", "dram_bandwidth", False, (((1 << 28,), "float32"),), _pointwise(
        """
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets) + 1.0)
""", block=4096, warps=8)),
    Planted("l2_thrashing", "redundant_traffic", False, (((1 << 26,), "float32"),), _pointwise(
        """
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        total += tl.load(x_ptr + (start + tl.program_id(0) * 1048576 * 3) % n + tl.arange(0, BLOCK))
    tl.store(y_ptr + offsets, total)
""", block=4096, warps=8, grid="(264,)")),
    Planted("good_gemm", "matrix_bound", False, (((8192, 4096), "float16"), ((4096, 8192), "float16")), _gemm(bn=256)),
    Planted("no_matrix_unit", "no_matrix_unit", True, (((2048, 1024), "float32"), ((1024, 2048), "float32")), _gemm(bm=64, bn=64, bk=32, precision="ieee", warps=4)),
    Planted("single_stage", "single_stage_pipeline", True, (((4096, 4096), "float16"), ((4096, 4096), "float16")), _gemm(bm=64, bn=64, bk=32, warps=4, stages=1)),
    Planted("float64", "float64_arithmetic", True, (((1 << 24,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets).to(tl.float64)
    for _ in range(k):
        value = value * 1.000001 + 0.5
    tl.store(y_ptr + offsets, value.to(tl.float32))
""", extra="64")),
    Planted("conversions", "needless_conversions", True, (((1 << 24,), "int8"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    for _ in range(k):
        value = (value.to(tl.float32) * 1.5).to(tl.int8)
        value = (value.to(tl.float32) + 0.25).to(tl.int8)
    tl.store(y_ptr + offsets, value)
""", extra="64")),
    Planted("atomics", "atomics", True, (((1 << 24,), "float32"),), _pointwise(
        """
    tl.atomic_add(y_ptr + (offsets & 3), tl.load(x_ptr + offsets))
""")),
    Planted("divisions", "integer_divisions", True, (((1 << 24,), "float32"),), _pointwise(
        """
    place = (offsets // k) % (n // k) * k + offsets % k
    tl.store(y_ptr + offsets, tl.load(x_ptr + place))
""", extra="x.numel() // 1000 + 3")),
    Planted("special", "special_functions", True, (((1 << 24,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    for _ in range(k):
        value = tl.sqrt(tl.exp2(tl.log2(tl.abs(value) + 1.0)))
    tl.store(y_ptr + offsets, value)
""", extra="64")),
    Planted("barriers", "waits_for_barriers", False, (((1 << 20,), "float32"),), _pointwise(
        """
    value = tl.load(x_ptr + offsets)
    for _ in range(k):
        value = value * 0.5 + tl.sum(value, 0) * 0.001
    tl.store(y_ptr + offsets, value)
""", warps=32, extra="500")),
    Planted("launch_bound", "launch_bound", False, (((4096,), "float32"),), _pointwise(
        """
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets) + 1.0)
""").replace("    return y", "    for _ in range(60):\n        kernel[(4,)](y, y, x.numel(), 7, BLOCK=1024, num_warps=4)\n    return y")),
    Planted("pointer_chase", "waits_for_memory", False, (((1 << 24,), "int32"),), _pointwise(
        """
    index = tl.load(x_ptr + offsets)
    for _ in range(k):
        index = tl.load(x_ptr + index)
    tl.store(y_ptr + offsets, index)
""", grid="(132,)", warps=1, block=32, extra="200")),
)  # fmt: skip
