"""Which PyTorch operators compute and which only allocate, view or copy. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

MOVES_ONLY = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "expand",
        "permute",
        "transpose",
        "t",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "as_strided",
        "alias",
        "detach",
        "split",
        "split_with_sizes",
        "unbind",
        "chunk",
        "narrow",
        "diagonal",
        "unfold",
        "view_as_real",
        "view_as_complex",
        "_reshape_alias",
        "lift_fresh",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "zeros",
        "zeros_like",
        "new_zeros",
        "full",
        "full_like",
        "new_full",
        "ones",
        "ones_like",
        "fill_",
        "zero_",
        "contiguous",
        "clone",
        "copy_",
        "_to_copy",
        "to",
        "resize_",
        "set_",
        "is_pinned",
        "_local_scalar_dense",
        "item",
        "sym_size",
        "sym_stride",
        "sym_numel",
        "storage_offset",
        "arange",
        "scalar_tensor",
        "_has_compatible_shallow_copy_type",
        "record_stream",
        "movedim",
        "swapaxes",
        "flatten",
        "unflatten",
        "view_dtype",
    ]
)
"""Operators that allocate, view or copy: they do no arithmetic, so a candidate may use them and still be `custom`."""

READS_PART = frozenset(
    [
        "gather",
        "index",
        "index_select",
        "embedding",
        "embedding_bag",
        "bucketize",
        "searchsorted",
        "take",
        "take_along_dim",
        "slice",
        "select",
        "narrow",
        "tril",
        "triu",
        "where",
        "masked_fill",
        "masked_select",
        "scatter",
        "scatter_add",
        "index_add",
        "index_put",
        "topk",
        "sort",
        "argmax",
        "argmin",
        "max_pool2d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "avg_pool2d",
        "avg_pool3d",
        "convolution",
        "nll_loss_forward",
        "diagonal",
        "diag",
        "diag_embed",
        "grid_sampler_2d",
        "upsample_nearest2d",
        "roll",
        "split",
        "chunk",
        "as_strided",
        "max_unpool2d",
        "adaptive_avg_pool2d",
        "unfold",
        "im2col",
        "isin",
        "nonzero",
        "cummax",
        "cummin",
    ]
)
"""Operators that may leave part of an input unread, so that input bytes give no lower bound for the time."""

PICKS_AMONG_EQUALS = frozenset(
    [
        "sort",
        "topk",
        "kthvalue",
        "mode",
        "median",
        "nanmedian",
        "msort",
        "argsort",
        "unique_dim",
        "_unique",
        "_unique2",
        "unique_consecutive",
        "multinomial",
        "cummax",
        "cummin",
    ]
)
"""Operators whose result among equal elements is not defined: two right answers may differ where there are ties."""


CONTRACTIONS = frozenset(["mm", "addmm", "bmm", "baddbmm"])
"""Matrix products."""

ELEMENTWISE = frozenset(
    [
        "add", "add_", "sub", "rsub", "mul", "mul_", "div", "div_", "neg", "abs", "relu", "relu_", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid",
        "leaky_relu", "elu", "softplus", "mish", "clamp", "clamp_min", "clamp_max", "minimum", "maximum", "exp", "log", "sqrt", "rsqrt", "pow", "reciprocal", "erf", "sin", "cos",
    ]
)  # fmt: skip
"""Operators that compute each element of their result from the same element of their operands."""

_REDUCTIONS = CONTRACTIONS | {"sum", "mean", "amax", "amin", "mv", "dot", "_int_mm", "softmax", "_softmax", "var", "std"}
_SIZES_AND_INDICES = frozenset(["arange", "item", "_local_scalar_dense"])


def takes_integers_as_numbers(operators: Mapping[str, int]) -> bool:
    """True if the operators only compute with their operands: none takes an integer as an index, a length, a label or a size."""
    names = {base_name(name) for name in operators}
    return not names & _SIZES_AND_INDICES and names <= ELEMENTWISE | _REDUCTIONS | MOVES_ONLY


def arithmetic(operators: Mapping[str, int]) -> dict[str, int]:
    """Return the operators that compute, leaving out views, allocation and copies."""
    return {name: count for name, count in operators.items() if base_name(name) not in MOVES_ONLY}


def reads_all_inputs(operators: Mapping[str, int]) -> bool:
    """True if none of the operators can skip input elements."""
    return not any(base_name(name) in READS_PART for name in operators)


_SIZING = frozenset(
    {
        "nonzero",
        "masked_select",
        "index",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "bincount",
        "repeat_interleave",
        "split_with_sizes",
    }
)


def picks_among_equals(operators: Mapping[str, int]) -> bool:
    """True if ties among the inputs may have several right answers."""
    return any(base_name(name) in PICKS_AMONG_EQUALS for name in operators)


def may_size_by_values(operators: Mapping[str, int]) -> bool:
    """True if a shape may go by values: booleans that choose, counts, repetitions."""
    return any(base_name(name) in _SIZING for name in operators)


def base_name(operator: str) -> str:
    """Return `mm` for `aten.mm.default`, `aten::mm` and `mm`."""
    return operator.split("::")[-1].removeprefix("aten.").split(".")[0]
