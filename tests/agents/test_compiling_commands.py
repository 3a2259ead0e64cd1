"""kevolve lint, compile and roofline: exit codes, one JSON document, misuse that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app

SOURCE = "import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef kernel(x, y):\n    tl.store(y + tl.arange(0, 48), tl.load(x))\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    return path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def test_lint_finds_by_line_and_exits_with_one(source: Path) -> None:
    code, text = run("lint", str(source), "--target", "cuda:sm_90")
    assert code == 1 and "error: L02 line 7" in text
    code, text = run("lint", str(source), "--target", "cuda:sm_90", "--json")
    assert code == 1 and json.loads(text)["findings"][str(source)][0]["rule"] == "L02"
    source.write_text("x = 1\n")
    assert run("lint", str(source), "--target", "mtia:2i") == (0, f"no rule of mtia:2i finds anything in {source}\n")


def test_misuse_names_the_file_or_the_targets(source: Path) -> None:
    code, text = run("lint", str(source), "--target", "tpu:v9")
    assert code == 2 and "known: cpu" in " ".join(text.split())
    code, text = run("lint", str(source.parent / "missing.py"), "--target", "cpu")
    assert code == 2 and "no such file" in text
    code, text = run("compile", str(source.parent / "missing.py"), "--target", "cpu", "--problem", "x")
    assert code == 2 and "no such file" in text


@pytest.mark.slow
def test_roofline_of_an_example_is_bound_by_memory_and_fusing_moves_fewer_bytes() -> None:
    code, text = run("roofline", "examples/masked_softmax", "--target", "cuda:sm_90", "--json")
    rows = {row["style"]: row for row in json.loads(text)["estimates"]}
    assert code == 0 and rows["compiled"]["bytes"] < rows["eager"]["bytes"]
    assert all(row["bound"] in ("memory", "launch") and sum(row["share"].values()) == pytest.approx(1.0) for row in rows.values())
    code, text = run("roofline", "examples/masked_softmax", "--target", "cpu")
    assert code == 2 and "states no dram_gb_per_s" in " ".join(text.split())


@pytest.mark.slow
def test_compile_reports_what_a_kernel_needs_and_says_no_with_the_reason(tmp_path: Path) -> None:
    problem = tmp_path / "problem.py"
    problem.write_text(
        "import torch\nfrom torch import nn\nclass Model(nn.Module):\n    def forward(self, x):\n        return x * 3.0\n"
        "def get_inputs():\n    return [torch.randn(4096)]\ndef get_init_inputs():\n    return []\n"
    )
    kernel = tmp_path / "kernel.py"
    body = (
        "import torch\nimport triton\nimport triton.language as tl\nfrom torch import nn\n\n\n@triton.jit\ndef triple(x, y, BLOCK: tl.constexpr):\n"
        "    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n    tl.store(y + i, tl.load(x + i) * 3.0)\n\n\n"
        "class ModelNew(nn.Module):\n    def forward(self, x):\n        y = torch.empty_like(x)\n        triple[(4,)](x, y, BLOCK=1024, num_warps=4)\n        return y\n"
    )
    kernel.write_text(body)
    code, text = run("compile", str(kernel), "--problem", str(problem), "--target", "rocm:gfx950", "--json")
    report = json.loads(text)
    assert code == 0 and report["status"] == "compiled" and report["kernels"][0]["registers"] > 0
    kernel.write_text(body.replace("BLOCK=1024", "BLOCK=1000"))
    code, text = run("compile", str(kernel), "--problem", str(problem), "--target", "cuda:sm_90")
    assert code == 1 and "power of 2" in text
