"""Run the passes of a profile, each in a process of its own, and keep what each one yields. A tool that is missing, refused or hangs costs its own pass only.

Confinement: passes in Python run under the evaluator's sandbox (files, system calls, limits), falling back where a tool does not work under it, which the pass's record
says. `ncu`, `rocprofv3` and `perf` need what the sandbox forbids: their programs get a private environment, session and directories only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolsError
from tools.profiling.derive import against_peaks, with_derived
from tools.profiling.emit import NCU_LAUNCHES, NCU_METRICS, Settings, ncu_command, script_files, write_scripts
from tools.profiling.errors import ReportError
from tools.profiling.formats.registry import read_profile_file
from tools.profiling.merge import merged
from tools.profiling.perf import perf_command, profile_of_perf
from tools.profiling.static import static_profile
from tools.profiling.types import Missing, MissingKind, PassRecord, Profile
from tools.sandbox.environment import base_environment, private_environment
from tools.sandbox.layers import NAMES
from tools.targets.registry import get_target
from tools.types import Candidate, Problem

PASSES = ("compile", "torch", "ncu", "proton", "perf", "tritonparse", "regions")
"""In the order in which they run: the ones that disturb least come first, and are the base of the merge."""
DEFAULTS = {
    "cpu": ("torch", "perf"),
    "cuda": ("torch", "compile", "ncu", "proton", "regions"),
    "rocm": ("torch", "compile", "proton", "regions"),
    "mtia": ("compile",),
}
_ROOT = Path(__file__).resolve().parent.parent.parent
_FILE_BYTES = 4 << 30
QUERY_TIMEOUT_S = 30.0
NCU_CALLS = 1
"""Calls under ncu at most: counters hardly differ from call to call, and each launch is replayed many times."""
_TOOL_FOLDERS = ("/usr/local/cuda/bin", "/opt/nvidia/nsight-compute", "/opt/rocm/bin")
"""Looked into when PATH lacks a tool."""
_LAYERS: tuple[tuple[str, ...], ...] = (NAMES, tuple(name for name in NAMES if name != "privileges"), ("rlimits",), ())
"""Tried in turn: a GPU's counters may ask for a capability, and some profilers for more."""
_CONFINED = "import json, sys; config = json.loads(sys.argv[1]); sys.path[:0] = [config['root']]; from tools.sandbox.apply import confine; confine(config); sys.path.pop(0); sys.path.insert(0, config['folder']); sys.argv = sys.argv[2:]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to profile and how."""

    candidate: Candidate
    problem: Problem
    target: str
    """Exact name."""
    passes: tuple[str, ...] = ()
    """Empty: what suits the target."""
    which: str = "candidate"
    """Or `reference`."""
    calls: int = 5
    seed: int = 0
    workload: int = 0
    timeout_s: float = 300.0
    """For each pass."""
    ncu_launches: int = NCU_LAUNCHES
    """Launches that ncu looks at; it runs each many times."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended."""

    status: int | None
    """None: killed after the time limit."""
    output: str
    """The end of what it printed."""
    seconds: float


def collect(request: Request, *, keep: Path | None = None) -> Profile:
    """Return the merged profile of all passes. Never raises for what a tool or the candidate does: that is in `missing`.

    Args:
        keep: Folder that gets the tools' own files; None: they are deleted.

    Raises:
        UnknownTargetError: No such target.
        ToolsError: A pass is unknown.
    """
    target = get_target(request.target)
    toolchain = request.target.partition(":")[0]
    wanted = request.passes or DEFAULTS[toolchain]
    unknown = [name for name in wanted if name not in PASSES]
    if unknown:
        raise ToolsError(f"unknown pass {unknown[0]!r}; known: {', '.join(PASSES)}")
    limits = {name: limit.value for name, limit in target.limits().items()}
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kevolve-profile-")))
        folder = folder.absolute()
        device = target.describe().torch_device or "cpu"
        runs_here = target.describe().evidence.value == "measured"
        settings = Settings(device=device, seed=request.seed, workload=request.workload, calls=request.calls)
        write_scripts(script_files(request.candidate, request.problem, settings), folder)
        collected: list[Profile] = []
        for name in sorted(wanted, key=PASSES.index):
            if name != "compile" and not runs_here:
                collected.append(absent(request.target, name, "no_device", f"no device of {request.target} is here"))
                continue
            collected.append(_pass(name, request, folder, limits, collected))
    return whole_profile(request, collected, limits)


def whole_profile(request: Request, collected: Sequence[Profile], limits: Mapping[str, float]) -> Profile:
    """Return the record of all passes of a request, with derived figures and shares of the target's peaks."""
    return dataclasses.replace(
        against_peaks(with_derived(merged(_base_first(collected))), limits, request.target),
        target=request.target,
        candidate_id=request.candidate.candidate_id,
        problem_id=request.problem.problem_id,
        num_calls=request.calls,
    )


def _base_first(collected: Sequence[Profile]) -> list[Profile]:
    """Return the passes that ran before the one that only compiled, so that launches are those of a run."""
    return sorted(collected, key=lambda profile: bool(profile.passes) and profile.passes[0].name == "compile")


