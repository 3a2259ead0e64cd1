"""Lowering of pointwise ATen operators to scalar expressions, in Triton and in C++.

Arithmetic on float16 and bfloat16 happens in float32; float64 stays float64 (Triton only). Comparisons and selections are written so that NaN propagates as in
PyTorch. An operator, dtype or argument that is not in the table raises `LoweringError`; the operator then stays with PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agents.coders.library.errors import LoweringError
from agents.coders.library.graph import Node, Ref, Symbol, TensorSpec, Value

FLOATS = ("float32", "float16", "bfloat16", "float64")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
TRITON_TYPES = {
    "float32": "tl.float32",
    "float16": "tl.float16",
    "bfloat16": "tl.bfloat16",
    "float64": "tl.float64",
    "int64": "tl.int64",
    "int32": "tl.int32",
    "int16": "tl.int16",
    "int8": "tl.int8",
    "uint8": "tl.uint8",
    "bool": "tl.int1",
}
CPP_TYPES = {
    "float32": "float",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "bool",
}


@dataclass(frozen=True)
class Operand:
    """A scalar expression with its kind."""

    text: str
    kind: str
    """`f` float, `i` integer, `b` boolean."""
    literal: bool | int | float | None = None
    """The number, if it is known when the code is written."""


@dataclass
class Builder:
    """Collects statements of one slot. `let` names a value, so that expressions may use it several times."""

    language: str
    """`triton` or `cpp`."""
    lines: list[str] = field(default_factory=list)
    wide: bool = False
    """True if the arithmetic is float64."""

    @property
    def is_cpp(self) -> bool:
        """True for C++."""
        return self.language == "cpp"

    def let(self, operand: Operand) -> Operand:
        """Bind an expression to a fresh name."""
        if operand.literal is not None or operand.text.isidentifier():
            return operand
        name = f"v{len(self.lines)}"
        if self.is_cpp:
            kind = {"f": "float", "i": "int64_t", "b": "bool"}[operand.kind]
            self.lines.append(f"const {kind} {name} = {operand.text};")
        else:
            self.lines.append(f"{name} = {operand.text}")
        return Operand(name, operand.kind)

    def const(self, value: bool | int | float, kind: str | None = None) -> Operand:
        """A number in source form."""
        kind = kind or ("b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f")
        if kind == "b":
            value = bool(value)
            text = ("true" if value else "false") if self.is_cpp else ("True" if value else "False")
        elif kind == "i":
            value = int(value)
            text = f"INT64_C({value})" if self.is_cpp else str(value)
        else:
            value = float(value)
            text = self._float(value)
        return Operand(text if not text.startswith("-") else f"({text})", kind, value)

    def _float(self, value: float) -> str:
        if math.isnan(value):
            return "std::numeric_limits<float>::quiet_NaN()" if self.is_cpp else 'float("nan")'
        if math.isinf(value):
            sign = "-" if value < 0 else ""
            return f"{sign}std::numeric_limits<float>::infinity()" if self.is_cpp else f'float("{sign}inf")'
        if not self.is_cpp:
            return repr(value)
        if abs(value) > 3.4028235e38:
            return self._float(math.copysign(math.inf, value))
        return f"{value!r}f"

    def f(self, operand: Operand) -> Operand:
        """The operand as a float."""
        if operand.kind == "f":
            return operand
        if operand.literal is not None:
            return self.const(float(operand.literal), "f")
        kind = "tl.float64" if self.wide else "tl.float32"
        return Operand(f"(float)({operand.text})" if self.is_cpp else f"({operand.text}).to({kind})", "f")

    def call(self, name: str, operand: Operand) -> Operand:
        """A unary function of a float, by its ATen name."""
        table = _CPP_CALLS if self.is_cpp else _TRITON_CALLS
        if operand.literal is not None:
            folded = _FOLD.get(name)
            if folded is None:
                raise LoweringError(f"{name} of a literal")
            return self.const(folded(float(operand.literal)), "f")
        return Operand(table[name].format(self.f(operand).text), "f")

    def where(self, condition: Operand, yes: Operand, no: Operand) -> Operand:
        """Selection."""
        kind = "f" if "f" in (yes.kind, no.kind) else "i" if "i" in (yes.kind, no.kind) else "b"
        if kind == "f":
            yes, no = self.f(yes), self.f(no)
        text = f"({condition.text} ? {yes.text} : {no.text})" if self.is_cpp else f"tl.where({condition.text}, {yes.text}, {no.text})"
        return Operand(text, kind)

    def bin(self, symbol: str, left: Operand, right: Operand, kind: str = "") -> Operand:
        """An infix operation; operands are brought to a common kind."""
        common = "f" if "f" in (left.kind, right.kind) else "i" if "i" in (left.kind, right.kind) else "b"
        if common == "f":
            left, right = self.f(left), self.f(right)
        if left.literal is not None and right.literal is not None:
            raise LoweringError("an operation on two literals")
        return Operand(f"({left.text} {symbol} {right.text})", kind or common)


_FOLD: Mapping[str, Callable[[float], float]] = {"exp": math.exp, "log": math.log, "sqrt": math.sqrt, "tanh": math.tanh, "abs": abs}
_TRITON_CALLS = {
    "exp": "tl.exp({})",
    "exp2": "tl.exp2({})",
    "log": "tl.log({})",
    "log2": "tl.log2({})",
    "sqrt": "tl.sqrt_rn({})",
    "rsqrt": "(1.0 / tl.sqrt_rn({}))",
    "sin": "tl.sin({})",
    "cos": "tl.cos({})",
    "erf": "tl.erf({})",
    "abs": "tl.abs({})",
    "floor": "tl.floor({})",
    "ceil": "tl.ceil({})",
    "sigmoid": "(1.0 / (1.0 + tl.exp(-{})))",
}
_CPP_CALLS = {
    "exp": "kexp({})",
    "exp2": "kexp(0.69314718055994531f * {})",
    "log": "klog({})",
    "log2": "(1.4426950408889634f * klog({}))",
    "sqrt": "__builtin_sqrtf({})",
    "rsqrt": "(1.0f / __builtin_sqrtf({}))",
    "sin": "std::sin({})",
    "cos": "std::cos({})",
    "erf": "kerf({})",
    "abs": "std::fabs({})",
    "floor": "std::floor({})",
    "ceil": "std::ceil({})",
    "sigmoid": "ksigmoid({})",
}

Arguments = Mapping[str, Operand | Value]
Lowering = Callable[[Builder, Arguments, Node], Operand]


def lower(builder: Builder, node: Node, operands: Mapping[str, Operand]) -> Operand:
    """Return the expression of one pointwise node.

    Args:
        builder: Receives helper statements.
        node: The operator with its arguments.
        operands: Expression of every value that the node refers to, by name.

    Raises:
        LoweringError: The operator, or these arguments of it, cannot be expressed.
    """
    lowering = OPERATORS.get(node.op)
    if lowering is None:
        raise LoweringError(f"{node.op} is not in the pointwise table")
    arguments: dict[str, Operand | Value] = {}
    for argument in node.arguments:
        value = argument.value
        if isinstance(value, Ref):
            arguments[argument.name] = operands[value.name]
        elif isinstance(value, bool | int | float):
            arguments[argument.name] = builder.const(value)
        else:
            arguments[argument.name] = value
    result = lowering(builder, arguments, node)
    expected = node.spec.dtype if node.spec else ""
    if expected in FLOATS and result.kind != "f":
        result = builder.f(result)
    if expected in INTEGERS and result.kind == "f":
        raise LoweringError(f"{node.op} gives {expected} from a float")
    return builder.let(result)


def is_pointwise(node: Node) -> bool:
    """Say whether the table has the operator (its arguments may still be refused by `lower`)."""
    return node.op in OPERATORS and isinstance(node.output, TensorSpec)


def _x(arguments: Arguments, name: str = "self") -> Operand:
    value = arguments.get(name)
    if not isinstance(value, Operand):
        raise LoweringError(f"argument {name!r} is not a number or tensor")
    return value


def _number(arguments: Arguments, name: str, default: float | None = None) -> float:
    value = arguments.get(name)
    if isinstance(value, Operand) and value.literal is not None:
        return float(value.literal)
    if value is None and default is not None:
        return default
    raise LoweringError(f"argument {name!r} is not a literal")


def _call(name: str) -> Lowering:
    return lambda b, a, n: b.call(name, b.let(b.f(_x(a))))


def _scaled_other(b: Builder, a: Arguments, other: Operand) -> Operand:
    alpha = a.get("alpha")
    if alpha is None or (isinstance(alpha, Operand) and alpha.literal == 1):
        return other
    return b.bin("*", other, _x(a, "alpha"))


def _add(b: Builder, a: Arguments, n: Node) -> Operand:
    return _arithmetic(b, "+", _x(a), _scaled_other(b, a, _x(a, "other")), n)


def _sub(b: Builder, a: Arguments, n: Node) -> Operand:
    return _arithmetic(b, "-", _x(a), _scaled_other(b, a, _x(a, "other")), n)


def _rsub(b: Builder, a: Arguments, n: Node) -> Operand:
    return _arithmetic(b, "-", _x(a, "other"), _scaled_other(b, a, _x(a)), n)


def _mul(b: Builder, a: Arguments, n: Node) -> Operand:
    return _arithmetic(b, "*", _x(a), _x(a, "other"), n)


def _arithmetic(b: Builder, symbol: str, left: Operand, right: Operand, node: Node) -> Operand:
    if left.kind == "b" and right.kind == "b":
        raise LoweringError(f"{node.op} of booleans")
    return b.bin(symbol, left, right)


def _div(b: Builder, a: Arguments, n: Node) -> Operand:
    if a.get("rounding_mode") is not None:
        raise LoweringError("division with a rounding mode")
    left, right = b.f(_x(a)), b.f(_x(a, "other"))
    if right.literal is not None and float(right.literal) != 0 and math.frexp(float(right.literal))[0] in (0.5, -0.5):
        return b.bin("*", left, b.const(1.0 / float(right.literal)))  # a power of two: exact
    return b.bin("/", left, right)


def _power(b: Builder, x: Operand, exponent: float) -> Operand:
    x = b.let(b.f(x))
    if exponent == 0.5:
        return b.call("sqrt", x)
    if exponent == -0.5:
        return b.call("rsqrt", x)
    if exponent != int(exponent) or not 1 <= abs(exponent) <= 16:
        raise LoweringError(f"power {exponent:g}")
    result: Operand | None = None
    square, left = x, int(abs(exponent))
    while left:
        if left & 1:
            result = square if result is None else b.let(b.bin("*", result, square))
        left >>= 1
        if left:
            square = b.let(b.bin("*", square, square))
    assert result is not None  # the exponent is at least 1
    return result if exponent > 0 else b.bin("/", b.const(1.0), result)


def _pow_scalar(b: Builder, a: Arguments, n: Node) -> Operand:
    base = _number(a, "self")
    if base <= 0:
        raise LoweringError("power of a base that is not positive")
    return b.call("exp", b.let(b.bin("*", b.f(_x(a, "exponent")), b.const(math.log(base)))))


def _compare(symbol: str) -> Lowering:
    return lambda b, a, n: b.bin(symbol, b.let(_x(a)), b.let(_x(a, "other")), "b")


def _logical(symbol: str) -> Lowering:
    def lowering(b: Builder, a: Arguments, n: Node) -> Operand:
        return b.bin(symbol, _truth(b, _x(a)), _truth(b, _x(a, "other")), "b")

    return lowering


def _truth(b: Builder, x: Operand) -> Operand:
    return x if x.kind == "b" else b.bin("!=", x, b.const(0))


def _not(b: Builder, a: Arguments, n: Node) -> Operand:
    x = _x(a)
    if x.kind == "b":
        return Operand(f"(!{x.text})" if b.is_cpp else f"({x.text} == 0)", "b")
    if n.op == "aten.bitwise_not.default":
        raise LoweringError("bitwise_not of integers")
    return b.bin("==", x, b.const(0), "b")


def _bitwise(symbol: str) -> Lowering:
    def lowering(b: Builder, a: Arguments, n: Node) -> Operand:
        left, right = _x(a), _x(a, "other")
        if "f" in (left.kind, right.kind):
            raise LoweringError("bitwise operation on floats")
        return b.bin(symbol, left, right)

    return lowering


def _where(b: Builder, a: Arguments, n: Node) -> Operand:
    return b.where(_truth(b, _x(a, "condition")), _x(a, "self"), _x(a, "other"))


def _masked_fill(b: Builder, a: Arguments, n: Node) -> Operand:
    return b.where(_x(a, "mask"), _x(a, "value"), _x(a))


def _clip(b: Builder, x: Operand, low: Operand | None, high: Operand | None) -> Operand:
    x = b.let(x)
    if low is not None:
        x = b.let(b.where(b.bin("<", x, low, "b"), low, x))
    if high is not None:
        x = b.let(b.where(b.bin(">", x, high, "b"), high, x))
    return x


def _bounds(low: str, high: str) -> Lowering:
    def lowering(b: Builder, a: Arguments, n: Node) -> Operand:
        bounds = [value if isinstance(value := a.get(name), Operand) else None for name in (low, high)]
        x = _x(a)
        if n.spec and n.spec.dtype in FLOATS:
            x = b.f(x)
        return _clip(b, x, bounds[0], bounds[1])

    return lowering


def _extreme(symbol: str) -> Lowering:
    def lowering(b: Builder, a: Arguments, n: Node) -> Operand:
        left, right = b.let(_x(a)), b.let(_x(a, "other"))
        if left.literal is not None:
            left, right = right, left
        better = b.bin(symbol, left, right, "b")
        if left.kind != "f":
            return b.where(better, left, right)
        nan = b.bin("!=", left, left, "b")
        return b.where(Operand(f"({better.text} {'||' if b.is_cpp else '|'} {nan.text})", "b"), left, right)

    return lowering


def _relu(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(_x(a))
    return b.where(b.bin("<", x, b.const(0.0, x.kind), "b"), b.const(0.0, x.kind), x)


def _neg(b: Builder, a: Arguments, n: Node) -> Operand:
    x = _x(a)
    return Operand(f"(-{x.text})", x.kind)


def _abs(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(_x(a))
    if x.kind == "f":
        return b.call("abs", x)
    return b.where(b.bin("<", x, b.const(0), "b"), Operand(f"(-{x.text})", "i"), x)


def _sign(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(_x(a))
    negative = b.where(b.bin("<", x, b.const(0, x.kind), "b"), b.const(-1, x.kind), b.const(0, x.kind))
    return b.where(b.bin(">", x, b.const(0, x.kind), "b"), b.const(1, x.kind), b.let(negative))


def _reciprocal(b: Builder, a: Arguments, n: Node) -> Operand:
    return b.bin("/", b.const(1.0), b.f(_x(a)))


def _tanh_of(b: Builder, x: Operand) -> Operand:
    x = b.let(b.f(x))
    if b.is_cpp:
        return Operand(f"ktanh({x.text})", "f")
    size = b.let(b.call("abs", x))
    decay = b.let(b.call("exp", b.let(b.bin("*", size, b.const(-2.0)))))
    large = b.let(Operand(f"((1.0 - {decay.text}) / (1.0 + {decay.text}))", "f"))
    signed = b.let(b.where(b.bin("<", x, b.const(0.0), "b"), Operand(f"(-{large.text})", "f"), large))
    square = b.let(b.bin("*", x, x))
    # The Taylor series to x^9 is exact to 5e-8 below 0.3, where the quotient above would lose digits.
    s = square.text
    series = b.let(
        Operand(
            f"({x.text} + {x.text} * {s} * (-0.3333333333333333 + {s} * (0.13333333333333333 + {s} * (-0.05396825396825397 + {s} * 0.021869488536155203))))",
            "f",
        )
    )
    return b.where(b.bin("<", size, b.const(0.3), "b"), series, signed)


def _log1p_of(b: Builder, x: Operand) -> Operand:
    """Kahan's correction: log(1 + x) * x / ((1 + x) - 1)."""
    x = b.let(b.f(x))
    up = b.let(b.bin("+", x, b.const(1.0)))
    log = b.let(b.call("log", up))
    gap = b.let(b.bin("-", up, b.const(1.0)))
    is_one = b.bin("==", gap, b.const(0.0), "b")
    safe = b.let(b.where(is_one, b.const(1.0), gap))
    corrected = b.let(Operand(f"({log.text} * ({x.text} / {safe.text}))", "f"))
    big = b.bin(">", x, b.const(1e30), "b")
    return b.where(is_one, x, b.let(b.where(big, log, corrected)))


