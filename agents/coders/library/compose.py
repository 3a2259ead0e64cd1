"""One candidate source from a plan: kernels with names of their own, and a forward that launches them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from agents.coders.library.cpp import preamble, runtime, translation_unit
from agents.coders.library.errors import CaptureError, DocumentError
from agents.coders.library.graph import Argument, Graph, Node, Placeholder, Ref, Symbol, Value, refs_in
from agents.coders.library.module_source import FALLBACK, call_arguments, candidate_module, default_checks, forward_parameters
from agents.coders.library.regions import Plan, Region
from agents.coders.library.renaming import rename_top_level, replace_function, split_imports
from agents.coders.library.rewrites import VIEWS, has_effects, is_in_place
from agents.coders.library.slots import SlotCode, write_slot

Tunables = Mapping[str, object]
_COMPILED_AT_ONCE = """
_constructor = ModelNew.__init__


@functools.wraps(_constructor)
def _construct(self, *arguments, **keywords):
    _constructor(self, *arguments, **keywords)
    self.compile(dynamic=False)  # the model as a whole: a call then checks no more than one of torch.compile(model) does


ModelNew.__init__ = _construct
"""
_RECORDED_NOTE = "The forward is recorded once as a CUDA graph and replayed; inputs are copied in, outputs out."


@lru_cache(maxsize=1)
def recorded_runtime() -> str:
    """Return the Python that records and replays a forward inside a candidate."""
    return Path(__file__).with_name("recorded_runtime.txt").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def channels_last_runtime() -> str:
    """Return the Python that changes layouts inside a candidate."""
    return Path(__file__).with_name("channels_last_runtime.txt").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def guard_runtime() -> str:
    """Return the Python that tells whether a model and its inputs are those that the kernels were written for."""
    return Path(__file__).with_name("guard_runtime.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Piece:
    """A workload ready to be written."""

    name: str
    graph: Graph
    """As captured (for the input check)."""
    plan: Plan
    tunables: Mapping[str, Tunables]
    """Tunables by region key and kernel name: `f"{key}|{kernel}"`."""
    is_rest_compiled: bool = False
    """True if what stays with PyTorch goes through torch.compile."""
    simplified: tuple[str, ...] = ()
    """What algebra saved, a sentence a place."""


@dataclass
class _Module:
    """The module that is being written."""

    language: str
    imports: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    """Python text by unique name."""
    names: dict[str, str] = field(default_factory=dict)
    """Unique name by digest of the content."""
    cpp: dict[str, str] = field(default_factory=dict)
    """Translation units by unique name."""
    functions: list[str] = field(default_factory=list)
    """Functions that go through torch.compile."""


def tunables_key(region: Region) -> str:
    """Return the key under which a region's tunables are kept; equal regions share them."""
    return f"{region.key}|{region.kernel.name}"


def compose(source: str, pieces: Sequence[Piece], language: str, headline: str, *, is_recorded: bool = False) -> str:
    """Write the candidate.

    Args:
        source: The problem's source.
        pieces: One for each workload.
        language: `triton` or `cpp`.
        headline: First line of the module's docstring.
        is_recorded: Record the forward once as a CUDA graph and replay it.

    Raises:
        CaptureError: The graph holds something that cannot be written back as Python.
        DocumentError: A kernel's code lacks what its slots need.
    """
    module = _Module(language)
    parameters = forward_parameters(source)
    methods = []
    for index, piece in enumerate(pieces):
        body = _Forward(module, piece).lines()
        name = f"_forward_{index}"
        guard = _guard(piece.graph, parameters)
        methods.append((name, guard, body))
    text = _forward_text(methods, parameters)
    if is_recorded:
        text = _recorded(text, parameters)
    head = [
        _docstring(headline, pieces, is_recorded=is_recorded),
        "from __future__ import annotations\n" if "from __future__" in source else "",
    ]
    imports = list(module.imports)
    imports += ["import inspect", "import os"]
    blocks = [_guard_block([piece.graph for piece in pieces], language)]
    blocks += [recorded_runtime()] if is_recorded else []
    if module.cpp:
        imports += ["import ctypes", "import hashlib", "import os"]
        blocks.append(runtime())
        blocks.append(_cpp_sources(module.cpp))
    blocks.extend(module.kernels.values())
    own = candidate_module(source.replace("from __future__ import annotations\n", ""), text + _KEEPING)
    lines = "\n".join(sorted(set(imports) | {"import torch"}))
    return "\n".join([*head, lines, "", *blocks, *module.functions, own])


