"""The command `kevolve`: what it prints, its exit codes, and bad input."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from landscape import LandscapeEvaluator, config, machinery, search
from rich.console import Console
from typer.testing import CliRunner

from agents.cli import app
from agents.commands import searching
from agents.progress import Progress
from agents.runs.records import Event
from agents.runs.store import RunStore
from tools.errors import MachineError, ProblemError

ROOT = Path(__file__).resolve().parent.parent.parent


def kevolve(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def problem_file(folder: Path, text: str = "class Model: pass\ndef get_inputs(): return []\ndef get_init_inputs(): return []\n") -> str:
    path = folder / "problem.py"
    path.write_text(text)
    return str(path)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = "import sys, agents.cli; heavy = {'torch', 'langgraph', 'chromadb', 'sqlalchemy', 'langchain_core', 'rich.live'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    exit_code, out, _ = kevolve("--help")
    assert exit_code == 0
    for name in ("run", "resume", "runs", "show", "evaluate", "targets", "doctor", "self-test", "export"):
        assert name in out
        assert kevolve(name, "--help")[0] == 0


def test_the_version_is_told() -> None:
    code, out, _ = kevolve("--version")
    assert (code, out.split()[0]) == (0, "kevolve")


def test_after_a_faulty_problem_a_new_run_is_advised_and_after_other_errors_a_resumption() -> None:
    assert "start a new run" in searching._hint("r1", ProblemError("Model.forward raised"))
    assert "`kevolve resume r1` continues it" in searching._hint("r1", MachineError("no compiler"))
    assert "is closed" in searching._hint("r1", ProblemError("Model.forward raised"), is_closed=True)


def test_a_run_whose_problem_cannot_be_used_is_closed_with_the_reason(tmp_path: Path) -> None:
    class Faulty(LandscapeEvaluator):
        def evaluate(self, candidate, problem, *, target, effort, seed):  # type: ignore[no-untyped-def]
            raise ProblemError("Model.forward raised ValueError")

    with pytest.raises(ProblemError):
        search(tmp_path, config(evaluations=4), machinery(Faulty()))
    home = ["--home", str(tmp_path)]
    (listed,) = json.loads(kevolve("runs", "--json", *home)[1])["runs"]
    assert listed["result"]["status"] == "faulty_problem" and listed["result"]["best"] is None
    assert "faulty problem" in kevolve("runs", *home)[1]
    assert "Model.forward raised ValueError" in kevolve("show", listed["run_id"], *home)[1]
    code, _, err = kevolve("resume", listed["run_id"], *home)
    assert code == 2 and "nothing to resume" in err
    code, _, err = kevolve("export", listed["run_id"], str(tmp_path / "out"), *home)
    assert code == 2 and "nothing to export: Model.forward raised" in err


def test_without_a_terminal_a_long_silence_is_broken_by_a_line() -> None:
    told = io.StringIO()
    with Progress(Console(file=told, width=200), 4, quiet_s=0.05) as progress:
        progress(Event("written", {"notes": "a draft"}))
        deadline = time.monotonic() + 30
        while told.getvalue().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "s: 0/4 evaluations, evaluating: a draft" in told.getvalue()


def test_targets_with_a_broken_document_are_listed_and_the_document_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chip.md").write_text(
        "---\nprofile: sim:mine\nlimits:\n  dram_bytes: {value: -1, unit: bytes, source: s, trust: measured}\n---\n"
    )
    monkeypatch.setenv("KEVOLVE_PROFILES", str(tmp_path))
    code, out, err = kevolve("targets", "--json")
    told = json.loads(out)
    assert code == 0 and "cpu" in {item["name"] for item in told["targets"]} and "chip.md: limit 'dram_bytes'" in told["unusable"][0]
    code, out, err = kevolve("targets")
    assert code == 0 and "cuda:sm_90" in out and "chip.md: limit 'dram_bytes' = -1" in err
    code, _, err = kevolve("lint", __file__, "--target", "sim:mine")
    assert code == 2 and "unknown target 'sim:mine'" in err and "chip.md: limit 'dram_bytes'" in err


def test_finished_run_is_listed_shown_and_exported(tmp_path: Path) -> None:
    store, run_id, result = search(tmp_path / "home", config(evaluations=8))
    home = ["--home", str(tmp_path / "home")]
    listed = json.loads(kevolve("runs", "--json", *home)[1])["runs"]
    assert [item["run_id"] for item in listed] == [run_id]
    shown = json.loads(kevolve("show", run_id, "--json", *home)[1])
    assert len(shown["nodes"]) == result["num_nodes"] and shown["result"]["best"]["fitness"] == result["best"]["fitness"]  # type: ignore[index]  # JSON
    code, out, _ = kevolve("show", run_id, *home)
    assert code == 0 and "speedup over compiled" in out and store.nodes(run_id)[0].node_id in out
    assert f"\nsource: {result['best']['source_path']}\n" in out and f"kevolve export {run_id}" in out  # type: ignore[index]  # JSON
    best = result["best"]["node_id"]  # type: ignore[index]  # JSON
    node = json.loads(kevolve("show", best, "--json", *home)[1])
    assert node["lineage"][-1]["node_id"] == best and "POINT" in node["source"]
    assert kevolve("export", run_id, str(tmp_path / "out"), *home)[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"kernel.py", "problem.py", "README.md", "result.json"}
    assert kevolve("export", run_id, str(tmp_path / "out"), *home)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "no/such/file.py"], 2, "no such problem"),
        (["run", "PROBLEM", "--target", "cpu:z80"], 2, "unknown target"),
        (["run", "PROBLEM", "--target", "cpu", "--strategy", "annealing"], 2, "known: evolutionary"),
        (["run", "PROBLEM", "--target", "cpu", "--strategy-option", "drafts=x"], 2, "must be a number"),
        (["run", "PROBLEM", "--target", "cpu", "--strategy-option", "drafts"], 2, "NAME=NUMBER"),
        (["run", "PROBLEM", "--target", "cpu", "--coder", "llm"], 2, "needs a model"),
        (["run", "PROBLEM", "--target", "cpu", "--coder", "monkey"], 2, "known: library, llm, reference"),
        (["run", "PROBLEM", "--target", "cpu", "--budget-evaluations", "0"], 2, "above 0"),
        (["run", "PROBLEM", "--target", "cpu", "--width", "0"], 2, "at least 1"),
        (["resume", "nonsense"], 2, "no run 'nonsense'"),
        (["show", "nonsense"], 2, "No node begins with it"),
        (["evaluate", "no_such.py", "--problem", "PROBLEM", "--target", "cpu"], 2, "no such file"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_bad_input_is_one_clear_message_and_leaves_no_run(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    problem = problem_file(tmp_path)
    home = [] if arguments[0] == "frobnicate" else ["--home", str(tmp_path / "home")]
    exit_code, _, err = kevolve(*[problem if item == "PROBLEM" else item for item in arguments], *home)
    assert exit_code == code and message in err
    assert json.loads(kevolve("runs", "--json", "--home", str(tmp_path / "home"))[1]) == {"runs": []}


def test_file_without_model_is_refused(tmp_path: Path) -> None:
    exit_code, _, err = kevolve("run", problem_file(tmp_path, "x = 1\n"), "--target", "cpu", "--home", str(tmp_path / "home"))
    assert exit_code == 2 and "does not define Model" in err


def test_store_of_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    search(tmp_path, config(evaluations=2))[0].close()
    path = tmp_path / "runs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.read_bytes()
    exit_code, _, err = kevolve("runs", "--home", str(tmp_path))
    assert exit_code == 3 and "newer version" in err and "untouched" in err
    assert path.read_bytes() == before


def test_file_that_is_no_run_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_text("hello, this is not a database at all" * 50)
    exit_code, _, err = kevolve("runs", "--home", str(tmp_path))
    assert exit_code == 3 and "not a run store" in err


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT, signal.SIGTERM]])
def test_an_interrupted_run_is_cancelled_once_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: list[signal.Signals]
) -> None:
    ended = []

    async def search_that_is_terminated(*_: object) -> None:
        for number in signals:
            os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    monkeypatch.setattr("agents.driver.drive", search_that_is_terminated)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with RunStore(tmp_path) as store, pytest.raises(typer.Exit) as left:
        searching._drive(store, "some-run", None)
    assert left.value.exit_code == 130 and ended == ["cancelled"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "`kevolve resume some-run` continues the run" in capsys.readouterr().err