def _pass(name: str, request: Request, folder: Path, limits: Mapping[str, float], before: Sequence[Profile]) -> Profile:
    try:
        if name == "compile":
            return static_profile(request.candidate, request.problem, get_target(request.target), timeout_s=request.timeout_s)
        if name == "regions":
            from tools.profiling.multipass import profile_regions

            return profile_regions(request, folder, before)
        if name == "ncu":
            return _ncu(request, folder)
        if name == "perf":
            return _perf(request, folder)
        script, report = script_of(name, request)
        return _confined(name, script, folder / report, request, folder)
    except ToolsError as error:
        return absent(request.target, name, error.kind if isinstance(error, ReportError) else "failed", str(error))


def script_of(name: str, request: Request) -> tuple[str, str]:
    """Return the script of a pass in Python and the report that it writes."""
    if name == "torch":
        return "profile_torch.py", f"torch-{request.which}.json.gz"
    if name == "tritonparse":
        return "profile_tritonparse.py", f"tritonparse-{request.which}.ndjson"
    return "profile_proton.py", f"proton-{request.which}.hatchet"


def _confined(name: str, script: str, report: Path, request: Request, folder: Path) -> Profile:
    """Run a script under the strictest sandbox that its tool works in."""
    tried: list[str] = []
    outcome = Outcome(None, "", 0.0)
    for layers in _LAYERS:
        report.unlink(missing_ok=True)
        config = json.dumps({**confinement(folder, layers), "root": str(_ROOT), "folder": str(folder)})
        outcome = run_child([sys.executable, "-I", "-c", _CONFINED, config, str(folder / script), request.which], folder, request.timeout_s)
        how = f"confined by {', '.join(layers)}" if layers else "not confined"
        if report.exists() and report.stat().st_size:
            detail = how + (f"; did not work {'; '.join(tried)}" if tried else "")
            try:
                found = _read(name, report, outcome, detail)
            except ReportError:
                if layers == _LAYERS[-1]:
                    raise
            else:  # a profiler that the sandbox keeps from the device writes a trace without kernels
                if request.target == "cpu" or layers == _LAYERS[-1] or any(kernel.kind == "kernel" for kernel in found.kernels):
                    return found
        tried.append(how)
        if outcome.status is None or _is_the_candidates_fault(outcome.output):
            break
    return absent(request.target, name, *_reason(outcome, request.timeout_s), seconds=outcome.seconds)


def find_tool(tool: str) -> str:
    """Return a tool's path.

    Raises:
        ReportError: It is not on PATH and not in the usual folders.
    """
    found = shutil.which(tool) or shutil.which(tool, path=os.pathsep.join(_TOOL_FOLDERS))
    if found is None:
        raise ReportError(
            tool, "tool_missing", "it is not installed or not on PATH; see `kevolve profile --emit-scripts` to run it elsewhere"
        )
    return found


def known_metrics(folder: Path) -> tuple[str, ...]:
    """Return those of `NCU_METRICS` that ncu knows for the chip of this machine; all of them if it does not tell.

    Raises:
        ReportError: ncu is missing.
    """
    (folder / "query").mkdir(parents=True, exist_ok=True)
    done = Child([find_tool("ncu"), "--query-metrics"], folder / "query", name="metrics")
    done.wait(QUERY_TIMEOUT_S)
    done.end()
    lines = (folder / "query" / "metrics.log").read_text(encoding="utf-8", errors="replace").splitlines()
    names = {line.split()[0] for line in lines if "__" in line[:80] and line.split()}
    return tuple(metric for metric in NCU_METRICS if metric.partition(".")[0] in names) if len(names) > 100 else NCU_METRICS


def ncu_attempts(request: Request, report: str, metrics: Sequence[str]) -> list[list[str]]:
    """Return the commands to try in this order: with the metrics that only the rules read, and without, should ncu refuse one of them.

    Raises:
        ReportError: ncu is missing.
    """
    tool = find_tool("ncu")
    calls = str(min(request.calls, NCU_CALLS))
    commands = [ncu_command(sys.executable, "run_calls.py", report, launches=request.ncu_launches, metrics=some) for some in (metrics, ())]
    return [[tool, *command[1:], request.which, calls] for command in commands]


def _ncu(request: Request, folder: Path) -> Profile:
    outcome = Outcome(None, "", 0.0)
    for command in ncu_attempts(request, "ncu.csv", known_metrics(folder)):
        (folder / "ncu.csv").unlink(missing_ok=True)
        outcome = run_child(command, folder, request.timeout_s)
        found = read_pass(
            request, "ncu", folder / "ncu.csv", outcome, "own session and environment; not confined, since the tool injects itself"
        )
        if found.kernels or outcome.status is None or found.missing[0].kind == "no_permission":
            break
    return found


