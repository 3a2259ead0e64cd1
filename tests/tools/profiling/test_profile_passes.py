"""Passes run in processes of their own, scripts run without us, regions are found, varied and merged; whatever fails costs only itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.errors import HarnessError, ToolsError
from tools.profiling.collect import Request, collect, run_child
from tools.profiling.emit import Settings, script_files, write_scripts
from tools.profiling.formats.registry import read_profile_file
from tools.profiling.jobs import Job, run_jobs
from tools.profiling.multipass import region_profile
from tools.profiling.perf import profile_of_perf
from tools.profiling.regions import find_sites, instrumented, variants
from tools.profiling.rules import diagnose_profile
from tools.types import Candidate, Problem

PROBLEM = Problem(
    "tests/scale",
    "scale",
    "import torch\n\n\nclass Model(torch.nn.Module):\n    def __init__(self, factor):\n        super().__init__()\n        self.weight = torch.nn.Parameter(torch.full((64,), float(factor)))\n\n    def forward(self, x):\n        return x * self.weight\n\n\ndef get_inputs():\n    return [torch.randn(64, 64)]\n\n\ndef get_init_inputs():\n    return [3]\n",
)
CANDIDATE = Candidate(
    "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    def __init__(self, factor):\n        super().__init__()\n        self.weight = torch.nn.Parameter(torch.zeros(64))\n\n    def forward(self, x):\n        return torch.mul(x, self.weight).contiguous()\n",
    "torch",
)
KERNEL = '''"""A kernel."""
from __future__ import annotations
import torch
import triton
import triton.language as tl


@triton.jit
def softmax(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    values = tl.load(x_ptr + row * n + columns, mask=mask, other=-float("inf"))
    weights = tl.exp(values - tl.max(values, 0))
    total = tl.sum(weights, 0)
    for _ in range(1):
        tl.store(y_ptr + row * n + columns, weights / total, mask=mask)


def launch(x):
    y = torch.full_like(x, -5.0)
    softmax[(x.shape[0],)](x, y, x.shape[1], BLOCK=64)
    return y
'''


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_candidate_is_profiled_end_to_end_on_the_cpu(tmp_path: Path) -> None:
    found = collect(Request(CANDIDATE, PROBLEM, "cpu", ("torch", "ncu", "regions"), calls=2), keep=tmp_path)
    assert found.kernel("aten::mul") is not None
    assert found.kernel("aten::mul").launches == 2  # type: ignore[union-attr]  # asserted above
    assert (found.candidate_id, found.problem_id, found.num_calls) == (CANDIDATE.candidate_id, "tests/scale", 2)
    assert {item.what: item.kind for item in found.missing}.items() >= {"regions": "unsupported"}.items()
    assert [record.status for record in found.passes if record.name == "torch"] == ["collected"]
    assert "confined by" in next(record.detail for record in found.passes if record.name == "torch")
    assert (tmp_path / "torch-candidate.json.gz").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "kind"), [("raise ValueError('broken on purpose')", "failed"), ("import time; time.sleep(600)", "timeout")]
)
def test_a_candidate_that_fails_or_hangs_is_a_reason_in_the_record(body: str, kind: str) -> None:
    broken = Candidate(CANDIDATE.source.replace("return torch.mul", f"{body}\n        return torch.mul"), "torch")
    found = collect(Request(broken, PROBLEM, "cpu", ("torch",), timeout_s=200.0 if kind == "failed" else 15.0))
    assert [(item.what, item.kind) for item in found.missing] == [("torch", kind)]
    assert kind == "timeout" or "broken on purpose" in found.missing[0].reason
    assert found.kernels == ()


def test_a_child_is_killed_with_its_children_at_the_limit(tmp_path: Path) -> None:
    outcome = run_child(["sh", "-c", "sleep 1000 & echo $!; wait"], tmp_path, 5.0)
    assert outcome.status is None
    state = Path("/proc", outcome.output.split()[0], "stat")
    deadline = time.monotonic() + 60

    def is_alive() -> bool:
        try:
            return state.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
        except OSError:
            return False

    while is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive()


def test_an_unknown_pass_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ToolsError, match="torch"):
        collect(Request(CANDIDATE, PROBLEM, "cpu", ("magic",)))


def test_scripts_are_the_same_bytes_each_time() -> None:
    first, second = (script_files(CANDIDATE, PROBLEM, Settings("cpu", calls=2)) for _ in range(2))
    assert first == second
    assert {
        "profile_torch.py",
        "profile_proton.py",
        "profile_ncu.sh",
        "profile_rocprof.sh",
        "tritonbench/tests_scale/operator.py",
        "README.md",
    } <= set(first)
    assert all(
        "tools." not in line
        for name, text in first.items()
        if name.endswith(".py")
        for line in text.splitlines()
        if line.startswith(("import", "from"))
    )
    assert "--clock-control none" in first["profile_ncu.sh"]
    for name, text in first.items():
        if name.endswith(".py"):
            compile(text, name, "exec")


@pytest.mark.slow
def test_the_emitted_script_of_torch_runs_without_us(tmp_path: Path) -> None:
    write_scripts(script_files(CANDIDATE, PROBLEM, Settings("cpu", warm_up=1, calls=3)), tmp_path)
    for which in ("candidate", "reference"):
        done = subprocess.run(
            [sys.executable, "profile_torch.py", which],
            cwd=tmp_path,
            env={key: value for key, value in environment().items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
        assert "aten::mul" in done.stdout
        found = read_profile_file(tmp_path / f"torch-{which}.json.gz")
        assert found.kernel("aten::mul").launches == 3  # type: ignore[union-attr]  # it is there
        assert [region.name for region in found.regions] == ["call 0", "call 1", "call 2"]


def test_counters_that_perf_does_not_offer_are_named() -> None:
    found = profile_of_perf(
        "# started on\n12.5,msec,task-clock,1,100.00,0.9,CPUs\n<not supported>,,cycles,0,100.00,,\n700,,page-faults,1,100.00,,\n"
    )
    assert [(figure.name, figure.value) for figure in found.host] == [("cpu_time_us", 12500.0), ("page_faults", 700.0)]
    assert [(item.kind, "cycles" in item.what) for item in found.missing] == [("unsupported", True)]


def test_regions_are_the_calls_inside_kernels() -> None:
    assert [(site.function, site.kind) for site in find_sites(KERNEL)] == [
        ("load", "load"),
        ("exp", "math"),
        ("max", "reduce"),
        ("sum", "reduce"),
        ("store", "store"),
    ]
    assert find_sites("x = 1\n") == ()


def test_marks_stand_around_the_statement_of_each_region() -> None:
    text = instrumented(KERNEL)
    compile(text, "instrumented", "exec")
    assert text.index("from __future__") < text.index("kevolve_pl.enable_semantic")
    assert text.count("enter_scope") == text.count("exit_scope") == 4  # exp and max share a statement
    assert text.index("enter_scope('store") > text.index("for _ in range(1)")


def run_interpreted(sources: dict[str, str], folder: Path) -> dict[str, list[float]]:
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    program = f"import importlib, json, torch\nx = torch.arange(40.0).reshape(2, 20) / 10 + 1\nprint(json.dumps({{name: importlib.import_module(name).launch(x).flatten().tolist() for name in {list(sources)!r}}}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**environment(), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return {name: list(values) for name, values in json.loads(done.stdout).items()}


@pytest.mark.slow
def test_each_variant_runs_and_removes_or_repeats_its_region(tmp_path: Path) -> None:
    made = {f"variant_{variant.site.function}": variant for variant in variants(KERNEL)}
    found = run_interpreted({"base": KERNEL, **{name: variant.source for name, variant in made.items()}}, tmp_path)
    base = found["base"]
    assert sum(base) == pytest.approx(2.0, rel=1e-4)
    assert found["variant_store"] == [-5.0] * 40  # nothing is stored
    assert found["variant_load"] != pytest.approx(base)  # other values, since nothing is read
    for name in ("variant_exp", "variant_max", "variant_sum"):  # done twice with the same result
        assert found[name] == pytest.approx(base, rel=1e-5)
    assert {variant.method for variant in made.values()} == {"remove", "twice"}


def measured(**medians: float) -> dict[str, dict[str, list[float]]]:
    return {
        "samples_us": {
            name: [value * (1 + 0.001 * step) for step in (-1, 0, 1, 0, -1, 1)]
            for name, value in {"base": 100.0, "again": 100.0, **medians}.items()
        },
        "failed": {},
    }


def test_region_times_are_differences_to_the_base_and_add_up_with_the_rest() -> None:
    found = region_profile(
        "cuda:sm_90", variants(KERNEL), measured(variant0=60.0, variant1=110.0, variant2=105.0, variant3=108.0, variant4=75.0)
    )
    by_name = {region.name.split("@")[0]: region for region in found.regions}
    assert {name: round(region.time.value, 3) for name, region in by_name.items()} == {
        "load": 40.0,
        "exp": 10.0,
        "max": 5.0,
        "sum": 8.0,
        "store": 25.0,
        "(rest)": 12.0,
    }
    assert sum(region.share or 0 for region in found.regions) == pytest.approx(1.0)
    assert by_name["load"].lines == (13, 13)


def test_a_pass_that_contradicts_the_base_is_rejected() -> None:
    found = region_profile(
        "cuda:sm_90", variants(KERNEL), measured(variant0=130.0, variant1=80.0, variant2=101.0, variant3=101.0, variant4=90.0)
    )
    assert sorted((item.kind, item.what.split("@")[0]) for item in found.missing) == [
        ("rejected", "region softmax.exp"),
        ("rejected", "region softmax.load"),
    ]
    assert "load" not in {region.name.split("@")[0] for region in found.regions}


def test_a_slowed_region_is_where_the_time_is() -> None:
    found = region_profile(
        "cuda:sm_90", variants(KERNEL), measured(variant0=95.0, variant1=102.0, variant2=101.0, variant3=170.0, variant4=98.0)
    )
    assert max(found.regions, key=lambda region: region.time.value).name.startswith("sum@")


def test_a_variant_that_did_not_run_is_named_with_its_reason() -> None:
    samples = measured(variant1=101.0)
    samples["failed"]["variant0"] = "CompilationError: no"  # type: ignore[assignment]  # reasons are texts
    found = region_profile("cuda:sm_90", variants(KERNEL), samples)
    assert ("region softmax.load@13:13", "CompilationError: no") in [(item.what, item.reason) for item in found.missing]


def test_jobs_run_after_what_they_need_and_failures_stop_their_dependants_only() -> None:
    def fail(_: object) -> None:
        raise HarnessError("no tool")

    finished = run_jobs([
        Job("merge", lambda got: sorted(got), ("left", "right"), tolerates=True), Job("right", fail), Job("after", lambda got: 1, ("right",)), Job("left", lambda got: 1),
    ])  # fmt: skip
    assert finished.results == {"left": 1, "merge": ["left"]}
    assert set(finished.failures) == {"right", "after"}
    assert "needs right" in finished.failures["after"]
    with pytest.raises(ValueError, match="wait for each other"):
        run_jobs([Job("a", lambda got: 1, ("b",)), Job("b", lambda got: 1, ("a",))])


def test_copies_between_layouts_are_named_on_the_cpu(tmp_path: Path) -> None:
    import reports

    from tools.profiling.formats.registry import read_profile_bytes

    events = [
        reports.trace_event("aten::contiguous", "cpu_op", 0.0, 100.0),
        reports.trace_event("aten::copy_", "cpu_op", 5.0, 90.0),
        reports.trace_event("aten::mm", "cpu_op", 200.0, 50.0),
    ]
    found = diagnose_profile(read_profile_bytes(reports.kineto(*events), "t"), {})
    assert found.dominant is not None
    assert found.dominant.name == "layout_copies"


@pytest.mark.parametrize(("marked_us", "kept"), [(110.0, True), (126.0, False)])
def test_marks_that_lengthen_the_call_too_much_are_rejected(marked_us: float, kept: bool) -> None:
    import reports

    from tools.profiling.formats.registry import read_profile_bytes
    from tools.profiling.multipass import held_against_base

    found = held_against_base(read_profile_bytes(reports.PROTON_REGIONS.encode(), "p"), 100.0, marked_us)
    assert bool(found.regions) is kept
    assert [item.kind for item in found.missing] == ([] if kept else ["rejected"])
    assert found.passes[0].status == ("collected" if kept else "rejected")


@pytest.mark.slow
def test_variants_of_a_gemm_change_the_binary_as_they_say() -> None:
    from tools.compile.job import Job
    from tools.compile.server import CompileServer
    from tools.profiling.planted.kernels import PLANTED
    from tools.targets.registry import get_target

    limits = {name: limit.value for name, limit in get_target("cuda:sm_90").limits().items()}
    gemm = next(planted for planted in PLANTED if planted.name == "single_stage")

    def counts(server: CompileServer, source: str) -> tuple[int, int, int]:
        report = server.compile(Job(source, "cuda:sm_90", limits, problem=gemm.problem.source, emit="ptx"), timeout_s=250)
        assert report.status == "compiled", report.error
        text = report.emitted[0].text
        return text.count("ld.global"), text.count("st.global"), text.count("wgmma.mma") + text.count("mma.sync")

    with CompileServer() as server:
        loads, stores, dots = counts(server, gemm.candidate.source)
        assert counts(server, instrumented(gemm.candidate.source)) == (loads, stores, dots)
        for variant in variants(gemm.candidate.source):
            found = counts(server, variant.source)
            if variant.site.kind == "load":
                assert (found[0] < loads, found[2]) == (True, dots)
            elif variant.site.kind == "dot":
                assert (found[0], found[2]) == (loads, 2 * dots)
            else:
                assert (found[0], found[2]) == (loads, dots)


@pytest.mark.slow
def test_the_graph_of_region_passes_runs_whole_in_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tools.profiling.collect as collecting
    from tools.profiling.multipass import profile_regions

    plain = collecting.base_environment
    monkeypatch.setattr(collecting, "base_environment", lambda home: {**plain(home), "TRITON_INTERPRET": "1"})
    source = KERNEL + "\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return launch(x)\n"
    problem = Problem("tests/rows", "rows", "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x\n\n\ndef get_inputs():\n    return [torch.randn(2, 20)]\n\n\ndef get_init_inputs():\n    return []\n")  # fmt: skip
    write_scripts(script_files(Candidate(source), problem, Settings("cpu", warm_up=1, calls=1)), tmp_path)
    found = profile_regions(Request(Candidate(source), problem, "cuda:sm_90", timeout_s=200), tmp_path, [])
    named = {region.name for region in found.regions} | {item.what.removeprefix("region softmax.") for item in found.missing}
    assert {site.name.partition(".")[2] for site in find_sites(source)} <= named
    assert (found.host_value("regions_base_us") or 0) > 0
    assert "proton regions" in {item.what for item in found.missing}  # no device here
