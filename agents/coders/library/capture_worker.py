"""The child process of a capture: runs a problem file under fake tensors and writes its ATen graph as JSON.

Stands alone (torch and the standard library) and is started by path: `python capture_worker.py PROBLEM.py RESULT.json`. Problem files are
user code, so this never runs inside the process that decides. No tensor of the problem is allocated in the first attempt: construction, inputs
and forward run under `FakeTensorMode`, on the CPU; the semantics on another device are the same.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import linecache
import operator
import re
import sys
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_CONSTANT_ELEMENTS = 64
MAX_MODES = 16
"""Most modules whose training mode a candidate checks one by one; of more, only the whole model's."""
MAX_REAL_BYTES = 8 << 30
"""Memory of this process when inputs must be real."""


class _StatefulError(RuntimeError):
    """The forward keeps state that is no buffer; no way of building the inputs changes that."""


def main(problem_path: str, result_path: str) -> int:
    """Capture every workload of a problem and write `{"workloads": [...]}` or `{"error": ...}`."""
    warnings.filterwarnings("ignore")
    try:
        result = capture(Path(problem_path).read_text(encoding="utf-8"))
    except Exception as error:  # the outside begins here: user code may raise anything
        result = {"error": f"{type(error).__name__}: {error}"[:2000], "trace": traceback.format_exc()[-4000:]}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    return 0


def capture(source: str) -> dict[str, Any]:  # Any: JSON
    """Return the graphs of all workloads of a problem source."""
    namespace = namespace_of(source)
    workloads = namespace.get("WORKLOADS") or [{}]
    parameters = inspect.signature(namespace["get_inputs"]).parameters.values()
    takes_name = any(item.name == "name" or item.kind is item.VAR_KEYWORD for item in parameters)
    graphs = []
    for index, workload in enumerate(workloads):
        name = str(workload.get("name", f"workload_{index}")) if isinstance(workload, dict) and workload else "default"
        arguments = {key: value for key, value in workload.items() if key != "name" or takes_name} if isinstance(workload, dict) else {}
        graphs.append({"name": name, "graph": _capture_workload(namespace, arguments)})
    return {"workloads": graphs}


def namespace_of(source: str) -> dict[str, Any]:
    """Run a problem's source as the module `problem` of this process and return its names: the caller gives us a process of our own for this."""
    module = ModuleType("problem")
    sys.modules["problem"] = module  # dataclasses look their module up, scripting its source
    linecache.cache["problem.py"] = (len(source), None, source.splitlines(keepends=True), "problem.py")
    exec(compile(source, "problem.py", "exec"), module.__dict__)
    return module.__dict__


def _capture_workload(namespace: dict[str, Any], workload: dict[str, Any]) -> dict[str, Any]:
    errors = []
    for attempt in (_build_fake, _build_real_model, _build_real):
        try:
            model, inputs = attempt(namespace, workload)
            return _export(model, inputs) | {"built_with": _built_with(namespace)}
        except _StatefulError:
            raise
        except Exception as error:  # user code and the exporter may raise anything; the last message is reported
            errors.append(f"{type(error).__name__}: {error}".split("\n")[0])
    raise RuntimeError("; then, with real tensors: ".join(dict.fromkeys(errors)))


def _build_fake(namespace: dict[str, Any], workload: dict[str, Any]) -> tuple[Any, list[Any]]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        model = namespace["Model"](*_init_inputs(namespace))
        inputs = list(namespace["get_inputs"](**workload))
    return model, inputs


def _build_real_model(namespace: dict[str, Any], workload: dict[str, Any]) -> tuple[Any, list[Any]]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = namespace["Model"](*_init_inputs(namespace))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        inputs = list(namespace["get_inputs"](**workload))
    return model, inputs


