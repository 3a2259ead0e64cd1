"""Traces of tritonparse and the debug information of Triton's stages: what became of each line of a kernel, without a device."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.profiling.errors import ReportError
from tools.profiling.formats.registry import read_profile_bytes, read_profile_file
from tools.profiling.source_lines import source_lines
from tools.profiling.text import as_markdown
from tools.profiling.types import Profile

TRACE = Path(__file__).with_name("tritonparse.ndjson.gz")
"""One kernel that was really compiled for sm_90 under tritonparse 0.6, its paths shortened, and two launches."""
KERNEL = """import os
import tritonparse.structured_logging as tracing
tracing.init(os.environ["TRACES"], enable_trace_launch=False)
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def scale(x_ptr, y_ptr, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    value = tl.load(x_ptr + place)
    tl.store(y_ptr + place, tl.exp(value))

source = ASTSource(fn=scale, signature={"x_ptr": "*fp32", "y_ptr": "*fp32", "BLOCK": "constexpr"}, constexprs={"BLOCK": 256})
triton.compile(source, target=GPUTarget("cuda", 90, 32))
"""


def test_a_trace_of_tritonparse_shows_the_stages_of_each_line() -> None:
    found = read_profile_file(TRACE)
    kernel = found.kernel("scaled_sum")
    assert kernel is not None
    assert (found.target, found.passes[0].tool) == ("cuda:sm_90", "tritonparse (triton 3.7.1)")
    assert {name: kernel.value(name) for name in ("num_warps", "num_stages", "shared_per_block_bytes", "programs")} == {"num_warps": 4, "num_stages": 3, "shared_per_block_bytes": 16, "programs": 24}  # fmt: skip
    assert kernel.remarks == ("launched 2 times while it was traced; not timed",)
    texts = {line.line: line for line in kernel.lines}
    assert texts[15].text.strip() == "total += tl.exp(value) * 0.5"
    assert texts[14].instructions == {"ttir": 7, "ttgir": 7, "ptx": 33}
    assert texts[16].instructions["ptx"] > texts[10].instructions["ptx"]  # the sum of the last line is a function of another file
    assert (kernel.value("static_global_loads") or 0) > 0
    assert (kernel.value("compile_ttir_us") or 0) > 0
    assert [item.what for item in found.missing] == ["running times"]


def test_lines_survive_json_and_appear_in_the_text() -> None:
    found = read_profile_file(TRACE)
    assert Profile.from_json(json.loads(json.dumps(found.to_json()))) == found
    text = as_markdown(found, "trace")
    assert "line 16: 36, `tl.store(y_ptr + row, tl.sum(total, 0))`" in text


def test_a_cut_trace_keeps_what_was_whole() -> None:
    whole = gzip.decompress(TRACE.read_bytes())
    found = read_profile_bytes(whole[:-40], "t")
    assert {item.what: item.kind for item in found.missing}["rest of the trace"] == "truncated"
    assert found.kernels[0].remarks == ("launched 1 times while it was traced; not timed",)
    with pytest.raises(ReportError) as raised:
        read_profile_bytes(whole[:2000], "t")
    assert raised.value.kind == "truncated"


@pytest.mark.parametrize("line", ['{"event_type": "launch", "name": "k", "grid": [1]}', '{"event_type": "launch"}\n[1]\n'])
def test_a_trace_without_compilations_says_so(line: str) -> None:
    with pytest.raises(ReportError) as raised:
        read_profile_bytes(line.encode(), "t")
    assert raised.value.kind in ("empty", "truncated")


@pytest.mark.parametrize("payload", [{}, {"metadata": 3, "file_content": [], "python_source": "x"}, {"metadata": {"name": "k", "shared": float("1e9"), "times": {"lowering_stages": [["ttir"], 5]}}}])  # fmt: skip
def test_odd_compilations_are_kernels_without_figures_to_speak_of(payload: object) -> None:
    found = read_profile_bytes(json.dumps({"event_type": "compilation", "payload": payload}).encode(), "t")
    assert len(found.kernels) == 1
    assert found.kernels[0].lines == ()


def test_assembly_of_amd_is_counted_by_line() -> None:
    text = '\t.amdgcn_target "amdgcn-amd-amdhsa--gfx942"\n\t.loc\t1 12 9 prologue_end                ; k.py:12:9\n\tv_add_f32_e32 v0, v1, v2\n\ts_waitcnt vmcnt(0)\n\t.loc\t2 5 1 ; lib.py:5:1 @[ k.py:20:3 ]\n\tglobal_load_dword v3, v0, s[0:1]\n.LBB0_1:\n'
    found = source_lines({"amdgcn": text}, "\n".join(f"line {index}" for index in range(1, 30)))
    assert [(line.line, line.text, dict(line.instructions)) for line in found] == [(12, "line 12", {"amdgcn": 2}), (20, "line 20", {"amdgcn": 1})]  # fmt: skip


def test_locations_that_point_at_each_other_are_given_up() -> None:
    text = '  %0 = arith.addf %1, %2 : f32 loc(#loc1)\n#loc1 = loc("a"(#loc2))\n#loc2 = loc("b"(#loc1))\n'
    assert source_lines({"ttgir": text}) == ()


@pytest.mark.slow
def test_the_compiled_pass_knows_the_lines_without_any_tool() -> None:
    from tools.profiling.planted.kernels import PLANTED
    from tools.profiling.static import static_profile
    from tools.targets.registry import get_target

    atomics = next(item for item in PLANTED if item.name == "atomics")
    found = static_profile(atomics.candidate, atomics.problem, get_target("cuda:sm_90"), timeout_s=250)
    place = next(index for index, line in enumerate(atomics.candidate.source.splitlines(), 1) if "atomic_add" in line)
    line = next(item for item in found.kernels[0].lines if item.line == place)
    assert "tl.atomic_add" in line.text
    assert line.instructions["ptx"] == max(item.instructions["ptx"] for item in found.kernels[0].lines)


@pytest.mark.slow
def test_tritonparse_itself_writes_what_is_read(tmp_path: Path) -> None:
    pytest.importorskip("tritonparse")
    (tmp_path / "kernel.py").write_text(KERNEL)
    variables = {**os.environ, "TRACES": str(tmp_path / "traces"), "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "kernel.py"], cwd=tmp_path, env=variables, check=True, timeout=250)
    trace = next((tmp_path / "traces").glob("*.ndjson"))
    found = read_profile_file(trace)
    kernel = found.kernel("scale")
    assert kernel is not None
    lines = {line.text.strip(): line.instructions for line in kernel.lines}
    assert lines["value = tl.load(x_ptr + place)"]["ttgir"] >= 2
    assert lines["tl.store(y_ptr + place, tl.exp(value))"]["ptx"] > 2
    parsed = tmp_path / "parsed"
    subprocess.run(
        [sys.executable, "-c", f"from tritonparse.parse.utils import unified_parse; unified_parse({str(trace.parent)!r}, {str(parsed)!r}, overwrite=True)"],
        env=variables, check=True, timeout=250,
    )  # fmt: skip
    again = read_profile_file(next(path for path in parsed.rglob("*.ndjson*")))
    assert again.kernels[0].lines == kernel.lines
