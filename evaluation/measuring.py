"""Measure a list of candidates (`evaluation.listing`) once each on a device, in a given time, and write every evaluation the moment it is known.

Each problem has a process of its own. Checks and preparation run beside each other; while one process times, the others keep off the device (`tools.timing.exclusive`).
Within a problem the drafts come first; then, two times of three, what was expanded from the fastest candidate so far, else the next of the list. Once all are
measured they are measured again, in further passes, as far as the time goes: what differs between passes is the noise between processes.

Needs only what `tools` needs. The command goes on where an earlier call was cut.

    python -m evaluation.measuring candidates.jsonl.gz --out evaluations.jsonl --target cuda --seconds 140 --quick
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError, RecordError
from evaluation.listing import Listed, read_list
from tools.receipts import finite, source_commit
from tools.types import FULL, QUICK, Effort, Evaluation, Evidence, Problem, Status

_log = logging.getLogger(__name__)
SCHEMA = 1
BRIEF = dataclasses.replace(QUICK, value_seeds=1, pairs=8, min_block_ms=2.0, timeout_s=45.0)
"""Effort of `--quick`."""
_GRACE_S = 8.0
"""A process that does not end by itself is ended so long after the time is over."""
_SPARE = 1.3
"""A measurement is begun only if the longest one so far, times this, still fits."""


@dataclass(frozen=True)
class Measured:
    """One measurement of one listed candidate."""

    problem_id: str
    problem_hash: str
    target: str
    number: int
    source_hash: str
    repeat: int
    """From 0: how often it had been measured before."""
    evaluation: Evaluation
    effort: Mapping[str, Any]  # Any: JSON of an `Effort`
    environment: Mapping[str, Any]  # Any: JSON

    def to_line(self) -> str:
        """Return the line of the record."""
        values = {**dataclasses.asdict(self), "evaluation": self.evaluation.to_json(), "schema": SCHEMA}
        return json.dumps(finite(values), sort_keys=True, allow_nan=False) + "\n"


def read_measured(path: Path) -> list[Measured]:
    """Read measurements; a last line that was cut in the writing is left out.

    Raises:
        RecordError: The file cannot be read, or a line is no measurement of this schema.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line or number == len(lines):
            continue
        try:
            values = json.loads(line)
            if values.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            found.append(Measured(**{**values, "evaluation": Evaluation.from_json(values["evaluation"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}:{number} is no measurement of a listed candidate: {error}") from error
    return found


def append(path: Path, measured: Measured) -> None:
    """Append one measurement; several processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _drop_torn_line(path)
        file.write(measured.to_line().encode())
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    with path.open("r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def next_number(items: Sequence[Listed], fitness: Mapping[int, float], turn: int) -> int | None:
    """Return which candidate of a list to measure next; None if all are.

    Args:
        fitness: Of those measured so far, by number.
        turn: How many were measured in this pass; every third follows the order of the list.
    """
    missing = [item for item in items if item.number not in fitness]
    if not missing:
        return None
    if missing[0].base is None or turn % 3 == 2:
        return missing[0].number
    return max(missing, key=lambda item: (fitness.get(item.base, -1.0) if item.base is not None else -1.0, -item.number)).number


def measure(
    problem: Problem, items: Sequence[Listed], evaluator: Any, target: str, effort: Effort, out: Path, seconds: float, repeats: int
) -> int:
    """Measure one problem's candidates until all are measured `repeats` times or the time is over; return how many measurements were made.

    Args:
        evaluator: A `LocalEvaluator` or what behaves like one. Any: tests give their own
    """
    deadline, longest, made = time.monotonic() + seconds, 0.0, 0
    earlier = (
        []
        if not out.exists()
        else [item for item in read_measured(out) if (item.problem_hash, item.target) == (problem.source_hash, target)]
    )
    environment = {"commit": source_commit(), "python": sys.version.split()[0], **_packages()}
    for repeat in range(repeats):
        fitness = {item.number: item.evaluation.fitness for item in earlier if item.repeat == repeat and item.number < len(items)}
        while (number := next_number(items, fitness, len(fitness))) is not None:
            if time.monotonic() + _SPARE * longest > deadline:
                return made
            began = time.monotonic()
            candidate = items[number].candidate
            try:
                evaluation = evaluator.evaluate(candidate, problem, target=target, effort=effort, seed=repeat)
            except Exception as error:  # the outside begins here: one candidate must not end the recording of the others
                _log.warning("%s candidate %d: %s", problem.problem_id, number, error)
                evaluation = Evaluation(
                    candidate.candidate_id,
                    problem.problem_id,
                    target,
                    Evidence.MEASURED,
                    Status.HARNESS_ERROR,
                    f"{type(error).__name__}: {error}"[:1500],
                )
            longest = max(longest, time.monotonic() - began) if made else 0.0  # the first one opens the problem, too
            made += 1
            fitness[number] = evaluation.fitness
            facts: Mapping[str, Any] = getattr(evaluator, "device_facts", lambda _: {})(target)
            known = {key: value for key, value in facts.items() if isinstance(value, str | int | float)}
            stored = dataclasses.replace(evaluation, receipt=Path(evaluation.receipt).name)
            append(
                out,
                Measured(
                    problem.problem_id,
                    problem.source_hash,
                    target,
                    number,
                    items[number].source_hash,
                    repeat,
                    stored,
                    dataclasses.asdict(effort),
                    {**environment, **known},
                ),
            )
            _tell(
                f"{problem.problem_id} candidate {number} pass {repeat}: {evaluation.status.value} {evaluation.fitness:.3f} in {time.monotonic() - began:.1f} s"
            )
    return made


def _packages() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in ("torch", "triton"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _one(arguments: argparse.Namespace) -> int:
    """Measure one problem in this process."""
    from tools.evaluator import LocalEvaluator
    from tools.targets.registry import get_target

    problem, items = read_list(arguments.candidates)[arguments.only]
    target = get_target(arguments.target).describe().name
    effort = BRIEF if arguments.quick else FULL
    with LocalEvaluator(arguments.home, num_threads=arguments.threads or None) as evaluator:
        measure(problem, items[: arguments.most], evaluator, target, effort, arguments.out, arguments.seconds, arguments.repeats)
    return 0


def _all(arguments: argparse.Namespace) -> int:
    """Start a process a problem, a few at a time, and see that all end in time."""
    ends = time.monotonic() + arguments.seconds
    problems = read_list(arguments.candidates)
    waiting, running = list(range(len(problems))), {}  # type: ignore[var-annotated]  # numbers to processes
    failed = cut = 0
    while waiting or running:
        for number, process in list(running.items()):
            if process.poll() is None and time.monotonic() > ends + _GRACE_S:
                process.terminate()
                try:
                    process.wait(3.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                cut += 1
                del running[number]
            elif process.poll() is not None:
                failed += process.returncode != 0
                del running[number]
        while waiting and len(running) < arguments.workers:
            number = waiting.pop(0)
            # With fewer workers than problems the time that is left is shared out.
            turns = -(-(len(waiting) + 1) // arguments.workers)
            left = max(0.0, ends - time.monotonic()) / turns
            command = [sys.executable, "-m", "evaluation.measuring", *arguments.given, "--only", str(number), "--seconds", f"{left:.1f}"]
            running[number] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        time.sleep(0.1)
    made = read_measured(arguments.out) if arguments.out.exists() else []
    for problem, items in problems:
        mine = [item for item in made if item.problem_id == problem.problem_id]
        passed = sum(item.evaluation.status is Status.PASSED for item in mine if item.repeat == 0)
        _tell(
            f"{problem.problem_id}: {len({item.number for item in mine})} of {len(items)} measured, {passed} passed, {len(mine)} measurements"
        )
    if cut:
        _tell(f"{cut} measurements were still under way at the end; the same command makes them again")
    if failed:
        _tell(f"{failed} processes did not end well; see above")
    return 0 if made and not failed else 1


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", type=Path, help="a list that `kevolve compare --list` wrote")
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file; what it holds is not measured again")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--seconds", type=float, default=140.0, help="end by then")
    parser.add_argument("--workers", type=int, default=8, help="problems at the same time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of candidates and baselines; 0: all")
    parser.add_argument("--most", type=int, default=1000, help="candidates of each problem")
    parser.add_argument("--repeats", type=int, default=3, help="most measurements of each candidate")
    parser.add_argument("--quick", action="store_true", help="8 pairs and one value check a measurement")
    parser.add_argument(
        "--home", type=Path, default=Path(tempfile.gettempdir()) / "kevolve-measuring", help="directory of caches and receipts"
    )
    parser.add_argument("--only", type=int, help="measure the problem of this number, in this process")
    logging.basicConfig(level=logging.WARNING)
    arguments = parser.parse_args()
    if arguments.workers < 1 or arguments.repeats < 1 or not arguments.seconds > 0:
        raise EvaluationError("--workers and --repeats are at least 1, --seconds above 0")
    if arguments.only is not None:
        return _one(arguments)
    arguments.given = sys.argv[1:]
    return _all(arguments)


if __name__ == "__main__":
    sys.exit(main())