def _build_real(namespace: dict[str, Any], workload: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Draw real inputs, for generators that look at their own values; the exporter still traces with fakes of them."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MAX_REAL_BYTES, MAX_REAL_BYTES))
    return namespace["Model"](*_init_inputs(namespace)), list(namespace["get_inputs"](**workload))


def _init_inputs(namespace: dict[str, Any]) -> list[Any]:
    maker = namespace.get("get_init_inputs")
    return list(maker()) if maker else []


def _built_with(namespace: dict[str, Any]) -> Any:
    """Return the arguments of the constructor as JSON; None where they are more than plain literals."""
    try:
        return _encode(_init_inputs(namespace))
    except RuntimeError:
        return None


def _export(model: Any, inputs: list[Any]) -> dict[str, Any]:
    packed, places = _packed(inputs)
    with _mode_reads() as readers:
        program = _exported(model, packed)
        if places and _sees_memory(program):
            packed, places = inputs, frozenset()
            program = _exported(model, packed)
    graph = _graph(program, model, packed, places)
    modes = _modes(model, readers) if readers else []
    if modes and not _depends_on_mode(graph):
        before = [(module, module.training) for module in model.modules()]
        try:
            other = _graph(_exported(model.train(not model.training), packed), model, packed, places)
        except Exception:  # what cannot be exported in the other mode differs there
            other = {}
        for module, training in before:
            module.training = training
        if _without_idle_dropout(other) == _without_idle_dropout(graph):
            modes = []
    return graph | {"modes": modes}


def _packed(inputs: list[Any]) -> tuple[list[Any], frozenset[int]]:
    """Return the inputs with those that leave gaps in memory, or use some of it twice, made contiguous, and which leaves these are."""
    import torch
    import torch.utils._pytree as pytree

    leaves, form = pytree.tree_flatten(inputs)
    places = frozenset(
        index
        for index, leaf in enumerate(leaves)
        if isinstance(leaf, torch.Tensor) and leaf.layout is torch.strided and not torch.ops.aten.is_non_overlapping_and_dense(leaf)
    )
    if not places:
        return inputs, places
    return pytree.tree_unflatten([leaf.contiguous() if index in places else leaf for index, leaf in enumerate(leaves)], form), places


def _sees_memory(program: Any) -> bool:
    """Say whether the program has an operator that writes, or one that goes by memory and not by elements: either might be about an input."""
    targets = [node.target for node in program.graph.nodes if hasattr(node.target, "_schema")]
    return any("as_strided" in str(target) or target._schema.is_mutable for target in targets)


@contextlib.contextmanager
def _mode_reads() -> Iterator[list[Any]]:
    """Within the context the list holds the modules whose `training` was read."""
    import torch

    found: list[Any] = []

    def read(module: Any) -> Any:
        caller = Path(sys._getframe(1).f_code.co_filename).parts
        asks_itself = not ("torch" in caller and {"fx", "export"} & set(caller))  # these ask for the mode of every model
        if asks_itself and all(item is not module for item in found):
            found.append(module)
        return module.__dict__["training"]

    def write(module: Any, value: Any) -> None:
        module.__dict__["training"] = value

    torch.nn.Module.training = property(read, write)
    try:
        yield found
    finally:
        del torch.nn.Module.training


def _modes(model: Any, readers: list[Any]) -> list[Any]:
    """Return path and mode of the model and of the parts that ask for it."""
    paths = [path for path, module in model.named_modules() if path and any(module is item for item in readers)]
    return [["", model.training]] + [[path, model.get_submodule(path).training] for path in (paths if len(paths) <= MAX_MODES else [])]


def _depends_on_mode(graph: dict[str, Any]) -> bool:
    """Say whether an operator is there that training alone has; False is no proof."""
    for node in graph["nodes"]:
        values = {name: value for name, value, _, _ in node["arguments"]}
        if True in (values.get("training"), values.get("use_input_stats")) or (
            values.get("train") is True and values.get("p", values.get("dropout", 1)) != 0
        ):
            return True
    return False


def _without_idle_dropout(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the graph with the mode of dropouts that drop nothing left out."""
    nodes = []
    for node in graph.get("nodes", ()):
        idle = any(item[0] in ("p", "dropout") and item[1] == 0 for item in node["arguments"])
        nodes.append({**node, "arguments": [item for item in node["arguments"] if item[0] != "train"]} if idle else node)
    return {**graph, "nodes": nodes}


def _exported(model: Any, inputs: list[Any]) -> Any:
    import torch

    with _quick_recurrences(), torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program = torch.export.export(model, tuple(inputs), strict=False)
    for warning in caught:
        text = str(warning.message)
        names = re.findall(r"self\.[\w.\[\]]+", text)
        # `nn.LSTM` and its like rebuild a list of their own parameters where tensors have no memory: no state.
        if "assigned during export" in text and not (names and all("._flat_weights[" in name for name in names)):
            raise _StatefulError(f"forward reassigns an attribute, so a call may depend on the calls before it ({text.split(' Such ')[0]})")
    _inline_modes(program.graph_module)
    if any(node.op == "get_attr" or _is_bare(node) for node in program.graph.nodes):
        program = program.run_decompositions({})  # autocast inside: its casts become operators; `vmap`: batched operators
    return program


def _is_bare(node: Any) -> bool:
    """Say whether a node calls a Python function that is no operator, as a traced `vmap` does."""
    return node.op == "call_function" and node.target is not operator.getitem and not hasattr(node.target, "_schema")


def _inline_modes(module: Any) -> None:
    """Put the bodies of gradient modes, and of autocasting that is switched off, in their place: nothing but their values counts here."""
    from torch.fx import Node
    from torch.fx.node import map_arg

    def without(value: Any, names: dict[Any, Any]) -> Any:
        return map_arg(value, lambda node: names.get(node, node))

    for node in list(module.graph.nodes):
        if node.op != "call_function" or not str(node.target).startswith(("wrap_with_set_grad_enabled", "wrap_with_autocast")):
            continue
        if str(node.target) == "wrap_with_autocast" and node.args[2]:
            continue
        first = next(index for index, item in enumerate(node.args) if isinstance(item, Node) and item.op == "get_attr")
        holder = node.args[first]
        body = getattr(module, holder.target)
        _inline_modes(body)
        names: dict[Any, Any] = {}
        operands = iter(node.args[first + 1 :])
        results: Any = ()
        with module.graph.inserting_before(node):
            for inner in body.graph.nodes:
                if inner.op == "placeholder":
                    names[inner] = next(operands)
                elif inner.op == "output":
                    results = without(inner.args[0], names)
                elif inner.op == "get_attr":
                    raise RuntimeError("an autocast region inside of a gradient mode")
                else:
                    names[inner] = module.graph.node_copy(inner, names.__getitem__)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            module.graph.erase_node(user)
        module.graph.erase_node(node)
        if not holder.users:
            module.graph.erase_node(holder)


@contextlib.contextmanager
def _quick_recurrences() -> Iterator[None]:
    """Within the context recurrent layers give results of the right form at once: traced step by step, six layers of 512 steps take minutes."""
    import torch

    library = torch.library.Library("aten", "IMPL")

    def results(input: Any, hidden: Any, bidirectional: bool, batch_first: bool) -> list[Any]:
        directions = 2 if bidirectional else 1
        steps, batch = (input.shape[1], input.shape[0]) if batch_first else (input.shape[0], input.shape[1])
        out = input.new_empty((steps, batch, directions * hidden[0].shape[-1]))
        return [
            out.transpose(0, 1) if batch_first else out,
            *(torch.empty_like(item, memory_format=torch.contiguous_format) for item in hidden),
        ]

    def one(input: Any, hx: Any, params: Any, biases: bool, layers: int, dropout: float, train: bool, two: bool, first: bool) -> Any:
        return tuple(results(input, [hx], two, first))

    def several(input: Any, hx: Any, params: Any, biases: bool, layers: int, dropout: float, train: bool, two: bool, first: bool) -> Any:
        return tuple(results(input, hx, two, first))

    for name, function in (("gru", one), ("rnn_tanh", one), ("rnn_relu", one), ("lstm", several)):
        library.impl(f"{name}.input", function, "AutogradCPU")
    try:
        yield
    finally:
        library._destroy()


def _graph(program: Any, model: Any, inputs: list[Any], packed: frozenset[int]) -> dict[str, Any]:
    kinds = {"PARAMETER": "parameter", "BUFFER": "buffer", "CONSTANT_TENSOR": "constant", "USER_INPUT": "input"}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    placeholders: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    outputs: Any = None
    notes: list[str] = []
    user_position = 0
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            kind = kinds.get(spec.kind.name)
            if kind is None:
                raise RuntimeError(f"unsupported kind of input {spec.kind.name}")
            value = node.meta.get("val")
            target = spec.target or ""
            constant, is_packed = None, False
            if kind == "constant":
                constant, target = _constant(program.constants.get(spec.target), model, spec.target)
            elif kind == "input":
                target = str(user_position)
                is_packed = user_position in packed
                user_position += 1
                if _tensor_spec(value) is None:
                    kind, constant = "literal", _encode(value)
            spec_ = _tensor_spec(value)
            placeholders.append(
                {"name": node.name, "kind": kind, "target": target, "spec": spec_, "value": constant, "is_packed": is_packed}
            )
        elif node.op == "call_function":
            nodes.append(_node(node))
        elif node.op == "output":
            outputs = [_encode(item) for item in node.args[0]]
        else:
            raise RuntimeError(f"unsupported node {node.op} {node.target}")
    names, containers = _input_names(model, inputs)
    return {
        "placeholders": placeholders,
        "nodes": nodes,
        "outputs": outputs,
        "output_form": _form(program.call_spec.out_spec, len(outputs)),
        "input_names": names,
        "containers": containers,
        "notes": notes,
    }


def _input_names(model: Any, inputs: list[Any]) -> tuple[list[str], list[Any]]:
    """Return for every flat input the Python expression that reads it from `forward`'s parameters, and type and length (or keys) of what holds them."""
    names: list[str] = []
    containers: list[Any] = []

    def visit(value: Any, text: str) -> None:
        if isinstance(value, list | tuple):
            containers.append([text, type(value).__name__, len(value)])
            for index, item in enumerate(value):
                visit(item, f"{text}[{index}]")
        elif isinstance(value, dict):
            containers.append([text, "dict", list(value)])
            for key, item in value.items():
                visit(item, f"{text}[{key!r}]")
        else:
            names.append(text)

    # A forward that a base class brings gets its inputs under names that no text of `Model` shows.
    own = list(inspect.signature(model.forward).parameters.values()) if "forward" in type(model).__dict__ else []
    plain = [item.name for item in own if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    rest = next((item.name for item in own if item.kind is item.VAR_POSITIONAL), "" if own else "inputs")
    if rest:
        containers.append([rest, "tuple", max(len(inputs) - len(plain), 0)])
    for position, value in enumerate(inputs):
        visit(value, plain[position] if position < len(plain) else f"{rest}[{position - len(plain)}]")
    return names, containers


def _constant(value: Any, model: Any, path: str) -> tuple[Any, str]:
    """Return the constant's number(s) if it is small and real, and its attribute path if the model holds it."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    holder, found = model, True
    for part in path.split("."):
        if not hasattr(holder, part):
            found = False
            break
        holder = getattr(holder, part)
    number = None
    if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor) and value.numel() <= MAX_CONSTANT_ELEMENTS:
        number = value.tolist()
    return number, path if found else ""


def _form(spec: Any, count: int) -> str:
    import torch.utils._pytree as pytree

    tree = pytree.tree_unflatten([_Leaf(index) for index in range(count)], spec)
    return _form_text(tree)


class _Leaf:
    def __init__(self, index: int) -> None:
        self.index = index


def _form_text(tree: Any) -> str:
    if isinstance(tree, _Leaf):
        return "{" + str(tree.index) + "}"
    if type(tree) is tuple:
        return "(" + ", ".join(map(_form_text, tree)) + ("," if len(tree) == 1 else "") + ")"
    if type(tree) is list:
        return "[" + ", ".join(map(_form_text, tree)) + "]"
    if type(tree) is dict:
        return "{{" + ", ".join(f"{key!r}: {_form_text(value)}" for key, value in tree.items()) + "}}"
    if tree is None:
        return "None"
    if type(tree) is OrderedDict:
        return '__import__("collections").OrderedDict(' + _form_text(dict(tree)) + ")"
    if (
        isinstance(tree, tuple)
        and hasattr(tree, "_fields")
        and getattr(sys.modules.get("problem"), type(tree).__name__, None) is type(tree)
    ):
        return type(tree).__name__ + "(" + ", ".join(map(_form_text, tree)) + ")"
    raise RuntimeError(f"forward returns a {type(tree).__name__}, which is not supported")


def _node(node: Any) -> dict[str, Any]:
    if node.target is operator.getitem:
        pairs = [("value", node.args[0], True, False), ("index", node.args[1], True, False)]
        name = "getitem"
    else:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise RuntimeError(f"unsupported operator {node.target}")
        name = str(node.target)
        if name.startswith("higher_order") or not name.startswith("aten."):
            raise RuntimeError(f"unsupported operator {name}")
        pairs = []
        for position, argument in enumerate(schema.arguments):
            if position < len(node.args):
                pairs.append((argument.name, node.args[position], True, argument.kwarg_only))
            elif argument.name in node.kwargs:
                pairs.append((argument.name, node.kwargs[argument.name], True, argument.kwarg_only))
            else:
                pairs.append((argument.name, argument.default_value if argument.has_default_value() else None, False, argument.kwarg_only))
    return {
        "name": node.name,
        "op": name,
        "arguments": [[argument, _encode(value), explicit, keyword] for argument, value, explicit, keyword in pairs],
        "output": _output(node.meta.get("val")),
    }


def _output(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return {"tuple": [_tensor_spec(item) for item in value]}
    return _tensor_spec(value)


def _tensor_spec(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return None
    if any(not isinstance(size, int) for size in value.shape):
        raise RuntimeError("a shape depends on data")
    return [list(value.shape), str(value.dtype).removeprefix("torch."), list(value.stride())]


def _encode(value: Any) -> Any:
    import torch
    from torch.fx import Node

    if isinstance(value, Node):
        return {"ref": value.name}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    for kind, types in _SYMBOLS(torch):
        if isinstance(value, types):
            return {"kind": kind, "text": str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"kind": "complex", "text": repr(value)}
    raise RuntimeError(f"unsupported literal {value!r}")


_SYMBOLS: Callable[[Any], list[tuple[str, Any]]] = lambda torch: [  # noqa: E731 - a table that needs torch
    ("dtype", torch.dtype),
    ("device", torch.device),
    ("layout", torch.layout),
    ("memory_format", torch.memory_format),
]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2]))
