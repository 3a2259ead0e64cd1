"""Emit, edit one line, replay, and measure on the device: are the edits equal or different as predicted, and does a round take seconds?

`python -m evaluation.replay_on_device --out FILE.jsonl --seconds 60`. Four edits of two kernels, each with its prediction written here before anything runs:
a layout and an instruction that should not matter, a layout and an instruction that should. Without a device the edits are compiled and not timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tools.compile.edited import emit, with_edited_ir
from tools.compile.server import CompileServer
from tools.errors import ProblemError, ToolsError
from tools.problems import problem_from_source
from tools.targets.base import CompileReport
from tools.targets.profile import load_profiles
from tools.types import Candidate, Problem

SAME_WITHIN = 0.05
"""A ratio of medians this near to 1 counts as equal."""
DIFFERENT_FROM = 1.3
"""A ratio from here on counts as slower."""
_HEADER = "import torch\nimport triton\nimport triton.language as tl\nfrom torch import nn\n\n\n"
_SCALE = Candidate(
    _HEADER
    + """@triton.jit
def scale(x, y, columns, BM: tl.constexpr, BN: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    column = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    tl.store(y + row * columns + column, tl.load(x + row * columns + column) * 3.0)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        scale[(x.shape[0] // 64, x.shape[1] // 64)](x, y, x.shape[1], BM=64, BN=64, num_warps=4)
        return y
"""
)
_ROOTS = Candidate(
    _HEADER
    + """@triton.jit
def roots(x, y, n, BLOCK: tl.constexpr, TIMES: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + index, mask=index < n, other=1.0)
    for _ in range(TIMES):
        value = tl.sqrt(value) + 1.0
    tl.store(y + index, value, mask=index < n)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        roots[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024, TIMES=64, num_warps=4)
        return y
"""
)


def _problem(name: str, body: str, shape: str) -> Problem:
    source = (
        f"import torch\nfrom torch import nn\nclass Model(nn.Module):\n    def forward(self, x):\n{body}"
        f"def get_inputs():\n    return [torch.rand({shape})]\ndef get_init_inputs():\n    return []\n"
    )
    return problem_from_source(source, problem_id=f"replay/{name}")


_SCALE_PROBLEM = _problem("scale", "        return x * 3.0\n", "8192, 8192")
_ROOTS_PROBLEM = _problem("roots", "        for _ in range(64):\n            x = torch.sqrt(x) + 1.0\n        return x\n", "4096, 4096")
_LAYOUT = re.compile(
    r"#blocked(?P<number>\d*) = #ttg\.blocked<\{sizePerThread = \[1, 4\], threadsPerWarp = \[2, 16\], warpsPerCTA = \[4, 1\], order = \[1, 0\]"
)


def _layout(text: str, replacement: str) -> str:
    return _LAYOUT.sub(lambda match: f"#blocked{match['number']} = #ttg.blocked<{{{replacement}", text)


@dataclass(frozen=True)
class Edit:
    """One edit with what it should do."""

    name: str
    candidate: Candidate
    problem: Problem
    stage: str
    change: Callable[[str], str]
    prediction: Literal["equal", "slower"]
    because: str


EDITS = (
    Edit(
        "rows of a warp",
        _SCALE,
        _SCALE_PROBLEM,
        "ttgir",
        lambda text: _layout(text, "sizePerThread = [1, 4], threadsPerWarp = [4, 8], warpsPerCTA = [4, 1], order = [1, 0]"),
        "equal",
        "a warp reads four rows of 128 bytes instead of two of 256: the same sectors, the same 16 bytes a thread",
    ),
    Edit(
        "column-major layout",
        _SCALE,
        _SCALE_PROBLEM,
        "ttgir",
        lambda text: _layout(text, "sizePerThread = [4, 1], threadsPerWarp = [16, 2], warpsPerCTA = [1, 4], order = [0, 1]"),
        "slower",
        "a warp's accesses go to 64 rows, 4 bytes a thread: a quarter of each sector is used at a time",
    ),
    Edit(
        "cache hint of the load",
        _ROOTS,
        _ROOTS_PROBLEM,
        "ptx",
        lambda text: re.sub(r"\bld\.global(?=\.(?:v\d\.)?b32\b)", "ld.global.L1::no_allocate", text),
        "equal",
        "every byte is read once and the arithmetic limits: where the line is kept does not matter",
    ),
    Edit(
        "exact square roots",
        _ROOTS,
        _ROOTS_PROBLEM,
        "ptx",
        lambda text: re.sub(r"\bsqrt\.approx(?:\.ftz)?\.f32\b", "sqrt.rn.f32", text),
        "slower",
        "a correctly rounded root is a sequence of instructions with a branch; the approximate one is two",
    ),
)


def verdict(prediction: str, ratio: float) -> bool:
    """Tell whether a ratio (edited / original time) is what was predicted."""
    return abs(ratio - 1.0) <= SAME_WITHIN if prediction == "equal" else ratio >= DIFFERENT_FROM


def replay(edit: Edit, target: str, server: CompileServer) -> tuple[dict[str, Any], Candidate | None]:  # Any: JSON
    """Emit, edit and compile on; return the record so far and the edited candidate (None if the edit failed)."""
    profile = load_profiles()[target]
    row: dict[str, Any] = {
        "edit": edit.name, "stage": edit.stage, "target": target, "prediction": edit.prediction, "because": edit.because, "error": ""
    }  # fmt: skip
    began = time.monotonic()
    before = emit(edit.candidate.source, profile, edit.stage, problem=edit.problem, server=server)
    row["emit_s"] = round(time.monotonic() - began, 3)
    row["versions"] = dict(before.versions)
    if not before.emitted:
        return row | {"error": before.error or "nothing was emitted"}, None
    item = before.emitted[0]
    text = edit.change(item.text)
    row["lines_changed"] = sum(a != b for a, b in zip(item.text.splitlines(), text.splitlines(), strict=False))
    try:
        edited = with_edited_ir(edit.candidate, before, dataclasses.replace(item, text=text))
    except ProblemError as error:
        found = [line for line in item.text.splitlines() if "#ttg.blocked" in line or "ld.global" in line or "sqrt" in line]
        return row | {"error": f"{error}; the text has {found[:6]}"}, None
    began = time.monotonic()
    after = emit(edited.source, profile, edit.stage, problem=edit.problem, server=server)
    row["replay_s"] = round(time.monotonic() - began, 3)
    row["resources"] = {"before": _resources(before), "after": _resources(after)}
    if after.status != "compiled":
        return row | {"error": after.error}, None
    return row, edited


def _resources(report: CompileReport) -> dict[str, Any]:  # Any: JSON
    return dataclasses.asdict(report.kernels[0]) if report.kernels else {}


def measure(edit: Edit, edited: Candidate, rounds: int) -> dict[str, Any]:  # Any: JSON
    """Run both on the device in turn and compare; times are medians in ms."""
    import torch
    from triton.testing import do_bench

    with tempfile.TemporaryDirectory() as folder:
        inputs = [tensor.cuda() for tensor in _load(Path(folder) / "problem.py", edit.problem.source).get_inputs()]
        plain = _load(Path(folder) / "plain.py", edit.candidate.source).ModelNew()
        began = time.monotonic()
        changed = _load(Path(folder) / "edited.py", edited.source).ModelNew()
        output = changed(*inputs)
        torch.cuda.synchronize()
        first_call_s = time.monotonic() - began
        deviation = float((output - plain(*inputs)).abs().max())
        times = [(do_bench(lambda: plain(*inputs)), do_bench(lambda: changed(*inputs))) for _ in range(rounds)]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "device": torch.cuda.get_device_name(0),
        "first_call_s": round(first_call_s, 3),
        "largest_deviation": deviation,
        "before_ms": before,
        "after_ms": after,
        "rounds_ms": times,
        "ratio": after / before,
        "as_predicted": verdict(edit.prediction, after / before),
    }


def _load(path: Path, source: str) -> Any:  # Any: a module
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"replayed_{path.stem}_{abs(hash(source))}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def by_command(target: str, limit_s: float) -> dict[str, Any]:  # Any: JSON
    """Do one edit as a user does, with `kevolve emit` and `kevolve replay-ir`, each a process of its own; return the seconds."""
    edit = EDITS[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.py").write_text(edit.candidate.source, encoding="utf-8")
        (folder / "problem.py").write_text(edit.problem.source, encoding="utf-8")
        common = ["--problem", str(folder / "problem.py"), "--target", target]
        command = [sys.executable, "-m", "agents.cli"]
        began = time.monotonic()
        done = _run([*command, "emit", str(folder / "kernel.py"), *common, "--stage", edit.stage, "--out", str(folder / "stages")], limit_s)
        emit_s = time.monotonic() - began
        paths = sorted((folder / "stages").glob("*")) if (folder / "stages").is_dir() else []
        if not paths:
            return {"edit": "by command", "emit_s": round(emit_s, 3), "error": done[-500:] or "no text was written"}
        paths[0].write_text(edit.change(paths[0].read_text(encoding="utf-8")), encoding="utf-8")
        began = time.monotonic()
        out = folder / "edited.py"
        done = _run([*command, "replay-ir", str(paths[0]), "--source", str(folder / "kernel.py"), *common, "--out", str(out)], limit_s)
        replay_s = time.monotonic() - began
        error = "" if out.exists() else done[-500:]
    return {"edit": "by command", "stage": edit.stage, "emit_s": round(emit_s, 3), "replay_s": round(replay_s, 3), "error": error}


def _run(command: list[str], limit_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr or done.stdout).strip()


def main(arguments: list[str] | None = None) -> int:
    """Run the edits; 0 if all were as predicted, 1 if not, 3 where nothing could be timed."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.replay_on_device", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="records, one JSON line per edit; written anew")
    parser.add_argument("--seconds", type=float, default=60.0, help="begin nothing after this time")
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with options.out.open("w", encoding="utf-8") as file, CompileServer() as server:

        def write(row: dict[str, Any]) -> None:  # Any: JSON
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            sys.stderr.write(
                f"[{time.monotonic() - began:5.1f} s] {json.dumps({key: row[key] for key in row if key not in ('resources', 'because')})}\n"
            )

        emit(EDITS[0].candidate.source, load_profiles()[options.target], "ttir", problem=EDITS[0].problem, server=server)
        write({"edit": "", "starting_the_compiler_s": round(time.monotonic() - began, 3), "error": ""})
        for edit in EDITS:
            if time.monotonic() - began > options.seconds:
                break
            try:
                row, edited = replay(edit, options.target, server)
                if edited is not None:
                    row |= _measured(edit, edited, options.rounds)
                    row["round_s"] = round(row["emit_s"] + row["replay_s"] + row.get("first_call_s", 0.0), 3)
            except (ToolsError, RuntimeError, OSError, ValueError) as error:
                row = {"edit": edit.name, "error": f"{type(error).__name__}: {error}"[:1000]}
            write(row)
        left = options.seconds - (time.monotonic() - began)
        if left > 5:
            write(by_command(options.target, left))
    timed = [row for row in rows if "ratio" in row]
    return 3 if not timed else int(len(timed) < len(EDITS) or not all(row["as_predicted"] for row in timed))


def _measured(edit: Edit, edited: Candidate, rounds: int) -> dict[str, Any]:  # Any: JSON
    import torch

    if not torch.cuda.is_available():
        return {"device": "none: not timed"}
    try:
        return measure(edit, edited, rounds)
    except Exception as error:  # the compiler and the device meet here: whatever they raise is the record
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


if __name__ == "__main__":
    sys.exit(main())
