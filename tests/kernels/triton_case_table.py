"""The cases of `triton_cases.py`: shapes are odd and tiny, references are ATen operators in float64."""

from __future__ import annotations

from typing import Any

from triton_cases import Case


def cases() -> dict[str, list[Case]]:
    """Return the cases of each kernel by name."""
    import torch
    import torch.nn.functional as F

    random = torch.Generator().manual_seed(0)

    def n(*shape: int) -> Any:
        return torch.randn(*shape, generator=random)

    def u(*shape: int) -> Any:
        return torch.rand(*shape, generator=random) + 0.1

    def i(low: int, high: int, *shape: int) -> Any:
        return torch.randint(low, high, shape, generator=random)

    table: dict[str, list[Case]] = {}

    def add(kernel: str, arguments: dict[str, Any], reference: Any, tunables: dict[str, Any] | None = None, **more: Any) -> None:
        table.setdefault(kernel, []).append(Case(arguments, reference, tunables or {}, **more))

    # pointwise
    add("pointwise_stream", {"shape": (3, 5)}, lambda shape: torch.zeros(shape), {"BLOCK": 64}, extra={"device": "cpu"})

    # reductions
    for name, op in (("sum", torch.sum), ("mean", torch.mean), ("max", torch.max), ("min", torch.min)):
        for shape, block in (((3, 1030), 512), ((5, 7), 16)):
            add(
                "reduce_all",
                {"self": n(*shape)},
                lambda self, op=op: op(self),
                {"BLOCK": block, "PROGRAMS": 2},
                extra={"operator": f"aten.{name}.default"},
            )

    inf = float("inf")
    functions = {
        "sum.dim_IntList": torch.sum,
        "mean.dim": torch.mean,
        "amax.default": torch.amax,
        "amin.default": torch.amin,
        "logsumexp.default": torch.logsumexp,
    }
    for name, op in functions.items():

        def reduce(self: Any, dim: Any, keepdim: bool, op: Any = op) -> Any:
            return op(self, dim, keepdim)

        more = {"extra": {"operator": f"aten.{name}"}}
        x = n(5, 3, 7)
        add("reduce_rows", {"self": x, "dim": [-2, -1], "keepdim": False}, reduce, {"BLOCK": 16, "ROWS": 2}, **more)
        add("reduce_columns", {"self": x, "dim": [-2], "keepdim": True}, reduce, {"BLOCK_R": 2, "BLOCK_C": 4}, **more)
        add("reduce_columns", {"self": n(2, 19, 7), "dim": [1], "keepdim": False}, reduce, {"BLOCK_R": 2, "BLOCK_C": 4, "PARTS": 4}, **more)
        if name == "logsumexp.default":
            x = x.clone()
            x[1] = -inf
            x[2, 1] = inf
            add("reduce_rows", {"self": x, "dim": [1, 2], "keepdim": False}, reduce, {"BLOCK": 16, "ROWS": 2}, slots=False, **more)
            for parts in (1, 2):
                tiles = {"BLOCK_R": 2, "BLOCK_C": 4, "PARTS": parts}
                add("reduce_columns", {"self": x, "dim": [1], "keepdim": False}, reduce, tiles, slots=False, **more)
    for name, op in (("argmax.default", torch.argmax), ("argmin.default", torch.argmin), ("max.dim", torch.max), ("min.dim", torch.min)):

        def extreme(self: Any, dim: int, keepdim: bool, op: Any = op) -> Any:
            return op(self, dim, keepdim)

        more = {"extra": {"operator": f"aten.{name}"}, "tolerance": 0.0 if name.startswith("arg") else 1e-6}
        for dim, tiles in ((1, {"BLOCK_R": 2, "BLOCK_C": 4}), (-1, {"BLOCK_R": 4, "BLOCK_C": 1})):
            x = n(3, 5, 7)
            add("extreme_along_dim", {"self": x, "dim": dim, "keepdim": dim == 1}, extreme, tiles, **more)
            ties = i(0, 2, 3, 5, 7).float()
            ties[0, 3, 4], ties[1, 0, 6], ties[2] = float("nan"), float("nan"), inf
            add("extreme_along_dim", {"self": ties, "dim": dim, "keepdim": False}, extreme, tiles, slots=False, **more)

    # softmax
    for name, op in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):

        def softmax(self: Any, dim: int, op: Any = op) -> Any:
            return op(self, dim)

        more = {"extra": {"operator": f"aten.{name}.int"}}
        add("softmax_rows", {"self": n(3, 2, 13) * 4, "dim": -1}, softmax, {"ROWS": 4}, **more)
        add("softmax_columns", {"self": n(3, 5, 2, 7) * 4, "dim": 1}, softmax, {"BLOCK_C": 8}, **more)
        add("softmax_l2_window", {"self": n(3, 37) * 4, "dim": 1}, softmax, {"CHUNK": 16, "PROGRAMS": 2, "LAG": 2}, **more)

    # scans
    for name, op in (("cumsum", torch.cumsum), ("cumprod", torch.cumprod)):

        def scan(self: Any, dim: int, op: Any = op) -> Any:
            return op(self, dim)

        more = {"extra": {"operator": f"aten.{name}.default"}}
        add("cumulative_rows", {"self": n(3, 37), "dim": -1}, scan, {"BLOCK": 16, "ROWS": 2}, **more)
    add(
        "cumsum_reverse_rows",
        {"self": n(3, 37), "dims": [1], "dim": 1},
        lambda self, dims, dim: torch.cumsum(self.flip(dims), dim).flip(dims),
        {"BLOCK": 16, "ROWS": 2},
    )

    def exclusive(self: Any, dim: int, first: int, length: int) -> Any:
        zeros = torch.zeros_like(self.select(dim, first).unsqueeze(dim))
        return torch.cat([zeros, torch.cumsum(self.narrow(dim, first, length), dim)], dim)

    add("cumsum_exclusive_rows", {"self": n(3, 37), "dim": 1, "first": 0, "length": 36}, exclusive, {"BLOCK": 16, "ROWS": 2})

    # losses
    pair: dict[str, tuple[Any, dict[str, Any]]] = {
        "smooth_l1_loss": (torch.ops.aten.smooth_l1_loss, {"beta": 0.7}),
        "huber_loss": (torch.ops.aten.huber_loss, {"delta": 0.7}),
        "mse_loss": (torch.ops.aten.mse_loss, {}),
        "kl_div_loss": (torch.ops.aten.kl_div, {"log_target": False}),
    }
    for kernel, (op, parameters) in pair.items():
        for reduction, shape in ((1, (3, 37)), (2, (2, 1030))):
            target = u(*shape)
            target[0, :5] = 0.0
            more_arguments = {"log_target": True} if "log_target" in parameters and reduction == 2 else parameters

            def loss(self: Any, target: Any, reduction: int, op: Any = op, **parameters: Any) -> Any:
                return op(self, target, reduction, **parameters)

            add(kernel, {"self": n(*shape), "target": target, "reduction": reduction, **more_arguments}, loss, {"BLOCK": 32, "PROGRAMS": 3})
    for ww, red, smooth, block in ((None, 1, 0.0, 64), ("w", 1, 0.1, 16), ("w", 0, 0.0, 16), (None, 2, 0.1, 64)):
        x, t = n(6, 37) * 3, i(0, 37, 6)
        t[1] = -100
        add(
            "cross_entropy_rows",
            {"self": x, "target": t, "weight": u(37) if ww else None, "reduction": red, "ignore_index": -100, "label_smoothing": smooth},
            lambda self, target, weight, reduction, ignore_index, label_smoothing: F.cross_entropy(
                self,
                target,
                weight,
                ignore_index=ignore_index,
                reduction=("none", "mean", "sum")[reduction],
                label_smoothing=label_smoothing,
            ),
            {"BLOCK": block, "ROWS": 2},
        )

    # normalisation
    def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None) -> Any:
        return F.layer_norm(input, normalized_shape, weight, bias)

    for kernel, tunables in (("layer_norm_rows", {"BLOCK_ROWS": 2}), ("layer_norm_split", {"CHUNK": 16, "BLOCK": 8, "ROWS": 2})):
        add(kernel, {"input": n(5, 3, 11) + 10, "normalized_shape": [3, 11], "weight": n(3, 11), "bias": n(3, 11)}, layer_norm, tunables)
        add(kernel, {"input": n(3, 13), "normalized_shape": [13]}, layer_norm, tunables)

    def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None) -> Any:
        return F.group_norm(input, num_groups, weight, bias)

    for shape, groups in (((5, 12), 3), ((2, 6, 3, 5), 2), ((3, 4, 7), 4)):
        add(
            "group_norm_rows",
            {"input": n(*shape), "num_groups": groups, "weight": n(shape[1]), "bias": n(shape[1])},
            group_norm,
            {"TILE": 32},
        )

        add(
            "group_norm_l2_window",
            {"input": n(*shape), "num_groups": groups, "weight": n(shape[1]), "bias": n(shape[1])},
            group_norm,
            {"CHUNK": 8, "PROGRAMS": 2, "LAG": 1},
        )

    def instance_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool) -> Any:
        return F.instance_norm(input, weight=weight, bias=bias)

    for kernel, tunables in (("instance_norm_rows", {"TILE": 64}), ("instance_norm_l2_window", {"CHUNK": 8, "PROGRAMS": 2, "LAG": 3})):
        for affine in (True, False):
            w, b = (n(3), n(3)) if affine else (None, None)
            x = {"input": n(2, 3, 5, 7), "weight": w, "bias": b, "running_mean": None, "running_var": None, "use_input_stats": True}
            add(kernel, x, instance_norm, tunables)

    x = n(5, 37)
    add(
        "l2_norm_rows",
        {"x": x, "order": 2, "dim": [1], "keepdim": True},
        lambda x, order, dim, keepdim: x / x.norm(order, dim, keepdim),
        {"ROWS": 2},
    )
    add("l1_norm_rows", {"x": x, "dim": [1], "keepdim": True}, lambda x, dim, keepdim: x / x.abs().mean(dim, keepdim), {"ROWS": 2})

    def rms(x: Any, exponent: int, dim: Any, keepdim: bool, eps: float) -> Any:
        return x / torch.sqrt(torch.mean(x**exponent, dim, keepdim) + eps)

    arguments = {"exponent": 2, "dim": [1], "keepdim": True, "eps": 1e-3}
    add("rms_norm_spelled_rows", {"x": x, **arguments}, rms, {"ROWS": 2})
    add("rms_norm_spelled_columns", {"self": n(2, 5, 3, 7), **arguments}, lambda self, **more: rms(self, **more), {"BLOCK_C": 8})
    add("frobenius_norm", {"x": n(3, 5, 37)}, lambda x: x / x.norm(), {"BLOCK": 32, "PROGRAMS": 3})

    def batch_norm(
        input: Any,
        weight: Any,
        bias: Any,
        running_mean: Any,
        running_var: Any,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool,
    ) -> Any:
        return F.batch_norm(input, None, None, weight, bias, True, momentum, eps)

    for shape, tunables in (
        ((3, 5, 4, 7), {"BLOCK_S": 16, "TILE": 32, "PARTS": 3}),
        ((9, 5), {"BLOCK_S": 1, "BLOCK_C": 4, "TILE": 8, "PARTS": 2}),
    ):
        x = {"input": n(*shape) + 3, "weight": n(5), "bias": n(5), "running_mean": n(5), "running_var": u(5)}
        add("batch_norm_training", {**x, "training": True, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": False}, batch_norm, tunables)
    x = {"input": n(3, 5, 4, 7) + 3, "weight": n(5), "bias": n(5), "running_mean": n(5), "running_var": u(5)}
    x |= {"training": True, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": False}
    add("batch_norm_l2_window", x, batch_norm, {"CHUNK": 16, "PROGRAMS": 2, "LAG": 3})

    def rms_norm(input: Any, normalized_shape: Any, weight: Any, eps: float) -> Any:
        return F.rms_norm(input, normalized_shape, weight, eps)

    for weight in (n(3, 11), None):
        x = {"input": n(5, 3, 11), "normalized_shape": [3, 11], "weight": weight, "eps": 1e-3}
        add("rms_norm_rows", x, rms_norm, {"BLOCK_ROWS": 2})

    # vectors
    for other in (n(37), n(37, 1)):
        add("matvec_split", {"self": n(3, 5, 37), "other": other}, lambda self, other: self @ other, {"BLOCK": 16, "SPLIT": 2})
    x = {"x1": n(5, 37), "x2": n(5, 37), "dim": -1, "eps": 1e-8}
    add("cosine_similarity", x, lambda x1, x2, dim, eps: F.cosine_similarity(x1, x2, dim, eps), {"BLOCK": 16, "ROWS": 2})

    # attention
    for causal, scale in ((False, None), (True, 0.3)):

        def attention(query: Any, key: Any, value: Any, is_causal: bool, scale: Any) -> Any:
            return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)

        x = {"query": n(1, 2, 19, 16), "key": n(1, 2, 21, 16), "value": n(1, 2, 21, 16)}
        add("attention_forward", {**x, "is_causal": causal, "scale": scale}, attention, {"BLOCK_M": 16, "BLOCK_N": 16})

    # losses of rows
    def triplet(anchor: Any, positive: Any, negative: Any, margin: float, p: float, eps: float, swap: bool, reduction: int) -> Any:
        names = ("none", "mean", "sum")
        return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=names[reduction])

    for reduction in (0, 1, 2):
        x = {"anchor": n(5, 37), "positive": n(5, 37), "negative": n(5, 37), "margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False}
        add("triplet_margin_loss", {**x, "reduction": reduction}, triplet, {"BLOCK": 16})

    # indexing
    def map_ids(ids: Any, mapping: Any, last: int, first: int, unknown: int, axis: int) -> Any:
        position = torch.bucketize(ids, mapping).clamp(max=last)
        return torch.where(mapping.gather(axis, position) == ids, position + first, unknown)

    for length in (1, 2, 7, 33):
        mapping = i(-40, 40, length).sort().values
        x = {"ids": torch.cat([mapping, i(-50, 50, 20)]), "mapping": mapping, "last": length - 1, "first": 1, "unknown": 0, "axis": 0}
        add("map_id_transform", x, map_ids, {"BLOCK": 32}, tolerance=0.0)

    x = i(-3, 4, 3, 13).float()
    x[0, 0], x[1, 1], x[2, 2] = float("nan"), inf, -inf
    borders = i(-3, 4, 3, 5).float().sort(1).values
    borders[0, 3:] = inf
    add(
        "merge_bucketized_dense",
        {"x": x, "borders": borders, "offsets": torch.tensor([0, 10, 20])},
        lambda x, borders, offsets: torch.searchsorted(borders, x) + offsets[:, None],
        {"BLOCK": 32},
        tolerance=0.0,
    )
    x = {"weight": n(11, 37), "indices": i(0, 11, 2, 5)}
    add("embedding_rows", x, lambda weight, indices: F.embedding(indices, weight), {"ROWS": 4, "BLOCK": 32})

    # convolution
    def conv2d(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)

    for c, mult, h, w, k, s, p, d in (
        (3, 1, 9, 11, (3, 3), (1, 1), (0, 0), (1, 1)),
        (2, 2, 8, 7, (3, 2), (1, 2), (2, 1), (1, 2)),
        (2, 1, 9, 8, (3, 3), (2, 2), (1, 1), (1, 1)),
        (2, 1, 6, 5, (1, 3), (1, 1), (0, 0), (1, 1)),
    ):
        add(
            "conv2d_depthwise",
            {
                "input": n(2, c, h, w),
                "weight": n(c * mult, 1, *k),
                "bias": n(c * mult),
                "stride": s,
                "padding": p,
                "dilation": d,
                "groups": c,
            },
            conv2d,
            {"BLOCK_W": 8, "ROWS": 4, "UNROLL": 1},
        )
    for c, o, g, h, w, k, s, p, d, has_bias in (
        (20, 18, 1, 5, 6, (3, 3), (1, 1), (0, 0), (1, 1), True),
        (36, 34, 2, 5, 6, (3, 2), (2, 1), (1, 2), (1, 2), True),
        (16, 16, 1, 5, 5, (1, 1), (1, 1), (0, 0), (1, 1), False),
    ):
        add(
            "conv2d_implicit_gemm",
            {
                "input": n(1, c, h, w),
                "weight": n(o, c // g, *k),
                "bias": n(o) if has_bias else None,
                "stride": s,
                "padding": p,
                "dilation": d,
                "groups": g,
            },
            conv2d,
            {"BLOCK_P": 16, "BLOCK_C": 16, "BLOCK_K": 16},
        )

    small = {"BLOCK_P": 16, "BLOCK_C": 16, "BLOCK_K": 16}
    for c, o, g, shape, k, s, p, d, tiles in (
        (20, 18, 1, (5, 6), (3, 3), (1, 1), (0, 0), (1, 1), small),
        (6, 9, 1, (11,), (3,), (2,), (1,), (2,), small),
        (8, 18, 2, (4, 5, 3), (2, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1), {**small, "BLOCK_K": 32}),
        (16, 70, 1, (4, 20), (1, 2), (1, 1), (0, 0), (1, 1), {**small, "BLOCK_C": 64}),
    ):
        op = (F.conv1d, F.conv2d, F.conv3d)[len(k) - 1]

        def conv(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, op: Any = op) -> Any:
            return op(input, weight, bias, stride, padding, dilation, groups)

        x = {"input": n(2, c, *shape), "weight": n(o, c // g, *k), "bias": n(o), "stride": s, "padding": p, "dilation": d, "groups": g}
        add("conv_nhwc_gemm", x, conv, tiles, tolerance=5e-3)  # the copy rounds to TF32: 2^-11 of each factor
        add("conv_nhwc_gemm", x, conv, {**tiles, "PRECISION": "ieee"})
        if g == 1:
            for name, reduction in (("amin", torch.amin), ("mean", torch.mean), ("logsumexp", torch.logsumexp)):

                def reduced(conv: Any = conv, reduction: Any = reduction, **more: Any) -> Any:
                    return reduction(conv(**more), dim=1, keepdim=True)

                add("conv_nhwc_gemm", x, reduced, {**tiles, "PRECISION": "ieee"}, slots=False, extra={"reduce": name}, tolerance=1e-4)
            for name, reduction in (("amax", torch.amax), ("mean", torch.mean)):

                def pooled(conv: Any = conv, reduction: Any = reduction, **more: Any) -> Any:
                    result = conv(**more)
                    return reduction(result, dim=tuple(range(2, result.ndim)), keepdim=True)

                more = {"extra": {"reduce": f"{name}_positions"}, "slots": False, "tolerance": 1e-4}
                add("conv_nhwc_gemm", x, pooled, {**tiles, "PRECISION": "ieee"}, **more)
    for c, o, g, shape, tiles in ((20, 18, 1, (5, 6), small), (32, 16, 2, (40,), small), (16, 70, 1, (2, 3, 5), {**small, "BLOCK_C": 64})):
        op = (F.conv1d, F.conv2d, F.conv3d)[len(shape) - 1]

        def pointwise(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, op: Any = op) -> Any:
            return op(input, weight, bias, stride, padding, dilation, groups)

        x = {"input": n(2, c, *shape), "weight": n(o, c // g, *(1 for _ in shape)), "bias": n(o), "groups": g}
        ones, zeros = (1,) * len(shape), (0,) * len(shape)
        add("conv_pointwise_gemm", {**x, "stride": ones, "padding": zeros, "dilation": ones}, pointwise, tiles, tolerance=5e-3)
        add("conv_pointwise_gemm", {**x, "stride": ones, "padding": zeros, "dilation": ones}, pointwise, {**tiles, "PRECISION": "ieee"})
    for c, o, g, shape, k, s, p, d in (
        (6, 9, 1, (11,), (3,), (2,), (1,), (2,)),
        (3, 16, 1, (5, 6), (3, 3), (1, 1), (1, 0), (1, 1)),
        (4, 18, 2, (4, 5, 3), (2, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1)),
    ):
        op = (F.conv1d, F.conv2d, F.conv3d)[len(k) - 1]

        def conv(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, op: Any = op) -> Any:
            return op(input, weight, bias, stride, padding, dilation, groups)

        x = {"input": n(2, c, *shape), "weight": n(o, c // g, *k), "bias": n(o), "stride": s, "padding": p, "dilation": d, "groups": g}
        add("conv_nd_implicit_gemm", x, conv, small)
    for c, o, g, shape, k, s, p, m, d in (
        (9, 10, 1, (7,), (5,), (1,), (2,), (0,), (2,)),
        (8, 9, 1, (4, 5), (3, 2), (2, 3), (1, 0), (1, 2), (1, 1)),
        (16, 18, 2, (2, 3, 3), (3, 3, 2), (2, 1, 2), (1, 0, 0), (1, 0, 1), (1, 1, 1)),
        (8, 8, 1, (3, 3), (1, 1), (2, 2), (0, 0), (0, 0), (1, 1)),
    ):
        op = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(k) - 1]

        def deconv(
            input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any, op: Any = op
        ) -> Any:
            return op(input, weight, bias, stride, padding, output_padding, groups, dilation)

        x = {"input": n(2, c, *shape), "weight": n(c, o // g, *k), "bias": n(o), "stride": s, "padding": p, "output_padding": m}
        add("conv_transpose_phases", {**x, "groups": g, "dilation": d}, deconv, small)
    for c, o, g, shape, k, s, p, m, d, tiles in (
        (9, 10, 1, (7,), (5,), (1,), (2,), (0,), (3,), small),
        (3, 9, 1, (4, 5), (3, 2), (2, 3), (1, 0), (1, 2), (1, 1), {**small, "BLOCK_C": 8}),
        (16, 18, 2, (2, 3, 3), (3, 3, 2), (2, 1, 2), (1, 0, 0), (1, 0, 1), (1, 1, 1), small),
        (20, 8, 1, (9,), (3,), (2,), (1,), (0,), (2,), {**small, "BLOCK_K": 32}),
        (16, 8, 1, (3, 4), (3, 3), (5, 2), (1, 1), (0, 0), (2, 3), small),
        (16, 34, 1, (3, 4), (3, 3), (2, 2), (1, 1), (0, 0), (1, 1), {**small, "BLOCK_C": 32}),
    ):
        op = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(k) - 1]

        def turned(
            input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any, op: Any = op
        ) -> Any:
            return op(input, weight, bias, stride, padding, output_padding, groups, dilation)

        x = {"input": n(2, c, *shape), "weight": n(c, o // g, *k), "bias": n(o), "stride": s, "padding": p, "output_padding": m}
        add("conv_transpose_nhwc", {**x, "groups": g, "dilation": d}, turned, tiles, tolerance=5e-3)
        if g == 1 and s[-1] <= 2:
            for name, reduction in (("amin", torch.amin), ("logsumexp", torch.logsumexp), ("mean_positions", torch.mean)):

                def smaller(turned: Any = turned, reduction: Any = reduction, inner: bool = "_" in name, **more: Any) -> Any:
                    result = turned(**more)
                    return reduction(result, dim=tuple(range(2, result.ndim)) if inner else 1, keepdim=True)

                more = {"extra": {"reduce": name}, "slots": False, "tolerance": 5e-3}
                add("conv_transpose_nhwc", {**x, "groups": g, "dilation": d}, smaller, tiles, **more)

    def linear_group_norm(input: Any, weight: Any, bias: Any, gamma: Any, beta: Any, num_groups: int, shift: Any = None) -> Any:
        value = F.linear(input, weight, bias)
        return F.group_norm(value if shift is None else F.silu(value) + shift, num_groups, gamma, beta)

    tiles = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
    x = {"input": n(7, 19), "weight": n(24, 19), "bias": n(24), "gamma": n(24), "beta": n(24), "num_groups": 3}
    add("linear_group_norm", x, linear_group_norm, tiles)
    add("linear_swish_group_norm", {**x, "shift": n(24)}, linear_group_norm, tiles)

    # pooling
    tiles = {"BLOCK": 8, "ROWS": 2, "UNROLL": 1}
    for shape, k, s, p, d in (
        ((2, 2, 13), [3], [2], [1], [2]),
        ((2, 2, 7, 9), [3, 2], [1, 1], [1, 1], [1, 1]),
        ((2, 2, 7, 9), [2, 2], [], [0, 0], [1, 1]),
        ((1, 2, 5, 6, 7), [3, 2, 2], [2, 1, 2], [1, 0, 1], [1, 1, 1]),
    ):
        rank = len(k)
        maximum = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]

        def max_pool(self: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, op: Any = maximum) -> Any:
            return op(self, kernel_size, stride or None, padding, dilation)

        def avg_pool(
            self: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool, op: Any = average
        ) -> Any:
            return op(self, kernel_size, stride or None, padding, ceil_mode, count_include_pad)

        add("max_pool", {"self": n(*shape), "kernel_size": k, "stride": s, "padding": p, "dilation": d}, max_pool, tiles)
        common = {"kernel_size": k, "stride": s, "padding": p, "ceil_mode": False, "count_include_pad": rank != 2}
        add("avg_pool", {"self": n(*shape), **common}, avg_pool, tiles)
    for columns, k, p, d in ((37, 8, 4, 3), (40, 3, 1, 1)):
        line = {"self": n(2, 3, columns), "kernel_size": [k], "stride": [1], "padding": [p]}
        add(
            "pool_line",
            {**line, "dilation": [d]},
            lambda self, kernel_size, stride, padding, dilation: F.max_pool1d(self, kernel_size, stride, padding, dilation),
            {"BLOCK": 4},
            extra={"operator": "aten.max_pool1d.default"},
        )
        add(
            "pool_line",
            {**line, "ceil_mode": False, "count_include_pad": columns == 37},
            lambda self, kernel_size, stride, padding, ceil_mode, count_include_pad: F.avg_pool1d(
                self, kernel_size, stride, padding, ceil_mode, count_include_pad
            ),
            {"BLOCK": 4},
            extra={"operator": "aten.avg_pool1d.default"},
        )

    # recurrent layers: both directions need a launch for each layer and step, one direction runs the layers side by side
    for op, cell, gates, two, first, biases in (
        ("gru", torch.gru, 3, False, False, True),
        ("gru", torch.gru, 3, True, True, False),
        ("lstm", torch.lstm, 4, False, True, True),
        ("lstm", torch.lstm, 4, True, False, True),
    ):
        width = 2 if two else 1
        sizes = [(gates * 20, size) for below in (7, 20 * width) for _ in range(width) for size in (below, 20, *([0, 0] if biases else []))]
        weights = [n(rows, columns) * 0.3 if columns else n(rows) * 0.3 for rows, columns in sizes]
        state = [n(2 * width, 3, 20), n(2 * width, 3, 20)]

        def recurrence(input: Any, hx: Any, params: Any, *rest: Any, cell: Any = cell, **more: Any) -> Any:
            hidden = [item.double() for item in hx] if isinstance(hx, list) else hx
            return cell(input, hidden, [item.double() for item in params], *rest, *more.values())

        add(
            "recurrent_steps",
            {
                "input": n(3, 4, 7) if first else n(4, 3, 7),
                "hx": state if op == "lstm" else state[0],
                "params": weights,
                "has_biases": biases,
                "num_layers": 2,
                "dropout": 0.0,
                "train": False,
                "bidirectional": two,
                "batch_first": first,
            },
            recurrence,
            {"BLOCK_H": 16, "BLOCK_K": 32},
            extra={"operator": f"aten.{op}.input"},
        )

    # gemm
    for kernel in ("linear_split_fp16", "linear_split_bf16", "linear_fp32"):
        tiles = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
        add(
            kernel,
            {"input": n(3, 7, 37), "weight": n(19, 37), "bias": n(19)},
            lambda input, weight, bias: F.linear(input, weight, bias),
            tiles,
        )
        add(kernel, {"input": n(5, 32), "weight": n(17, 32)}, lambda input, weight: F.linear(input, weight), tiles)
    add(
        "linear_fp32",
        {"input": n(3, 7, 37), "weight": n(19, 37), "bias": n(19)},
        lambda input, weight, bias: F.linear(input, weight, bias),
        tiles | {"SPLIT_K": 2},
    )

    tiles = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
    for a, b in ((n(3, 7, 37), n(37, 18)), (n(37, 19).T, n(18, 37).T)):
        for kernel in ("matmul_split_fp16", "matmul_split_bf16"):
            add(kernel, {"self": a, "other": b}, lambda self, other: self @ other, tiles)
        for split in (1, 2):
            add("matmul_fp32", {"self": a, "other": b}, lambda self, other: self @ other, tiles | {"SPLIT_K": split})
    add("matmul_fp32", {"self": n(5, 33), "other": n(33, 32)}, lambda self, other: self @ other, tiles | {"SPLIT_K": 2}, slots=False)
    far = (2.0 ** torch.arange(-100.0, 85.0, 5))[:, None]  # rows of very different sizes, each accurate to its own size
    add("matmul_split_fp16", {"self": n(37, 35) * far, "other": n(35, 18)}, lambda self, other: self @ other, tiles, slots=False)
    for kernel in ("matmul_split_fp16", "matmul_fp32"):
        add(kernel, {"self": n(2, 2, 5, 17), "other": n(2, 2, 17, 18)}, lambda self, other: self @ other, tiles)
    for a, b in ((n(2, 7, 19), n(2, 19, 5)), (n(7, 19), n(19, 5))):
        add("bmm_split_fp16", {"self": a, "mat2": b}, lambda self, mat2: self @ mat2, tiles)
        add("bmm_fp32", {"self": a, "mat2": b}, lambda self, mat2: self @ mat2, tiles | {"SPLIT_K": 2})

    for name, op in (("triu", torch.triu), ("tril", torch.tril)):
        for diagonal in (0, 3, -18):

            def triangle(self: Any, other: Any, diagonal: int, op: Any = op) -> Any:
                return op(self @ other, diagonal)

            tiles = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
            add(f"matmul_{name}", {"self": n(37, 19), "other": n(19, 35), "diagonal": diagonal}, triangle, tiles, slots=diagonal == 3)

    return table
