"""What a measurement of nothing shows: the baseline against itself, and against itself slowed down by a known share.

`calibrate` gives the spread between sessions that no single session's interval can know of. It is kept beside the evaluator's state, and from then on every interval
on that device is widened by it, so that "faster" means faster than this machine's own disagreement with itself.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.problems import problem_from_source
from tools.types import Candidate, Effort, Interval, Problem, Status

if TYPE_CHECKING:
    from tools.evaluator import LocalEvaluator

_PROBLEMS = Path(__file__).resolve().parent.parent / "selftest" / "problems"
PROBLEMS = ("layer_norm", "pointwise_chain", "matmul")
"""Problems of the self-test that are compared with themselves: a reduction, a memory-bound and a compute-bound one."""
_Z = 1.959964
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Comparison:
    """One baseline against its own copy."""

    problem: str
    slow_down: float
    """Share of the latency that was added on purpose; 0.0 for a plain copy."""
    status: str
    speedup: Interval | None
    latency_ms: float | None
    reason: str = ""

    @property
    def claims_win(self) -> bool:
        """True if the interval lies above 1."""
        return self.speedup is not None and self.speedup.low > 1.0

    @property
    def claims_loss(self) -> bool:
        """True if the interval lies below 1."""
        return self.speedup is not None and self.speedup.high < 1.0


@dataclass(frozen=True)
class Calibration:
    """Result of a series of comparisons."""

    device: str
    comparisons: int
    """Plain copies that were measured."""
    spread: float
    """Standard deviation between sessions of ln(speedup), beyond what the sessions' own intervals say."""
    false_wins: int
    false_losses: int
    detected: Mapping[str, float]
    """Share of slowed-down copies found slower, by slow-down."""

    @property
    def minimum_effect(self) -> float:
        """Least gain that can be told from nothing, as a share: 1.96 times the spread."""
        return math.expm1(_Z * self.spread)


def compare_with_itself(
    evaluator: LocalEvaluator, target: str, effort: Effort, *, comparisons: int, slow_downs: Sequence[float] = ()
) -> Iterator[Comparison]:
    """Measure copies of baselines, plain ones first, then slowed-down ones; yields each as soon as it is known.

    Args:
        evaluator: What to measure with; without the compiled baseline it takes less time.
        target: Where.
        effort: How much per comparison.
        comparisons: Plain copies, and copies per slow-down.
        slow_downs: Shares of the latency to add, for example 0.03.
    """
    latency_ms: dict[str, float] = {}
    for share in (0.0, *slow_downs):
        for number in range(comparisons):
            name = PROBLEMS[number % len(PROBLEMS)]
            problem = _problem(name)
            added_ms = share * latency_ms.get(name, 0.0)
            evaluation = evaluator.evaluate(_copy(problem, added_ms, number), problem, target, effort, seed=number)
            if evaluation.latency_ms and not share:
                latency_ms[name] = evaluation.latency_ms
            yield Comparison(
                name, share, evaluation.status.value, evaluation.speedup.get("eager"), evaluation.latency_ms, evaluation.reason
            )


def summarise(facts: Mapping[str, Any], found: Sequence[Comparison]) -> Calibration:  # Any: JSON
    """Return what the comparisons on a device say together.

    Raises:
        ValueError: No plain copy was measured.
    """
    plain = [item for item in found if not item.slow_down and item.speedup]
    if not plain:
        reasons = "; ".join(sorted({f"{item.status}: {item.reason}" for item in found}))
        raise ValueError(f"no comparison was measured: {reasons}")
    squares = [math.log(item.speedup.value) ** 2 - _standard_error(item.speedup) ** 2 for item in plain if item.speedup]
    slowed = sorted({item.slow_down for item in found if item.slow_down})
    return Calibration(
        device=_device_key(facts),
        comparisons=len(plain),
        spread=math.sqrt(max(0.0, sum(squares) / len(squares))),
        false_wins=sum(item.claims_win for item in plain),
        false_losses=sum(item.claims_loss for item in plain),
        detected={f"{share:g}": _share_of_losses([item for item in found if item.slow_down == share]) for share in slowed},
    )


def widen(interval: Interval, spread: float) -> Interval:
    """Return an interval with the spread between sessions added to its half-widths in quadrature of logarithms."""
    down, up = math.log(interval.value / interval.low), math.log(interval.high / interval.value)
    return Interval(
        value=interval.value,
        low=interval.value * math.exp(-math.hypot(down, _Z * spread)),
        high=interval.value * math.exp(math.hypot(up, _Z * spread)),
    )


def write_calibration(home: Path, calibration: Calibration) -> Path:
    """Keep a calibration beside the evaluator's state and return its path."""
    path = _path(home, calibration.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(calibration), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read_spread(home: Path, facts: Mapping[str, Any]) -> float:  # Any: JSON
    """Return the spread of a device, 0.0 if it was never calibrated or the file cannot be read."""
    try:
        value = float(json.loads(_path(home, _device_key(facts)).read_text(encoding="utf-8"))["spread"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0


def _device_key(facts: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the name under which a device's calibration is kept: its uuid, or `cpu` with the number of threads."""
    return str(facts.get("uuid") or f"{facts.get('device', 'unknown')}-{facts.get('num_threads', 0)}")


def _path(home: Path, device: str) -> Path:
    return home / "calibration" / f"{''.join(letter if letter.isalnum() else '-' for letter in device)}.json"


def _problem(name: str) -> Problem:
    path = _PROBLEMS / f"{name}.py"
    return problem_from_source(path.read_text(encoding="utf-8"), problem_id=f"selftest/{name}", path=str(path), name=name)


def _copy(problem: Problem, added_ms: float, number: int) -> Candidate:
    """Return the problem's own model as a candidate, which spends `added_ms` more on each call."""
    source = problem.source + f"\n\nModelNew = Model  # copy {number}\n"
    if added_ms:
        source += _SLOWED.format(added_ms=added_ms)
    return Candidate(source, language="torch")


_SLOWED = """

class ModelNew(Model):
    def forward(self, *inputs):
        result = super().forward(*inputs)
        if torch.cuda.is_available():
            torch.cuda._sleep(int({added_ms!r} * 1e-3 * torch.cuda.clock_rate() * 1e6))
        else:
            import time

            end = time.perf_counter() + {added_ms!r} * 1e-3
            while time.perf_counter() < end:
                pass
        return result
"""


def _standard_error(interval: Interval) -> float:
    return math.log(interval.high / interval.low) / (2 * _Z)


def _share_of_losses(found: Sequence[Comparison]) -> float:
    measured = [item for item in found if item.status == Status.PASSED.value]
    return sum(item.claims_loss for item in measured) / len(measured) if measured else 0.0
