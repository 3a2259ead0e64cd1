"""What the studies profile: kernels of the knowledge base under `docs/kernels` with a call, two kernels whose regions are known, and the routes of a conv1d."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tools.docs import docs_root
from tools.types import Candidate, Problem

_CODE = re.compile(r"^```python kernel\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A candidate with the problem that gives its inputs."""

    part: str
    """`kernels`, `regions` or `conv1d`."""
    name: str
    source: str
    """Of the candidate."""
    inputs: str
    """Expressions for `get_inputs`, separated by commas."""
    reference: str
    """Expression over `inputs` (a tuple) in PyTorch."""
    least_bytes: int | None = None
    """What must be moved to and from memory at least: each operand and the result once."""

    @property
    def candidate(self) -> Candidate:
        """Return it as a candidate."""
        return Candidate(self.source, "triton" if "triton" in self.source else "torch")

    @property
    def problem(self) -> Problem:
        """Return the problem."""
        forward = f"    def forward(self, *inputs):\n        return {self.reference}\n"
        source = f"import torch\nimport torch.nn.functional as F\n\n\nclass Model(torch.nn.Module):\n{forward}\n\ndef get_inputs():\n    return [{self.inputs}]\n\n\ndef get_init_inputs():\n    return []\n"
        return Problem(f"{self.part}/{self.name}", self.name, source)


def document_code(name: str) -> str:
    """Return the kernel code of a document, for example `softmax/softmax_rows`.

    Raises:
        MachineError: There is no `docs` directory.
        ValueError: The document holds no kernel.
    """
    text = (docs_root() / "kernels" / f"{name}.md").read_text(encoding="utf-8")
    found = _CODE.search(text)
    if found is None:
        raise ValueError(f"{name} holds no kernel in Python")
    return found["code"]


def _called(code: str, call: str) -> str:
    return f"{code}\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, *inputs):\n        return {call}\n"


def _with_epilogue(code: str, body: str) -> str:
    """Return the code with another epilogue slot, as the library coder fuses one."""
    plain = "def epilogue(value, extra, row, col, mask):\n    return value\n"
    if plain not in code:
        raise ValueError("the document has no epilogue to replace")
    return code.replace(plain, f"def epilogue(value, extra, row, col, mask):\n{body}")


_ADD_RELU = "    left = tl.load(extra[0] + col, mask=mask, other=0.0)\n    right = tl.load(extra[1] + col, mask=mask, other=0.0)\n    return tl.maximum(left * 2.0 + right, 0.0)\n"
_SQUARE = "torch.randn(8192, 4096)"
_MIB = 1 << 20
_ROWS, _PICKED = 200_000, 262_144
_GATHER_BYTES = round(_ROWS * (1 - (1 - 1 / _ROWS) ** _PICKED)) * 1024 + _PICKED * (1024 + 8)
"""Distinct rows expected of a uniform draw, each read once; indices and result."""


def kernel_cases() -> tuple[Case, ...]:
    """Return the eight kernels: float32 but for conv1d and attention (float16)."""
    conv_bytes = 2 * 2048 * 96 * 200 * 2
    return (
        Case("kernels", "pointwise", _called(_with_epilogue(document_code("pointwise/pointwise_stream"), _ADD_RELU), "launch(inputs[0].shape, epilogue_extra=(inputs[0].view(-1), inputs[1].view(-1)))"), f"{_SQUARE}, {_SQUARE}", "torch.relu(inputs[0] * 2.0 + inputs[1])", 3 * 128 * _MIB),
        Case("kernels", "reduction", _called(document_code("reductions/reduce_rows"), "launch(inputs[0], [1])"), "torch.randn(8192, 8192)", "inputs[0].sum(1)", 256 * _MIB),
        Case("kernels", "layer_norm", _called(document_code("normalisation/layer_norm_rows"), "launch(inputs[0], [4096], inputs[1], inputs[2])"), f"{_SQUARE}, torch.randn(4096), torch.randn(4096)", "F.layer_norm(inputs[0], [4096], inputs[1], inputs[2])", 2 * 128 * _MIB),
        Case("kernels", "softmax", _called(document_code("softmax/softmax_rows"), "launch(inputs[0], -1)"), _SQUARE, "torch.softmax(inputs[0], -1)", 2 * 128 * _MIB),
        Case("kernels", "gemm", _called(document_code("gemm/matmul_split_bf16"), "launch(inputs[0], inputs[1])"), "torch.randn(4096, 4096), torch.randn(4096, 4096)", "inputs[0] @ inputs[1]", 3 * 64 * _MIB),
        Case("kernels", "conv1d", _called(document_code("convolution/conv_nd_implicit_gemm"), f"launch(inputs[0], inputs[1], inputs[2], padding=1, {CONV_TUNABLES})"), _CONV_INPUTS, _CONV, conv_bytes),
        Case("kernels", "attention", _called(document_code("attention/attention_forward"), "launch(inputs[0], inputs[1], inputs[2])"), "*(torch.randn(4, 16, 2048, 64).half() for _ in range(3))", "F.scaled_dot_product_attention(*inputs)", 4 * 16 * _MIB),
        Case("kernels", "gather", _called(document_code("indexing/embedding_rows"), "launch(inputs[0], inputs[1])"), f"torch.randn({_ROWS}, 256), torch.randint(0, {_ROWS}, ({_PICKED},))", "F.embedding(inputs[1], inputs[0])", _GATHER_BYTES),
    )  # fmt: skip


