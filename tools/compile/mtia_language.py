"""What Triton on MTIA adds to the language, as far as it is public, for Triton's interpreter: `install()` makes kernels that use it run here.

| in a kernel | what it does on the chip | what it does here |
|---|---|---|
| `tl.extra.libdevice.exp`, `log`, `tanh`, `sigmoid`, `gelu` | lookup tables of the SIMD engine: fast, less exact | exact in float32, or by tables (`use_tables`) |
| `tl.load(…, direction="down" or "right")` | one read is broadcast to the elements below or to the right | a plain load, noted in the program's sequence |
| `tl.store(…, direction=…)` | partial results go to the neighbour and are added up | added to memory, noted |
| `tl.consume()` | takes a broadcast that this program does not need | noted |
| `tl.pe_runtime_barrier()` | all elements wait for each other, once each | noted |
| `tl.copy(x)` | a copy between the two cores of an element | a copy |
| launch options `cb_multiplier` (1 to 8), `use_dual_core` | depth of circular buffers; one core for transfers, one for arithmetic | dropped |

`problems()` says what the sequences show: programs that take part differently in directional accesses block each other on the chip (rule M16).
The names are those of KernelEvolve (arXiv 2512.23236, sections 3.2 and 3.4); signatures beyond them, the size of the tables (256 entries, linear between them) and their ranges are
assumptions, since none is public. Programs run one after the other here: code after a barrier that reads what another program wrote before it is not what the chip does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DIRECTIONS = ("down", "right")
TABLE_ENTRIES = 256
_SPAN = 8.0
"""Tables of `sigmoid`, `tanh` and `gelu` cover -8 to 8; beyond they continue with their limits."""

_state: dict[str, Any] = {"tables": False, "used": set(), "events": {}}


def install() -> None:
    """Add the extensions to `triton.language` in this process, for good. Needs `TRITON_INTERPRET=1` before Triton is imported."""
    import triton.language as tl
    import triton.language.extra.libdevice as libdevice

    if getattr(tl, "consume", None) is not None:
        return
    for name in FUNCTIONS:
        setattr(libdevice, name, functools.partial(_function, name))
    tl.extra.libdevice = libdevice
    tl.load = tl.core.load = _directional(tl.core.load, _noted)
    tl.store = tl.core.store = _directional(tl.core.store, _accumulated)
    tl.consume = lambda: _note("consume")
    tl.pe_runtime_barrier = lambda: _note("barrier")
    tl.copy = _copy


def use_tables(on: bool) -> None:
    """Compute the libdevice functions by tables from now on, or exactly."""
    _state["tables"] = on


def functions_used() -> frozenset[str]:
    """Return the libdevice functions that kernels have called since `forget`."""
    return frozenset(_state["used"])


def forget() -> None:
    """Begin to note anew."""
    _state["used"], _state["events"] = set(), {}


def problems() -> list[str]:
    """Return what is wrong with the sequences of directional accesses and barriers noted since `forget`, one sentence each."""
    sequences: Mapping[tuple[int, ...], tuple[str, ...]] = {place: tuple(events) for place, events in _state["events"].items()}
    found = []
    if sequences:
        first_place, first = next(iter(sequences.items()))
        other = next((place for place, events in sequences.items() if not _agree(events, first)), None)
        if other is not None:
            found.append(
                f"program {other} runs {', '.join(sequences[other]) or 'nothing'} where program {first_place} runs {', '.join(first) or 'nothing'}: they block each other"
            )
        if any(events.count("barrier") > 1 for events in sequences.values()):
            found.append("a program meets more than one barrier: there is one per launch")
    return found


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two programs take part in the same accesses in the same order; a `consume` stands for any broadcast."""
    return len(one) == len(other) and all(
        a == b or {a.partition(" ")[0], b.partition(" ")[0]} == {"consume", "load"} for a, b in zip(one, other, strict=True)
    )


