"""The chip of examples/new-accelerator works from its documents alone: known, linted, judged, timed, and retrieved apart from other chips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.errors import MachineError, ProfileError
from tools.problems import load_problem
from tools.targets.profile import load_profiles
from tools.targets.registry import get_target, known_targets
from tools.types import Candidate, Evidence

FOLDER = Path(__file__).parents[2] / "examples" / "new-accelerator"
CHIP = "sim:wormhole"


@pytest.fixture(autouse=True)
def documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEVOLVE_PROFILES", str(FOLDER / "docs"))


def candidate(name: str) -> Candidate:
    return Candidate((FOLDER / name).read_text(encoding="utf-8"))


def test_the_chip_is_a_target_that_says_it_is_simulated() -> None:
    assert CHIP in known_targets() and "mtia:2i" in known_targets()
    info = get_target(CHIP).describe()
    assert (info.evidence, info.family, info.torch_device, info.document) == (Evidence.SIMULATED, "sim", None, "wormhole.md")
    assert all(limit.source for limit in get_target(CHIP).limits().values())


def test_lint_knows_the_rules_that_the_document_names_and_no_others() -> None:
    findings = get_target(CHIP).lint(candidate("kernel_from_gpu.py"))
    errors = [item for item in findings if item.severity == "error"]
    assert {item.rule for item in errors} == {"M01"} and all("16 bytes" in str(item) and item.line == 16 for item in errors)
    assert not [item for item in get_target(CHIP).lint(candidate("kernel.py")) if item.severity == "error"]
    scatter = "@triton.jit\ndef kernel(x, y, BLOCK: tl.constexpr):\n    i = tl.arange(0, BLOCK)\n    tl.store(y + tl.load(x + i), i)\n"
    source = Candidate("import triton\nimport triton.language as tl\n\n\n" + scatter)
    assert "M02" in {item.rule for item in get_target("mtia:2i").lint(source)}
    assert "M02" not in {item.rule for item in get_target(CHIP).lint(source)}


@pytest.mark.slow
def test_launches_are_judged_by_the_chips_memory_and_timed_by_its_numbers() -> None:
    problem = load_problem(str(FOLDER / "problem.py"))
    refused = get_target(CHIP).compile(candidate("kernel_from_gpu.py"), problem)
    assert refused.status == "error" and "2,097,152 bytes of local memory, sim:wormhole has 1,499,136" in refused.error
    legal = get_target(CHIP).compile(candidate("kernel.py"), problem)
    assert (legal.status, legal.evidence) == ("compiled", Evidence.SIMULATED), legal.error
    (time,) = legal.estimates
    # 2 x 2560 x 1024 x 2048 operations at 80 x 1.024 TFLOP/s are 131 us; with 90 % of the peak 146
    assert time.bound_by == "dot" and 131 < time.low_us <= time.value_us <= time.high_us < 200
    assert time.counters["waves"] == 8 and time.counters["load_balance"] == 1.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_documents_are_found_for_it_and_not_for_another_chip(tmp_path: Path) -> None:
    def kb(*words: str) -> str:
        command = [sys.executable, "-m", "kb.cli", *words, "--home", str(tmp_path), "--json"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, timeout=250, env=environment, check=False)
        return done.stdout

    assert json.loads(kb("ingest", "docs"))["documents"]["added"] == 3
    question = "how should rows of a tile be aligned for a transfer"
    hits = json.loads(kb("query", question, "--target", CHIP))["hits"]
    assert hits[0]["section_path"][-1] == "Alignment of transfers"
    assert json.loads(kb("query", question, "--target", "mtia:2i"))["hits"] == []


def test_a_rule_that_does_not_exist_and_a_number_that_is_missing_are_clear_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (FOLDER / "docs" / "wormhole.md").read_text(encoding="utf-8")
    monkeypatch.setenv("KEVOLVE_PROFILES", str(tmp_path))
    (tmp_path / "chip.md").write_text(text.replace("rules: [M01,", "rules: [M99,"))
    with pytest.raises(ProfileError, match=r"rules that do not exist: M99; known: .*M01"):
        get_target(CHIP).lint(Candidate("x = 1\n"))
    (tmp_path / "chip.md").write_text("\n".join(line for line in text.splitlines() if "issue_cycles: {value: 8" not in line))
    with pytest.raises(ProfileError, match="lacks issue_cycles"):
        load_profiles()
    monkeypatch.setenv("KEVOLVE_PROFILES", str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match="mend KEVOLVE_PROFILES"):
        load_profiles()
