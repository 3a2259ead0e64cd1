"""Small modules that between them use every feature of fusion and composition, and the check that runs one candidate against its reference.

Run as a program (`python library_cases.py TARGET NAME...`) it prints one line per case; with TRITON_INTERPRET=1 the Triton candidates run on the CPU.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

from library_support import module

ACTIVATIONS = [
    "torch.relu(x)",
    "torch.sigmoid(x)",
    "torch.tanh(x)",
    "torch.tanh(x * 1e-4) * 1e4",
    "F.gelu(x)",
    "F.gelu(x, approximate='tanh')",
    "F.silu(x)",
    "F.mish(x)",
    "torch.multiply(torch.tanh(F.softplus(x * 20)), x * 20)",
    "F.softplus(x)",
    "F.softplus(x, beta=2, threshold=5)",
    "F.elu(x, alpha=0.7)",
    "F.selu(x)",
    "F.celu(x, 1.3)",
    "F.hardswish(x)",
    "F.hardsigmoid(x)",
    "F.hardtanh(x, -0.5, 0.7)",
    "F.leaky_relu(x, 0.2)",
    "F.logsigmoid(x)",
    "F.softsign(x)",
    "F.relu6(x)",
    "torch.exp(x)",
    "torch.log(x.abs() + 0.1)",
    "torch.log1p(x.abs())",
    "torch.expm1(x)",
    "torch.sqrt(x.abs())",
    "torch.rsqrt(x.abs() + 1)",
    "1 / (x + 5)",
    "-x",
    "torch.sign(x)",
    "torch.floor(x)",
    "torch.ceil(x)",
    "torch.round(x * 3)",
    "torch.erf(x)",
    "x**2",
    "x**3",
    "(x + 6) ** -2",
    "x.abs() ** 0.5",
    "torch.clamp(x, min=0.1)",
    "torch.clamp(x, -0.3, 0.4)",
    "torch.where(x > 0, x, x * 0.1)",
    "x.masked_fill(x < 0, -3.0)",
    "torch.maximum(x, x * x)",
    "torch.min(x, torch.tensor(0.25))",
    "(x > 0).float() * x",
    "torch.lerp(x, x * 2, 0.3)",
    "torch.addcmul(x, x, x, value=0.5)",
    "2**x",
    "torch.sin(x) + torch.cos(x)",
    "torch.log2(x.abs() + 1)",
]


def _activations(part: int, parts: int) -> str:
    chosen = ACTIVATIONS[part::parts]
    return module(
        f"return {', '.join(chosen)}", "torch.cat([torch.randn(3, 37) * 3, torch.tensor([[float('nan'), 1e3, -1e3] + [0.0] * 34])])"
    )


CASES = {
    **{f"activations_{part}": _activations(part, 3) for part in range(3)},
    "broadcast": module(
        "return (x * self.b + y).sigmoid() * y.exp()",
        "torch.randn(3, 6, 4, 5), torch.randn(4, 1)",
        "self.b = nn.Parameter(torch.randn(6, 1, 1))",
        "x, y",
    ),
    "transposed": module("return x * y.t() + y.t().relu()", "torch.randn(7, 9), torch.randn(9, 7)", parameters="x, y"),
    "permuted_results": module(  # PyTorch keeps the permuted layout, launches do not: readers, views and copies of the result have to follow
        "a = torch.exp(x.transpose(1, 2))\n"
        "b = torch.tanh(a[:, 1:]) * 2\n"
        "c = torch.relu(a.transpose(1, 2).view(-1)) + 1\n"
        "d = a[:1].expand(3, -1, -1) * w\n"
        "return a / a.flip(-1), b, c, d",
        "torch.randn(2, 6, 8), torch.randn(3, 8, 6)",
        parameters="x, w",
    ),
    "layer_norm_both_slots": module(
        "return F.gelu(self.ln(x * 2 + r)) * self.s + r",
        "torch.randn(11, 48), torch.randn(11, 48)",
        "self.ln = nn.LayerNorm(n)\nself.s = nn.Parameter(torch.rand(n))",
        "x, r",
        ", n",
        "48",
    ),
    "masked_softmax": module(
        "return torch.softmax(x.masked_fill(m, -1e9) * 0.5, dim=-1) * 3",
        "torch.randn(2, 3, 7, 16), torch.rand(2, 1, 7, 16) > 0.5",
        parameters="x, m",
    ),
    "residual_in_place": module(
        "return self.r(self.bn(self.c(x))) + x",
        "torch.randn(2, 8, 6, 6)",
        "self.c = nn.Conv2d(8, 8, 3, padding=1, groups=8)\nself.bn = nn.BatchNorm2d(8)\nself.r = nn.ReLU(inplace=True)",
    ),
    "batches_counted": module(
        "return self.b(torch.relu(self.a(x)))", "torch.randn(4, 8, 6)", "self.a, self.b = nn.BatchNorm1d(8), nn.BatchNorm1d(8)"
    ),
    "hinge": module(
        "return torch.mean(torch.clamp(1 - p * t, min=0))",
        "torch.rand(16, 8), torch.randint(0, 2, (8,)).float() * 2 - 1",
        parameters="p, t",
    ),
    "nested_outputs": module("a = x * 2\nb = a + 1\nreturn {'a': a, 'b': (b, [x.sum()])}", "torch.randn(4, 6)"),
    "reshaped_chain": module(
        "y = torch.relu(x)\nz = y.view(4, 6, 5) * w\nreturn torch.tanh(z).reshape(2, 60)",
        "torch.randn(24, 5), torch.randn(6, 1)",
        parameters="x, w",
    ),
    "write_through_view": module("x = x.clone()\nx[:, 0] = 1.0\nreturn x.relu() * 2", "torch.randn(4, 6)"),
    "scalar_input": module("return x * s + 1", "torch.randn(4, 6), 2.5", parameters="x, s"),
    "half": module("return F.gelu(x) * y + x", "torch.randn(4, 40).half(), torch.randn(40).half()", parameters="x, y"),
    "integers": module("return (x + y) * 2", "torch.randint(0, 9, (4, 40)), torch.randint(0, 9, (40,))", parameters="x, y"),
    "first_of_two_results": module("return torch.max(x * 2, dim=1)[0] + 1", "torch.randn(4, 40, 5)"),
    "normalise": module("return F.normalize(x, p=2, dim=1)", "torch.randn(4, 40)"),
    "pooled": module(
        "return self.p(F.gelu(x)).squeeze(-1).squeeze(-1) * 2", "torch.randn(3, 16, 5, 5)", "self.p = nn.AdaptiveAvgPool2d(1)"
    ),
    "losses": module(
        "return F.mse_loss(x, y) + F.smooth_l1_loss(x, y) + F.l1_loss(x, y) + F.huber_loss(x, y, delta=0.5)",
        "torch.randn(8, 40), torch.randn(8, 40)",
        parameters="x, y",
    ),
    "group_norm": module(
        "return F.hardswish(self.g(F.mish(x + self.b)))",
        "torch.randn(3, 16, 5, 5)",
        "self.g = nn.GroupNorm(4, 16)\nself.b = nn.Parameter(torch.randn(16, 1, 1))",
    ),
    "nested_modules": module(
        "return self.s(x) + self.k",
        "torch.randn(18, 20)",
        "self.s = nn.Sequential(nn.LayerNorm(20), nn.Sequential(nn.ReLU(), nn.LayerNorm(20)))\nself.register_buffer('k', torch.arange(20).float())",
    ),
    "convolution_then_smallest": module(
        "return torch.tanh(torch.min(self.c(x) * self.s, dim=1, keepdim=True)[0])",
        "torch.randn(2, 3, 9, 8)",
        "self.c = nn.Conv2d(3, 18, 3)\nself.s = nn.Parameter(torch.randn(18, 1, 1))",
    ),
    "convolution_then_logsumexp": module(
        "return torch.logsumexp(F.gelu(self.c(x)), dim=1) + 1", "torch.randn(2, 3, 4, 5, 6)", "self.c = nn.Conv3d(3, 20, 2)"
    ),
    "convolution_then_pool": module(
        "return F.adaptive_avg_pool2d(F.gelu(self.c(x)), 1).squeeze(-1).squeeze(-1) * 2",
        "torch.randn(2, 3, 20, 9)",
        "self.c = nn.Conv2d(3, 18, 3)",
    ),
    "transposed_then_logsumexp": module(
        "return torch.sigmoid(torch.logsumexp(F.relu(self.c(x)), dim=1, keepdim=True))",
        "torch.randn(2, 3, 3, 4, 5)",
        "self.c = nn.ConvTranspose3d(3, 12, 3, stride=2, padding=1)",
    ),
    "transposed_then_mean": module(  # sums over boxes of the input, which leave borders out
        "return torch.mean(self.c(x) * 0.5, dim=[2, 3], keepdim=True)",
        "torch.rand(2, 3, 7, 6)",
        "self.c = nn.ConvTranspose2d(3, 5, 3, 2, 1, output_padding=1)",
    ),
    "convolution_then_mean": module(
        "return F.adaptive_avg_pool2d(self.c(x), 1)", "torch.rand(2, 3, 9, 8)", "self.c = nn.Conv2d(3, 5, 3, padding=1)"
    ),
    "sums_of_products": module(
        "return torch.einsum('bclhn,bcshn,bhcls,bcshp->bclhp', x, y, z, w) + 1",
        "torch.rand(2, 2, 16, 3, 8), torch.rand(2, 2, 16, 3, 8), torch.rand(2, 3, 2, 16, 16), torch.rand(2, 2, 16, 3, 8)",
        parameters="x, y, z, w",
    ),
    "convolution_then_largest": module("return self.c(x).amax(1)", "torch.randn(1, 3, 35, 35)", "self.c = nn.Conv2d(3, 16, 3)"),
    "small_producer": module("return x * torch.sigmoid(self.b * 2) + 1", "torch.randn(5, 12)", "self.b = nn.Parameter(torch.randn(12))"),
}


def check(name: str, source: str, candidate: str) -> str:
    """Run a candidate beside its reference; return `ok`, or what differs."""
    import torch
    from torch.utils import _pytree

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "candidate.py")
        path.write_text(candidate, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(f"candidate_{name}", path)
        assert spec is not None and spec.loader is not None
        new = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(new)
        old: dict[str, object] = {}
        exec(source, old)
        models = []
        for make in (old["Model"], new.ModelNew):
            torch.manual_seed(0)
            models.append(make(*old["get_init_inputs"]()))
        reference, ours = models
        if list(reference.state_dict()) != list(ours.state_dict()):
            return "state dicts differ"

        def no_fallback(*_: object) -> None:
            raise AssertionError("the candidate fell back to the reference's forward")

        ours.forward_reference = no_fallback
        torch.manual_seed(1)
        inputs = old["get_inputs"]()
        copies = [item.clone() if isinstance(item, torch.Tensor) else item for item in inputs]
        with torch.no_grad():
            expected, form = _pytree.tree_flatten(reference(*inputs))
            actual, own_form = _pytree.tree_flatten(ours(*copies))
        if form != own_form:
            return f"structure {own_form} instead of {form}"
        pairs = [*zip(expected, actual, strict=True), *zip(reference.state_dict().values(), ours.state_dict().values(), strict=True)]
        for index, (left, right) in enumerate(pairs):
            tolerance = 2e-3 if left.dtype == torch.float16 else 1e-5
            if left.shape != right.shape or left.dtype != right.dtype:
                return f"result {index}: {tuple(right.shape)} {right.dtype} instead of {tuple(left.shape)} {left.dtype}"
            if not torch.allclose(left.double(), right.double(), rtol=tolerance, atol=tolerance / 4, equal_nan=True):
                return f"result {index}: differs by {(left.double() - right.double()).abs().max().item():.3g}"
        return "ok"


def main(target: str, names: list[str]) -> None:
    """Write and check one draft for each case; print `name: outcome [kernels]`."""
    from library_support import capture_here, task, write

    import agents.coders.library.coder as coder

    coder.capture = capture_here
    for name in names or CASES:
        draft = write(task(CASES[name], target))
        assert draft.candidate is not None
        try:
            outcome = check(name, CASES[name], draft.candidate.source.replace("'bf16x6'", "'ieee'"))  # the interpreter knows no bf16x6
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
        print(f"{name}: {outcome} {draft.candidate.provenance.get('kernels', [])}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    main(sys.argv[1], sys.argv[2:])