def compose_reference(source: str, headline: str, *, is_compiled: bool, is_recorded: bool = False, layout: str = "") -> str:
    """Write the reference as a candidate: with PyTorch's operators as it stands, or as a whole through torch.compile.

    Args:
        source: The problem's source.
        headline: First line of the module's docstring.
        is_compiled: True for torch.compile.
        is_recorded: Record the forward once as a CUDA graph and replay it.
        layout: `channels_last` for inputs and convolution weights with the channels innermost; empty: as they come.

    Raises:
        CaptureError: The forward's parameters do not allow it.
    """
    how = (
        "The whole forward goes through torch.compile." if is_compiled else "The forward is the reference's own, with PyTorch's operators."
    )
    if layout:
        how += " Inputs and weights of convolutions have the channels innermost."
    if is_recorded:
        how += f" {_RECORDED_NOTE}"
    head = f'"""{headline}\n\n- {how}\n"""\n'
    parameters = forward_parameters(source)
    arguments = ", ".join(["self", call_arguments(parameters)]).rstrip(", ")
    tail = ["", "", "import torch", ""]
    if layout:
        _require_plain(parameters, "another layout")
        names = call_arguments(parameters)
        lines = [
            f"    def forward({parameters}):",
            '        if not hasattr(self, "_is_laid_out"):',
            "            _lay_weights(self)",
            "            self._is_laid_out = True",
            f"        return _forward({arguments})",
        ]
        text = "\n".join(lines) + "\n"
        tail += [channels_last_runtime(), "", f"def _laid_out({parameters}):"]
        tail += [f"    return _row_major(ModelNew.{FALLBACK}(self, *_channels_last(({names},))))", "", ""]
        tail += [f"_forward = {'torch.compile(_laid_out, dynamic=False)' if is_compiled else '_laid_out'}", ""]
    elif is_compiled and not is_recorded:
        text = None
        tail += ["import functools", "", _COMPILED_AT_ONCE]
    elif is_compiled:
        text = f"    def forward({parameters}):\n        return _compiled_forward({arguments})\n"
        tail += [f"_compiled_forward = torch.compile(ModelNew.{FALLBACK}, dynamic=False)", ""]
    elif is_recorded:
        text = f"    def forward({parameters}):\n        return ModelNew.{FALLBACK}({arguments})\n"
    else:
        text, tail = None, []
    if is_recorded and text is not None:
        text = _recorded(text, parameters)
        tail += ["", recorded_runtime()]
    own = candidate_module(source, text) + "\n".join(tail)
    future = "from __future__ import annotations\n"
    return f"{head}{future if future in own else ''}{own.replace(future, '')}"


def _recorded(text: str, parameters: str) -> str:
    """Return the methods with `forward` put behind a recording of it."""
    _require_plain(parameters, "recorded as a CUDA graph")
    lines = [
        f"    def forward({parameters}):",
        '        if not hasattr(self, "_recorded"):',
        "            self._recorded = _Recorded(self, self._launch)",
        f"        return self._recorded({call_arguments(parameters)})",
        "",
    ]
    return "\n".join(lines) + "\n" + text.replace("    def forward(", "    def _launch(", 1)


def _require_plain(parameters: str, what: str) -> None:
    if "*" in parameters or not call_arguments(parameters):
        raise CaptureError(f"a forward with the parameters ({parameters}) cannot be {what}")


def _docstring(headline: str, pieces: Sequence[Piece], *, is_recorded: bool) -> str:
    lines = [f'"""{headline}', ""]
    for piece in pieces:
        where = f" ({piece.name})" if len(pieces) > 1 else ""
        lines += [f"- algebra{where}: {note}" for note in dict.fromkeys(piece.simplified)]
        for region in piece.plan.regions:
            fused = [name for name, fusion in (("prologue", region.prologue), ("epilogue", region.epilogue)) if fusion is not None]
            with_ = f", {' and '.join(fused)} fused" if fused and region.kernel.matches != ("pointwise",) else ""
            lines.append(f"- {', '.join(_ops(piece, region))}{where}: kernel `{region.kernel.name}` from {_document(region)}{with_}")
        left = [node.op.removeprefix("aten.") for node in piece.plan.eager if node.op != "getitem"]
        if left:
            how = "through torch.compile" if piece.is_rest_compiled else "with PyTorch"
            names = list(dict.fromkeys(left))
            lines.append(f"- {', '.join(names[:8])}{' and more' if len(names) > 8 else ''}{where}: {how}")
    if is_recorded:
        lines.append(f"- {_RECORDED_NOTE}")
    return "\n".join([*lines, '"""', ""]).replace("\\", "/")


