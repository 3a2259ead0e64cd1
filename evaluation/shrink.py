"""Make a problem small: halve the integers of its size constants while it stays valid, until the interpreter can run it.

Changed are whole-number literals from `LEAST` on in assignments at the top of the file and in `get_inputs` and `get_init_inputs`; the model's own code is left alone.
What is valid is found by running construction, inputs and forward on tensors without memory.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 16
"""Smaller literals are windows, strides, axes and counts; sizes end between half of it and it."""
_GENERATORS = frozenset({"get_inputs", "get_init_inputs"})


@dataclass(frozen=True)
class Cost:
    """What running a problem once takes."""

    elements: float
    """Elements that its operators write."""
    flops: float
    """Of matrix products and convolutions."""

    def over(self, budget: Cost) -> float:
        """Return by what factor it exceeds a budget; 1 or less: it fits."""
        return max(self.elements / budget.elements, self.flops / budget.flops)


BUDGET = Cost(elements=2.5e5, flops=3e8)
"""About a minute in Triton's interpreter on one core."""


@dataclass(frozen=True)
class Shrunken:
    """A problem made small."""

    source: str
    cost: Cost
    fits: bool
    """False where it stayed valid only above the budget."""


def shrink(source: str, budget: Cost = BUDGET, *, seconds: float = 60.0) -> Shrunken:
    """Return the smallest valid form found within the time. Runs the problem's code in this process.

    Raises:
        Exception: What the problem raises as it is.
    """
    literals = tuple(_literals(ast.parse(source)))
    values = [item.value for item in literals]
    best = cost_of(source)
    deadline = time.monotonic() + seconds
    dead: set[tuple[int, ...]] = set()
    while best.over(budget) > 1 and time.monotonic() < deadline:
        found: tuple[Cost, list[int]] | None = None
        for move in _moves(values):
            if move in dead or time.monotonic() > deadline:
                continue
            after = [_half(value) if index in move else value for index, value in enumerate(values)]
            try:
                cost = cost_of(_written(source, literals, after))
            except Exception:  # the problem's own code decides what is valid
                dead.add(move)
                continue
            if cost.over(budget) >= best.over(budget) * 0.99:
                dead.add(move)
            elif found is None or cost.over(budget) < found[0].over(budget):
                found = cost, after
        if found is None:
            break
        if found[1] != values:
            dead = {move for move in dead if all(values[index] == found[1][index] for index in move)}
        best, values = found
    return Shrunken(_written(source, literals, values), best, best.over(budget) <= 1)


@dataclass(frozen=True)
class _Literal:
    line: int
    start: int
    end: int
    value: int


def _literals(tree: ast.Module) -> Iterator[_Literal]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) or (isinstance(statement, ast.FunctionDef) and statement.name in _GENERATORS):
            for node in ast.walk(statement):
                if isinstance(node, ast.Constant) and type(node.value) is int and node.value >= LEAST and node.end_col_offset is not None:
                    yield _Literal(node.lineno, node.col_offset, node.end_col_offset, node.value)


def _moves(values: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield which literals to halve together: all, those alike, each alone."""
    large = [index for index, value in enumerate(values) if value >= LEAST]
    yielded = set()
    groups = [tuple(large)] if len(large) > 1 else []
    groups += [tuple(index for index in large if values[index] == value) for value in dict.fromkeys(values[index] for index in large)]
    groups += [(index,) for index in large]
    for group in groups:
        if group and group not in yielded:
            yielded.add(group)
            yield group


def _half(value: int) -> int:
    """Return about half of a value: even stays divisible, odd stays odd."""
    return value // 2 if value % 2 == 0 else (value // 2) | 1


def _written(source: str, literals: Sequence[_Literal], values: Sequence[int]) -> str:
    lines = source.split("\n")
    for literal, value in sorted(zip(literals, values, strict=True), key=lambda item: (item[0].line, -item[0].start)):
        text = lines[literal.line - 1].encode()
        lines[literal.line - 1] = (text[: literal.start] + str(value).encode() + text[literal.end :]).decode()
    return "\n".join(lines)


def cost_of(source: str) -> Cost:
    """Run a problem on tensors without memory and count.

    Raises:
        Exception: What the problem raises.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    from agents.coders.library.capture_worker import namespace_of

    class Count(TorchDispatchMode):  # type: ignore[misc] # torch gives this class no type
        elements = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:  # Any: torch's own
            result = func(*args, **(kwargs or {}))
            self.elements += sum(item.numel() for item in tree_leaves(result) if isinstance(item, torch.Tensor))
            return result

    namespace = namespace_of(source)  # the caller gives us a process of our own for this
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        arguments = namespace["get_init_inputs"]() if "get_init_inputs" in namespace else []
        model = namespace["Model"](*arguments)
        inputs = namespace["get_inputs"]()
        taken = sum(item.numel() for item in tree_leaves(inputs) if isinstance(item, torch.Tensor))
        with FlopCounterMode(display=False) as flops, Count() as count:
            model(*inputs)
    return Cost(float(count.elements + taken), float(flops.get_total_flops()))
