"""One timed block of calls, the same code for candidates and baselines. Imports torch.

Before each call one element of one input changes ("poke"), and calls rotate over several input sets at different addresses, so that a stored
output is wrong for the next call. The last output is kept for verification; how many calls a block has is known only when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from tools.worker.devices import Device, flat_bits
from tools.worker.tensors import DTYPES, map_tensors, tensor_specs, tensors_of

Plan = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]", "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]  # Any: array shapes


def plan_block(calls: int, seed: int, pokable: list[list[int]]) -> Plan:
    """Return, for each call, the slot, the pokable input, the storage index and the value as a position in [0, 1).

    Args:
        calls: Calls in the block.
        seed: Secret of the block.
        pokable: For each slot, the element counts of its pokable tensors (equal for all slots of a workload).
    """
    generator = np.random.default_rng(seed)
    slots = generator.integers(0, len(pokable), size=calls)
    if not pokable[0]:
        return slots, np.full(calls, -1), np.zeros(calls, dtype=np.int64), np.zeros(calls)
    which = generator.integers(0, len(pokable[0]), size=calls)
    sizes = np.asarray(pokable[0], dtype=np.int64)[which]
    return slots, which, (generator.random(calls) * sizes).astype(np.int64), generator.random(calls)


def poke_values(entry: dict[str, Any], positions: np.ndarray[Any, Any]) -> torch.Tensor:  # Any: JSON; array shapes
    """Return the values that positions in [0, 1) stand for: between `low` and `high`, or one of `choices`."""
    rule = entry["poke"]
    if "choices" in rule:
        choices = np.asarray(rule["choices"], dtype=np.float64)
        values = choices[(positions * len(choices)).astype(np.int64)]
    else:
        values = rule["low"] + positions * (rule["high"] - rule["low"])
    return torch.from_numpy(np.ascontiguousarray(values)).to(DTYPES[entry["dtype"]])


class TimedSlots:
    """Input sets of one workload on the device, with the means to change them.

    Where the operator works in place, every call gets its inputs back first (`restore`): pokes then go to the originals, which are copied over. On the CPU
    that copy is part of a block's time, for every arm alike, so a ratio can only come out nearer to 1 than it is.
    """

    def __init__(
        self,
        device: Device,
        specs: list[dict[str, Any]],
        arguments: list[list[Any]],
        *,
        restore: bool = False,
        layout: Sequence[Sequence[int]] = (),
    ) -> None:  # Any: JSON; argument trees
        """Take the input sets; `layout`: strides of the reference's outputs, in which (or contiguous) every timed call has to deliver."""
        self._device = device
        self._layout = [tuple(strides) for strides in layout]
        self.arguments = arguments
        originals = [map_tensors(args, torch.clone) for args in arguments] if restore else arguments
        self._restored = (
            [list(zip(tensors_of(args), tensors_of(kept), strict=True)) for args, kept in zip(arguments, originals, strict=True)]
            if restore
            else []
        )
        self.entries = [entry for entry in tensor_specs(specs[0]) if "poke" in entry]
        self.pokable: list[list[torch.Tensor]] = []
        for spec, args in zip(specs, originals, strict=True):
            self.pokable.append([tensor for tensor, entry in zip(tensors_of(args), tensor_specs(spec), strict=True) if "poke" in entry])

    def sizes(self) -> list[list[int]]:
        """Return the element counts of the pokable tensors per slot."""
        return [[tensor.numel() for tensor in tensors] for tensors in self.pokable]

    def run(self, model: Callable[..., Any], calls: int, seed: int, ahead_ms: float = 0.0) -> tuple[list[float], Any]:
        """Run one block and return the device's per-call times in ms (may be empty) and the last output; `ahead_ms` as for `Device.timed_loop`."""
        slots, which, indices, positions = plan_block(calls, seed, self.sizes())
        pokers = [
            [self._device.poker(tensor, poke_values(entry, positions)) for tensor, entry in zip(tensors, self.entries, strict=True)]
            for tensors in self.pokable
        ]
        slot_of, which_of, index_of = slots.tolist(), which.tolist(), indices.tolist()

        def before(number: int) -> None:
            if which_of[number] >= 0:
                pokers[slot_of[number]][which_of[number]](number, index_of[number])
            if self._restored:
                for tensor, kept in self._restored[slot_of[number]]:
                    tensor.copy_(kept)

        def step_for(args: list[Any]) -> Callable[[], Any]:
            return lambda: self._laid_out(model(*args))

        ready = [step_for(args) for args in self.arguments]
        with torch.no_grad():
            return self._device.timed_loop([ready[slot] for slot in slot_of], before, ahead_ms)

    def _laid_out(self, result: Any) -> Any:  # Any: trees of tensors
        """Return a result whose tensors lie as the reference's do: a view in another order would leave to the caller the work of bringing it into order."""
        if isinstance(result, torch.Tensor):
            return _settled(result, self._layout[0] if self._layout else ())
        strides = iter(self._layout)
        return map_tensors(result, lambda tensor: _settled(tensor, next(strides, ()))) if self._layout else result

    def sweep(self, model: Callable[..., Any], draws: Iterable[list[torch.Tensor]], store: Callable[[int, Any], None]) -> None:
        """Call once on each of several draws that nobody has seen, written into the slots' own memory, and hand every output on at once.

        Args:
            model: What is called.
            draws: For each call the values of all tensors of the arguments, on the host.
            store: Takes the number of a call and its output.
        """
        with torch.no_grad():
            for number, values in enumerate(draws):
                arguments = self.arguments[number % len(self.arguments)]
                for target, source in zip(tensors_of(arguments), values, strict=True):
                    fill(target, source)
                store(number, model(*arguments))

    def calls_in_place(self, model: Callable[..., Any], draws: Sequence[list[Any]]) -> list[Any]:  # Any: argument trees; trees of tensors
        """Call once on each of several draws where they lie, and return all outputs in the layout that a timed call delivers."""
        with torch.no_grad():
            return [self._laid_out(model(*arguments)) for arguments in draws]