def _document(region: Region) -> str:
    path = region.kernel.source
    return "docs/" + path.split("docs/", 1)[1] if "docs/" in path else path


def _ops(piece: Piece, region: Region) -> list[str]:
    names = []
    for node in piece.plan.view.graph.nodes:
        if node.name in region.nodes and node.op != "getitem":
            names.append(node.op.split(".")[1])
    return names[:12] + (["..."] if len(names) > 12 else [])


def _forward_text(methods: Sequence[tuple[str, str, list[str]]], parameters: str) -> str:
    arguments = call_arguments(parameters)
    if len(methods) == 1:
        _, guard, body = methods[0]
        lines = [f"    def forward({parameters}):"]
        lines += [f"        if {guard}:", f"            return self.{FALLBACK}({arguments})"] if guard else []
        return "\n".join([*lines, *(f"        {line}" for line in body)]) + "\n"
    lines = [f"    def forward({parameters}):"]
    for name, guard, _ in methods:
        lines += [f"        if not ({guard}):" if guard else "        if True:", f"            return self.{name}({arguments})"]
    lines.append(f"        return self.{FALLBACK}({arguments})")
    for name, _, body in methods:
        lines += ["", f"    def {name}({parameters}):", *(f"        {line}" for line in body)]
    return "\n".join(lines) + "\n"


_KEEPING = """
    def __new__(cls, *arguments, **keywords):
        made = super().__new__(cls)
        made.__dict__["_built_with"] = arguments, keywords
        return made

    def _apply(self, *arguments, **keywords):  # `to`, `half`, `cuda`: parameters may have another form afterwards
        self.__dict__.pop("_fits_kernels", None)
        return super()._apply(*arguments, **keywords)
"""


def _guard(graph: Graph, parameters: str) -> str:
    """Return the condition under which a call is not the one that the graph was captured for."""
    parts = []
    for text, kind, size in graph.containers:
        count = f"list({text}) != {list(size)!r}" if isinstance(size, tuple) else f"len({text}) != {size}"
        parts.append(f"type({text}) is not {kind} or {count}")
    tensors = []
    for text, placeholder in zip(graph.input_names, _inputs(graph), strict=True):
        spec, value = placeholder.spec, placeholder.value
        if spec is not None:
            tensors.append(text)
            parts.append(
                f"not isinstance({text}, torch.Tensor) or {text}.shape != {_tuple(spec.shape)} or {text}.dtype != torch.{spec.dtype}"
            )
            if not placeholder.is_packed:
                parts.append(f"{text}.stride() != {_tuple(spec.stride)}")
        elif value is None or isinstance(value, bool):
            parts.append(f"{text} is not {value}")
        elif isinstance(value, Symbol):
            parts.append(f"str({text}) != {(value.text if value.kind in ('device', 'complex') else 'torch.' + value.text)!r}")
        else:
            parts.append(f"type({text}) is not {type(value).__name__} or {text} != {_literal(value)}")
    parts += default_checks(parameters, {text.split("[")[0] for text in (*graph.input_names, *(item[0] for item in graph.containers))})
    parts += [f"{_attribute(f'{path}.training'.lstrip('.'))} is not {training}" for path, training in graph.modes]
    return " or ".join([*parts, f"_is_otherwise(self, {_tuple(tensors)})"])


def _inputs(graph: Graph) -> list[Placeholder]:
    return [item for item in graph.placeholders if item.kind in ("input", "literal")]


