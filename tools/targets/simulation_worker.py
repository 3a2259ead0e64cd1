"""The simulator's process: imports torch and Triton's interpreter once, then forks a child for each job, so that a crash or a hang costs one job.

Started by `simulation.SimulationServer`; reads one JSON job per line on stdin and writes one JSON answer per line on stdout. Jobs:

- `trace`: host code runs at the problem's sizes on tensors without memory; every launch and every operator of PyTorch is noted, no kernel runs.
- `values`: kernels run in the interpreter, beside the reference in a child of its own, and outputs are compared with float64.

A candidate's child is confined like a compiling one, sees neither the reference's outputs nor this process, and hands over tensors. The reference's child is not.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SMALL = "INTERPRETER_SIZES"
"""Optional name in a problem: module-level names and the values that they take where kernels are interpreted."""
_FREE = frozenset(
    [
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "resize_",
        "set_",
        "detach",
        "alias",
        "lift_fresh",
        "_unsafe_view",
        "is_same_size",
        "lift",
    ]
)
_MOVEMENT = frozenset(
    [
        "clone",
        "copy_",
        "_to_copy",
        "contiguous",
        "cat",
        "stack",
        "constant_pad_nd",
        "fill",
        "fill_",
        "zero_",
        "zeros",
        "zeros_like",
        "full",
        "full_like",
        "ones",
        "ones_like",
        "new_zeros",
        "new_full",
        "new_ones",
        "arange",
        "repeat",
        "roll",
        "flip",
        "slice_scatter",
        "select_scatter",
        "scalar_tensor",
    ]
)
_REDUCTIONS = frozenset(
    [
        "sum",
        "mean",
        "amax",
        "amin",
        "max",
        "min",
        "prod",
        "var",
        "var_mean",
        "std",
        "native_layer_norm",
        "native_group_norm",
        "native_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "_softmax",
        "_log_softmax",
        "argmax",
        "argmin",
        "any",
        "all",
        "norm",
        "linalg_vector_norm",
        "logsumexp",
    ]
)
_GATHERS = frozenset(["embedding", "index", "index_select", "gather"])
_MAX_READS = 64
"""Values that host code may read from tensors in one call."""


def main() -> int:
    """Serve jobs until stdin closes."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils import flop_counter  # noqa: F401 - imported once, so that every fork has it
    from triton.runtime import interpreter  # noqa: F401 - the same

    FakeTensorMode()  # its first use imports a thousand modules
    torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        channel.write(json.dumps(serve(json.loads(line))) + "\n")
        channel.flush()
    return 0


