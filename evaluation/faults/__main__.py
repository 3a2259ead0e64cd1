"""The command: `python -m evaluation.faults --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from evaluation.faults import __doc__ as description
from evaluation.faults.driver import Faults, schedule
from evaluation.faults.report import report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kills and the crowd; write records and report. Exit code 1 if a base did not survive."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the crowd; 0: none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chroma-url", help="a Chroma server in place of the embedded one")
    parser.add_argument("--postgres-url", help="a PostgreSQL database whose user may create others, in place of SQLite")
    chosen = parser.parse_args(arguments)
    environment = {"KEVOLVE_CHROMA_URL": chosen.chroma_url} if chosen.chroma_url else {}
    with tempfile.TemporaryDirectory(prefix="kb-faults-") as scratch:
        faults = Faults(Path(scratch), environment, _databases(chosen.postgres_url) if chosen.postgres_url else None)
        cases = []
        for operation, how, share, mended_by in schedule(chosen.kills, chosen.seed):
            cases.append(faults.kill(operation, how, share, mended_by))
            verdict = "good" if cases[-1].is_good else "BAD"
            print(f"{len(cases)}/{chosen.kills} {operation} {how} {cases[-1].at:.3g}: {verdict}", file=sys.stderr, flush=True)
        crowd = faults.crowd(chosen.processes, chosen.seconds) if chosen.seconds else None
    place = f"catalogue {'PostgreSQL' if chosen.postgres_url else 'SQLite'}, vectors {'Chroma server' if chosen.chroma_url else 'Chroma embedded'}"
    machine = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "place": place,
    }
    flags = "".join(
        f" --{name} {value}"
        for name, value in (("kills", chosen.kills), ("seed", chosen.seed), ("processes", chosen.processes), ("seconds", chosen.seconds))
    )
    flags += "".join(f" --{name} URL" for name, url in (("postgres-url", chosen.postgres_url), ("chroma-url", chosen.chroma_url)) if url)
    chosen.out.mkdir(parents=True, exist_ok=True)
    records = [
        *({"kind": "kill", **asdict(case)} for case in cases),
        *([{"kind": "crowd", **crowd}] if crowd else []),
        {"kind": "environment", **machine},
    ]
    (chosen.out / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (chosen.out / "report.md").write_text(report(cases, crowd, machine, f"python -m evaluation.faults{flags}"))
    is_calm = crowd is None or not (
        crowd["problems"] or any(member.get(key) for member in crowd["members"] for key in ("errors", "stale", "missing"))
    )
    return 0 if all(case.is_good for case in cases) and is_calm else 1


def _databases(url: str) -> Callable[[int], str]:
    import psycopg
    from sqlalchemy import make_url

    def create(number: int) -> str:
        name = f"kb_faults_{os.getpid()}_{number}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS kb_faults_{os.getpid()}_{number - 1} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
        return make_url(url).set(database=name).render_as_string(hide_password=False)

    return create


if __name__ == "__main__":
    raise SystemExit(main())