def _guard_block(graphs: Sequence[Graph], language: str) -> str:
    """Return the guard's function with what it compares: the constructor's arguments and the forms of parameters and buffers."""
    forms: dict[str, dict[str, None]] = {}
    for graph in graphs:
        for item in graph.placeholders:
            if item.target and item.spec is not None and item.kind in ("parameter", "buffer", "constant"):
                form = f"(torch.{item.spec.dtype}, {_tuple(item.spec.shape)}, {_tuple(item.spec.stride)})"
                forms.setdefault(form, {})[item.target] = None
    built = graphs[0].built_with
    has_device = built is not None and "kind='device'" in repr(built)
    lines = [f"_BUILT_WITH = {'None' if built is None or has_device else _written(built)}", "_STATE = {"]
    lines += [f'    {form}: "{" ".join(paths)}",' for form, paths in forms.items()]
    bound = "True" if language == "cpp" else '(torch.version.cuda or torch.version.hip) and os.environ.get("TRITON_INTERPRET") != "1"'
    lines += ["}", f'_DEVICE = "{"cpu" if language == "cpp" else "cuda"}"', f"_IS_BOUND = {bound}"]
    return "\n".join(["", "", guard_runtime(), "", *lines, ""])


def _written(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Symbol):
        return value.text if value.kind == "complex" else f"torch.{value.text}"
    return _literal(value)


def _tuple(values: Sequence[object]) -> str:
    return "(" + ", ".join(map(str, values)) + ("," if len(values) == 1 else "") + ")"


def _cpp_sources(units: Mapping[str, str]) -> str:
    parts = [f"_PREAMBLE = r'''\n{preamble()}'''\n", "_SOURCES = {"]
    for name, text in units.items():
        parts.append(f"    \"{name}\": r'''\n{text}''',")
    parts.append("}\n_KERNELS = _compile({name: _PREAMBLE + text for name, text in _SOURCES.items()})\n")
    return "\n".join(parts)


_BY_MEMORY = frozenset({"aten.as_strided.default", "aten.view.dtype", "aten.view_as_complex.default"})
_Step = tuple[int, list[str], set[str], str]
"""Place in the order, statements, values used, value produced."""