def _expm1_of(b: Builder, x: Operand) -> Operand:
    """Kahan's correction near zero; exp(x) - 1 elsewhere."""
    x = b.let(b.f(x))
    up = b.let(b.call("exp", x))
    less = b.let(b.bin("-", up, b.const(1.0)))
    log = b.let(b.call("log", up))
    is_one = b.bin("==", less, b.const(0.0), "b")
    safe = b.let(b.where(b.bin("==", log, b.const(0.0), "b"), b.const(1.0), log))
    corrected = b.let(Operand(f"({less.text} * ({x.text} / {safe.text}))", "f"))
    near = b.bin("<", b.let(b.call("abs", x)), b.const(0.5), "b")
    return b.where(near, b.let(b.where(is_one, x, corrected)), less)


def _softplus_of(b: Builder, x: Operand, beta: float, threshold: float) -> Operand:
    x = b.let(b.f(x))
    scaled = x if beta == 1 else b.let(b.bin("*", x, b.const(beta)))
    soft = b.let(_log1p_of(b, b.let(b.call("exp", scaled))))
    if beta != 1:
        soft = b.let(b.bin("/", soft, b.const(beta)))
    return b.where(b.bin(">", scaled, b.const(threshold), "b"), x, soft)


def _softplus(b: Builder, a: Arguments, n: Node) -> Operand:
    return _softplus_of(b, _x(a), _number(a, "beta", 1.0), _number(a, "threshold", 20.0))


