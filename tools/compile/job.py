"""One compile job, done in a process of its own: load the source, run its host code on an absent device, compile what it launches."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib.util
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from tools.compile.device import AbsentDevice, stand_in
from tools.compile.launches import Launch, LaunchError, Recorder, plain, record_launches
from tools.compile.resources import exceeded, read_resources, remarks, specialisation
from tools.targets.base import CompileReport, EmittedStage, KernelResources, LaunchRecord

if TYPE_CHECKING:
    import torch

_MESSAGE_CHARACTERS = 2000
_NO_DEVICE = (
    "not linked with support for cuda",
    "No CUDA GPUs",
    "no CUDA-capable device",
    "Found no NVIDIA driver",
    "No HIP GPUs",
    "cudaGetDevice",
    "from the 'CUDA' backend",
    "Couldn't swap",
)
"""What torch says where an operation on tensors without memory wants a device, or (`Module.to` in a constructor) memory after all."""


@dataclass(frozen=True)
class Job:
    """What to compile and for which chip. JSON-ready."""

    source: str
    """A module with `launch` (kernel documents) or with `ModelNew` (candidates)."""
    target: str
    limits: Mapping[str, float]
    example: Mapping[str, Any] | None = None  # Any: JSON arguments of `launch`; tensors as {shape, dtype}
    problem: str | None = None
    """Source of the problem whose inputs a candidate gets."""
    record_only: bool = False
    """True: only record the launches; nothing is compiled and the report has no kernels."""
    emit: str = ""
    """Stage whose text the report is to hold, for example `ttgir`; a binary (`cubin`, `hsaco`) comes in base64; empty: none."""

    @property
    def device(self) -> AbsentDevice:
        """The chip as a device that is not here."""
        return AbsentDevice.of_target(self.target, self.limits)


def run_job(job: Job) -> CompileReport:
    """Compile everything the job's source launches. Replaces parts of torch and Triton in this process for good: call it in a process of its own."""
    import torch
    import triton

    started = time.monotonic()
    launches: list[Launch] = []
    failure: BaseException | None = None
    stand_in(job.device)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run_host_code(job, Path(folder), launches)
        except Exception as error:  # the candidate's own code: whatever it raises becomes the report
            failure = error
        report = _report(job, launches, failure)
    versions = {"torch": str(torch.__version__), "triton": str(triton.__version__)}
    return dataclasses.replace(report, seconds=time.monotonic() - started, versions=versions)


def _run_host_code(job: Job, folder: Path, launches: list[Launch]) -> None:
    run = _entry(job, folder)
    with record_launches(compiles=not job.record_only) as recorder:
        _run_without_device(run, recorder, launches)


