"""Walk a kernel's statements once and record every call of the Triton language with what is proven about its arguments.

A small abstract interpreter: it knows shapes, dtypes and constants where the source (or a recorded launch) states them, and nothing else. It never guesses:
rules that report errors rely on that.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tools.lint.module import Kernel, Module
from tools.lint.operations import PARAMETERS, evaluate_call
from tools.lint.values import DTYPES, NOTHING, UNPROVEN, Value, broadcast, constant, join, promote

_ARITHMETIC: Mapping[type[ast.operator], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[..., object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


@dataclass(frozen=True)
class Call:
    """One call of the Triton language, or of a method of a tensor, inside a kernel."""

    name: str
    """`load`, `dot`, `extra.libdevice.tanh`; methods as `.to`."""
    node: ast.Call
    arguments: Mapping[str, Value]
    """By parameter name; only those passed."""
    result: Value
    loops: tuple[str, ...] = ()
    """Loops around it, outermost first: `range:N`, `static_range:N` (without `:N` if the trips are not proven), `while`."""
    is_guarded: bool = False
    """True inside a branch whose condition is only known when the kernel runs."""

    @property
    def copies(self) -> int:
        """How many copies of it unrolling makes, as far as trip counts are proven."""
        count = 1
        for loop in self.loops:
            kind, _, trips = loop.partition(":")
            count *= int(trips) if trips and kind == "static_range" else 1
        return count

    @property
    def is_in_loop(self) -> bool:
        """True inside a loop that stays a loop in the compiled kernel."""
        return any(not loop.startswith("static_range") for loop in self.loops)

    @property
    def line(self) -> int:
        """Line of the call."""
        return self.node.lineno

    def argument(self, name: str) -> Value | None:
        """Return what is known about an argument, None if it is not passed or is the literal None."""
        value = self.arguments.get(name)
        return None if value is None or (value.is_static and value.const is None) else value


@dataclass(frozen=True)
class Operation:
    """One binary operation on numbers."""

    operator: str
    """Class name of the AST operator, for example `Mod`."""
    node: ast.BinOp
    left: Value
    right: Value
    result: Value
    loops: tuple[str, ...] = ()
    """Loops around it, as for calls."""


def trips(loops: tuple[str, ...]) -> int | None:
    """Return how often something inside loops is done by one program; None if a trip count is not proven."""
    count = 1
    for loop in loops:
        known = loop.partition(":")[2]
        if not known:
            return None
        count *= int(known)
    return count


@dataclass(frozen=True)
class Issue:
    """Something the walk itself found wrong."""

    kind: str
    """`undefined`: used where it may not exist; `loop_type`: changes its type in a loop; `global`: not a constexpr."""
    name: str
    line: int
    detail: str = ""


@dataclass
class Trace:
    """Everything recorded about one kernel."""

    kernel: Kernel
    calls: list[Call] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    def named(self, *names: str) -> list[Call]:
        """Return the calls of some names, in source order."""
        return [call for call in self.calls if call.name in names]


def trace_kernel(module: Module, kernel: Kernel, bindings: Mapping[str, Value] | None = None) -> Trace:
    """Walk one kernel. `bindings` states what a recorded launch passes, by parameter name."""
    walker = _Walker(module, kernel, bindings or {})
    walker.run()
    return walker.trace


def bound_names(body: list[ast.stmt]) -> set[str]:
    """Return the names that statements assign, nested ones included."""
    return {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _refers(node: ast.AST, name: str) -> bool:
    return any(isinstance(item, ast.Name) and item.id == name for item in ast.walk(node))


_DISTANCES = ("step", "inner", "offset")


def _distances(value: Value) -> dict[str, set[int]]:
    return {mark: {int(trait.partition(":")[2]) for trait in value.traits if trait.startswith(f"{mark}:")} for mark in _DISTANCES}


def _without_distances(traits: frozenset[str]) -> frozenset[str]:
    return frozenset(trait for trait in traits if trait.partition(":")[0] not in _DISTANCES)


def _steps(op: ast.operator, left: Value, right: Value, traits: frozenset[str]) -> frozenset[str]:
    """Return traits with the distances of addresses brought up to date.

    `step:K`: rows (program, loop, or outer axis of a block) lie K elements apart; `inner:K`: the same along a 1-D block, which becomes a row distance when
    an axis is appended; `offset:K`: shifted by K elements. What is multiplied by something unknown or divided is no longer known.
    """
    if isinstance(op, ast.Add | ast.Sub):
        shifts = {f"offset:{known.integer}" for moving, known in ((left, right), (right, left)) if known.integer and _is_moving(moving)}
        return traits | shifts
    clean = _without_distances(traits)
    if not isinstance(op, ast.Mult):
        return clean
    moving, factor = (left, right.integer) if right.integer is not None else (right, left.integer)
    if factor is None or not _is_moving(moving):
        return clean
    found = _distances(moving)
    scaled = {f"{mark}:{distance * factor}" for mark, distances in found.items() for distance in distances}
    if moving.is_scalar or (moving.shape is not None and len(moving.shape) > 1 and moving.shape[-1] == 1):
        scaled.add(f"step:{factor}")
    elif moving.shape is not None and len(moving.shape) == 1 and moving.has("arange"):
        scaled.add(f"inner:{factor}")
    if moving.shape is not None and len(moving.shape) > 1 and moving.shape[-1] != 1:
        scaled = {trait for trait in scaled if not trait.startswith(("step", "inner"))}
    return clean | scaled


def _is_moving(value: Value) -> bool:
    return bool(value.traits & {"program_id", "loop", "arange"}) and value.integer is None


def _scalar_if_static(value: Value) -> Value:
    """A compile-time value in arithmetic is a number, hence a scalar."""
    return replace(value, shape=()) if value.is_static and value.shape is None and value.kind == "unknown" else value


class _Walker:
    def __init__(self, module: Module, kernel: Kernel, bindings: Mapping[str, Value]) -> None:
        self._module = module
        self._env: dict[str, Value] = {}
        self._loops: tuple[str, ...] = ()
        self._guards = 0
        self._recording = True
        self._globals = self._global_names()
        self.trace = Trace(kernel)
        is_entry = not any(_refers(other.node, kernel.name) for other in module.kernels.values() if other.name != kernel.name)
        for name in kernel.parameters:
            self._env[name] = bindings.get(name) or self._parameter(name, name in kernel.constexprs, is_entry)

    def run(self) -> None:
        self._block(self.trace.kernel.node.body)

    def _parameter(self, name: str, is_constexpr: bool, is_entry: bool) -> Value:
        traits = frozenset({f"param:{name}"})
        if is_constexpr:
            return Value(is_static=True, traits=traits)
        # An integer that is 1 at the launch becomes a constant, and a tuple is possible: a bare parameter is not proven to be a runtime scalar.
        return Value(shape=() if is_entry else None, traits=traits | ({"argument"} if is_entry else frozenset()))

    def _global_names(self) -> dict[str, Value]:
        found = {}
        for name, value in self._module.constants.items():
            found[name] = replace(
                constant(value), traits=frozenset() if name in self._module.constexpr_globals else frozenset({"python_global"})
            )
        return found

    # Statements

    def _block(self, body: list[ast.stmt]) -> bool:
        """Walk statements; return True if control leaves the function."""
        return any(self._statement(statement) for statement in body)

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign):
            value = self._value(node.value)
            for target in node.targets:
                self._bind(target, value)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._bind(node.target, self._value(node.value))
        elif isinstance(node, ast.AugAssign):
            load = (
                ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target) if isinstance(node.target, ast.Name) else node.target
            )
            self._bind(node.target, self._value(ast.copy_location(ast.BinOp(load, node.op, node.value), node)))
        elif isinstance(node, ast.If):
            return self._if(node)
        elif isinstance(node, ast.For):
            self._for(node)
        elif isinstance(node, ast.While):
            self._loop("while", node.body, lambda: self._value(node.test))
        elif isinstance(node, ast.With):
            for item in node.items:
                self._value(item.context_expr)
            return self._block(node.body)
        elif isinstance(node, ast.Return):
            if node.value is not None:
                self._value(node.value)
            return True
        elif isinstance(node, ast.Expr):
            self._value(node.value)
        elif isinstance(node, ast.Assert):
            self._value(node.test)
        return False

    def _bind(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self._env[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = value.items if len(value.items) == len(target.elts) else (NOTHING,) * len(target.elts)
            for element, item in zip(target.elts, items, strict=True):
                self._bind(element.value if isinstance(element, ast.Starred) else element, item)

    def _if(self, node: ast.If) -> bool:
        condition = self._value(node.test)
        if condition.is_static and condition.const is not UNPROVEN:
            return self._block(node.body if condition.const else node.orelse)
        before = dict(self._env)
        self._guards += not condition.is_static
        left_returns = self._block(node.body)
        left = self._env
        self._env = dict(before)
        right_returns = self._block(node.orelse)
        right = self._env
        self._guards -= not condition.is_static
        if left_returns or right_returns:
            self._env = right if left_returns else left
            return left_returns and right_returns
        is_runtime = condition.is_static is False
        self._env = {name: self._merge(left.get(name), right.get(name), is_runtime) for name in left.keys() | right.keys()}
        return False

    @staticmethod
    def _merge(left: Value | None, right: Value | None, is_runtime: bool) -> Value:
        if left is not None and right is not None:
            return NOTHING if "undefined" in (left.kind, right.kind) and left.kind != right.kind else join(left, right)
        return Value(kind="undefined", traits=frozenset({"if"})) if is_runtime else NOTHING

    def _for(self, node: ast.For) -> None:
        name = self._module.language_call(node.iter) or (
            node.iter.func.id if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) else ""
        )
        kind = "static_range" if name == "static_range" else "range" if name in ("range",) else "other"
        iterated = self._value(node.iter)

        def enter() -> None:
            if kind == "other":
                self._bind(node.target, NOTHING)
            else:
                is_static = kind == "static_range"
                self._bind(
                    node.target, Value("number", (), None, UNPROVEN, is_static, frozenset({"loop"}) | iterated.traits & {"program_id"})
                )

        trips = self._trips(node) if kind in ("range", "static_range") else None
        self._loop(kind, node.body, enter, f"{kind}:{trips}" if trips is not None else "")

    def _trips(self, node: ast.For) -> int | None:
        arguments = (
            [self._value(item).integer for item in node.iter.args] if isinstance(node.iter, ast.Call) and not node.iter.keywords else []
        )
        bounds = [item for item in arguments if item is not None]
        return len(range(*bounds)) if bounds and len(bounds) == len(arguments) <= 3 and bounds[2:] != [0] else None

    def _loop(self, kind: str, body: list[ast.stmt], enter: Callable[[], object], label: str = "") -> None:
        before = dict(self._env)
        recording, self._recording = self._recording, False
        self._loops = (*self._loops, label or kind)
        enter()
        self._block(body)
        if kind in ("range", "while"):
            self._check_types(before, self._env, body)
        joined = {name: join(value, self._env.get(name, value)) for name, value in before.items()}
        self._env = dict(joined)
        self._recording = recording
        enter()
        self._block(body)
        self._loops = self._loops[:-1]
        after = self._env
        self._env = {name: join(value, after.get(name, value)) for name, value in before.items()}
        for name in after.keys() - before.keys():
            leaves = kind in ("range", "while")
            self._env[name] = Value(kind="undefined", traits=frozenset({"loop"})) if leaves else NOTHING

    def _check_types(self, before: Mapping[str, Value], after: Mapping[str, Value], body: list[ast.stmt]) -> None:
        for name in sorted(bound_names(body) & before.keys() & after.keys()):
            old, new = before[name], after[name]
            if old.shape is None or new.shape is None or "number" not in (old.kind, new.kind):
                continue
            if old.is_scalar != new.is_scalar and (old.is_scalar or new.is_scalar):
                line = next(
                    item.lineno
                    for statement in body
                    for item in ast.walk(statement)
                    if isinstance(item, ast.Name) and item.id == name and isinstance(item.ctx, ast.Store)
                )
                detail = f"it starts as a {'scalar' if old.is_scalar else 'block'} and becomes a {'scalar' if new.is_scalar else 'block'}"
                self._issue(Issue("loop_type", name, line, detail), force=True)

    # Expressions

    def _value(self, node: ast.expr) -> Value:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is not None:
            result: Value = method(node)
            return result
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._value(child)
        return NOTHING

    def _constant(self, node: ast.Constant) -> Value:
        return constant(node.value)

    def _name(self, node: ast.Name) -> Value:
        value = self._env.get(node.id)
        if value is None:
            value = self._globals.get(node.id, NOTHING)
            if value.has("python_global"):
                self._issue(Issue("global", node.id, node.lineno))
                return value.without("python_global")
        if value.kind == "undefined":
            self._issue(Issue("undefined", node.id, node.lineno, "loop" if value.has("loop") else "if"))
            return NOTHING
        return value

    def _issue(self, issue: Issue, *, force: bool = False) -> None:
        if (self._recording or force) and issue not in self.trace.issues:
            self.trace.issues.append(issue)

    def _tuple(self, node: ast.Tuple) -> Value:
        return Value("tuple", items=tuple(self._value(item) for item in node.elts))

    def _list(self, node: ast.List) -> Value:
        return Value("tuple", items=tuple(self._value(item) for item in node.elts))

    def _attribute(self, node: ast.Attribute) -> Value:
        name = self._module.dotted(node)
        if name.startswith("triton.language.") and name.removeprefix("triton.language.") in DTYPES:
            return Value("dtype", dtype=name.removeprefix("triton.language."), is_static=True)
        value = self._value(node.value) if not name.startswith("triton.") else NOTHING
        if node.attr == "dtype" and value.kind == "number" and value.dtype:
            return Value("dtype", dtype=value.dtype, is_static=True)
        if node.attr == "element_ty" and value.kind == "dtype":
            return value
        if node.attr == "dtype" and value.kind == "pointer":
            return Value("dtype", dtype=value.dtype, is_static=True)
        if node.attr == "T" and value.shape is not None:
            return replace(value, shape=value.shape[::-1])
        return Value(is_static=True) if node.attr in ("dtype", "shape", "element_ty", "value") else NOTHING

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self._value(node.operand)
        if isinstance(node.op, ast.Not):
            known = value.is_static and value.const is not UNPROVEN
            return constant(not value.const) if known else Value("number", (), "int1", UNPROVEN, value.is_static, value.traits)
        if isinstance(node.op, ast.USub) and isinstance(value.const, int | float):
            return replace(value, const=-value.const)
        return replace(value, const=UNPROVEN).plus("subtracted") if isinstance(node.op, ast.USub) else replace(value, const=UNPROVEN)

    def _binop(self, node: ast.BinOp) -> Value:
        left, right = _scalar_if_static(self._value(node.left)), _scalar_if_static(self._value(node.right))
        result = self._folded(node, left, right) or self._combined(node, left, right)
        if self._recording:
            self.trace.operations.append(Operation(type(node.op).__name__, node, left, right, result, self._loops))
        return result

    @staticmethod
    def _folded(node: ast.BinOp, left: Value, right: Value) -> Value | None:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None or not isinstance(left.const, int | float) or not isinstance(right.const, int | float):
            return None
        try:
            return replace(constant(apply(left.const, right.const)), traits=left.traits | right.traits)
        except (ArithmeticError, TypeError, ValueError):
            return None

    @staticmethod
    def _combined(node: ast.BinOp, left: Value, right: Value) -> Value:
        traits = (left.traits | right.traits) - {"argument"}
        if isinstance(node.op, ast.Sub):
            traits |= {"subtracted"}
        if isinstance(node.op, ast.Add) and isinstance(node.left, ast.Name) and left.has("argument"):
            traits |= {f"base:{node.left.id}"}
        if isinstance(node.op, ast.Mod) and left.has("arange"):
            traits |= {"wrapped"}
        traits = _steps(node.op, left, right, traits)
        if isinstance(node.op, ast.Mult | ast.FloorDiv | ast.Mod):
            traits -= {trait for trait in traits if trait.startswith("unit:")}
        is_static = True if left.is_static and right.is_static else False if False in (left.is_static, right.is_static) else None
        pointer = next((side for side in (left, right) if side.kind == "pointer"), None)
        if pointer is not None:
            return Value("pointer", broadcast(left, right), pointer.dtype, UNPROVEN, is_static, traits)
        numbers = left.kind == "number" and right.kind == "number"
        dtype = promote(left, right, division=isinstance(node.op, ast.Div)) if numbers else None
        return Value("number" if numbers else "unknown", broadcast(left, right), dtype, UNPROVEN, is_static, traits)

    def _boolop(self, node: ast.BoolOp) -> Value:
        values = [self._value(item) for item in node.values]
        return Value(
            is_static=True
            if all(value.is_static for value in values)
            else False
            if any(value.is_static is False for value in values)
            else None
        )

    def _compare(self, node: ast.Compare) -> Value:
        left, rights = _scalar_if_static(self._value(node.left)), [_scalar_if_static(self._value(item)) for item in node.comparators]
        if len(rights) == 1 and isinstance(node.ops[0], ast.Is | ast.IsNot):
            known = left.const is not UNPROVEN
            return (
                constant((left.const is None) == isinstance(node.ops[0], ast.Is)) if known else Value("number", (), "int1", is_static=True)
            )
        compare = _COMPARISONS.get(type(node.ops[0]))
        if len(rights) == 1 and compare and UNPROVEN not in (left.const, rights[0].const):
            try:
                return constant(compare(left.const, rights[0].const))
            except TypeError:
                return NOTHING
        traits = left.traits.union(*(value.traits for value in rights)) | {"comparison"}
        is_static = (
            True
            if all(value.is_static for value in (left, *rights))
            else False
            if any(value.is_static is False for value in (left, *rights))
            else None
        )
        return Value("number", broadcast(left, rights[0]), "int1", UNPROVEN, is_static, traits)

    def _ifexp(self, node: ast.IfExp) -> Value:
        condition = self._value(node.test)
        if condition.is_static and condition.const is not UNPROVEN:
            return self._value(node.body if condition.const else node.orelse)
        return join(self._value(node.body), self._value(node.orelse))

    def _subscript(self, node: ast.Subscript) -> Value:
        value = self._value(node.value)
        index = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if value.kind == "tuple":
            position = self._value(node.slice).integer
            return value.items[position] if position is not None and -len(value.items) <= position < len(value.items) else NOTHING
        is_expansion = all(isinstance(item, ast.Slice) or (isinstance(item, ast.Constant) and item.value is None) for item in index)
        if not is_expansion:
            self._value(node.slice)
            return NOTHING
        return self._expanded(value, [isinstance(item, ast.Slice) for item in index])

    @staticmethod
    def _expanded(value: Value, keeps: list[bool]) -> Value:
        """Return a value after `[:, None]`: `keeps` is True where a dimension stays."""
        if value.shape is None or len(value.shape) != sum(keeps):
            return replace(value, shape=None, const=UNPROVEN)
        dimensions = iter(value.shape)
        shape = tuple(next(dimensions) if keep else 1 for keep in keeps)
        gathered = {f"gather:{axis}" for axis, keep in enumerate(keeps) if keep} if value.has("loaded") and sum(keeps) == 1 else set()
        axes = {f"unit:{axis}" for axis, keep in enumerate(keeps) if keep} if value.has("unit:0") and sum(keeps) == 1 else set()
        traits = (value.traits - {"unit:0"}) | axes | gathered
        if not keeps[-1]:
            traits = frozenset(f"step:{trait[6:]}" if trait.startswith("inner:") else trait for trait in traits)
        return replace(value, shape=shape, const=UNPROVEN, traits=traits)

    def _call(self, node: ast.Call) -> Value:
        name = self._module.language_call(node)
        if not name and isinstance(node.func, ast.Attribute) and not self._module.dotted(node.func).startswith("triton."):
            name = f".{node.func.attr}"
        arguments = self._arguments(name, node)
        is_unknown_load = name in (".load", ".gather") and arguments.get("pointer", NOTHING).kind != "descriptor"
        result = NOTHING if is_unknown_load else evaluate_call(name or self._plain_name(node), arguments)
        if name and self._recording:
            self.trace.calls.append(Call(name, node, arguments, result, self._loops, self._guards > 0))
        return result

    @staticmethod
    def _plain_name(node: ast.Call) -> str:
        return f"python.{node.func.id}" if isinstance(node.func, ast.Name) else ""

    def _arguments(self, name: str, node: ast.Call) -> dict[str, Value]:
        values = [self._value(node.func.value)] if name.startswith(".") and isinstance(node.func, ast.Attribute) else []
        starred = any(isinstance(item, ast.Starred) for item in node.args)
        values += [self._value(item.value if isinstance(item, ast.Starred) else item) for item in node.args]
        names = PARAMETERS.get(name.lstrip("."), ())
        found = {} if starred else {names[i] if i < len(names) else f"#{i}": value for i, value in enumerate(values)}
        for keyword in node.keywords:
            value = self._value(keyword.value)
            if keyword.arg is not None:
                found[keyword.arg] = value
        return found
