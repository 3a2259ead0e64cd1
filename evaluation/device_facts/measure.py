"""Measure groups in passes until the time is over, arms of a group in turn, and write each group's record the moment it is known."""

from __future__ import annotations

import gc
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from evaluation.device_facts.groups import SCALES, Arm, Group, Setting
from evaluation.device_facts.records import GroupRecord, Samples, append
from evaluation.errors import EvaluationError
from tools.receipts import source_commit

_BLOCK_S = 2e-3
"""Least device time of one timed sample; shorter work is repeated within it."""
_SPARE = 1.3
"""A group is begun only if its longest pass so far, times this, still fits."""


class DeviceLostError(EvaluationError):
    """A kernel faulted and this process can use the device no more."""

    def __init__(self, group: str) -> None:
        super().__init__(f"the device is lost to this process after the group {group!r}")
        self.group = group


class Clock(Protocol):
    """Times asynchronous work."""

    def seconds(self, run: Callable[[], object], repeats: int) -> float:
        """Return the time of so many runs, one after the other."""


class EventClock:
    """Device events; the host runs ahead while the device waits, so that launches of short kernels do not show."""

    def seconds(self, run: Callable[[], object], repeats: int) -> float:
        """Return the time between two events around the runs."""
        import torch

        first, second = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(100_000)
        first.record()
        for _ in range(repeats):
            run()
        second.record()
        second.synchronize()
        return float(first.elapsed_time(second)) * 1e-3


@dataclass(frozen=True)
class Session:
    """What every record of a session says."""

    session: str
    started: str
    seed: int
    environment: Mapping[str, Any]  # Any: JSON


def environment() -> dict[str, Any]:  # Any: JSON
    """Return device, driver and versions; `device` is the processor's architecture where there is no accelerator."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "commit": source_commit(), "device": platform.machine()}
    for name in ("torch", "triton"):
        found[name] = metadata.version(name)
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        found |= {"device": facts.name, "multiprocessors": facts.multi_processor_count, "memory_bytes": facts.total_memory}
        found |= {"l2_bytes": facts.L2_cache_size, "cuda": torch.version.cuda, "driver": _driver()}
    return found


def _driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def measure_group(group: Group, setting: Setting, clock: Clock, chance: random.Random, rounds: int, most_s: float) -> dict[str, Samples]:
    """Return the samples of a group's arms: `rounds` turns, in each of which every arm is measured once, in an order drawn anew.

    Args:
        most_s: No further turn is begun after so long.
    """
    try:
        arms = list(group.build(setting))
    except Exception as error:  # the outside begins here: without the memory or the feature for one group the others are measured
        return {"all": Samples("", (), _message(error))}
    found = {arm.name: Samples(arm.unit, (), reason) for arm in arms if (reason := _failure(arm))}
    working = [arm for arm in arms if arm.name not in found]
    values: dict[str, list[float]] = {arm.name: [] for arm in working}
    repeats = {arm.name: _repeats(arm, clock) for arm in working if arm.sample is None}
    began = time.monotonic()
    for _ in range(rounds):
        if time.monotonic() - began > most_s and all(values.values()):
            break
        for arm in chance.sample(working, len(working)):
            values[arm.name].append(arm.sample() if arm.sample else _value(arm, clock, repeats[arm.name]))
    return {arm.name: found.get(arm.name) or Samples(arm.unit, tuple(values[arm.name])) for arm in arms}


def _failure(arm: Arm) -> str:
    """Return why an arm cannot be measured: it does not compile or run, or is wrong; empty if it can."""
    try:
        if arm.error is not None:
            error = arm.error()
            return "" if error <= arm.tolerance else f"wrong: relative error {error:.3g}, allowed {arm.tolerance:g}"
        arm.run()
        if arm.sample is not None:
            arm.sample()
    except Exception as error:  # the outside begins here: a compiler may refuse one arm
        return _message(error)
    return ""


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:600]


def _repeats(arm: Arm, clock: Clock) -> int:
    """Return how many runs fill a sample."""
    clock.seconds(arm.run, 1)
    return max(1, min(1000, round(_BLOCK_S / max(1e-7, clock.seconds(arm.run, 3) / 3))))


def _value(arm: Arm, clock: Clock, repeats: int) -> float:
    seconds = max(1e-9, clock.seconds(arm.run, repeats) / repeats)
    return arm.work / seconds * SCALES[arm.unit] if arm.unit in SCALES else seconds * 1e6


def measure(
    groups: Sequence[Group],
    setting: Setting,
    session: Session,
    out: Path,
    seconds: float,
    *,
    clock: Clock,
    state: Callable[[], Mapping[str, float]] = dict,
    passes: int = 6,
    rounds: int = 12,
) -> int:
    """Measure groups pass by pass until the time is over or all passes are made; return the number of records written.

    Args:
        groups: In the order of measuring.
        setting: Where.
        session: What the records say of themselves.
        out: A `.jsonl` file that is appended to.
        seconds: Nothing is begun that would end after so long, as far as earlier passes tell.
        clock: Times the work.
        state: Clocks, power and temperature of the device now.
        passes: Most passes over all groups.
        rounds: Samples of an arm in a pass.

    Raises:
        DeviceLostError: A group's kernel faulted; the group's record is written.
    """
    ends, longest, written = time.monotonic() + seconds, dict.fromkeys((group.name for group in groups), 0.0), 0
    chance = random.Random(session.seed)
    for number in range(passes):
        for group in groups:
            if time.monotonic() + _SPARE * longest[group.name] > ends:
                continue
            began = time.monotonic()
            arms = measure_group(group, setting, clock, chance, rounds, most_s=max(0.5, seconds / (2 * len(groups) * 3)))
            spent = time.monotonic() - began
            longest[group.name] = max(longest[group.name], spent if number else spent / 2)  # the first pass compiles, too
            record = GroupRecord(
                group.name,
                number,
                session.session,
                session.started,
                session.seed,
                session.environment,
                arms,
                dict(state()),
                round(spent, 3),
            )
            append(out, record)
            written += 1
            _tell(f"pass {number} {group.name}: {sum(bool(arm.values) for arm in arms.values())} of {len(arms)} arms in {spent:.1f} s")
            gc.collect()
            if not _released(setting):
                raise DeviceLostError(group.name)
    return written


def _released(setting: Setting) -> bool:
    """Give unused memory back; return whether the device still works."""
    if setting.device.startswith("cuda"):
        import torch

        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            return False
    return True


def warm(names: Iterable[str], seconds: float, workers: int) -> dict[str, str]:
    """Compile the kernels of groups in processes beside each other, each running its arms once; return which groups end a process, and how.

    An arm that merely fails is seen again when it is measured.
    """
    ends = time.monotonic() + seconds
    waiting = list(names)
    running: dict[str, subprocess.Popen[bytes]] = {}
    crashed = {}
    while (waiting or running) and time.monotonic() < ends:
        for name, process in list(running.items()):
            if (code := process.poll()) is not None:
                del running[name]
                if code < 0:
                    crashed[name] = f"a process that ran its arms was ended by signal {-code}"
        while waiting and len(running) < workers:
            name = waiting.pop(0)
            command = [sys.executable, "-m", "evaluation.device_facts", "warm", name]
            running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.2)
    for process in running.values():
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return crashed


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
