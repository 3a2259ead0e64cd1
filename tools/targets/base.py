"""What a target is: the chip and toolchain that a candidate is built for.

A target answers from documents (`limits`), from source text (`lint`) and from compilers (`compile`). What needs the device itself (checking values, timing)
is the evaluator's; `TargetInfo.torch_device` and `TargetInfo.evidence` tell it whether and where it can run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tools.types import Candidate, Evidence, Problem

Severity = Literal["error", "warning", "performance"]
"""`error`: it will not compile, or is wrong everywhere; `warning`: a risk; `performance`: legal and slow."""

FAMILIES = {"cuda": "nvidia", "rocm": "amd", "mtia": "mtia", "cpu": "cpu"}
"""Toolchain (the part of a target's name before the colon) to the vendor family that documents are filed under."""


@dataclass(frozen=True)
class Limit:
    """One number about a chip, as its document states it."""

    value: float
    unit: str
    """For example `bytes`, `GB/s`, `FLOP/s`, `threads`, `1` for a plain count."""
    source: str
    """Where the number comes from: manual and page, paper and table, or the arithmetic."""
    trust: str
    """`measured`, `documented`, `derived` or `unverified`."""


@dataclass(frozen=True)
class TargetInfo:
    """What a target is and what it can prove on this machine."""

    name: str
    """Resolved name, for example `cuda:sm_90` for `cuda`."""
    family: str
    """`nvidia`, `amd`, `mtia` or `cpu`."""
    torch_device: Literal["cuda", "cpu"] | None
    """The torch device type that candidates for it run on; None if torch has none here in public."""
    evidence: Evidence
    """The strongest evidence an evaluation can have on this machine."""
    summary: str
    """One sentence for a person: chip, what is present here."""
    document: str = ""
    """Path of the chip's document relative to `docs/`."""


@dataclass(frozen=True)
class LintFinding:
    """One rule that fired on one line."""

    rule: str
    """Rule id, for example `L02`."""
    line: int
    """Line in the candidate's source, from 1; 0 if it concerns the whole source."""
    severity: Severity
    message: str
    """What is wrong here, with the names in the source."""
    fix: str
    """What to do instead."""
    why: str
    """Why the rule exists, in one sentence."""
    document: str = ""
    """Path below `docs/`, with `#heading` where there is one, of the knowledge behind the rule."""

    def __str__(self) -> str:
        return f"{self.rule} line {self.line}: {self.message}; {self.fix}"


@dataclass(frozen=True)
class KernelResources:
    """What one kernel, specialised as it is launched, needs on one target; read from the binary, nothing ran."""

    kernel: str
    """Name of the function in the source."""
    specialisation: str
    """Argument types and constexprs as text, for telling apart several launches of one kernel."""
    num_warps: int
    shared_bytes: int
    """Shared memory (LDS) per block, in bytes."""
    registers: int | None = None
    """32-bit registers per thread (NVIDIA) or vector registers per lane, arch and accumulation together (AMD)."""
    spill_bytes: int | None = None
    """Bytes per thread that went to local memory (scratch); 0 is good."""
    occupancy_fraction: float | None = None
    """Resident warps / the most the multiprocessor can hold, 0 to 1, by the limits of the chip's document."""
    limiter: str = ""
    """What caps occupancy: `registers`, `shared_memory`, `warps` or `blocks`."""
    mma: tuple[str, ...] = ()
    """Kinds of matrix instruction present: `mma.sync`, `wgmma`, `tcgen05`, `mfma`; empty: no matrix unit is used."""
    load_vector_bytes: int | None = None
    """Widest global load of one thread, in bytes."""
    narrowest_load_bytes: int | None = None
    """Narrowest global load of one thread, in bytes."""
    binary_bytes: int | None = None


@dataclass(frozen=True)
class LaunchRecord:
    """One launch as host code made it: what each parameter of the kernel gets."""

    kernel: str
    arguments: Mapping[str, Any]  # Any: JSON; tensors as {dtype, shape, stride}, tuples as lists, the rest as it is
    constexprs: tuple[str, ...]
    """Parameters that are compile-time constants."""
    options: Mapping[str, Any]  # Any: JSON; num_warps and the like
    grid: tuple[int, ...]

    @property
    def programs(self) -> int:
        """How many programs the grid starts."""
        return math.prod(self.grid)


@dataclass(frozen=True)
class TimeEstimate:
    """How long a model says that one launch takes. Simulated: good for ranking where intervals do not overlap, not for absolute times."""

    kernel: str
    low_us: float
    """With every constant that is not public at its favourable end."""
    value_us: float
    high_us: float
    """With every constant that is not public at its unfavourable end."""
    bound_by: str
    """The term that wins: `dma`, `dot`, `vector`, `local_memory`, `issue`, `gather` or `launch`."""
    counters: Mapping[str, float]
    """Utilisation of each unit (0 to 1), bytes per level, waves and load balance."""

    def __post_init__(self) -> None:
        if not 0 < self.low_us <= self.value_us <= self.high_us:
            raise ValueError(f"an estimate must be positive and ordered, got {self.low_us!r} <= {self.value_us!r} <= {self.high_us!r}")


@dataclass(frozen=True)
class EmittedStage:
    """One kernel of one launch as text at one stage of the compiler."""

    kernel: str
    specialisation: str
    """Argument types, constexprs and options of the launch."""
    stage: str
    text: str


@dataclass(frozen=True)
class CompileReport:
    """Outcome of compiling a candidate for a target without running it."""

    target: str
    status: Literal["compiled", "error", "timeout", "nothing_to_compile"]
    kernels: tuple[KernelResources, ...] = ()
    error: str = ""
    """The compiler's message, digested; empty if compiled."""
    warnings: tuple[str, ...] = ()
    """For example a kernel that needs more shared memory than the target has is an error; spills are a warning."""
    seconds: float = 0.0
    evidence: Evidence = Evidence.COMPILED
    versions: Mapping[str, str] = field(default_factory=dict)
    launches: tuple[LaunchRecord, ...] = ()
    """The launches behind it, in order, each different one once."""
    estimates: tuple[TimeEstimate, ...] = ()
    """Simulated times of the launches, where the target has a model."""
    emitted: tuple[EmittedStage, ...] = ()
    """What was asked to be emitted."""


class Target(Protocol):
    """One chip with its toolchain. Stateless and cheap to make; every method may be called at any time, from any thread."""

    def describe(self) -> TargetInfo:
        """Say what it is and which evidence it can give on this machine."""

    def limits(self) -> Mapping[str, Limit]:
        """Return the chip's numbers from its document.

        Raises:
            ProfileError: The document lacks a required number or states an absurd one.
        """

    def lint(self, candidate: Candidate) -> Sequence[LintFinding]:
        """Return what static rules say about a candidate, by line; empty if nothing."""

    def compile(
        self, candidate: Candidate, problem: Problem | None = None, *, timeout_s: float = 120.0, cache: Path | None = None
    ) -> CompileReport:
        """Compile the candidate without running it and report what its kernels need.

        Args:
            candidate: Its kernels are compiled as the problem's inputs launch them.
            problem: Gives inputs and constructor arguments. None: the source must define `launch` and `EXAMPLE` (arguments of `launch`).
            timeout_s: Wall-clock limit; a compiler that runs longer is killed and the report says `timeout`.
            cache: Directory that remembers reports by content; None: nothing is remembered.

        Raises:
            MachineError: The cache directory cannot be written, or the compiler is not installed.
        """


def lineage(target: str) -> tuple[str, ...]:
    """Return what a target inherits knowledge from, nearest first: `cuda:sm_90` gives `cuda:sm_90, sm_90, nvidia, generic`.

    A bare toolchain (`cuda`) or family (`nvidia`) inherits from its family and `generic`; never from another vendor.
    """
    toolchain, _, chip = target.partition(":")
    family = FAMILIES.get(toolchain, toolchain)
    chain = [target, chip, toolchain if toolchain != family and not chip else "", family, "generic"]
    return tuple(dict.fromkeys(name for name in chain if name))