def fill(target: torch.Tensor, source: torch.Tensor) -> None:
    """Write values into a tensor; of a dimension that is expanded (stride 0) the first element stands for all."""
    for dimension, stride in enumerate(target.stride()):
        if stride == 0 and target.shape[dimension] > 1:
            target, source = target.narrow(dimension, 0, 1), source.narrow(dimension, 0, 1)
    target.copy_(source)


def _settled(tensor: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    return tensor if not strides or tensor.stride() == strides or tensor.is_contiguous() else tensor.contiguous()


def replay(
    slot_tensors: list[torch.Tensor], entries: list[dict[str, Any]], slot: int, num_slots: int, history: list[tuple[int, int]]
) -> None:  # Any: JSON
    """Bring freshly generated tensors of one slot to the state that they had in the last call of a series of blocks.

    Args:
        slot_tensors: The pokable tensors of the slot, unpoked; changed in place.
        entries: Their specifications with poke rules.
        slot: Which slot it is.
        num_slots: How many slots there are.
        history: (calls, seed) of every block so far, in order.
    """
    sizes = [[tensor.numel() for tensor in slot_tensors]] * num_slots
    for calls, seed in history:
        slots, which, indices, positions = plan_block(calls, seed, sizes)
        for number, (tensor, entry) in enumerate(zip(slot_tensors, entries, strict=True)):
            mine = np.flatnonzero((slots == slot) & (which == number))
            if not len(mine):
                continue
            _, last_from_end = np.unique(indices[mine][::-1], return_index=True)  # of several pokes of one element the last one counts
            kept = mine[::-1][last_from_end]
            values = poke_values(entry, positions[kept]).to(tensor.device)
            tensor.as_strided((tensor.numel(),), (1,))[torch.from_numpy(indices[kept]).to(tensor.device)] = values


def last_slot(calls: int, seed: int, sizes: list[list[int]]) -> int:
    """Return the slot that the last call of a block uses."""
    return int(plan_block(calls, seed, sizes)[0][-1])


def raw_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements of a tensor as integers in logical order, for exact comparison (NaN equals itself)."""
    return flat_bits(tensor.contiguous())
