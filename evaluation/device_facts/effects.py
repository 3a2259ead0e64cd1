"""Common advice put to the test: groups of arms that differ in the thing advised, on fixed kernels, each checked against a reference first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from evaluation.device_facts import kernels
from evaluation.device_facts.groups import Advice, Arm, Group, Setting, relative_error

_HALF_TOLERANCE = 5e-3
"""Of fp16 results; rounding the output alone gives 3e-4."""


def vector_width(setting: Setting) -> Sequence[Arm]:
    """Return a copy whose threads hold 1, 2 or 4 neighbouring words, 2048 threads an SM throughout."""
    count = setting.size(256 << 20, 1 << 12)
    source, target = setting.random(count), torch.empty(count, device=setting.device)
    programs = setting.size(setting.multiprocessors * 16, 2)
    return [
        _copy(f"{4 * words} B a thread", source, target, programs, BLOCK=128 * words, HINT=16, LOAD="", STORE="") for words in (1, 2, 4)
    ]


def mask_alignment(setting: Setting) -> Sequence[Arm]:
    """Return one copy whose mask is known to be a multiple of 1, 2 or 4 elements: Triton splits accesses that it cannot prove whole."""
    count = setting.size(256 << 20, 1 << 12)
    source, target = setting.random(count), torch.empty(count, device=setting.device)
    programs = setting.size(setting.multiprocessors * 16, 2)
    names = {1: "count of unknown divisibility", 2: "count a multiple of 2", 4: "count a multiple of 4", 16: "count a multiple of 16"}
    return [_copy(name, source, target, programs, BLOCK=1024, HINT=hint, LOAD="", STORE="") for hint, name in names.items()]


def persistent_copy(setting: Setting) -> Sequence[Arm]:
    """Return one copy with a tile a program, and with grids that fill the chip once."""
    count = setting.size(256 << 20, 1 << 12)
    source, target = setting.random(count), torch.empty(count, device=setting.device)
    grids = {
        "one tile a program": count // 1024,
        "persistent, 16 blocks an SM": 2112,
        "persistent, 4 blocks an SM": 528,
        "persistent, 1 block an SM": 132,
    }
    return [
        _copy(name, source, target, setting.size(programs, 2), BLOCK=1024, HINT=16, LOAD="", STORE="") for name, programs in grids.items()
    ]


def eviction_copy(setting: Setting) -> Sequence[Arm]:
    """Return one copy with and without the hint that nothing is read again."""
    count = setting.size(256 << 20, 1 << 12)
    source, target = setting.random(count), torch.empty(count, device=setting.device)
    programs = setting.size(setting.multiprocessors * 16, 2)
    first = "evict_first"
    return [
        _copy("no hint", source, target, programs, BLOCK=1024, HINT=16, LOAD="", STORE=""),
        _copy("evict_first on loads", source, target, programs, BLOCK=1024, HINT=16, LOAD=first, STORE=""),
        _copy("evict_first on both", source, target, programs, BLOCK=1024, HINT=16, LOAD=first, STORE=first),
    ]


def _copy(name: str, source: torch.Tensor, target: torch.Tensor, programs: int, *, HINT: int, **constants: object) -> Arm:
    def run() -> object:
        return kernels.copy[(programs,)](source, target, source.numel() // HINT, HINT=HINT, **constants, num_warps=4)

    def error() -> float:
        target.fill_(float("nan"))
        run()
        return relative_error(target, source)

    return Arm(name, "us", run, error=error)


def two_passes(setting: Setting) -> Sequence[Arm]:
    """Return a row kernel that reads its row twice, with and without hints, and with pipelined loads."""
    rows, columns, block = setting.size(2112, 3), setting.size(65536, 512), setting.size(4096, 256)
    source = setting.random(rows, columns) + 1
    target = torch.empty_like(source)

    def arm(name: str, first: str, second: str, stages: int) -> Arm:
        def run() -> object:
            options = {"BLOCK": block, "FIRST": first, "SECOND": second, "STAGES": stages, "num_warps": 8}
            return kernels.centre[(rows,)](source, target, columns, **options)

        return Arm(name, "us", run, error=lambda: _checked(run, target, source - source.mean(1, keepdim=True)), tolerance=1e-4)

    return [
        arm("no hint", "", "", 1),
        arm("evict_last, then evict_first", "evict_last", "evict_first", 1),
        arm("loads pipelined, 3 stages", "", "", 3),
    ]


def softmax_warps(setting: Setting) -> Sequence[Arm]:
    """Return a row softmax at 1 to 16 warps."""
    rows, columns = setting.size(32768, 3), setting.size(4096, 512)
    source = setting.random(rows, columns, dtype=torch.float16)
    target = torch.empty_like(source)

    def arm(warps: int) -> Arm:
        def run() -> object:
            return kernels.softmax[(rows,)](source, target, COLUMNS=columns, num_warps=warps)

        def reference() -> torch.Tensor:
            return torch.softmax(source.float(), 1)

        return Arm(
            f"{warps} warps" if warps > 1 else "1 warp",
            "us",
            run,
            error=lambda: _checked(run, target, reference()),
            tolerance=_HALF_TOLERANCE,
        )

    return [arm(warps) for warps in (4, 1, 2, 8, 16)]


class _Product:
    """Operands and result of a matrix product, made once for a group."""

    def __init__(self, setting: Setting, rows: int, cols: int, depth: int, dtype: torch.dtype, out: torch.dtype | None = None) -> None:
        self.setting = setting
        self.rows, self.cols, self.depth = setting.size(rows, 128), setting.size(cols, 128), setting.size(depth, 1024)
        self.a = setting.random(self.rows, self.depth, dtype=dtype)
        self.b = setting.random(self.depth, self.cols, dtype=dtype)
        self.c = torch.empty(self.rows, self.cols, dtype=out or dtype, device=setting.device)
        self._reference: torch.Tensor | None = None

    def reference(self) -> torch.Tensor:
        """Return the product in float64, computed once; of a slice of 512 rows, which is what is compared."""
        if self._reference is None:
            self._reference = self.a[:512].double() @ self.b.double()
        return self._reference

    def arm(
        self, name: str, tile: tuple[int, int, int], warps: int, stages: int, tolerance: float = _HALF_TOLERANCE, **changed: Any
    ) -> Arm:
        """Return one product; `changed` are constants of the kernel."""  # Any: constants of a Triton kernel
        rows, cols, depth = tile if not self.setting.small else (32, 32, 32)
        constants: Mapping[str, Any] = {"GROUP_M": 8, "PRECISION": "tf32", "PAIRS": False, "SPLIT": 1, **changed}
        split = constants["SPLIT"]

        def run() -> object:
            if split > 1:
                self.c.zero_()
            grid = ((self.rows // rows) * (self.cols // cols), split)
            sizes = (self.rows, self.cols, self.depth)
            options = {"BM": rows, "BN": cols, "BK": depth, **constants, "num_warps": warps, "num_stages": stages}
            return kernels.matmul[grid](self.a, self.b, self.c, *sizes, **options)

        return Arm(name, "us", run, error=lambda: self.error(run), tolerance=tolerance)

    def error(self, run: Callable[[], object]) -> float:
        """Run once on a spoilt result and return the error."""
        self.c.fill_(float("nan"))
        run()
        return relative_error(self.c[:512], self.reference())


def _checked(run: Callable[[], object], target: torch.Tensor, reference: torch.Tensor) -> float:
    target.fill_(float("nan"))
    run()
    return relative_error(target, reference)


def matmul_warps(setting: Setting) -> Sequence[Arm]:
    """Return a product of 4096 at 4 and 8 warps for two tiles."""
    product = _Product(setting, 4096, 4096, 4096, torch.float16)
    return [
        product.arm("128 x 256, 8 warps", (128, 256, 64), 8, 3),
        product.arm("128 x 256, 4 warps", (128, 256, 64), 4, 3),
        product.arm("128 x 128, 8 warps", (128, 128, 64), 8, 3),
        product.arm("128 x 128, 4 warps", (128, 128, 64), 4, 3),
        product.arm("64 x 64, 4 warps", (64, 64, 64), 4, 3),
    ]


def matmul_stages(setting: Setting) -> Sequence[Arm]:
    """Return a product of 4096 with 1 to 6 stages."""
    product = _Product(setting, 4096, 4096, 4096, torch.float16)
    return [product.arm(f"{stages} stages" if stages > 1 else "1 stage", (128, 128, 64), 8, stages) for stages in (3, 1, 2, 4, 5, 6)]


def grouping(setting: Setting) -> Sequence[Arm]:
    """Return a product of 8192 whose tiles are walked in groups of rows."""
    product = _Product(setting, 8192, 8192, 8192, torch.float16)
    return [
        product.arm("row by row" if rows == 1 else f"groups of {rows}", (128, 256, 64), 8, 3, GROUP_M=rows) for rows in (1, 4, 8, 16, 64)
    ]


def split_k(setting: Setting) -> Sequence[Arm]:
    """Return a product of few tiles and a long sum in 1 to 32 parts; zeroing the result counts."""
    product = _Product(setting, 128, 2048, 16384, torch.float16, torch.float32)
    return [product.arm("one part" if parts == 1 else f"{parts} parts", (64, 128, 64), 4, 4, SPLIT=parts) for parts in (1, 2, 4, 8, 16, 32)]


class _Bulk:
    """A product through descriptors, made once for a group."""

    def __init__(self, setting: Setting) -> None:
        from triton.tools.tensor_descriptor import TensorDescriptor

        self.product = _Product(setting, 4096, 4096, 4096, torch.float16)
        self.tile = rows, cols, depth = (128, 256, 64) if not setting.small else (32, 32, 32)
        self.tiles = (self.product.rows // rows) * (self.product.cols // cols)
        operands = ((self.product.a, [rows, depth]), (self.product.b, [depth, cols]), (self.product.c, [rows, cols]))
        self._descriptors = [TensorDescriptor.from_tensor(tensor, block) for tensor, block in operands]

    def arm(self, name: str, programs: int, *, specialize: bool = False, flatten: bool = False) -> Arm:
        """Return the product by so many programs."""
        rows, cols, depth = self.tile

        def run() -> object:
            sizes = (self.product.rows, self.product.cols, self.product.depth)
            options = {"BM": rows, "BN": cols, "BK": depth, "GROUP_M": 8, "SPECIALIZE": specialize, "FLATTEN": flatten}
            return kernels.matmul_bulk[(programs,)](*self._descriptors, *sizes, **options, num_warps=8, num_stages=3)

        return Arm(name, "us", run, error=lambda: self.product.error(run), tolerance=_HALF_TOLERANCE)


def bulk(setting: Setting) -> Sequence[Arm]:
    """Return products through descriptors: a tile a program, persistent, flattened; and the one through pointers."""
    made = _Bulk(setting)
    fill = setting.size(setting.multiprocessors, 3)
    return [
        made.arm("descriptors, a tile a program", made.tiles),
        made.product.arm("pointers, a tile a program", made.tile, 8, 3),
        made.arm("descriptors, persistent", fill),
        made.arm("descriptors, persistent, flattened", fill, flatten=True),
    ]


def specialization(setting: Setting) -> Sequence[Arm]:
    """Return the persistent product with and without the request; a group of its own, since a compiler may end the process on it."""
    made = _Bulk(setting)
    fill = setting.size(setting.multiprocessors, 3)
    return [made.arm("not asked for", fill), made.arm("warp_specialize=True", fill, specialize=True)]


def precision(setting: Setting) -> Sequence[Arm]:
    """Return a float32 product of 4096 by each emulation: its time, and its error as an arm of its own."""
    product = _Product(setting, 4096, 4096, 4096, torch.float32)
    ways: Sequence[tuple[str, dict[str, object], tuple[int, int, int], int]] = (
        ("ieee", {"PRECISION": "ieee"}, (64, 64, 32), 4),
        ("tf32", {"PRECISION": "tf32"}, (128, 128, 32), 8),
        ("tf32x3", {"PRECISION": "tf32x3"}, (128, 128, 32), 8),
        ("bf16x3", {"PRECISION": "bf16x3"}, (128, 128, 32), 8),
        ("bf16x6", {"PRECISION": "bf16x6"}, (128, 128, 32), 8),
        ("fp16 pairs", {"PAIRS": True}, (128, 128, 32), 8),
    )
    arms = []
    for name, constants, tile, warps in ways:
        arm = product.arm(name, tile, warps, 3, tolerance=2e-3, **constants)
        assert arm.error is not None
        arms += [arm, Arm(f"{name}, error", "error", arm.run, sample=arm.error)]
    return arms


_COPY = "float32, 1 GiB in, 1 GiB out."
GROUPS = (
    Group(
        "vector_width", "Bytes a thread loads at once", f"{_COPY} Loop over a grid of 2048 threads an SM, neighbouring threads beside each other.",
        vector_width, "4 B a thread", (Advice("load 16 bytes a thread instead of 4", "16 B a thread"), Advice("load 8 bytes a thread instead of 4", "8 B a thread")),
    ),
    Group(
        "mask_alignment", "What the compiler knows of the mask", f"{_COPY} BLOCK 1024, 4 warps; the bound of the mask is an unspecialised integer times 1, 2, 4 or 16.",
        mask_alignment, "count of unknown divisibility", (Advice("let the compiler know that sizes are multiples of 16", "count a multiple of 16"),),
    ),
    Group(
        "persistent_copy", "Persistent grid for a stream", f"{_COPY} BLOCK 1024, 4 warps.",
        persistent_copy, "one tile a program", (Advice("make a streaming kernel persistent", "persistent, 16 blocks an SM"),),
    ),
    Group(
        "eviction_copy", "Eviction hints on a stream", f"{_COPY} BLOCK 1024, 4 warps.",
        eviction_copy, "no hint", (Advice("mark streamed data evict_first", "evict_first on both"),),
    ),
    Group(
        "two_passes", "A row that is read twice", "2112 rows of 65,536 float32; sum, then subtract the mean; BLOCK 4096, 8 warps.",
        two_passes, "no hint",
        (
            Advice("keep data for the second pass with evict_last, then evict_first", "evict_last, then evict_first"),
            Advice("pipeline plain loads with num_stages=3", "loads pipelined, 3 stages"),
        ),
    ),
    Group(
        "softmax_warps", "Warps of a row kernel", "Softmax, 32,768 rows of 4096 fp16, one row a program.",
        softmax_warps, "4 warps", (Advice("8 warps instead of 4 for rows of 4096", "8 warps"), Advice("16 warps instead of 4 for rows of 4096", "16 warps")),
    ),
    Group(
        "matmul_warps", "Warps and tile of a matrix product", "4096 x 4096 x 4096 fp16 through pointers, BLOCK_K 64, 3 stages, groups of 8.",
        matmul_warps, "128 x 128, 4 warps", (Advice("128 x 256 with 8 warps for large products", "128 x 256, 8 warps"), Advice("8 warps instead of 4 for 128 x 128", "128 x 128, 8 warps")),
    ),
    Group(
        "matmul_stages", "Stages of a matrix product", "4096 x 4096 x 4096 fp16 through pointers, 128 x 128 x 64, 8 warps, groups of 8.",
        matmul_stages, "2 stages", (Advice("3 stages instead of 2", "3 stages"), Advice("4 stages instead of 2", "4 stages")),
    ),
    Group(
        "grouping", "Order of the tiles", "8192 x 8192 x 8192 fp16 through pointers, 128 x 256 x 64, 8 warps, 3 stages.",
        grouping, "row by row", (Advice("walk tiles in groups of 8 rows", "groups of 8"),),
    ),
    Group(
        "split_k", "Split-K", "128 x 2048 x 16,384 fp16 to float32: 32 tiles of 64 x 128; parts are added atomically, zeroing included.",
        split_k, "one part", (Advice("split K where the tiles fill a quarter of the SMs", "4 parts"), Advice("split K into 16 parts", "16 parts")),
    ),
    Group(
        "bulk", "Descriptors and persistence", "4096 x 4096 x 4096 fp16, 128 x 256 x 64, 8 warps, 3 stages, groups of 8.",
        bulk, "descriptors, a tile a program",
        (
            Advice("make a matrix product persistent", "descriptors, persistent"),
            Advice("flatten the loop of a persistent product", "descriptors, persistent, flattened"),
        ),
    ),
    Group(
        "specialization", "Warp specialisation", "The persistent product of the group before; `tl.range(warp_specialize=True)` over its tiles.",
        specialization, "not asked for", (Advice("ask released Triton for warp specialisation on Hopper", "warp_specialize=True"),),
    ),
    Group(
        "precision", "Emulations of a float32 product", "4096 x 4096 x 4096 float32, normal random values; error: Frobenius, against float64.",
        precision, "ieee", (Advice("3xTF32 instead of ieee", "tf32x3"), Advice("bf16x3 instead of ieee", "bf16x3"), Advice("fp16 pairs instead of ieee", "fp16 pairs")),
    ),
)  # fmt: skip
