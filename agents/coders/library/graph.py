"""The captured ATen graph of a problem: plain values, no torch, read from the capture worker's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tools.expressions import TensorSpec as TensorSpec


@dataclass(frozen=True)
class Ref:
    """A use of a value: a placeholder or a node, by name."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """A literal that is no number: a dtype, device, layout or memory format."""

    kind: str
    """`dtype`, `device`, `layout`, `memory_format` or `complex`."""
    text: str
    """Torch's name without the prefix, for example `float32`, `cpu`, `channels_last`; of a complex number its text."""


Value = None | bool | int | float | str | Ref | Symbol | tuple["Value", ...]


@dataclass(frozen=True)
class Argument:
    """One argument of a node under its ATen schema name."""

    name: str
    value: Value
    is_explicit: bool = True
    """False if the schema's default was filled in."""
    is_keyword_only: bool = False


Output = TensorSpec | tuple[TensorSpec | None, ...] | None


@dataclass(frozen=True)
class Node:
    """One operator call. `getitem` (arguments `value`, `index`) takes a part of a tuple."""

    name: str
    op: str
    """For example `aten.layer_norm.default`; `getitem`."""
    arguments: tuple[Argument, ...]
    output: Output

    def argument(self, name: str, default: Value = None) -> Value:
        """Return an argument by its schema name."""
        for argument in self.arguments:
            if argument.name == name:
                return argument.value
        return default

    def refs(self) -> tuple[str, ...]:
        """Return the names of the values it uses, in order, without repeats."""
        return tuple(dict.fromkeys(ref for argument in self.arguments for ref in refs_in(argument.value)))

    @property
    def spec(self) -> TensorSpec | None:
        """The output if it is one tensor."""
        return self.output if isinstance(self.output, TensorSpec) else None


@dataclass(frozen=True)
class Placeholder:
    """A value the graph does not compute: an input, a parameter, a buffer or a constant."""

    name: str
    kind: str
    """`input`, `parameter`, `buffer`, `constant` (a tensor literal or tensor attribute) or `literal` (an input that is no tensor)."""
    target: str
    """State-dict name of a parameter or buffer; attribute path of a constant, or empty; text of an input's place."""
    spec: TensorSpec | None
    value: Value = None
    """The number of a literal or of a constant with one element, if known; nested tuples for small constants."""
    is_packed: bool = False
    """True for an input that comes with gaps or repeats in memory and is made contiguous first; `spec` is then of the copy."""


@dataclass(frozen=True)
class Graph:
    """What one workload of a problem computes. Nodes are in execution order."""

    placeholders: tuple[Placeholder, ...]
    nodes: tuple[Node, ...]
    outputs: Value
    """The returned structure: a `Ref`, or nested tuples of them and literals."""
    output_form: str = ""
    """Template of the returned structure in Python with `{0}`, `{1}` for the leaves of `outputs`, for example `({0}, [{1}])`."""
    input_names: tuple[str, ...] = ()
    """For each input the Python expression that reads it from `forward`'s parameters."""
    containers: tuple[tuple[str, str, int | tuple[str, ...]], ...] = ()
    """Expression, type name and length (of a dict: the keys) of what holds inputs: lists, tuples, dicts, `*rest`."""
    modes: tuple[tuple[str, bool], ...] = ()
    """Path and training mode of the modules that the operators depend on; empty if the other mode computes the same."""
    built_with: tuple[Value, ...] | None = None
    """Arguments of the constructor; None if they are no plain literals."""
    notes: tuple[str, ...] = ()
    """What a reader should know about the capture."""

    def node(self, name: str) -> Node | None:
        """Return the node of that name, or None (a placeholder)."""
        return self._index().get(name)

    def placeholder(self, name: str) -> Placeholder | None:
        """Return the placeholder of that name, or None."""
        for placeholder in self.placeholders:
            if placeholder.name == name:
                return placeholder
        return None

    def spec(self, name: str) -> TensorSpec | None:
        """Return the tensor spec of a value, or None if it is no single tensor."""
        node = self.node(name)
        if node is not None:
            return node.spec
        placeholder = self.placeholder(name)
        return placeholder.spec if placeholder else None

    def users(self) -> dict[str, list[str]]:
        """Return for every value the nodes that use it; graph outputs count as the user `<output>`."""
        users: dict[str, list[str]] = {placeholder.name: [] for placeholder in self.placeholders}
        for node in self.nodes:
            users.setdefault(node.name, [])
        for node in self.nodes:
            for ref in node.refs():
                users[ref].append(node.name)
        for ref in refs_in(self.outputs):
            users[ref].append("<output>")
        return users

    def _index(self) -> dict[str, Node]:
        index: dict[str, Node] | None = self.__dict__.get("_nodes")
        if index is None:
            index = {node.name: node for node in self.nodes}
            object.__setattr__(self, "_nodes", index)
        return index


def refs_in(value: Value) -> Iterator[str]:
    """Yield the names that a value refers to."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, tuple):
        for item in value:
            yield from refs_in(item)


def substitute(value: Value, names: Mapping[str, Value]) -> Value:
    """Replace references by name; the mapping may turn them into literals."""
    if isinstance(value, Ref):
        return names.get(value.name, value)
    if isinstance(value, tuple):
        return tuple(substitute(item, names) for item in value)
    return value


def replace_uses(node: Node, names: Mapping[str, Value]) -> Node:
    """Return the node with references replaced."""
    if not any(ref in names for ref in node.refs()):
        return node
    return replace(node, arguments=tuple(replace(argument, value=substitute(argument.value, names)) for argument in node.arguments))


def value_from_json(data: Any) -> Value:  # Any: JSON
    """Read a value: lists become tuples, tagged objects become `Ref` and `Symbol`."""
    if isinstance(data, list):
        return tuple(value_from_json(item) for item in data)
    if isinstance(data, dict):
        if "ref" in data:
            return Ref(data["ref"])
        return Symbol(data["kind"], data["text"])
    if data is None or isinstance(data, bool | int | float | str):
        return data
    raise TypeError(f"not a graph value: {data!r}")


def graph_from_json(data: Mapping[str, Any]) -> Graph:  # Any: JSON
    """Read a graph from the capture worker's JSON."""
    return Graph(
        placeholders=tuple(
            Placeholder(item["name"], item["kind"], item["target"], _spec(item["spec"]), value_from_json(item["value"]), item["is_packed"])
            for item in data["placeholders"]
        ),
        nodes=tuple(
            Node(
                item["name"],
                item["op"],
                tuple(Argument(name, value_from_json(value), explicit, keyword) for name, value, explicit, keyword in item["arguments"]),
                _output(item["output"]),
            )
            for item in data["nodes"]
        ),
        outputs=value_from_json(data["outputs"]),
        output_form=data["output_form"],
        input_names=tuple(data["input_names"]),
        notes=tuple(data["notes"]),
        containers=tuple((text, kind, tuple(size) if isinstance(size, list) else size) for text, kind, size in data["containers"]),
        modes=tuple((path, training) for path, training in data["modes"]),
        built_with=None if data["built_with"] is None else tuple(map(value_from_json, data["built_with"])),
    )


def _spec(data: Sequence[Any] | None) -> TensorSpec | None:  # Any: JSON
    return None if data is None else TensorSpec(tuple(data[0]), data[1], tuple(data[2]))


def _output(data: Any) -> Output:  # Any: JSON
    if data is None:
        return None
    if isinstance(data, dict):
        return tuple(_spec(item) for item in data["tuple"])
    return _spec(data)