class _Forward:
    """Writes the statements of one forward."""

    def __init__(self, module: _Module, piece: Piece) -> None:
        self.module = module
        self.piece = piece
        self.plan = piece.plan
        self.graph = piece.plan.view.graph
        self.names: dict[str, str] = {}
        self.inputs = {item.name: text for text, item in zip(self.graph.input_names, _inputs(self.graph), strict=True)}
        self.packed = {item.name: self.inputs[item.name] for item in _inputs(self.graph) if item.is_packed}
        self.inputs |= {name: _name(name) for name in self.packed}
        self.device = self._device()
        self.moved = self._moved()
        self.loose = self._loose()

    def lines(self) -> list[str]:
        steps: list[_Step] = []
        order = self.plan.view.order
        for region in self.plan.regions:
            text, used = self._launch(region)
            steps.append((order[region.produces], text, used, region.produces))
        counters = self._counters()
        for node in self.plan.eager:
            if node not in counters:
                steps.append((order[node.name], self._call(node), set(node.refs()), node.name))
        if counters:
            buffers = ", ".join(self._text(Ref(node.refs()[0])) for node in counters)
            steps.append((order[counters[-1].name], [f"torch._foreach_add_([{buffers}], 1)"], set(), counters[-1].name))
        unnamed = {node.name for node in self.plan.eager if self._is_statement(node)}
        steps.sort(key=lambda step: step[0])
        if self.piece.is_rest_compiled:
            steps = self._grouped(steps)
        last: dict[str, int] = {}
        for index, (_, _, used, name) in enumerate(steps):
            last[name] = index
            for ref in used:
                last[ref] = index
        kept = set(refs_in(self.graph.outputs))
        lines = [f"{_name(name)} = {text}.contiguous()" for name, text in self.packed.items()]
        for index, (_, text, _, _) in enumerate(steps):
            lines += text
            dead = sorted(
                name for name, at in last.items() if at == index and name not in kept | unnamed and self.graph.node(name) is not None
            )
            if dead and index < len(steps) - 1:
                lines.append(f"del {', '.join(map(_name, dead))}")
        lines.append(f"return {self._returned()}")
        return lines

    def _counters(self) -> list[Node]:
        """Return what counts batches, one node a layer that normalises, where there are several: one launch does for all of them."""
        found = []
        for node in self.plan.eager:
            refs = node.refs()
            placeholder = self.graph.placeholder(refs[0]) if node.op == "aten.add_.Tensor" and len(refs) == 1 else None
            if placeholder is None or placeholder.kind != "buffer" or placeholder.spec is None or placeholder.spec.ndim:
                continue
            is_one = type(node.argument("other")) is int and node.argument("other") == 1 and node.argument("alpha", 1) == 1
            if is_one and self._is_statement(node) and self.plan.view.users[refs[0]] == [node.name]:
                found.append(node)
        return found if len(found) > 1 and len({node.spec.dtype for node in found if node.spec}) == 1 else []

    def _grouped(self, steps: list[_Step]) -> list[_Step]:
        """Turn runs of PyTorch calls between kernel launches into compiled functions."""
        eager = {node.name: node for node in self.plan.eager}
        grouped: list[_Step] = []
        run: list[_Step] = []
        for step in [*steps, None]:
            if step is not None and step[3] in eager and not has_effects(eager[step[3]]) and step[3] not in self.plan.view.pinned:
                run.append(step)
                continue
            if any(eager[item[3]].op not in VIEWS and item[3] in eager and eager[item[3]].op != "getitem" for item in run):
                grouped.append(self._function(run, eager))
            else:
                grouped += run
            run = []
            if step is not None:
                grouped.append(step)
        return grouped

    def _function(self, run: list[_Step], eager: Mapping[str, Node]) -> _Step:
        inside = {step[3] for step in run}
        arguments = list(
            dict.fromkeys(ref for step in run for ref in eager[step[3]].refs() if ref not in inside and not self._is_literal(ref))
        )
        results = [name for name in (step[3] for step in run) if any(user not in inside for user in self.plan.view.users[name])]
        name = f"_rest_{len(self.module.functions)}"
        self.names = {argument: _name(argument) for argument in arguments}
        device, self.device = self.device, "device"
        body = [line for step in run for line in self._call(eager[step[3]])]
        self.names, self.device = {}, device
        parameters = ", ".join([*map(_name, arguments), "device"])
        lines = [f"def {name}({parameters}):", *(f"    {line}" for line in body), f"    return {', '.join(map(_name, results))}"]
        self.module.functions.append("\n".join(["", "", "@torch.compile", *lines, "", ""]))
        call = (
            f"{', '.join(map(_name, results))} = {name}({', '.join([*(self._text(Ref(argument)) for argument in arguments), self.device])})"
        )
        # The step is filed under its last result; the others stay alive as long as it does.
        return run[-1][0], [call], set(arguments), results[-1]

    def _is_literal(self, name: str) -> bool:
        placeholder = self.graph.placeholder(name)
        return placeholder is not None and placeholder.kind in ("constant", "literal") and not placeholder.target

    def _returned(self) -> str:
        outputs = self.graph.outputs
        items = outputs if isinstance(outputs, tuple) else (outputs,)
        return self.graph.output_form.format(*(self._text(item) for item in items))

    def _device(self) -> str:
        for placeholder in self.graph.placeholders:
            if placeholder.kind == "input" and placeholder.spec is not None:
                return f"{self.inputs[placeholder.name]}.device"
        for placeholder in self.graph.placeholders:
            if placeholder.kind in ("parameter", "buffer"):
                return f"{_attribute(placeholder.target)}.device"
        return "torch.get_default_device()"

    def _loose(self) -> frozenset[str]:
        """Values whose layout might differ from the captured one: results of PyTorch operators, on another device, and views of what launches moved."""
        loose: set[str] = set()
        for node in self.plan.eager:
            if (node.op not in VIEWS and node.op != "getitem") or set(node.refs()) & (loose | self.moved):
                loose.add(node.name)
        return frozenset(loose)

    def _moved(self) -> frozenset[str]:
        """Values whose layout is not the captured one, or may not be: what launches leave contiguous and what PyTorch makes of that."""
        moved = set(self.plan.moved)
        for node in self.plan.eager:
            if set(node.refs()) & moved:
                moved.add(node.name)
        return frozenset(moved)

    def _text(self, value: Value) -> str:
        if isinstance(value, Ref):
            if value.name in self.names:
                return self.names[value.name]
            placeholder = self.graph.placeholder(value.name)
            return _name(value.name) if placeholder is None else self._placeholder(placeholder)
        if isinstance(value, Symbol):
            return self.device if value.kind == "device" else _written(value)
        if isinstance(value, tuple):
            return "[" + ", ".join(map(self._text, value)) + "]"
        return _literal(value)

    def _placeholder(self, placeholder: Placeholder) -> str:
        if placeholder.name in self.inputs:
            return self.inputs[placeholder.name]
        if placeholder.kind in ("parameter", "buffer") or placeholder.target:
            return _attribute(placeholder.target)
        if placeholder.value is None or placeholder.spec is None:
            raise CaptureError(f"the values of the constant {placeholder.name!r} are not known")
        where = "" if placeholder.spec.ndim == 0 else f", device={self.device}"
        return f"torch.tensor({self._text(placeholder.value)}, dtype=torch.{placeholder.spec.dtype}{where})"

    def _call(self, node: Node) -> list[str]:
        if node.op == "getitem":
            return [f"{_name(node.name)} = {self._text(node.argument('value'))}[{node.argument('index')}]"]
        positional, keywords = [], []
        needs_device = any(argument.name == "device" for argument in node.arguments) and not node.refs()
        for argument in node.arguments:
            if argument.name in ("cudnn_enabled", "cudnn_enable"):  # captured without a GPU, where it is always False
                positional.append("torch.backends.cudnn.enabled")
            elif argument.name == "device" and needs_device:
                keywords.append(f"device={self.device}")
            elif argument.name == "pin_memory" or not argument.is_explicit:
                continue
            elif argument.is_keyword_only or keywords or _skipped(node, argument):
                keywords.append(f"{argument.name}={self._text(argument.value)}")
            else:
                positional.append(self._text(argument.value))
        call = f"torch.ops.{self._operator_of(node)}({', '.join(positional + keywords)})"
        return [f"{_name(node.name)} = {call}"] if not self._is_statement(node) else [call]

    def _operator_of(self, node: Node) -> str:
        """Return the operator to call: a view of what lies otherwise than captured may need a copy.

        Raises:
            CaptureError: It goes by memory and not by elements.
        """
        if not set(node.refs()) & self.moved:
            return node.op
        if node.op in _BY_MEMORY:
            raise CaptureError(f"{node.op} looks at the memory of a value that a kernel would lay out otherwise")
        return "aten.reshape.default" if node.op in ("aten.view.default", "aten._unsafe_view.default") else node.op

    def _is_statement(self, node: Node) -> bool:
        """Say whether a call is made for its effect alone."""
        return is_in_place(node) and not self.plan.view.users[node.name]

    def _tensor(self, name: str) -> str:
        """A tensor for a kernel: its layout is the captured one."""
        text = self._text(Ref(name))
        spec = self.graph.spec(name)
        if name not in self.loose or spec is None:
            return text
        return f"{text}.contiguous()" if spec.is_contiguous else f"_laid({text}, {_tuple(spec.stride)})"

    def _launch(self, region: Region) -> tuple[list[str], set[str]]:
        tunables = self.piece.tunables[tunables_key(region)]
        slots: dict[str, SlotCode] = {}
        for slot, fusion in (("prologue", region.prologue), ("epilogue", region.epilogue)):
            if fusion is not None:
                slots[slot] = write_slot(self.plan.view, fusion, slot, region.columns[slot])
        name = _kernel(self.module, region, slots, tunables)
        used: set[str] = set()
        parts: list[str] = []
        keywords = region.kernel.keywords
        for argument in region.arguments:
            if not argument.is_explicit or argument.name not in keywords:
                continue
            used.update(refs_in(argument.value))
            text = self._argument(argument.value)
            if region.view_source_as is not None and region.prologue is not None and argument.value == Ref(region.prologue.source or ""):
                text = f"{text}.reshape({_tuple(region.view_source_as)})"
            parts.append(f"{argument.name}={text}")
        for slot, generated in slots.items():
            used.update(generated.extras)
            if generated.extras:
                parts.append(f"{slot}_extra=({', '.join(map(self._tensor, generated.extras))},)")
        if "out_dtype" in keywords and region.item is None and not isinstance(self._output_of(region), tuple):
            parts.append(f"out_dtype=torch.{region.output.dtype}")
        if "operator" in keywords:
            parts.append(f'operator="{self._operator(region)}"')
        if "device" in keywords and not (region.epilogue and slots["epilogue"].extras):
            parts.append(f"device={self.device}")
        if self.module.language == "cpp":
            parts.append(f"lib={name}_lib")
        parts += [f"{key}={value!r}" for key, value in tunables.items() if key in keywords]
        item = "" if region.item is None else f"[{region.item}]"
        reduced = self.graph.spec(region.produces) if region.reduces else None
        if reduced is not None:
            parts.append(f'reduce="{region.reduces}"')
            item += f".view({_tuple(reduced.shape)})"
        elif region.epilogue is not None and region.epilogue.source is not None:
            before = self.graph.spec(region.epilogue.source)
            if before is not None and before.shape != region.output.shape:
                item += f".view({_tuple(region.output.shape)})"
        call = f"{_name(region.produces)} = {name}({', '.join(parts)}){item}"
        return _wrapped(call, name, parts, item, _name(region.produces)), used

    def _argument(self, value: Value) -> str:
        if isinstance(value, Ref):
            return self._tensor(value.name)
        if isinstance(value, tuple):
            return "(" + ", ".join(map(self._argument, value)) + ("," if len(value) == 1 else "") + ")"
        return self._text(value)

    def _output_of(self, region: Region) -> object:
        node = self.graph.node(region.produces)
        return node.output if node else None

    def _operator(self, region: Region) -> str:
        for name in sorted(region.nodes, key=lambda item: self.plan.view.order[item]):
            node = self.graph.node(name)
            if node is not None and node.op in region.kernel.matches:
                return node.op
        return ""


