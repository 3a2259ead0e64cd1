"""Places where one evaluation at a time runs: an accelerator, or a share of the processor's cores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tools.errors import MachineError


@dataclass(frozen=True)
class Slot:
    """One place. The default is the whole machine as this process sees it."""

    accelerator: str = ""
    """What `CUDA_VISIBLE_DEVICES` becomes for its processes (an index or a uuid); empty: as it is."""
    cores: tuple[int, ...] = ()
    """Cores that its processes are bound to; empty: all that this process may use."""

    @property
    def name(self) -> str:
        """A short name for messages."""
        if self.accelerator:
            return f"accelerator {self.accelerator}"
        return f"cores {','.join(map(str, self.cores))}" if self.cores else "this machine"


def find_slots(target: str, count: int = 0) -> list[Slot]:
    """Return the slots of this machine for a target.

    Args:
        target: `cpu…` shares the cores out evenly; anything else gives each visible NVIDIA device a slot.
        count: How many; 0: one per accelerator, one for all cores.

    Raises:
        MachineError: There are not so many.
    """
    if target.partition(":")[0] == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        if count > len(cores):
            raise MachineError(f"{count} slots need as many cores; this process may use {len(cores)}")
        return [Slot(cores=tuple(cores[number::count])) for number in range(count)] if count > 1 else [Slot()]
    devices = visible_accelerators()
    if len(devices) < max(count, 1):
        raise MachineError(f"{max(count, 1)} slots need as many NVIDIA devices; {len(devices)} are visible here")
    return [Slot(accelerator=device) for device in devices[: count or len(devices)]]


def visible_accelerators() -> Sequence[str]:
    """Return the indices of the NVIDIA devices that this process may use, without initialising CUDA here."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip() and part.strip() != "-1"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        text = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in text.stdout.splitlines() if line.strip()]
