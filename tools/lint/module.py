"""A candidate's source as rules see it: its Triton kernels, its launches and its host code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_KERNEL_DECORATORS = {"triton.jit", "triton.runtime.jit", "triton.experimental.gluon.jit"}


@dataclass(frozen=True)
class Kernel:
    """One `@triton.jit` function: a kernel or a device function called by one."""

    name: str
    node: ast.FunctionDef
    constexprs: frozenset[str]
    """Parameters annotated `tl.constexpr`."""
    decorators: tuple[ast.expr, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        arguments = self.node.args
        return tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


@dataclass(frozen=True)
class Launch:
    """One `kernel[grid](...)` in host code."""

    kernel: str
    grid: ast.expr
    call: ast.Call

    def keyword(self, name: str) -> ast.expr | None:
        """Return the expression passed under a name, None if it is not passed."""
        return next((keyword.value for keyword in self.call.keywords if keyword.arg == name), None)


@dataclass(frozen=True)
class Module:
    """A parsed source."""

    tree: ast.Module
    lines: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    """Local name to the dotted name that an import gives it: `tl` to `triton.language`."""
    constants: dict[str, object] = field(default_factory=dict)
    """Module-level names bound once to a literal, plain or wrapped in `tl.constexpr`."""
    constexpr_globals: frozenset[str] = frozenset()
    """Those of them that are `tl.constexpr`, which kernels may read."""
    kernels: dict[str, Kernel] = field(default_factory=dict)
    launches: tuple[Launch, ...] = ()

    def dotted(self, node: ast.expr) -> str:
        """Return the full dotted name of an expression (`tl.load` gives `triton.language.load`), empty if it is not a name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)])

    def language_call(self, node: ast.AST) -> str:
        """Return `load` for a call of `tl.load`, `extra.libdevice.tanh` for one of libdevice; empty for any other node."""
        if not isinstance(node, ast.Call):
            return ""
        name = self.dotted(node.func)
        return name.removeprefix("triton.language.") if name.startswith("triton.language.") else ""

    def host_nodes(self) -> Iterator[ast.AST]:
        """Yield every node outside the kernels."""
        skip = {id(kernel.node) for kernel in self.kernels.values()}
        todo: list[ast.AST] = [self.tree]
        while todo:
            node = todo.pop()
            if id(node) in skip:
                continue
            yield node
            todo.extend(ast.iter_child_nodes(node))


def parse(source: str) -> Module:
    """Parse a Python source.

    Raises:
        SyntaxError: It is not Python; the error has the line.
    """
    tree = ast.parse(source)
    module = Module(tree=tree, lines=tuple(source.splitlines()), names=_imports(tree), constants=_constants(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_is_jit(module, decorator) for decorator in node.decorator_list):
            module.kernels[node.name] = Kernel(node.name, node, _constexprs(module, node), tuple(node.decorator_list))
    return replace(module, launches=tuple(_launches(module)), constexpr_globals=frozenset(_constexpr_globals(module)))


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """Return the expression passed for a parameter, by position or by keyword; None if it is not passed."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position < len(call.args) and not any(isinstance(item, ast.Starred) for item in call.args[: position + 1]):
        return call.args[position]
    return None


def is_none(node: ast.expr | None) -> bool:
    """Tell whether an argument is absent or the literal None."""
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _imports(tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _constants(tree: ast.Module) -> dict[str, object]:
    found: dict[str, object] = {}
    twice: set[str] = set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []
        for target in targets:
            if not isinstance(target, ast.Name):
                continue
            value = getattr(node, "value", None)
            if (
                isinstance(value, ast.Call)
                and len(value.args) == 1
                and isinstance(value.func, ast.Attribute)
                and value.func.attr == "constexpr"
            ):
                value = value.args[0]
            if target.id in found or target.id in twice or isinstance(node, ast.AugAssign):
                found.pop(target.id, None)
                twice.add(target.id)
            elif isinstance(value, ast.Constant):
                found[target.id] = value.value
    return found


def _constexpr_globals(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        is_wrapped = isinstance(getattr(node, "value", None), ast.Call) and module.dotted(node.value.func).endswith(".constexpr")  # type: ignore[attr-defined]  # guarded by getattr
        is_annotated = isinstance(node, ast.AnnAssign) and module.dotted(node.annotation).endswith(".constexpr")
        if is_wrapped or is_annotated:
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_jit(module: Module, decorator: ast.expr) -> bool:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return module.dotted(node) in _KERNEL_DECORATORS


def _constexprs(module: Module, node: ast.FunctionDef) -> frozenset[str]:
    found = set()
    for parameter in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        annotation = parameter.annotation
        if annotation is None:
            continue
        text = annotation.value if isinstance(annotation, ast.Constant) else module.dotted(annotation)
        if isinstance(text, str) and text.split(".")[-1] == "constexpr":
            found.add(parameter.arg)
    return frozenset(found)


def _launches(module: Module) -> Iterator[Launch]:
    for node in module.host_nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            name = module.dotted(node.func.value)
            if name in module.kernels:
                yield Launch(name, node.func.slice, node)
