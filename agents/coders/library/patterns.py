"""`matches: pattern`: a function written in ATen calls, read as a small graph and found in a captured one."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from agents.coders.library.errors import DocumentError
from agents.coders.library.graph import Argument, Graph, Node, Ref, Value

COMMUTATIVE = frozenset(
    {"aten.add.Tensor", "aten.mul.Tensor", "aten.maximum.default", "aten.minimum.default", "aten.eq.Tensor", "aten.logical_and.default"}
)


@dataclass(frozen=True)
class Call:
    """One ATen call of a pattern."""

    op: str
    arguments: tuple[tuple[str, object], ...]
    """By schema name: a `Call`, a `Parameter` or a literal."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the pattern function."""

    name: str


@dataclass(frozen=True)
class Pattern:
    """A pattern function."""

    result: Call
    parameters: tuple[str, ...]
    literals: Mapping[str, Value]
    """Parameters with a default, which match literals."""


@dataclass(frozen=True)
class Match:
    """Where a pattern was found."""

    nodes: frozenset[str]
    output: str
    arguments: tuple[Argument, ...]
    """The pattern's parameters with what they matched."""


@lru_cache(maxsize=256)
def read_pattern(code: str, source: str) -> Pattern:
    """Read the `python pattern` block without running it.

    Raises:
        DocumentError: It does more than call `aten` operators, name their results and return one.
    """
    try:
        functions = [
            statement for statement in ast.parse(code).body if isinstance(statement, ast.FunctionDef) and statement.name == "pattern"
        ]
        if len(functions) != 1:
            raise ValueError("the block must define one function `pattern`")
        return _read(functions[0])
    except (ValueError, SyntaxError) as error:
        raise DocumentError(f"{source}: pattern: {error}") from error


def _read(function: ast.FunctionDef) -> Pattern:
    names = [item.arg for item in (*function.args.args, *function.args.kwonlyargs)]
    positional = function.args.args
    defaults = dict(
        zip([item.arg for item in positional][len(positional) - len(function.args.defaults) :], function.args.defaults, strict=True)
    )
    defaults |= {
        item.arg: default for item, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if default is not None
    }
    scope: dict[str, object] = {name: Parameter(name) for name in names}
    for statement in function.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
            scope[statement.targets[0].id] = _value(statement.value, scope)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            result = _value(statement.value, scope)
            if not isinstance(result, Call):
                raise ValueError("it must return the result of an aten call")
            return Pattern(result, tuple(names), {name: _literal(value) for name, value in defaults.items()})
        else:
            raise ValueError(f"line {statement.lineno}: only assignments to a name and one return are allowed")
    raise ValueError("it returns nothing")


def _value(node: ast.expr, scope: Mapping[str, object]) -> object:
    if isinstance(node, ast.Name):
        if node.id not in scope:
            raise ValueError(f"unknown name {node.id!r}")
        return scope[node.id]
    if isinstance(node, ast.Call):
        text = ast.unparse(node.func)
        if not text.startswith("aten."):
            raise ValueError(f"only aten calls are allowed, got {text!r}")
        op = text if text.count(".") == 2 else f"{text}.default"
        parameters = schema(op)
        given = {name: _value(value, scope) for (name, _), value in zip(parameters, node.args, strict=False)}
        given |= {str(item.arg): _value(item.value, scope) for item in node.keywords}
        return Call(op, tuple(given.items()))
    if isinstance(node, ast.Subscript):
        return Call("getitem", (("value", _value(node.value, scope)), ("index", _literal(node.slice))))
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(_value(item, scope) for item in node.elts)
    return _literal(node)


def _literal(node: ast.expr) -> Value:
    value = ast.literal_eval(node)
    return tuple(value) if isinstance(value, list | tuple) else value  # a literal of the pattern language


@lru_cache(maxsize=1024)
def schema(op: str) -> tuple[tuple[str, object], ...]:
    """Return the parameter names of an ATen operator with their defaults.

    Raises:
        ValueError: Torch has no such operator.
    """
    import torch

    _, name, overload = op.split(".")
    try:
        arguments = getattr(getattr(torch.ops.aten, name), overload)._schema.arguments
    except AttributeError as error:
        raise ValueError(f"torch has no operator {op!r}") from error
    return tuple((item.name, item.default_value if item.has_default_value() else None) for item in arguments)


def find_pattern(pattern: Pattern, graph: Graph, root: Node) -> Match | None:
    """Match a pattern whose result is `root`; None if it does not match there."""
    for bindings, nodes in _calls(pattern.result, Ref(root.name), graph, pattern, {}, frozenset()):
        inner = nodes - {root.name}
        users = graph.users()
        if any(user not in nodes for name in inner for user in users[name]):
            continue
        arguments = []
        for name in pattern.parameters:
            if name in bindings:
                arguments.append(Argument(name, bindings[name]))
            elif name in pattern.literals:
                arguments.append(Argument(name, pattern.literals[name], is_explicit=False))
            else:
                return None
        return Match(nodes, root.name, tuple(arguments))
    return None


_State = tuple[dict[str, Value], frozenset[str]]


def _calls(call: Call, value: Value, graph: Graph, pattern: Pattern, bindings: dict[str, Value], nodes: frozenset[str]) -> list[_State]:
    node = graph.node(value.name) if isinstance(value, Ref) else None
    if node is None or node.op != call.op:
        return []
    wanted = dict(call.arguments)
    orders = [wanted]
    if call.op in COMMUTATIVE and {"self", "other"} <= wanted.keys():
        orders.append(wanted | {"self": wanted["other"], "other": wanted["self"]})
    found: list[_State] = []
    for order in orders:
        states: list[_State] = [(bindings, nodes | {node.name})]
        for argument in node.arguments:
            if argument.name in order:
                target = order[argument.name]
                states = [after for state in states for after in _values(target, argument.value, graph, pattern, *state)]
            elif argument.is_explicit and argument.value != dict(schema(node.op)).get(argument.name):
                states = []
        found.extend(states)
    return found


def _values(
    target: object, value: Value, graph: Graph, pattern: Pattern, bindings: dict[str, Value], nodes: frozenset[str]
) -> list[_State]:
    if isinstance(target, Call):
        return _calls(target, value, graph, pattern, bindings, nodes)
    if isinstance(target, Parameter):
        if target.name in pattern.literals:
            value = _number(value, graph)
            if isinstance(value, Ref):
                return []
        elif not isinstance(value, Ref):
            return []
        if target.name in bindings and bindings[target.name] != value:
            return []
        return [(bindings | {target.name: value}, nodes)]
    if isinstance(target, tuple) and isinstance(value, tuple) and len(target) == len(value):
        states: list[_State] = [(bindings, nodes)]
        for left, right in zip(target, value, strict=True):
            states = [after for state in states for after in _values(left, right, graph, pattern, *state)]
        return states
    return [(bindings, nodes)] if _number(value, graph) == target else []


def _number(value: Value, graph: Graph) -> Value:
    """Turn a reference to a constant with one known element into the number."""
    if isinstance(value, Ref):
        placeholder = graph.placeholder(value.name)
        if placeholder is not None and placeholder.kind == "constant" and isinstance(placeholder.value, int | float):
            return placeholder.value
    return value