def start_program(place: tuple[int, ...]) -> None:
    """Note that a program begins; its sequence is empty until it says otherwise."""
    _state["place"] = place
    _state["events"].setdefault(place, [])


def table(name: str) -> Callable[[Any], Any]:  # Any: arrays
    """Return a function of the SIMD engine by its table: 256 entries, linear between them.

    `exp` and `log` reduce their argument to one octave first, exactly; the others look up -8 to 8.
    """
    import numpy as np

    if name == "exp":
        grid = np.linspace(0.0, math.log(2.0), TABLE_ENTRIES)
        entries = np.exp(grid)

        def exp(x: Any) -> Any:
            octave = np.floor(x / math.log(2.0))
            return np.interp(x - octave * math.log(2.0), grid, entries) * np.exp2(octave)

        return exp
    if name == "log":
        grid = np.linspace(0.5, 1.0, TABLE_ENTRIES)
        entries = np.log(grid)

        def log(x: Any) -> Any:
            mantissa, exponent = np.frexp(x)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(x > 0, np.interp(mantissa, grid, entries) + exponent * math.log(2.0), np.log(x))

        return log
    grid = np.linspace(-_SPAN, _SPAN, TABLE_ENTRIES)
    entries = FUNCTIONS[name](grid)
    above: Callable[[Any], Any] = (lambda x: x) if name == "gelu" else np.ones_like

    def looked_up(x: Any) -> Any:
        return np.where(x > _SPAN, above(x), np.where(x < -_SPAN, -1.0 if name == "tanh" else 0.0, np.interp(x, grid, entries)))

    return looked_up


def _exact(name: str, x: Any) -> Any:  # Any: arrays
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if name == "sigmoid":
            return 1.0 / (1.0 + np.exp(-x))
        if name == "gelu":
            return x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))
        return getattr(np, name)(x)


FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    name: functools.partial(_exact, name) for name in ("exp", "log", "tanh", "sigmoid", "gelu")
}
"""The libdevice functions, exactly."""


def _function(name: str, x: Any) -> Any:  # Any: triton tensors
    from triton.runtime.interpreter import TensorHandle

    _state["used"].add(name)
    data = x.handle.data
    result = (table(name) if _state["tables"] else FUNCTIONS[name])(data.astype("float64")).astype(data.dtype)
    return type(x)(TensorHandle(result, x.dtype.scalar), x.type)


def _copy(x: Any) -> Any:  # Any: triton tensors
    from triton.runtime.interpreter import TensorHandle

    return type(x)(TensorHandle(x.handle.data.copy(), x.dtype.scalar), x.type)


def _directional(access: Callable[..., Any], directed: Callable[..., Any]) -> Callable[..., Any]:  # Any: triton's own arguments
    """Let `tl.load` or `tl.store` take a direction."""

    @functools.wraps(access)
    def extended(*arguments: Any, direction: str | None = None, **options: Any) -> Any:
        if direction is None:
            return access(*arguments, **options)
        if direction not in DIRECTIONS:
            raise ValueError(f"no direction {direction!r}; known: {', '.join(DIRECTIONS)}")
        return directed(access, direction, *arguments, **options)

    return extended


def _noted(access: Callable[..., Any], direction: str, *arguments: Any, **options: Any) -> Any:  # Any: triton's own arguments
    _note(f"load {direction}")
    return access(*arguments, **options)


def _accumulated(
    access: Callable[..., Any], direction: str, pointer: Any, value: Any, mask: Any = None, **options: Any
) -> Any:  # Any: triton's
    import triton.language as tl

    _note(f"store {direction}")
    semantic = options.get("_semantic")
    before = tl.core.load.__wrapped__(pointer, mask, 0.0 if mask is not None else None, _semantic=semantic)
    return access(pointer, before.__add__(value, _semantic=semantic), mask, **options)


def _note(event: str) -> None:
    _state["events"].setdefault(_state.get("place", ()), []).append(event)
