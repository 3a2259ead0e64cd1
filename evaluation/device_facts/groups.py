"""What a group is: arms that are measured in turn, what they are compared with, and the advice that they put to the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALES = {"GB/s": 1e-9, "TFLOP/s": 1e-12, "Gop/s": 1e-9}
"""From work a second to the unit of a rate."""


@dataclass(frozen=True)
class Setting:
    """Where arms are built."""

    device: str
    """A torch device."""
    small: bool = False
    """Sizes for a test without a device: they fill nothing, and their times mean nothing."""
    seed: int = 0
    multiprocessors: int = 132

    def size(self, full: int, small: int) -> int:
        """Return the size for this setting."""
        return small if self.small else full

    def random(self, *shape: int, dtype: torch.dtype | None = None, scale: float = 1.0) -> torch.Tensor:
        """Return normal random values; zeros would draw less power and run faster than data do."""
        import torch

        generator = torch.Generator(self.device).manual_seed(self.seed)
        values = torch.randn(*shape, generator=generator, device=self.device, dtype=torch.float32)
        return (values * scale).to(dtype or torch.float32)


@dataclass(frozen=True)
class Arm:
    """One thing that is measured."""

    name: str
    unit: str
    """A rate of `SCALES`, `us` (device time), or the unit of `sample`."""
    run: Callable[[], object]
    """Does the work once, asynchronously."""
    work: float = 0.0
    """Bytes or operations of one run, for a rate."""
    error: Callable[[], float] | None = None
    """Runs once and returns the error relative to a reference; above `tolerance` the arm is not measured."""
    tolerance: float = 0.0
    sample: Callable[[], float] | None = None
    """Takes one sample itself; without it runs are timed."""


@dataclass(frozen=True)
class Advice:
    """What one is told to do, and the arm that does it."""

    text: str
    arm: str


@dataclass(frozen=True)
class Group:
    """Arms that differ in one thing."""

    name: str
    title: str
    text: str
    """What is run, at which sizes; stands in the document."""
    build: Callable[[Setting], Sequence[Arm]]
    baseline: str = ""
    """The arm that the others are compared with; empty: nothing is compared."""
    advice: tuple[Advice, ...] = ()


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the Frobenius norm of the difference over that of the reference, in float64; infinite where a value is not finite."""
    import torch

    wide, right = result.to(torch.float64), reference.to(torch.float64)
    error = float(torch.linalg.vector_norm(wide - right) / torch.linalg.vector_norm(right))
    return error if error == error else float("inf")