def serve(job: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Do one job; see the module."""
    with tempfile.TemporaryDirectory(prefix="kevolve-simulate-") as folder:
        return {"trace": _trace_job, "values": _values_job}[job["kind"]](job, Path(folder))


def _trace_job(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # Any: JSON
    source, cls = (job["candidate"], "ModelNew") if job.get("candidate") else (job["problem"], "Model")
    return _forked(folder, job["timeout_s"], lambda: trace(job["problem"], source, cls, folder), confined=cls == "ModelNew")


def _values_job(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # Any: JSON
    import torch

    began = time.monotonic()
    given, kept = folder / "given", folder / "kept"
    given.mkdir()
    kept.mkdir()
    failed = _forked(kept, job["timeout_s"], lambda: _reference(job, given, kept), confined=False)
    if failed.get("error"):
        return {"status": "problem", "error": failed["error"]}
    left = job["timeout_s"] - (time.monotonic() - began)
    made = folder / "made"
    made.mkdir()
    told = _forked(made, max(1.0, left), lambda: _candidate(job, given, made), confined=True, readable=given)
    if "status" in told:
        return told
    try:
        outputs = torch.load(made / "outputs.pt", weights_only=True)
    except Exception as error:  # a file of the candidate's: whatever is wrong with it is its failure
        return {"status": "runtime_error", "reason": "its outputs cannot be read", "error": f"{type(error).__name__}: {error}"[:500]}
    return judge(torch.load(kept / "expected.pt", weights_only=False), outputs)


def judge(expected: list[Any], outputs: Any) -> dict[str, Any]:  # Any: tensors, and what a candidate wrote; JSON
    """Compare the outputs of every call with the reference's."""
    from tools.targets.interpreter import verdict

    if not isinstance(outputs, list) or len(outputs) != len(expected):
        return {"status": "runtime_error", "reason": "its outputs cannot be read"}
    for (native, wanted, form), got in zip(expected, outputs, strict=True):
        leaves, got_form = got
        if got_form != form or len(leaves) != len(native):
            return {"status": "wrong_shape", "reason": f"it returns {str(got_form)[:200]}, not {form[:200]}"}
        for ours, exact, plain in zip(leaves, wanted, native, strict=True):
            found = verdict(ours, exact, plain)
            if found:
                return dict(found)
    return {"status": "passed"}


def _reference(job: Mapping[str, Any], given: Path, kept: Path) -> dict[str, Any]:  # Any: JSON
    import torch
    from torch.utils._pytree import tree_flatten, tree_map_only

    from tools.targets.interpreter import fresh

    problem = _load("problem", sized(job["problem"]), kept)
    calls, expected = [], []
    with torch.no_grad():
        for seed in job["seeds"]:
            for workload in _workloads(problem):
                torch.manual_seed(seed)
                arguments = _arguments(problem)
                inputs = problem.get_inputs(**workload)
                torch.manual_seed(seed)
                model = _made(problem.Model, arguments)
                state = {name: value.clone() for name, value in model.state_dict().items()}
                exact = _made(problem.Model, arguments)
                exact.load_state_dict(state)
                native, form = tree_flatten(_called(model, fresh(inputs)))
                wide = tree_map_only(torch.Tensor, lambda item: item.double() if item.is_floating_point() else item, fresh(inputs))
                wanted, _ = tree_flatten(_called(exact.double(), wide))
                calls.append((seed, arguments, state, inputs))
                expected.append((native, wanted, str(form)))
    torch.save(calls, given / "calls.pt")
    torch.save(expected, kept / "expected.pt")
    return {}


def _candidate(job: Mapping[str, Any], given: Path, made: Path) -> dict[str, Any]:  # Any: JSON
    import torch
    from torch.utils._pytree import tree_flatten

    from tools.compile.job import digest
    from tools.targets.interpreter import accept_launch_options, without_bfloat16

    accept_launch_options()
    blocked = _install_language() if job["is_mtia"] else list
    calls = torch.load(given / "calls.pt", weights_only=False)  # written by the reference's process
    try:
        kernel = _load("kernel", without_bfloat16(job["candidate"], job["problem"]), made)
    except Exception as error:  # the candidate's code runs here: whatever it raises is its failure
        return {"status": "runtime_error", "reason": "the file cannot be imported", "error": digest(error)}
    outputs = []
    try:
        with torch.no_grad(), _first_config():
            for seed, arguments, state, inputs in calls:
                torch.manual_seed(seed)
                model = _made(kernel.ModelNew, arguments)
                model.load_state_dict(state, strict=True)
                leaves, form = tree_flatten(_called(model, inputs))
                outputs.append(([leaf.detach() if torch.is_tensor(leaf) else leaf for leaf in leaves], str(form)))
    except Exception as error:  # the same
        return {"status": "runtime_error", "reason": "it raises when it runs", "error": digest(error)}
    if problems := blocked():
        return {"status": "runtime_error", "reason": problems[0], "error": "\n".join(problems)}
    torch.save(outputs, made / "outputs.pt")
    return {}


def _install_language() -> Callable[[], list[str]]:
    """Add what Triton on MTIA adds to the language; return what says which programs would block each other."""
    from triton.runtime import interpreter

    from tools.compile import mtia_language

    mtia_language.install()
    found: list[str] = []
    named, launched = interpreter.InterpreterBuilder.set_grid_idx, interpreter.GridExecutor.__call__

    def set_grid_idx(self: Any, x: int, y: int, z: int) -> None:
        mtia_language.start_program((x, y, z))
        named(self, x, y, z)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # Any: whatever a launch passes
        mtia_language.forget()
        result = launched(self, *args, **kwargs)
        found.extend(item for item in mtia_language.problems() if item not in found)
        return result

    interpreter.InterpreterBuilder.set_grid_idx = set_grid_idx
    interpreter.GridExecutor.__call__ = call
    return lambda: found


# --- what runs, at the problem's sizes ------------------------------------------------------------------------------------


def trace(problem: str, source: str, cls: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Return, for each workload, the launches and operators of one call in order.

    Host code that reads values (`item`) runs once more on real tensors, which hold nothing that a kernel computed.
    """
    import torch
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    module = _load("problem", problem, folder)
    written = module if cls == "Model" else _load("kernel", source, folder)
    found: list[dict[str, Any]] = []
    for workload in _workloads(module):
        for has_memory in (False, True):
            events: list[dict[str, Any]] = []
            try:
                with torch.no_grad(), contextlib.nullcontext() if has_memory else FakeTensorMode(allow_non_fake_inputs=True):
                    inputs = module.get_inputs(**workload)
                    model = _made(getattr(written, cls), _arguments(module))
                    with _noted_launches(events), _noted_operators(events):
                        _called(model, inputs)
            except DataDependentOutputException:
                if has_memory:
                    raise
                continue
            except Exception:
                if has_memory or cls == "ModelNew":
                    raise
                continue  # a reference that tensors without memory cannot run
            break
        found.append({"workload": str(workload.get("name") or len(found)) if workload else "default", "events": events})
    return {"workloads": found}


@contextlib.contextmanager
def _noted_launches(events: list[dict[str, Any]]) -> Iterator[None]:
    """Within the context launches are noted and nothing runs."""
    from triton.runtime import interpreter
    from triton.runtime.autotuner import Autotuner

    from tools.compile.launches import MAX_CONFIGS, describe, plain

    into = [events]

    def call(self: Any, *args: Any, **kwargs: Any) -> None:  # Any: whatever a launch passes
        known = {name: value for name, value in kwargs.items() if name in self.arg_names}
        bound = inspect.getcallargs(self.fn, *args, **known)
        extent = self.grid(dict(bound)) if callable(self.grid) else self.grid
        options = {name: value for name, value in kwargs.items() if name not in known and name not in ("grid", "warmup")}
        into[-1].append(
            {
                "launch": {
                    "kernel": self.fn.__name__,
                    "arguments": {name: describe(value) for name, value in bound.items()},
                    "constexprs": sorted(self.constexprs),
                    "options": plain(options),
                    "grid": [int(size) for size in extent],
                }
            }
        )

    def tune(tuner: Any, *arguments: Any, **options: Any) -> None:
        tuner.nargs = dict(zip(tuner.arg_names, arguments, strict=False))
        configs = list(tuner.prune_configs(options))[:MAX_CONFIGS] if len(tuner.configs) > 1 else tuner.configs
        choices: list[dict[str, Any]] = []
        for config in configs:
            into.append([])
            tuner.fn.run(*arguments, **{**options, **config.all_kwargs()})
            choices += into.pop()
        tuner.nargs = None
        into[-1].append({"choices": choices})

    before = interpreter.GridExecutor.__call__, Autotuner.run
    interpreter.GridExecutor.__call__, Autotuner.run = call, tune
    try:
        yield
    finally:
        interpreter.GridExecutor.__call__, Autotuner.run = before


@contextlib.contextmanager
def _first_config() -> Iterator[None]:
    """Within the context an autotuned kernel runs in the first of its configurations."""
    from triton.runtime.autotuner import Autotuner

    def run(tuner: Any, *arguments: Any, **options: Any) -> Any:
        tuner.nargs = dict(zip(tuner.arg_names, arguments, strict=False))
        config = (list(tuner.prune_configs(options)) if len(tuner.configs) > 1 else tuner.configs)[0]
        if config.pre_hook is not None:
            config.pre_hook({**tuner.nargs, **config.all_kwargs()})
        return tuner.fn.run(*arguments, **{**options, **config.all_kwargs()})

    before = Autotuner.run
    Autotuner.run = run
    try:
        yield
    finally:
        Autotuner.run = before


def _noted_operators(events: list[dict[str, Any]]) -> Any:  # Any: a mode of torch, which is imported late
    from torch.utils._python_dispatch import TorchDispatchMode

    class Noted(TorchDispatchMode):  # type: ignore[misc] # torch gives this class no type
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            described = _described(func, args, kwargs or {}, out)
            if described is not None:
                events.append({"operator": described})
            return out

    return Noted()


def _described(func: Any, args: Any, kwargs: Any, out: Any) -> dict[str, Any] | None:
    """Return an operator as the fields of `tools.targets.operators.Operator`; None if it moves nothing."""
    import torch
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    name = str(func).removeprefix("aten.").partition(".")[0]
    schema = func._schema
    writes = [item for item in schema.arguments if item.alias_info is not None and item.alias_info.is_write]
    if func.namespace == "prim" or name in _FREE or (not writes and any(item.alias_info is not None for item in schema.returns)):
        return None
    inputs = [leaf for leaf in tree_leaves([args, kwargs]) if torch.is_tensor(leaf)]
    outputs = [leaf for leaf in tree_leaves(out) if torch.is_tensor(leaf)]
    count = flop_registry.get(func.overloadpacket)
    tags = getattr(func, "tags", ())
    read = inputs[1:] if name in ("copy_", "fill_", "zero_") else inputs
    gathered = sum(item.numel() for item in inputs if item.dtype in (torch.int64, torch.int32)) if name in _GATHERS else 0
    if gathered:
        read = [item for item in read if item.dtype in (torch.int64, torch.int32)]
    largest = max([_moved(item)[0] for item in (*inputs, *outputs)], default=1)
    return {
        "name": str(func),
        "loaded_bytes": float(sum(_moved(item)[1] for item in read))
        + (float(sum(_moved(item)[1] for item in outputs)) if gathered else 0.0),
        "stored_bytes": float(sum(_moved(item)[1] for item in outputs)) or (8.0 if name == "_local_scalar_dense" else 0.0),
        "elements": float(largest),
        "flops": float(count(*args, **kwargs, out_val=out)) if count is not None else 0.0,
        "gathered": float(gathered),
        "element_bytes": min((item.element_size() for item in inputs if item.is_floating_point()), default=4),
        "is_known": bool(
            count is not None
            or torch.Tag.pointwise in tags
            or name in _MOVEMENT
            or name in _REDUCTIONS
            or name in _GATHERS
            or name == "_local_scalar_dense"
        ),
        "is_movement": name in _MOVEMENT,
    }


def _moved(item: Any) -> tuple[int, int]:
    """Return elements and bytes that a tensor occupies; what is expanded counts once."""
    count = 1
    for size, step in zip(item.shape, item.stride(), strict=True):
        count *= int(size) if step else 1
    return count, count * int(item.element_size())


# --- problems and processes -----------------------------------------------------------------------------------------------


def sized(source: str) -> str:
    """Return a problem's source with the sizes that its `INTERPRETER_SIZES` (a dict of constants) asks for; as it is without.

    Raises:
        ValueError: It names something that the file does not assign once at its top level, or is no dict of constants.
    """
    import ast

    tree = ast.parse(source)
    given: Any = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == SMALL for target in node.targets):
            given = ast.literal_eval(node.value)
    if not isinstance(given, dict):
        raise ValueError(f"{SMALL} is a dict of module-level names and values, got {given!r}")
    for name, value in given.items():
        source, count = re.subn(rf"^{re.escape(str(name))}\s*=(?!=).*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{SMALL} names {name}, which is assigned {count} times at the top level in one line; once is needed")
    return source


def _load(name: str, source: str, folder: Path) -> Any:  # Any: a module made from text
    import importlib.util

    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"simulated_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"simulated_{name}"] = module
    spec.loader.exec_module(module)
    return module


def _workloads(problem: Any) -> list[dict[str, Any]]:
    return list(getattr(problem, "WORKLOADS", None) or [{}])


def _arguments(problem: Any) -> Any:
    return problem.get_init_inputs() if hasattr(problem, "get_init_inputs") else []


def _made(cls: Any, arguments: Any) -> Any:
    return cls(**arguments) if isinstance(arguments, Mapping) else cls(*arguments)


def _called(model: Any, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def _forked(
    folder: Path, timeout_s: float, work: Callable[[], dict[str, Any]], *, confined: bool, readable: Path | None = None
) -> dict[str, Any]:  # Any: JSON
    """Run work in a child and return its answer; one that ends without an answer is a candidate's failure."""
    from tools.compile.worker import wait_for

    answer = folder / "answer.json"
    child = os.fork()
    if child == 0:
        _child(folder, answer, work, confined, readable)
    status = wait_for(child, time.monotonic() + timeout_s)
    if status is None:
        return {"status": "timeout", "error": f"still running after {timeout_s:.0f} s"}
    if answer.exists():
        told: Any = json.loads(answer.read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    cause = "an access outside a tensor" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 11 else f"code {status}"
    return {"status": "runtime_error", "reason": f"the interpreter's process ended without an answer: {cause}", "error": cause}


def _child(folder: Path, answer: Path, work: Callable[[], dict[str, Any]], confined: bool, readable: Path | None) -> None:
    """Do the work and leave; never returns."""
    from tools.compile.job import digest
    from tools.compile.worker import confinement
    from tools.sandbox.apply import confine

    try:
        os.setpgid(0, 0)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), TRITON_CACHE_DIR=str(folder / "cache"))
        tempfile.tempdir = None  # ask the environment again
        if confined:
            options = confinement(folder)
            confine({**options, "readable": [*options["readable"], *([str(readable)] if readable else [])]})
        told = work()
    except Exception as error:  # the process boundary: whatever went wrong must reach the parent
        told = {"status": "runtime_error", "reason": "it raises when it runs", "error": digest(error)}
        if not confined:
            told["error"] = "".join(traceback.format_exception_only(error)).strip()[:2000]
    part = answer.with_suffix(".part")
    part.write_text(json.dumps(told), encoding="utf-8")
    part.rename(answer)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