def read_pass(request: Request, name: str, report: Path, outcome: Outcome, detail: str) -> Profile:
    """Return what a pass wrote, or the record of why it wrote nothing of use."""
    if not report.exists() or not report.stat().st_size:
        return absent(request.target, name, *_reason(outcome, request.timeout_s), seconds=outcome.seconds)
    try:
        return _read(name, report, outcome, detail)
    except ReportError as error:
        reason = f"{error}; it printed: {_last_line(outcome.output)}" if outcome.status else str(error)
        return absent(request.target, name, error.kind, reason, seconds=outcome.seconds)


def _perf(request: Request, folder: Path) -> Profile:
    if shutil.which("perf") is None:
        return absent(request.target, "perf", "tool_missing", "perf is not installed; install linux-perf")
    log = folder / "perf.csv"
    outcome = run_child([*perf_command(log), sys.executable, "run_calls.py", request.which], folder, request.timeout_s)
    if outcome.status != 0 or not log.exists():
        return absent(request.target, "perf", *_reason(outcome, request.timeout_s), seconds=outcome.seconds)
    profile = profile_of_perf(log.read_text(encoding="utf-8", errors="replace"))
    return dataclasses.replace(profile, passes=tuple(dataclasses.replace(record, seconds=outcome.seconds) for record in profile.passes))


def _read(name: str, report: Path, outcome: Outcome, detail: str) -> Profile:
    profile = read_profile_file(report)
    records = tuple(
        dataclasses.replace(record, name=name, seconds=outcome.seconds, detail=f"{record.detail}; {detail}") for record in profile.passes
    )
    return dataclasses.replace(profile, passes=records)


def confinement(folder: Path, layers: Sequence[str]) -> dict[str, object]:
    """Return what a profiled program may touch: it reads everything but temporary files and this checkout, and writes below its folder."""
    hidden = [Path(tempfile.gettempdir()), *([_ROOT] if (_ROOT / "pyproject.toml").exists() else [])]
    libraries = [Path(entry) for entry in sys.path if entry and Path(entry).is_absolute() and Path(entry).resolve() != _ROOT]
    return {
        "layers": list(layers), "hidden": [str(path) for path in hidden], "readable": [str(path) for path in (Path(sys.prefix), Path(sys.base_prefix), _ROOT / "tools", *libraries)],
        "writable": [str(folder)], "file_bytes": _FILE_BYTES, "processes": None, "open_files": 4096,
    }  # fmt: skip


def run_child(command: Sequence[str], folder: Path, timeout_s: float) -> Outcome:
    """Run a command in a session, environment and directories of its own; kill the whole session at the time limit."""
    child = Child(command, folder)
    child.wait(timeout_s)
    return child.end()


class Child:
    """A command that runs in a session, environment and directories of its own. `end` must be called."""

    def __init__(self, command: Sequence[str], folder: Path, *, name: str = "output", environment: Mapping[str, str] | None = None) -> None:
        cache = folder / "cache"
        cache.mkdir(exist_ok=True)
        variables = {**base_environment(folder), **private_environment(folder, cache)}
        if "OMP_NUM_THREADS" in os.environ:
            variables["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        self._log = folder / f"{name}.log"
        self._began = time.monotonic()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**variables, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout_s: float) -> None:
        """Wait until it ends or the time is up; whatever comes first, and also when interrupted, the session is killed."""
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            pass
        except BaseException:
            self.end()
            raise

    @property
    def has_ended(self) -> bool:
        """True once the command itself has ended."""
        return self._process.poll() is not None

    def end(self) -> Outcome:
        """Kill what is left of the session and return how it went; `status` is None if it had not ended by itself."""
        status = self._process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with self._log.open("rb") as written:
            written.seek(max(0, self._log.stat().st_size - 6000))
            text = written.read().decode(errors="replace")
        return Outcome(status, text, time.monotonic() - self._began)


def _reason(outcome: Outcome, timeout_s: float) -> tuple[MissingKind, str]:
    if outcome.status is None:
        return "timeout", f"it did not end within {timeout_s:g} s and was killed"
    if "NVGPUCTRPERM" in outcome.output or "Permission" in outcome.output or "No permission" in outcome.output:
        return "no_permission", f"performance counters may not be read here: {_last_line(outcome.output)}"
    if "No module named 'tritonparse'" in outcome.output:
        return "tool_missing", "tritonparse is not installed; `pip install tritonparse` (the pass compile shows the same without launches)"
    if "active drivers" in outcome.output or "No CUDA GPUs" in outcome.output or "cuptiSubscribe" in outcome.output:
        return "no_device", f"it needs a device that is not here: {_last_line(outcome.output)}"
    return "failed", f"it ended with code {outcome.status}: {_last_line(outcome.output)}"


def _is_the_candidates_fault(output: str) -> bool:
    return "candidate.py" in output and "Traceback" in output and "PermissionError" not in output


def _last_line(text: str) -> str:
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")


def absent(target: str, name: str, kind: MissingKind, reason: str, *, seconds: float = 0.0) -> Profile:
    """Return the record of a pass that yielded nothing."""
    return Profile(target=target, passes=(PassRecord(name, name, "failed", seconds, reason),), missing=(Missing(name, kind, reason),))