def _wrapped(call: str, name: str, parts: Sequence[str], item: str, result: str) -> list[str]:
    if len(call) <= 130:
        return [call]
    return [f"{result} = {name}(", *(f"    {part}," for part in parts), f"){item}"]


def _skipped(node: Node, argument: Argument) -> bool:
    """Say whether a positional argument comes after one that was left at its default."""
    for other in node.arguments:
        if other is argument:
            return False
        if not other.is_explicit:
            return True
    return False


def _kernel(module: _Module, region: Region, slots: Mapping[str, SlotCode], tunables: Tunables) -> str:
    """Add the region's kernel to the module unless an equal one is there; return the name of its launch function."""
    imports, code = split_imports(region.kernel.python)
    for item in imports:
        module.imports[item] = None
    defined = tuple(sorted(tunables.items())) if module.language == "cpp" else ()
    digest = hashlib.sha256(repr((region.kernel.name, [(key, slot.text) for key, slot in slots.items()], defined)).encode()).hexdigest()
    if digest in module.names:
        return module.names[digest]
    taken = set(module.names.values())
    name = region.kernel.name
    number = 2
    while name in taken:
        name = f"{region.kernel.name}_{number}"
        number += 1
    module.names[digest] = name
    if module.language == "triton":
        for slot, generated in slots.items():
            try:
                code = replace_function(code, slot, generated.text)
            except ValueError as error:
                raise DocumentError(f"{region.kernel.source}: {error}") from error
    else:
        module.cpp[name] = translation_unit(region.kernel.cpp, name, tunables, slots, region.kernel.source)
    renames = {other: f"{name}__{other}" for other in _top_level(code)}
    renames["launch"] = name
    text = rename_top_level(code, renames).strip("\n")
    tail = f"\n\n\n{name}_lib = _Library(_KERNELS.run_{name})\n" if module.language == "cpp" else "\n"
    module.kernels[name] = f"\n# {region.kernel.title}\n{text}{tail}"
    return name


def _top_level(code: str) -> list[str]:
    import ast

    names = []
    for item in ast.parse(code).body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef):
            names.append(item.name)
        elif isinstance(item, ast.Assign | ast.AnnAssign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            names += [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return names


def _attribute(path: str) -> str:
    text = "self"
    for part in path.split("."):
        text = f"{text}.{part}" if part.isidentifier() else f'getattr({text}, "{part}")'
    return text


_RESERVED = frozenset(
    [
        "self",
        "torch",
        "triton",
        "tl",
        "False",
        "None",
        "True",
        "and",
        "as",
        "assert",
        "async",
        "await",
        "break",
        "class",
        "continue",
        "def",
        "del",
        "elif",
        "else",
        "except",
        "finally",
        "for",
        "from",
        "global",
        "if",
        "import",
        "in",
        "is",
        "lambda",
        "nonlocal",
        "not",
        "or",
        "pass",
        "raise",
        "return",
        "try",
        "while",
        "with",
        "yield",
    ]
)


def _name(name: str) -> str:
    return f"{name}_" if name in _RESERVED else f"v_{name}"


def _literal(value: Value) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)