def _mish(b: Builder, a: Arguments, n: Node) -> Operand:
    """x * tanh(log(1 + e^x)) = x * k / (k + 2) with k = e^x (e^x + 2); x itself above 20."""
    x = b.let(b.f(_x(a)))
    capped = b.let(b.where(b.bin(">", x, b.const(20.0), "b"), b.const(20.0), x))
    e = b.let(b.call("exp", capped))
    k = b.let(Operand(f"({e.text} * ({e.text} + {b.const(2.0).text}))", "f"))
    soft = b.let(Operand(f"({x.text} * ({k.text} / ({k.text} + {b.const(2.0).text})))", "f"))
    return b.where(b.bin(">", x, b.const(20.0), "b"), x, soft)


def _silu(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(b.f(_x(a)))
    return b.bin("*", x, b.call("sigmoid", x))


def _gelu(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(b.f(_x(a)))
    mode = a.get("approximate")
    if mode == "tanh":
        # 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
        u = Operand(f"({x.text} * ({b.const(1.5957691216057308).text} + {b.const(0.07135481282806168).text} * {x.text} * {x.text}))", "f")
        return b.bin("*", x, b.call("sigmoid", b.let(u)))
    erf = b.call("erf", b.let(b.bin("*", x, b.const(0.7071067811865476))))
    return Operand(f"({b.const(0.5).text} * {x.text} * ({b.const(1.0).text} + {erf.text}))", "f")


def _elu(b: Builder, a: Arguments, n: Node) -> Operand:
    return _elu_of(b, _x(a), _number(a, "alpha", 1.0), _number(a, "scale", 1.0), _number(a, "input_scale", 1.0))


def _elu_of(b: Builder, x: Operand, alpha: float, scale: float, input_scale: float) -> Operand:
    x = b.let(b.f(x))
    inner = x if input_scale == 1 else b.let(b.bin("*", x, b.const(input_scale)))
    low = b.let(b.bin("*", b.let(_expm1_of(b, inner)), b.const(alpha * scale)))
    high = x if scale == 1 else b.let(b.bin("*", x, b.const(scale)))
    return b.where(b.bin(">", x, b.const(0.0), "b"), high, low)


def _selu(b: Builder, a: Arguments, n: Node) -> Operand:
    return _elu_of(b, _x(a), 1.6732632423543772, 1.0507009873554805, 1.0)


def _celu(b: Builder, a: Arguments, n: Node) -> Operand:
    alpha = _number(a, "alpha", 1.0)
    return _elu_of(b, _x(a), alpha, 1.0, 1.0 / alpha)


def _leaky_relu(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(b.f(_x(a)))
    return b.where(b.bin(">", x, b.const(0.0), "b"), x, b.bin("*", x, b.const(_number(a, "negative_slope", 0.01))))


def _hardsigmoid_of(b: Builder, x: Operand) -> Operand:
    shifted = b.let(b.bin("+", x, b.const(3.0)))
    return b.let(b.bin("*", _clip(b, shifted, b.const(0.0), b.const(6.0)), b.const(1.0 / 6.0)))


def _hardswish(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(b.f(_x(a)))
    return b.bin("*", x, _hardsigmoid_of(b, x))


def _logsigmoid(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(b.f(_x(a)))
    size = b.let(b.call("abs", x))
    soft = b.let(_log1p_of(b, b.let(b.call("exp", Operand(f"(-{size.text})", "f")))))
    return b.bin("-", b.let(b.where(b.bin(">", x, b.const(0.0), "b"), b.const(0.0), x)), soft)


def _threshold(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(_x(a))
    return b.where(b.bin("<=", x, _x(a, "threshold"), "b"), _x(a, "value"), x)


def _round(b: Builder, a: Arguments, n: Node) -> Operand:
    if b.wide:
        raise LoweringError("round of float64")
    x = b.let(b.f(_x(a)))
    if b.is_cpp:
        return Operand(f"std::nearbyint({x.text})", "f")
    # Adding 1.5 * 2^23 rounds to the nearest even integer below 2^22; larger magnitudes have at most half a unit left.
    shifted = b.let(b.bin("+", x, b.const(12582912.0)))
    return b.where(b.bin("<", b.let(b.call("abs", x)), b.const(4194304.0), "b"), b.let(b.bin("-", shifted, b.const(12582912.0))), x)


def _addc(symbol: str) -> Lowering:
    def lowering(b: Builder, a: Arguments, n: Node) -> Operand:
        product = b.bin(symbol, b.f(_x(a, "tensor1")), b.f(_x(a, "tensor2")))
        return b.bin("+", b.f(_x(a)), b.bin("*", product, _x(a, "value")))

    return lowering


def _lerp(b: Builder, a: Arguments, n: Node) -> Operand:
    start, end, weight = b.let(b.f(_x(a))), b.f(_x(a, "end")), b.f(_x(a, "weight"))
    return b.bin("+", start, b.bin("*", weight, b.bin("-", end, start)))


def _fill(value: float) -> Lowering:
    return lambda b, a, n: b.const(value, _kind_of(n))


def _fill_value(b: Builder, a: Arguments, n: Node) -> Operand:
    return b.const(_number(a, "fill_value" if "fill_value" in a else "s" if "s" in a else "value"), _kind_of(n))


def _kind_of(node: Node) -> str:
    dtype = node.spec.dtype if node.spec else "float32"
    return "b" if dtype == "bool" else "i" if dtype in INTEGERS else "f"


def _identity(b: Builder, a: Arguments, n: Node) -> Operand:
    return _x(a, "input") if "input" in a else _x(a)


def _cast(b: Builder, a: Arguments, n: Node) -> Operand:
    x = _x(a)
    dtype = n.spec.dtype if n.spec else ""
    symbol = a.get("dtype")
    if isinstance(symbol, Symbol) and symbol.text != dtype:
        raise LoweringError(f"cast to {symbol.text}")
    if x.literal is not None:
        return b.const(x.literal, _kind_of(n))
    if b.is_cpp:
        if dtype not in CPP_TYPES:
            raise LoweringError(f"cast to {dtype} in C++")
        if dtype == "bool":
            return _truth(b, x)
        return Operand(f"static_cast<{CPP_TYPES[dtype]}>({x.text})", _kind_of(n))
    if dtype == "bool":
        return _truth(b, x)
    if dtype in ("float16", "bfloat16"):
        return Operand(f"({b.f(x).text}).to({TRITON_TYPES[dtype]}).to(tl.float32)", "f")
    if dtype not in TRITON_TYPES:
        raise LoweringError(f"cast to {dtype}")
    return Operand(f"({x.text}).to({TRITON_TYPES[dtype]})", _kind_of(n))


def _isnan(b: Builder, a: Arguments, n: Node) -> Operand:
    x = b.let(_x(a))
    return b.bin("!=", x, x, "b")


def _isinf(b: Builder, a: Arguments, n: Node) -> Operand:
    return b.bin("==", b.let(b.call("abs", b.let(b.f(_x(a))))), b.const(math.inf), "b")


def _scaled(name: str, factor: float) -> Lowering:
    return lambda b, a, n: b.bin("*", b.call(name, b.let(b.f(_x(a)))), b.const(factor))


OPERATORS: Mapping[str, Lowering] = {
    **{
        f"aten.{name}.default": _call(name)
        for name in ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "erf", "floor", "ceil", "sigmoid")
    },
    **{f"aten.add.{kind}": _add for kind in ("Tensor", "Scalar")},
    **{f"aten.sub.{kind}": _sub for kind in ("Tensor", "Scalar")},
    **{f"aten.rsub.{kind}": _rsub for kind in ("Tensor", "Scalar")},
    **{f"aten.mul.{kind}": _mul for kind in ("Tensor", "Scalar")},
    **{f"aten.div.{kind}": _div for kind in ("Tensor", "Scalar", "Tensor_mode", "Scalar_mode")},
    **{
        f"aten.{name}.{kind}": _compare(symbol)
        for name, symbol in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))
        for kind in ("Tensor", "Scalar")
    },
    "aten.pow.Tensor_Scalar": lambda b, a, n: _power(b, _x(a), _number(a, "exponent")),
    "aten.pow.Scalar": _pow_scalar,
    "aten.square.default": lambda b, a, n: _power(b, _x(a), 2),
    "aten.log10.default": _scaled("log2", 0.30102999566398120),
    "aten.log1p.default": lambda b, a, n: _log1p_of(b, _x(a)),
    "aten.expm1.default": lambda b, a, n: _expm1_of(b, _x(a)),
    "aten.tanh.default": lambda b, a, n: _tanh_of(b, _x(a)),
    "aten.reciprocal.default": _reciprocal,
    "aten.neg.default": _neg,
    "aten.abs.default": _abs,
    "aten.sign.default": _sign,
    "aten.round.default": _round,
    "aten.isnan.default": _isnan,
    "aten.isinf.default": _isinf,
    "aten.logical_and.default": _logical("&"),
    "aten.logical_or.default": _logical("|"),
    "aten.logical_xor.default": _logical("^"),
    "aten.logical_not.default": _not,
    "aten.bitwise_not.default": _not,
    **{
        f"aten.bitwise_{name}.{kind}": _bitwise(symbol)
        for name, symbol in (("and", "&"), ("or", "|"), ("xor", "^"))
        for kind in ("Tensor", "Scalar")
    },
    **{f"aten.where.{kind}": _where for kind in ("self", "ScalarOther", "ScalarSelf", "Scalar")},
    **{f"aten.masked_fill.{kind}": _masked_fill for kind in ("Scalar", "Tensor")},
    **{f"aten.clamp.{kind}": _bounds("min", "max") for kind in ("default", "Tensor")},
    "aten.clamp_min.default": _bounds("min", ""),
    "aten.clamp_max.default": _bounds("", "max"),
    "aten.hardtanh.default": _bounds("min_val", "max_val"),
    "aten.relu6.default": lambda b, a, n: _clip(b, _x(a), b.const(0.0), b.const(6.0)),
    "aten.relu.default": _relu,
    "aten.maximum.default": _extreme(">"),
    "aten.minimum.default": _extreme("<"),
    "aten.max.other": _extreme(">"),
    "aten.min.other": _extreme("<"),
    "aten.gelu.default": _gelu,
    "aten.silu.default": _silu,
    "aten.mish.default": _mish,
    "aten.softplus.default": _softplus,
    "aten.elu.default": _elu,
    "aten.selu.default": _selu,
    "aten.celu.default": _celu,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.hardswish.default": _hardswish,
    "aten.hardsigmoid.default": lambda b, a, n: _hardsigmoid_of(b, b.f(_x(a))),
    "aten.log_sigmoid.default": _logsigmoid,
    "aten.threshold.default": _threshold,
    "aten.addcmul.default": _addc("*"),
    "aten.addcdiv.default": _addc("/"),
    "aten.lerp.Scalar": _lerp,
    "aten.lerp.Tensor": _lerp,
    "aten.zeros_like.default": _fill(0.0),
    "aten.ones_like.default": _fill(1.0),
    "aten.full_like.default": _fill_value,
    "aten.zeros.default": _fill(0.0),
    "aten.ones.default": _fill(1.0),
    "aten.full.default": _fill_value,
    "aten.scalar_tensor.default": _fill_value,
    **{f"aten.{name}.default": _identity for name in ("clone", "contiguous", "alias", "detach", "lift_fresh_copy")},
    **{f"aten.{name}": _identity for name in ("expand.default", "expand_as.default", "broadcast_to.default")},
    "aten.to.dtype": _cast,
    "aten._to_copy.default": _cast,
}

COPIES = frozenset({f"aten.{name}.default" for name in ("clone", "contiguous", "alias", "detach", "lift_fresh_copy")})
EXPANSIONS = frozenset({"aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default"})
FILLS = frozenset({f"aten.{name}.default" for name in ("zeros_like", "ones_like", "full_like", "zeros", "ones", "full", "scalar_tensor")})
