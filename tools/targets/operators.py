"""What the MTIA model says of PyTorch's operators: each as one well-shaped kernel that reads its inputs once and writes its output once.

This prices the baseline of a simulated search, the reference operator by operator, and what a candidate leaves to PyTorch beside its kernels, by the same rule.
It is the best that a library could do without fusing: tables for functions, every operand read once, all processing elements busy. A gain over it is no artefact of a bad library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tools.targets.base import Limit
from tools.targets.mtia_model import Step, Work

_TILE = (128, 128, 64)
_INSTRUCTIONS = 4.0
_LEAST_ELEMENTS = 1024
"""A program has at least so many elements: small tensors keep few processing elements busy."""


@dataclass(frozen=True)
class Operator:
    """One call of an operator of PyTorch, by its sizes."""

    name: str
    """For example `aten.mm.default`."""
    loaded_bytes: float
    stored_bytes: float
    elements: float
    """Of its largest tensor."""
    flops: float = 0.0
    """Of products; 0 without any."""
    gathered: float = 0.0
    """Rows that are fetched through an index."""
    element_bytes: int = 4
    is_known: bool = True
    """False: what it computes is not known, so that a price from its bytes alone may be far too low."""
    is_movement: bool = False
    """True: it copies or fills, and computes nothing."""


def work_of_operator(item: Operator, limits: Mapping[str, Limit]) -> Work:
    """Return an operator as a launch of the model."""
    most = int(limits["processing_elements"].value)
    tile_flops = 2.0 * math.prod(_TILE)
    tiles = item.flops / tile_flops
    programs = max(1, min(most, math.ceil(tiles) if tiles else math.ceil(item.elements / _LEAST_ELEMENTS)))
    moved = item.loaded_bytes + item.stored_bytes
    block = limits["local_memory_bytes"].value / 4
    steps = max(1, math.ceil(tiles / programs) if tiles else math.ceil(moved / programs / block))
    turns = programs * steps
    step = Step(
        loaded_bytes=item.loaded_bytes / turns,
        stored_bytes=item.stored_bytes / turns,
        transfers=2.0,
        dot=_TILE if tiles else None,
        element_bytes=item.element_bytes,
        simd_ops=0.0 if tiles or item.is_movement else item.elements / turns,
        gathered=item.gathered / turns,
        instructions=_INSTRUCTIONS,
    )
    return Work(item.name, programs, steps, step, max(moved, 1.0))
