"""Measure an accelerator, compare two days, write the document.

python -m evaluation.device_facts measure --out facts.jsonl --seconds 300
python -m evaluation.device_facts compare day-1.jsonl day-2.jsonl
python -m evaluation.device_facts document evaluation/results/facts-h100/day-1.jsonl --out docs/nvidia/hopper/measured.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from evaluation.device_facts import agreement, records
from evaluation.device_facts.document import document, name_in_index
from evaluation.device_facts.groups import Setting
from evaluation.device_facts.measure import DeviceLostError, EventClock, Session, environment, measure, warm
from evaluation.device_facts.registry import GROUPS, baselines
from evaluation.device_facts.summary import Figure, figures
from evaluation.errors import EvaluationError


def _measure(options: argparse.Namespace) -> int:
    began = time.monotonic()
    chosen = [group for name, group in GROUPS.items() if (not options.group or name in options.group) and name not in options.without]
    # Before this process opens the device; at most a third of the time.
    crashed = {} if options.resumed else warm([group.name for group in chosen], options.seconds / 3, options.workers)
    import torch

    if not torch.cuda.is_available():
        raise EvaluationError("there is no CUDA device here; `compare` and `document` need none")
    from tools.timing.device_state import DeviceState

    facts = torch.cuda.get_device_properties(0)
    state = DeviceState(str(getattr(facts, "uuid", "")))
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    session = Session(uuid.uuid4().hex[:12], started, options.seed, environment())
    for name, reason in crashed.items():
        records.append(
            options.out,
            records.GroupRecord(
                name, 0, session.session, started, options.seed, session.environment, {"all": records.Samples("", (), reason)}
            ),
        )
    options.without = [*options.without, *crashed]
    chosen = [group for group in chosen if group.name not in crashed]
    setting = Setting("cuda", seed=options.seed, multiprocessors=facts.multi_processor_count)
    try:
        left = options.seconds - (time.monotonic() - began)
        written = measure(chosen, setting, session, options.out, left, clock=EventClock(), state=state.sample, passes=options.passes)
    except DeviceLostError as lost:
        # A kernel that faults takes the process's device with it: a new process goes on without its group.
        left = options.seconds - (time.monotonic() - began)
        sys.stderr.write(f"{lost}; going on without {lost.group}\n")
        if left < 10:
            return 1
        without = [*options.without, lost.group]
        arguments = ["measure", "--out", str(options.out), "--seconds", f"{left:.0f}", "--seed", str(options.seed), "--resumed"]
        arguments += [
            "--passes",
            str(options.passes),
            *(f"--without={name}" for name in without),
            *(f"--group={name}" for name in options.group),
        ]
        os.execv(sys.executable, [sys.executable, "-m", "evaluation.device_facts", *arguments])
    found = _figures(options.out)
    sys.stdout.writelines(
        f"{figure.name}: {figure.value:.4g} [{figure.interval.low:.4g}, {figure.interval.high:.4g}]\n" for figure in found.values()
    )
    sys.stdout.write(f"{written} records, {len(found)} figures in {options.out}\n")
    return 0


def _warm(options: argparse.Namespace) -> int:
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.get_device_properties(0).multi_processor_count
        for arm in GROUPS[options.name].build(Setting("cuda", multiprocessors=count)):
            try:
                arm.run()
                torch.cuda.synchronize()
            except Exception as error:  # the outside begins here: the arm is tried again, and recorded, when it is measured
                sys.stderr.write(f"{arm.name}: {error}\n")
    return 0


def _compare(options: argparse.Namespace) -> int:
    first, second = _figures(options.first), _figures(options.second)
    sys.stdout.write(agreement.report(first, second) + "\n")
    return 0 if agreement.agreement(first, second).is_reached else 1


def _document(options: argparse.Namespace) -> int:
    found = records.read(options.records)
    text = document(found, figures(found, baselines()), GROUPS, source=str(options.records), target=options.target, chip=options.chip)
    options.out.write_text(text, encoding="utf-8")
    index = options.out.parent / "index.md"
    if index.exists():
        name_in_index(index, options.out.name, options.chip)
    return 0


def _figures(path: Path) -> dict[str, Figure]:
    return figures(records.read(path), baselines())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 1 where the goal is missed or something is amiss."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.device_facts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("measure", help="measure every group in passes; each record is written at once")
    command.add_argument("--out", type=Path, required=True, help="a .jsonl file; it is appended to")
    command.add_argument("--seconds", type=float, default=300.0, help="end by then")
    command.add_argument("--passes", type=int, default=6, help="most passes over all groups")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--group", action="append", default=[], choices=list(GROUPS), help="only this group; repeatable")
    command.add_argument("--without", action="append", default=[], choices=list(GROUPS), help="not this group; repeatable")
    command.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1), help="processes that compile ahead")
    command.add_argument("--resumed", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=_measure)
    command = commands.add_parser("warm", help="compile one group's kernels into Triton's cache")
    command.add_argument("name", choices=list(GROUPS))
    command.set_defaults(run=_warm)
    command = commands.add_parser("compare", help="which share of figures of a second day lies where the first said")
    command.add_argument("first", type=Path)
    command.add_argument("second", type=Path)
    command.set_defaults(run=_compare)
    command = commands.add_parser("document", help="write the knowledge document from records")
    command.add_argument("records", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--target", default="cuda:sm_90")
    command.add_argument("--chip", default="H100")
    command.set_defaults(run=_document)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (EvaluationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
