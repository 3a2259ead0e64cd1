"""From the text a user gives (`local`, a URL, `ray`, `ray:ADDRESS`) to the evaluator it means."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.errors import OptionError
from tools.slots import find_slots
from tools.targets.registry import is_simulated

if TYPE_CHECKING:
    from agents.serving.client import RemoteEvaluator
    from agents.serving.pool import EvaluatorPool
    from tools.evaluator import LocalEvaluator
    from tools.targets.simulation import SimulatedEvaluator


def open_evaluator(
    where: str, home: Path, target: str, num_slots: int = 1
) -> AbstractContextManager[LocalEvaluator | EvaluatorPool | RemoteEvaluator | SimulatedEvaluator]:
    """Return the evaluator, as a context manager: for a simulated target one that simulates.

    Args:
        where: `local`, `http://HOST:PORT`, `ray`, or `ray:ADDRESS`; `local` for a simulated target, which needs no device.
        home: State directory.
        target: Exact target, which decides what a slot is.
        num_slots: Evaluations at a time.

    Raises:
        OptionError: `where` is none of these, or its package is missing.
        MachineError: There are not so many slots, or no such cluster.
    """
    if is_simulated(target):
        if where != "local":
            raise OptionError(f"{target} is simulated on this machine: leave out --evaluator {where}")
        from tools.targets.simulation import SimulatedEvaluator

        if num_slots == 1:
            return SimulatedEvaluator(home)
        from agents.serving.pool import EvaluatorPool

        return EvaluatorPool([SimulatedEvaluator(home) for _ in range(num_slots)])
    if where == "local":
        if num_slots == 1:
            from tools.evaluator import LocalEvaluator

            return LocalEvaluator(home)
        from agents.serving.pool import local_pool

        return local_pool(home, find_slots(target, num_slots))
    if is_far(where):
        from agents.serving.client import RemoteEvaluator

        return RemoteEvaluator(where, home)
    name, _, address = where.partition(":")
    if name == "ray":
        from agents.serving.ray_pool import accelerator_pool, ray_pool

        if address and target.partition(":")[0] != "cpu":  # whose accelerators may be elsewhere
            return accelerator_pool(home, count=num_slots, address=address)
        return ray_pool(home, find_slots(target, num_slots), address=address)
    raise OptionError(f"unknown evaluator {where!r}; known: local, http://HOST:PORT, ray, ray:ADDRESS")


def is_far(where: str) -> bool:
    """True if candidates are measured by a service elsewhere, so that this machine needs no device."""
    return where.startswith(("http://", "https://"))
