"""kevolve profile and kevolve explain: files in, text or JSON out, misuse refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agents.cli import app

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools" / "profiling"))
import reports

CANDIDATE = "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
PROBLEM = "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n\n\ndef get_inputs():\n    return [torch.randn(16)]\n\n\ndef get_init_inputs():\n    return []\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gemm.csv").write_text(reports.NCU_RAW, encoding="utf-8")
    (tmp_path / "trace.json").write_bytes(reports.GPU_TRACE)
    (tmp_path / "candidate.py").write_text(CANDIDATE, encoding="utf-8")
    (tmp_path / "problem.py").write_text(PROBLEM, encoding="utf-8")
    return tmp_path


def test_a_profilers_file_is_shown_against_the_targets_peaks(folder: Path) -> None:
    done = run("profile", str(folder / "gemm.csv"), "--json", "--out", str(folder / "record.json"))
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["target"] == "cuda:sm_90"
    names = {figure["name"] for figure in data["kernels"][0]["figures"]}
    assert {"dram_of_peak_fraction", "dram_gb_per_s"} <= names
    assert data["diagnosis"]["dominant"]["name"]
    assert "# Profile of" in run("profile", str(folder / "record.json")).stdout


def test_scripts_are_written(folder: Path) -> None:
    done = run(
        "profile",
        str(folder / "candidate.py"),
        "--problem",
        str(folder / "problem.py"),
        "--target",
        "cpu",
        "--emit-scripts",
        str(folder / "scripts"),
        "--json",
    )
    assert done.exit_code == 0, done.output
    assert str(folder / "scripts" / "profile_torch.py") in json.loads(done.stdout)["files"]


def test_two_files_are_compared(folder: Path) -> None:
    done = run("explain", str(folder / "trace.json"), str(folder / "gemm.csv"))
    assert done.exit_code == 0, done.output
    assert "gemm" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("profile", "nothing.py"), 2, "no such file"), (("profile", "{folder}/candidate.py"), 2, "--problem"), (("profile", "{folder}/problem.txt"), 3, "not a file of a profiler"),
        (("profile", "{folder}/candidate.py", "--problem", "{folder}/problem.py", "--which", "both"), 2, "candidate or reference"), (("explain", "{folder}/x", "{folder}/y"), 2, "no such file"),
    ],
)  # fmt: skip
def test_misuse_is_refused(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    (folder / "problem.txt").write_text("words\n", encoding="utf-8")
    done = run(*(part.format(folder=folder) for part in arguments))
    assert done.exit_code == code
    assert message in done.output