def _run_without_device(run: Callable[[str], None], recorder: Recorder, launches: list[Launch]) -> None:
    """Run host code on tensors without memory: on the absent device, else (a torch without CUDA refuses some copies) on the host; last on real tensors."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    for device, has_memory in (("cuda:0", False), ("cpu", False), ("cpu", True)):
        recorder.start(launches)
        try:
            with contextlib.nullcontext() if has_memory else FakeTensorMode(allow_non_fake_inputs=True):
                run(device)
        except DataDependentOutputException:
            continue
        except RuntimeError as error:
            if has_memory or not any(text in str(error) for text in _NO_DEVICE):
                raise
            continue
        return


def _entry(job: Job, folder: Path) -> Callable[[str], None]:
    if job.problem is not None:
        problem = _load(folder / "problem.py", job.problem)
        return lambda device: _run_candidate(_load(folder / "candidate.py", job.source), problem, device)
    module = _load(folder / "kernel.py", job.source)
    if not hasattr(module, "launch"):
        raise AttributeError("the source defines no `launch`; give a problem whose inputs start `ModelNew`, or a kernel document")
    example = job.example if job.example is not None else getattr(module, "EXAMPLE", None)
    if example is None:
        raise AttributeError("no arguments for `launch`: state them as `example:` in the document's front matter")
    return lambda device: _call_launch(module, example, device)


def _call_launch(module: ModuleType, example: Mapping[str, Any], device: str) -> None:
    module.launch(**{name: _argument(value, device) for name, value in example.items()})


def _argument(value: Any, device: str) -> Any:
    import torch

    if isinstance(value, Mapping) and set(value) >= {"shape", "dtype"}:
        dtype = getattr(torch, value["dtype"])
        if "stride" in value:
            return torch.empty_strided(value["shape"], value["stride"], dtype=dtype, device=device)
        return torch.empty(value["shape"], dtype=dtype, device=device)
    if isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype):
        return getattr(torch, value)
    if isinstance(value, list):
        return [_argument(item, device) for item in value]
    return value


def _run_candidate(module: ModuleType, problem: ModuleType, device: str) -> None:
    import torch
    from torch.utils._pytree import tree_map_only

    def moved(value: Any) -> Any:
        return tree_map_only(torch.Tensor, lambda item: item.to(torch.device(device)), value)

    workloads = getattr(problem, "WORKLOADS", None) or [{}]
    arguments = problem.get_init_inputs()
    named = arguments if isinstance(arguments, Mapping) else {}
    with torch.no_grad():
        model = module.ModelNew(*([] if named else arguments), **named)
        if isinstance(model, torch.nn.Module):
            move(model, device)
        for workload in workloads:
            inputs = problem.get_inputs(**workload)
            model(**{name: moved(value) for name, value in inputs.items()}) if isinstance(inputs, Mapping) else model(
                *(moved(value) for value in inputs)
            )


def move(model: torch.nn.Module, device: str) -> None:
    """Move a model's parameters and buffers one by one: `Module.to` swaps parameters without memory, which torch refuses for some of them."""
    import torch

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = parameter.detach().to(torch.device(device))
                module._parameters[name] = torch.nn.Parameter(moved, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(torch.device(device))


def _load(path: Path, source: str) -> ModuleType:
    path.write_text(source, encoding="utf-8")
    name = f"kevolve_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _report(job: Job, launches: list[Launch], failure: BaseException | None) -> CompileReport:
    kernels: list[KernelResources] = []
    emitted: list[EmittedStage] = []
    errors: list[str] = []
    warnings: list[str] = []
    for launch in [] if job.record_only else launches:
        if launch.error is not None:
            (warnings if launch.is_tuned else errors).append(f"{launch.kernel} [{specialisation(launch)}]: {digest(launch.error)}")
            continue
        resources = read_resources(launch, job.limits)
        kernels.append(resources)
        code = launch.compiled.asm.get(job.emit) if job.emit else None
        if code is not None:
            text = base64.b64encode(code).decode() if isinstance(code, bytes) else str(code)
            emitted.append(EmittedStage(launch.kernel, resources.specialisation, job.emit, text))
        (warnings if launch.is_tuned else errors).extend(exceeded(resources, launch, job.limits, job.target))
        warnings.extend(remarks(resources, launch))
    if failure is not None and not isinstance(failure, LaunchError):
        errors.append(digest(failure))
    errors += [] if job.record_only else _without_survivor(launches, kernels, job)
    records = tuple(
        LaunchRecord(item.kernel, item.arguments, tuple(sorted(item.constexprs)), plain(item.options), item.grid) for item in launches
    )
    status: Literal["compiled", "error", "nothing_to_compile"] = "error" if errors else "compiled" if launches else "nothing_to_compile"
    message = "\n".join(errors)[:_MESSAGE_CHARACTERS]
    return CompileReport(
        job.target, status, tuple(kernels), message, tuple(dict.fromkeys(warnings)), launches=records, emitted=tuple(emitted)
    )


def _without_survivor(launches: list[Launch], kernels: list[KernelResources], job: Job) -> list[str]:
    """Return an error for each autotuned kernel of which no configuration can run."""
    tuned = {launch.kernel for launch in launches if launch.is_tuned}
    most = job.limits["shared_memory_per_block_bytes"]
    alive = {resources.kernel for resources in kernels if resources.shared_bytes <= most and resources.occupancy_fraction}
    return [f"{name}: none of its autotune configurations can run on {job.target}" for name in sorted(tuned - alive)]


def digest(error: BaseException) -> str:
    """Return the innermost message of an error with the place in the source, at most about 2,000 characters."""
    chain = [error]
    while (inner := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__)) is not None:
        chain.append(inner)
    shown = [item for item in chain if not isinstance(item, LaunchError)]
    messages = list(dict.fromkeys(f"{type(item).__name__}: {item}".strip() for item in reversed(shown[:1] + shown[-1:])))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "kevolve_" in frame.filename or frame.filename.endswith(("candidate.py", "kernel.py"))
    ]
    place = f" (line {frames[-1].lineno} of the source)" if frames else ""
    return ("; caused by ".join(messages[::-1]) + place)[:_MESSAGE_CHARACTERS]
