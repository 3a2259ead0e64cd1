"""The expression language of kernel documents: what it computes and what it refuses."""

from __future__ import annotations

import pytest

from agents.coders.library.graph import TensorSpec
from tools.errors import ExpressionError
from tools.expressions import evaluate, parse

SCOPE = {"x": TensorSpec((4, 6), "float32", (6, 1)), "w": None, "dim": (-1,), "limits": {"shared": 1000.0}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("prod(x.shape)", 24),
        ("x.is_contiguous and x.dtype in ('float32', 'float16')", True),
        ("8 if x.shape[-1] > 4 else 4", 8),
        ("1 <= x.ndim < 3", True),
        ("w is None or w.numel > 0", True),
        ("dim in ([-1], [x.ndim - 1])", True),
        ("next_pow2(x.shape[1]) + cdiv(x.numel, 5)", 13),
        ("x.numel * 4 <= limits.shared", True),
        ("all_equal(4, x.shape[0])", True),
    ],
)
def test_expression_has_the_value_worked_out_by_hand(text: str, value: object) -> None:
    assert evaluate(text, SCOPE) == value


@pytest.mark.parametrize(
    "text", ["__import__('os')", "x.shape.__class__", "open('f')", "[i for i in dim]", "lambda: 1", "x.data", "f'{x}'", "1 +"]
)
def test_anything_else_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ExpressionError, match="known: dim, limits, w, x"):
        evaluate("y.numel", SCOPE)


def test_an_attribute_of_an_absent_argument_is_an_error_not_false() -> None:
    with pytest.raises(ExpressionError, match="not a tensor"):
        evaluate("w.numel > 0", SCOPE)
