"""The command: `python -m evaluation.faults --help`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from evaluation.faults import __doc__ as description
from evaluation.faults.cases import OPERATIONS
from evaluation.faults.driver import Faults, KillCase, schedule
from evaluation.faults.records import Records
from evaluation.faults.report import report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kills and the crowd; write records and report. Exit code 1 if a base did not survive. Stopped, it goes on with what is missing."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="kills at once, each of a base of its own")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the crowd; 0: none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chroma-url", help="a Chroma server in place of the embedded one")
    parser.add_argument("--postgres-url", help="a PostgreSQL database whose user may create others, in place of SQLite")
    chosen = parser.parse_args(arguments)
    environment = {"KEVOLVE_CHROMA_URL": chosen.chroma_url} if chosen.chroma_url else {}
    flags = "".join(
        f" --{name} {value}"
        for name, value in (("kills", chosen.kills), ("seed", chosen.seed), ("processes", chosen.processes), ("seconds", chosen.seconds))
    )
    flags += "".join(f" --{name} URL" for name, url in (("postgres-url", chosen.postgres_url), ("chroma-url", chosen.chroma_url)) if url)
    machine = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "place": f"catalogue {'PostgreSQL' if chosen.postgres_url else 'SQLite'}, vectors {'Chroma server' if chosen.chroma_url else 'Chroma embedded'}",
        "command": f"python -m evaluation.faults{flags}",
    }
    records = Records(chosen.out / "records.jsonl", machine)
    with tempfile.TemporaryDirectory(prefix="kb-faults-") as scratch:
        _kills(Path(scratch), chosen, environment, records)
        if chosen.seconds and records.crowd is None:
            records.keep("crowd", _faults(Path(scratch), "crowd", chosen, environment).crowd(chosen.processes, chosen.seconds))
    cases = [records.cases[number] for number in sorted(records.cases)]
    (chosen.out / "report.md").write_text(report(cases, records.crowd, machine, machine["command"]))
    is_calm = records.crowd is None or not (
        records.crowd["problems"] or any(member.get(key) for member in records.crowd["members"] for key in ("errors", "stale", "missing"))
    )
    return 0 if all(case.is_good for case in cases) and is_calm else 1


def _faults(scratch: Path, name: str, chosen: argparse.Namespace, environment: Mapping[str, str]) -> Faults:
    folder = scratch / name
    folder.mkdir()
    return Faults(folder, environment, _databases(chosen.postgres_url, name) if chosen.postgres_url else None)


def _kills(scratch: Path, chosen: argparse.Namespace, environment: Mapping[str, str], records: Records) -> None:
    """Carry out what is missing of the schedule."""
    left = [(number, planned) for number, planned in enumerate(schedule(chosen.kills, chosen.seed)) if number not in records.cases]
    workers = [_faults(scratch, f"job{number}", chosen, environment) for number in range(max(1, chosen.jobs))]
    free: SimpleQueue[Faults] = SimpleQueue()
    for worker in workers:
        worker.expected = workers[0].expected
        free.put(worker)
    for operation in OPERATIONS if left else ():
        workers[0].undisturbed(operation)

    def kill(place: int, planned: tuple[str, str, float, str]) -> KillCase:
        worker = free.get()
        try:
            case = worker.kill(*planned)
        finally:
            free.put(worker)
        records.keep("kill", {"number": place, **asdict(case)})
        return case

    with ThreadPoolExecutor(len(workers)) as pool:
        for case in pool.map(lambda item: kill(*item), left):
            verdict = "good" if case.is_good else "BAD"
            print(f"{len(records.cases)}/{chosen.kills} {case.operation} {case.how} {case.at:.3g}: {verdict}", file=sys.stderr, flush=True)


def _databases(url: str, owner: str) -> Callable[[int], str]:
    import psycopg
    from sqlalchemy import make_url

    def create(number: int) -> str:
        name = f"kb_faults_{os.getpid()}_{owner}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}_{number - 1} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}_{number}")
        return make_url(url).set(database=f"{name}_{number}").render_as_string(hide_password=False)

    return create


if __name__ == "__main__":
    raise SystemExit(main())