CONV_TUNABLES = "BLOCK_P=128, BLOCK_C=128, BLOCK_K=32, num_warps=8, num_stages=3"
"""The document's defaults for 96 output channels."""
_CONV_INPUTS = "torch.randn(2048, 96, 200).half() * 0.041105 + 0.006413, (torch.randn(96, 96, 3) * 0.04787).half(), (torch.randn(96) * 0.033662).half()"
_CONV = "F.conv1d(inputs[0], inputs[1], inputs[2], padding=1)"
_TORCH = "import torch\nimport torch.nn.functional as F\n\n\n"
_CONV1D = "def route(x, weight, bias):\n    return F.conv1d(x, weight, bias, padding=1)\n"
_CONV2D = (
    "def route(x, weight, bias):\n    x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)\n    weight = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)\n"
    "    return F.conv2d(x, weight, bias, padding=(0, 1)).squeeze(2).contiguous()\n"
)
_COMPILED = "\n\nroute = torch.compile(route)\n"


def conv_cases() -> tuple[Case, ...]:
    """Return the routes of a float16 conv1d, batch 2048, 96 channels in and out, length 200, 3 taps: those of PyTorch, eager and compiled, and ours in two configurations."""
    ours = document_code("convolution/conv_nd_implicit_gemm")
    routes = {
        "conv1d_eager": _called(_TORCH + _CONV1D, "route(*inputs)"),
        "conv2d_eager": _called(_TORCH + _CONV2D, "route(*inputs)"),
        "conv1d_compiled": _called(_TORCH + _CONV1D + _COMPILED, "route(*inputs)"),
        "conv2d_compiled": _called(_TORCH + _CONV2D + _COMPILED, "route(*inputs)"),
        "ours": _called(ours, f"launch(*inputs, padding=1, {CONV_TUNABLES})"),
        "ours_small_tiles": _called(ours, "launch(*inputs, padding=1, BLOCK_P=64, BLOCK_C=128, BLOCK_K=32, num_warps=4, num_stages=4)"),
    }
    return tuple(Case("conv1d", name, source, _CONV_INPUTS, _CONV) for name, source in routes.items())


_HEAD = "import torch\nimport triton\nimport triton.language as tl\n\n\n"
_SLOW = "    for _ in range(turns):\n        value = tl.exp2(tl.log2(tl.abs(value) + 1.0)) * 0.5\n    return value\n"
_PLAIN = "    # as many lines as the slow one,\n    # so that regions have the same names\n    return value\n"
_HELPERS = "@triton.jit\ndef {name}(value, turns):\n{body}\n\n"

_GEMM = """@triton.jit
def kernel(a_ptr, b_ptr, c_ptr, M, N, K, turns, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    a_tile = a_ptr + rows[:, None] * K + inner[None, :]
    b_tile = b_ptr + inner[:, None] * N + columns[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_tile)
        b = tl.load(b_tile)
        acc = tl.dot(a, b, acc)
        a_tile += BK
        b_tile += BK * N
    result = finished(acc, turns)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], result.to(tl.float16))


def launch(a, b):
    c = torch.empty((a.shape[0], b.shape[1]), device=a.device, dtype=torch.float16)
    kernel[(a.shape[0] // 128, b.shape[1] // 128)](a, b, c, a.shape[0], b.shape[1], a.shape[1], @TURNS@, BM=128, BN=128, BK=64, num_warps=8, num_stages=2)
    return c
"""
_LAYER_NORM = """@triton.jit
def kernel(x_ptr, weight_ptr, bias_ptr, y_ptr, columns, turns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    value = tl.load(x_ptr + row * columns + column, mask=mask, other=0.0)
    value = scaled(value, turns)
    mean = tl.sum(value, 0) / columns
    centred = tl.where(mask, value - mean, 0.0)
    variance = tl.sum(centred * centred, 0) / columns
    weight = tl.load(weight_ptr + column, mask=mask, other=0.0)
    bias = tl.load(bias_ptr + column, mask=mask, other=0.0)
    result = finished(centred / tl.sqrt(variance + 1e-5) * weight + bias, turns)
    tl.store(y_ptr + row * columns + column, tl.maximum(result, 0.0), mask=mask)


def launch(x, weight, bias):
    y = torch.empty_like(x)
    kernel[(x.shape[0],)](x, weight, bias, y, x.shape[1], @TURNS@, BLOCK=4096, num_warps=8)
    return y
"""


def _regions_case(name: str, kernel: str, inputs: str, reference: str, slowed: str, turns: int) -> Case:
    bodies = {helper: _SLOW if helper == slowed else _PLAIN for helper in ("scaled", "finished")}
    helpers = "".join(_HELPERS.format(name=helper, body=body) for helper, body in bodies.items())
    return Case("regions", name, _called(_HEAD + helpers + kernel.replace("@TURNS@", str(turns)), "launch(*inputs)"), inputs, reference)


def region_cases() -> tuple[Case, ...]:
    """Return a pipelined GEMM of two stages and a LayerNorm with ReLU, each as it is and with one place slowed on purpose; line for line the same but for a helper."""
    gemm = ("torch.randn(4096, 4096).half(), torch.randn(4096, 4096).half()", "inputs[0] @ inputs[1]")
    norm = (f"{_SQUARE}, torch.randn(4096), torch.randn(4096)", "torch.relu(F.layer_norm(inputs[0], [4096], inputs[1], inputs[2]))")
    return (
        _regions_case("gemm", _GEMM, *gemm, "", 0),
        _regions_case("gemm_slow_end", _GEMM, *gemm, "finished", 40),
        _regions_case("layer_norm", _LAYER_NORM, *norm, "", 0),
        _regions_case("layer_norm_slow_begin", _LAYER_NORM, *norm, "scaled", 24),
        _regions_case("layer_norm_slow_end", _LAYER_NORM, *norm, "finished", 24),
    )
