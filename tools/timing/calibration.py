"""What a measurement of nothing shows: the baseline against itself, and against itself slowed down by a known share.

`calibrate` gives the spread between sessions that no single session's interval can know of. It is kept beside the evaluator's state, and from then on every interval
on that device is widened by it, so that "faster" means faster than this machine's own disagreement with itself.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.check.verdict import Rejected
from tools.errors import HarnessError
from tools.problems import problem_from_source
from tools.types import Effort, Interval, Problem, Status

if TYPE_CHECKING:
    from tools.evaluator import LocalEvaluator

_PROBLEMS = Path(__file__).resolve().parent.parent / "selftest" / "problems"
PROBLEMS = ("layer_norm", "pointwise_chain", "matmul")
"""Problems of the self-test that are compared with themselves: a reduction, a memory-bound and a compute-bound one."""
_LEAST_ADDED_MS = 0.008
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
    pair: int = 0
    """Which pair of fresh processes it was measured in."""
    samples_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Raw samples of both arms, `candidate` and `eager`, in the order in which they were taken."""

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
    pairs: int = 1
    """Pairs of fresh processes behind it."""
    false_wins_widened: int = 0
    """Plain copies that claim a win once their intervals are widened by the spread that the other pairs show."""
    false_losses_widened: int = 0
    detected_widened: Mapping[str, float] = field(default_factory=dict)
    """As `detected`, with intervals widened by the spread."""
    observed: Mapping[str, float] = field(default_factory=dict)
    """Median latency that was really added, as a share, by slow-down."""
    copies: Mapping[str, int] = field(default_factory=dict)
    """Slowed-down copies that were measured, by slow-down."""

    @property
    def minimum_effect(self) -> float:
        """Least gain that can be told from nothing, as a share: 1.96 times the spread."""
        return math.expm1(_Z * self.spread)


def compare_with_itself(
    evaluator: LocalEvaluator,
    target: str,
    effort: Effort,
    *,
    comparisons: int,
    slow_downs: Sequence[float] = (),
    per_pair: int = 5,
    seconds: float | None = None,
) -> Iterator[Comparison]:
    """Measure copies of baselines against them, plain ones and slowed-down ones; yields each as soon as it is known.

    Every `per_pair` plain copies, and as many per slow-down, share one pair of fresh processes; pairs go over the problems in turn.

    Args:
        evaluator: What to measure with.
        target: Where.
        effort: How much per comparison.
        comparisons: Plain copies, and at most so many copies per slow-down.
        slow_downs: Shares of the latency to add, for example 0.03. On an accelerator one that comes to less than 8 µs is left out: adding it takes a launch.
        per_pair: Comparisons of one kind in one pair of processes.
        seconds: Start no pair after so many seconds.

    Raises:
        MachineError: The target cannot be measured here.
    """
    began = time.monotonic()
    for number, first in enumerate(range(0, comparisons, per_pair)):
        if seconds is not None and time.monotonic() - began > seconds:
            return
        name = PROBLEMS[number % len(PROBLEMS)]
        problem, count = _problem(name), min(per_pair, comparisons - first)
        try:
            with evaluator.fresh_pair(problem, target, effort, seed=number) as pair:
                latency_ms = 0.0
                for share in (0.0, *slow_downs):
                    added_ms = share * latency_ms
                    if share and added_ms < _LEAST_ADDED_MS and target.partition(":")[0] != "cpu":
                        continue
                    source = _copy(problem, added_ms)
                    for _ in range(count):
                        found = pair.compare(source)
                        latency_ms = latency_ms or found.candidate.latency_ms
                        samples = {"candidate": found.candidate.samples_ms, "eager": found.baselines["eager"].samples_ms}
                        interval, mine_ms = found.speedup["eager"], found.candidate.latency_ms
                        yield Comparison(name, share, Status.PASSED.value, interval, mine_ms, "", number, samples)
        except (HarnessError, Rejected) as err:
            status = err.status.value if isinstance(err, Rejected) else Status.HARNESS_ERROR.value
            yield Comparison(name, 0.0, status, None, None, err.reason if isinstance(err, Rejected) else str(err)[:1500], number)


