"""One or more calls for every C++ kernel document: arguments, the float64 reference, and the tensors that its slots refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Case:
    """A call of `launch`; the reference takes the same arguments (tensors in float64) and returns what the output should be."""

    arguments: Mapping[str, Any]
    reference: Callable[..., torch.Tensor]
    label: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further names for the document's expressions, for example `output`."""


def generator() -> torch.Generator:
    """A fresh generator with a fixed seed."""
    return torch.Generator().manual_seed(7)


def randn(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(shape, generator=generator()) * scale + shift


def rand_ids(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=generator())


def spoiled(x: torch.Tensor, *values: float) -> torch.Tensor:
    """Put special values in the middle of the first rows, one a row."""
    x = x.clone()
    for row, value in enumerate(values):
        x[row, x.shape[1] // 2] = value
    return x


def softmax_cases() -> list[Case]:
    def reference(self: torch.Tensor, dim: int, dtype: Any = None) -> torch.Tensor:
        return torch.softmax(self, dim)

    masked = randn(6, 37, scale=4.0)
    masked[0, 5:] = -INF
    masked[1] = -INF
    masked[2, 3] = NAN
    masked[3, 3] = INF
    shapes = {
        "tail": randn(3, 5, 517, scale=5.0),
        "one column": randn(9, 1),
        "one row": randn(1, 70_001),
        "vector": randn(33),
        "large values": randn(4, 100, scale=1e30),
        "special": masked,
    }
    return [Case({"self": x, "dim": -1}, reference, label) for label, x in shapes.items()]


def layer_norm_cases() -> list[Case]:
    def reference(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> torch.Tensor:
        return torch.nn.functional.layer_norm(input, normalized_shape, weight, bias, eps)

    cases = []
    for label, shape, normalized, affine in (
        ("tail", (3, 5, 1031), [1031], 2),
        ("two dimensions", (7, 6, 9), [6, 9], 2),
        ("weight alone", (5, 33), [33], 1),
        ("plain", (4, 16), [16], 0),
        ("one column", (5, 1), [1], 2),
    ):
        x = randn(*shape, scale=2.0, shift=30.0)
        weight = randn(*normalized) if affine else None
        cases.append(
            Case(
                {
                    "input": x,
                    "normalized_shape": normalized,
                    "weight": weight,
                    "bias": randn(*normalized).flip(0) if affine == 2 else None,
                    "eps": 1e-3,
                },
                reference,
                label,
            )
        )
    return [*cases, Case({"input": spoiled(randn(5, 67), NAN, INF), "normalized_shape": [67]}, reference, "special")]


def rms_norm_cases() -> list[Case]:
    def reference(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> torch.Tensor:
        return torch.nn.functional.rms_norm(input, normalized_shape, weight, torch.finfo(torch.float32).eps if eps is None else eps)

    return [
        Case({"input": randn(6, 519, scale=3.0), "normalized_shape": [519], "weight": randn(519), "eps": 1e-6}, reference, "tail"),
        Case({"input": randn(3, 4, 5), "normalized_shape": [4, 5]}, reference, "plain"),
        Case({"input": torch.zeros(2, 40), "normalized_shape": [40]}, reference, "zeros"),
        Case({"input": spoiled(randn(5, 67), NAN, INF), "normalized_shape": [67]}, reference, "special"),
    ]


def rms_norm_spelled_cases() -> list[Case]:
    def reference(x: Any, weight: Any, eps: float = 1e-6, **_: Any) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight

    return [
        Case(
            {"x": randn(3, 7, 261, scale=3.0), "weight": randn(261), "eps": 1e-5, "exponent": 2, "dim": (-1,), "keepdim": True},
            reference,
            "tail",
        ),
        Case({"x": randn(4, 1), "weight": randn(1), "eps": 1e-5, "exponent": 2, "dim": (-1,), "keepdim": True}, reference, "one column"),
    ]


def group_norm_cases() -> list[Case]:
    def reference(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> torch.Tensor:
        return torch.nn.functional.group_norm(input, num_groups, weight, bias, eps)

    return [
        Case(
            {
                "input": randn(3, 12, 9, 7, scale=2.0, shift=5.0),
                "num_groups": 4,
                "weight": randn(12),
                "bias": randn(12).flip(0),
                "eps": 1e-4,
            },
            reference,
            "tail",
        ),
        Case({"input": randn(2, 6, 33), "num_groups": 6}, reference, "instance norm"),
        Case({"input": randn(40, 8), "num_groups": 2, "weight": randn(8)}, reference, "no positions"),
    ]


def cross_entropy_cases() -> list[Case]:
    def reference(
        self: Any, target: Any, weight: Any = None, reduction: int = 1, ignore_index: int = -100, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self, target, reduction=("none", "mean", "sum")[reduction], ignore_index=ignore_index)

    target = rand_ids(2_531, 21)
    ignored = target.clone()
    ignored[::3] = -100
    logits = randn(21, 2_531, scale=6.0)
    hidden = logits.clone()
    hidden[:, 1_000:2_200] = -INF
    plain = {"weight": None, "label_smoothing": 0.0}
    return [
        Case({"self": logits, "target": target, "reduction": 1, **plain}, reference, "mean"),
        Case({"self": logits, "target": ignored, "reduction": 1, **plain}, reference, "ignored rows"),
        Case({"self": logits, "target": target, "reduction": 2, **plain}, reference, "sum"),
        Case({"self": logits, "target": target, "reduction": 0, **plain}, reference, "none"),
        Case({"self": hidden, "target": rand_ids(999, 21), "reduction": 0, **plain}, reference, "hidden classes"),
        Case({"self": spoiled(logits, NAN, INF), "target": target, "reduction": 0, **plain}, reference, "special"),
        Case({"self": randn(4, 1), "target": torch.zeros(4, dtype=torch.int64), "reduction": 0, **plain}, reference, "one class"),
        Case({"self": logits, "target": torch.full((21,), -100), "reduction": 1, **plain}, reference, "nothing counted"),
    ]


def row_reduction_cases(function: Callable[..., torch.Tensor], has_dtype: bool = True) -> Callable[[], list[Case]]:
    def make() -> list[Case]:
        def reference(self: Any, dim: Any, keepdim: bool = False, dtype: Any = None) -> torch.Tensor:
            return function(self, dim=-1, keepdim=keepdim)

        more = {"dtype": None} if has_dtype else {}
        return [
            Case({"self": randn(5, 3, 4_099, shift=1.0), "dim": (-1,), "keepdim": False, **more}, reference, "tail"),
            Case({"self": randn(6, 1), "dim": (1,), "keepdim": True, **more}, reference, "one column"),
            Case({"self": randn(65), "dim": (-1,), "keepdim": False, **more}, reference, "vector"),
            Case({"self": spoiled(randn(5, 67), NAN, INF, -INF), "dim": (-1,), "keepdim": False, **more}, reference, "special"),
        ]

    return make


def cumsum_cases() -> list[Case]:
    def reference(self: Any, dim: int, dtype: Any = None) -> torch.Tensor:
        return torch.cumsum(self, dim)

    shapes = {
        "tail": randn(3, 7, 517),
        "one column": randn(9, 1),
        "vector": randn(1_000, shift=1.0),
        "special": spoiled(randn(9, 67), NAN, INF),
    }
    return [Case({"self": x, "dim": -1, "dtype": None}, reference, label) for label, x in shapes.items()]


def map_id_cases() -> list[Case]:
    def reference(ids: Any, mapping: Any, last: int, first: int, unknown: int, axis: int) -> torch.Tensor:
        position = torch.clamp(torch.bucketize(ids, mapping), max=last)
        return torch.where(torch.gather(mapping, axis, position) == ids, position + first, unknown)

    cases = []
    for length, count in ((1, 5), (2, 77), (5, 1), (1_000, 4_001), (1_023, 64), (1_025, 33)):
        mapping = torch.cumsum(torch.randint(1, 50, (length,), generator=generator()), 0)
        ids = torch.cat([mapping[rand_ids(length, count)], rand_ids(int(mapping[-1]) + 10, count) - 5, torch.tensor([2**62, -(2**62)])])
        for last, first, unknown in ((length - 1, 1, 0), ((length - 1) // 2, 0, -1)):
            cases.append(
                Case(
                    {"ids": ids, "mapping": mapping, "last": last, "first": first, "unknown": unknown, "axis": 0},
                    reference,
                    f"{length} entries, last {last}",
                )
            )
    return cases


def merge_bucketized_cases() -> list[Case]:
    def reference(x: Any, borders: Any, offsets: Any, dim: int) -> torch.Tensor:
        return torch.searchsorted(borders, x) + offsets.unsqueeze(dim)

    cases = []
    for features, batch, count in ((5, 2_111, 7), (3, 1, 1), (2, 300, 12)):
        borders = torch.sort(randn(features, count), dim=1).values
        borders[0, count // 2 + 1 :] = INF
        x = randn(features, batch).contiguous()
        x[0, 0] = NAN
        x[-1, -1] = borders[-1, 0]
        offsets = torch.arange(features) * (count + 1)
        cases.append(Case({"x": x, "borders": borders.contiguous(), "offsets": offsets, "dim": 1}, reference, f"{count} borders"))
    return cases


def bucketize_cases() -> list[Case]:
    def reference(self: Any, boundaries: Any, out_int32: bool = False, right: bool = False) -> torch.Tensor:
        return torch.bucketize(self, boundaries, right=right)

    cases = []
    for right in (False, True):
        for length in (1, 2, 63, 1_000):
            floats = torch.sort(randn(length)).values
            values = torch.cat([randn(1_501), floats, torch.tensor([NAN, INF, -INF])])
            integers = torch.sort(rand_ids(500, length)).values
            cases.append(
                Case({"self": values, "boundaries": floats, "out_int32": False, "right": right}, reference, f"float {length} {right}")
            )
            cases.append(
                Case(
                    {"self": rand_ids(520, 7, 11), "boundaries": integers, "out_int32": False, "right": right},
                    reference,
                    f"integer {length} {right}",
                )
            )
    return cases


def embedding_cases() -> list[Case]:
    def reference(weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False) -> torch.Tensor:
        return torch.nn.functional.embedding(indices, weight)

    shapes = (("tail", 101, 67, (9, 31)), ("one column", 10, 1, (40,)), ("one index", 3, 16, (1,)))
    return [
        Case(
            {"weight": randn(rows, columns), "indices": rand_ids(rows, *indices)},
            reference,
            label,
            {"output": torch.empty(*indices, columns)},
        )
        for label, rows, columns, indices in shapes
    ]


def depthwise_cases() -> list[Case]:
    def reference(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> torch.Tensor:
        return torch.nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups)

    cases = []
    for label, shape, size, padding, has_bias in (
        ("3 x 3", (3, 5, 13, 19), 3, (1, 1), False),
        ("no padding, bias", (2, 4, 9, 33), 3, (0, 0), True),
        ("uneven padding", (1, 3, 6, 5), 5, (2, 1), True),
        ("7 x 7", (2, 3, 8, 17), 7, (3, 3), False),
        ("one pixel", (2, 3, 1, 1), 3, (1, 1), False),
    ):
        channels = shape[1]
        arguments = {"input": randn(*shape), "weight": randn(channels, 1, size, size), "bias": randn(channels) if has_bias else None}
        arguments |= {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": channels}
        output = torch.empty(shape[0], channels, shape[2] + 2 * padding[0] - size + 1, shape[3] + 2 * padding[1] - size + 1)
        cases.append(Case(arguments, reference, label, {"output": output}))
    return cases


CASES: Mapping[str, Callable[[], list[Case]]] = {
    "softmax_rows_cpp": softmax_cases,
    "layer_norm_rows_cpp": layer_norm_cases,
    "rms_norm_rows_cpp": rms_norm_cases,
    "rms_norm_spelled_cpp": rms_norm_spelled_cases,
    "group_norm_rows_cpp": group_norm_cases,
    "cross_entropy_rows_cpp": cross_entropy_cases,
    "mean_rows_cpp": row_reduction_cases(torch.mean),
    "sum_rows_cpp": row_reduction_cases(torch.sum),
    "amax_rows_cpp": row_reduction_cases(torch.amax, has_dtype=False),
    "cumsum_rows_cpp": cumsum_cases,
    "map_id_transform_cpp": map_id_cases,
    "merge_bucketized_dense_cpp": merge_bucketized_cases,
    "bucketize_cpp": bucketize_cases,
    "embedding_rows_cpp": embedding_cases,
    "conv2d_depthwise_cpp": depthwise_cases,
}
"""Every C++ document but the pointwise one, which has no operator to compare with and a test of its own."""
