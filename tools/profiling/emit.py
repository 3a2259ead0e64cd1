"""Write the scripts that profile a candidate without us. Deterministic: the same candidate, problem and settings give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.types import Candidate, Problem

_SCRIPTS = Path(__file__).resolve().parent / "standalone"
_COPIED = ("workload.py", "profile_torch.py", "profile_proton.py", "profile_tritonparse.py", "run_calls.py")
NCU_METRICS = (
    "dram__bytes_read.sum", "dram__bytes_write.sum", "dram__bytes_op_read.sum", "dram__bytes_op_write.sum", "lts__t_bytes.sum", "lts__t_sectors_op_atom.sum", "lts__t_sectors_op_red.sum", "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum", "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum", "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "l1tex__t_requests_pipe_lsu_mem_local_op_ld.sum", "l1tex__t_requests_pipe_lsu_mem_local_op_st.sum", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum", "sm__cycles_active.min", "sm__cycles_active.max", "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum", "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum", "smsp__sass_thread_inst_executed_op_dfma_pred_on.sum",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active", "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active", "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
)  # fmt: skip
"""Beyond the sections: what the rules read. Chips have some of them only; see `collect.known_metrics`."""
NCU_SECTIONS = (
    "SpeedOfLight", "MemoryWorkloadAnalysis", "ComputeWorkloadAnalysis", "LaunchStats", "Occupancy", "SchedulerStats", "WarpStateStats", "InstructionStats",
)  # fmt: skip
"""Without the sections that sample program counters or draw charts: those double the replays."""
NCU_LAUNCHES = 64


@dataclass(frozen=True)
class Settings:
    """What the scripts run."""

    device: str
    """`cpu` or `cuda`."""
    seed: int = 0
    workload: int = 0
    """Index into the problem's WORKLOADS."""
    warm_up: int = 3
    calls: int = 5

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda") or self.calls < 1 or self.warm_up < 0 or self.workload < 0:
            raise ValueError(f"device is cpu or cuda, calls at least 1, warm_up and workload at least 0; got {self}")


def ncu_command(python: str, script: str, log: str, *, launches: int = NCU_LAUNCHES, metrics: Sequence[str] = NCU_METRICS) -> list[str]:
    """Return the command that runs a script under Nsight Compute: counters only between its marks, clocks left alone, raw page as CSV in base units."""
    sections = [part for section in NCU_SECTIONS for part in ("--section", section)]
    return [
        "ncu", "--profile-from-start", "off", "--clock-control", "none", "--launch-count", str(launches), *sections, *(["--metrics", ",".join(metrics)] if metrics else []),
        "--page", "raw", "--csv", "--print-units", "base", "--log-file", log, python, script,
    ]  # fmt: skip


def script_files(candidate: Candidate, problem: Problem, settings: Settings) -> dict[str, str]:
    """Return the files by name."""
    name = re.sub(r"\W+", "_", problem.problem_id).strip("_").lower() or "problem"
    ncu = " ".join(f"'{part}'" if "," in part else part for part in ncu_command("python3", "run_calls.py", "ncu-candidate.csv"))
    files = {name: (_SCRIPTS / name).read_text(encoding="utf-8") for name in _COPIED}
    return files | {
        f"tritonbench/{name}/operator.py": (_SCRIPTS / "tritonbench_operator.py").read_text(encoding="utf-8"),
        f"tritonbench/{name}/__init__.py": "from .operator import Operator\n",
        f"tritonbench/{name}/workload.py": files["workload.py"],
        f"tritonbench/{name}/problem.py": problem.source,
        f"tritonbench/{name}/candidate.py": candidate.source,
        f"tritonbench/{name}/settings.json": _settings(settings),
        "problem.py": problem.source,
        "candidate.py": candidate.source,
        "settings.json": _settings(settings),
        "profile_ncu.sh": f'#!/bin/sh\n# Nsight Compute; needs permission to read performance counters. Writes ncu-candidate.csv.\ncd "$(dirname "$0")" || exit 1\nexec {ncu} "${{1:-candidate}}"\n',
        "profile_rocprof.sh": '#!/bin/sh\n# rocprofv3; writes *_kernel_trace.csv.\ncd "$(dirname "$0")" || exit 1\nexec rocprofv3 --kernel-trace --output-format csv -d rocprof -- python3 run_calls.py "${1:-candidate}"\n',
        "README.md": _readme(candidate, problem, name),
    }


def write_scripts(files: dict[str, str], folder: Path) -> list[Path]:
    """Write the files below a folder and return their paths. Existing files of the same name are replaced.

    Raises:
        OSError: The folder cannot be written.
    """
    paths = []
    for name, text in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.suffix == ".sh":
            path.chmod(0o755)
        paths.append(path)
    return paths


def _settings(settings: Settings) -> str:
    return json.dumps(asdict(settings), indent=2, sort_keys=True) + "\n"


def _readme(candidate: Candidate, problem: Problem, name: str) -> str:
    return f"""# Profile {problem.problem_id}, candidate {candidate.candidate_id}

Needs PyTorch (and Triton for kernels written in it), nothing else. `candidate` and `reference` are what can be profiled.

| tool | command | writes |
|---|---|---|
| torch.profiler | `python profile_torch.py candidate` | `torch-candidate.json.gz` |
| Nsight Compute | `./profile_ncu.sh candidate` | `ncu-candidate.csv` |
| Proton | `python profile_proton.py candidate` | `proton-candidate.hatchet` |
| tritonparse | `python profile_tritonparse.py candidate` | `tritonparse-candidate.ndjson` |
| rocprofv3 | `./profile_rocprof.sh candidate` | `rocprof/…_kernel_trace.csv` |
| TritonBench | copy `tritonbench/{name}` to `tritonbench/operators/` of a checkout, then `python run.py --op {name} --metrics latency,speedup,accuracy` | its table |
"""