def summarise(facts: Mapping[str, Any], found: Sequence[Comparison]) -> Calibration:  # Any: JSON
    """Return what the comparisons on a device say together.

    Raises:
        ValueError: No plain copy was measured.
    """
    plain = [item for item in found if not item.slow_down and item.speedup]
    if not plain:
        reasons = "; ".join(sorted({f"{item.status}: {item.reason}" for item in found}))
        raise ValueError(f"no comparison was measured: {reasons}")
    spread = _spread(plain)
    slowed = sorted({item.slow_down for item in found if item.slow_down})
    by_share = {f"{share:g}": [item for item in found if item.slow_down == share and item.speedup] for share in slowed}
    left_out = [_widened(item, _spread([other for other in plain if other.pair != item.pair] or plain)) for item in plain]
    return Calibration(
        device=_device_key(facts),
        comparisons=len(plain),
        spread=spread,
        false_wins=sum(item.claims_win for item in plain),
        false_losses=sum(item.claims_loss for item in plain),
        detected={share: _share_of_losses(items) for share, items in by_share.items()},
        pairs=len({item.pair for item in plain}),
        false_wins_widened=sum(item.claims_win for item in left_out),
        false_losses_widened=sum(item.claims_loss for item in left_out),
        detected_widened={share: _share_of_losses([_widened(item, spread) for item in items]) for share, items in by_share.items()},
        observed={
            share: statistics.median(1.0 / item.speedup.value - 1.0 for item in items if item.speedup)
            for share, items in by_share.items()
            if items
        },
        copies={share: len(items) for share, items in by_share.items()},
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


def _copy(problem: Problem, added_ms: float) -> str:
    """Return a source whose `ModelNew` is the problem's own model and spends `added_ms` more on each call."""
    return problem.source + (_SLOWED.format(added_ms=added_ms) if added_ms else "\n\nModelNew = Model\n")


_SLOWED = """

def _cycles():
    \"\"\"Return how many cycles to spin, from what two lengths of spinning take on this device, launches included.\"\"\"
    def took_ms(cycles):
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(30)]
        for start, end in pairs:
            start.record()
            torch.cuda._sleep(cycles)
            end.record()
        torch.cuda.synchronize()
        return sorted(start.elapsed_time(end) for start, end in pairs)[15]
    took_ms(20000)
    short, long = took_ms(20000), took_ms(120000)
    each = (long - short) / 100000
    launch = max(0.0, short - 20000 * each - 0.002)
    return max(1, int(({added_ms!r} - launch) / each))


CYCLES = _cycles() if torch.cuda.is_available() else 0


class ModelNew(Model):
    def forward(self, *inputs):
        result = super().forward(*inputs)
        if CYCLES:
            torch.cuda._sleep(CYCLES)
        else:
            import time

            end = time.perf_counter() + {added_ms!r} * 1e-3
            while time.perf_counter() < end:
                pass
        return result
"""


def _spread(plain: Sequence[Comparison]) -> float:
    """Return the standard deviation of ln(speedup) beyond what the intervals say."""
    squares = [math.log(item.speedup.value) ** 2 - _standard_error(item.speedup) ** 2 for item in plain if item.speedup]
    return math.sqrt(max(0.0, sum(squares) / len(squares))) if squares else 0.0


def _widened(item: Comparison, spread: float) -> Comparison:
    return dataclasses.replace(item, speedup=widen(item.speedup, spread)) if item.speedup else item


def _standard_error(interval: Interval) -> float:
    return math.log(interval.high / interval.low) / (2 * _Z)


def _share_of_losses(found: Sequence[Comparison]) -> float:
    measured = [item for item in found if item.status == Status.PASSED.value]
    return sum(item.claims_loss for item in measured) / len(measured) if measured else 0.0
