"""Build the reference or the candidate of this folder and call it on the problem's inputs. Settings are in settings.json; nothing else decides what is run."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))


def load(name: str) -> Any:
    """Import NAME.py of this folder."""
    spec = importlib.util.spec_from_file_location(f"profiled_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{HERE / name}.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def to_device(value: Any) -> Any:
    """Move tensors, also in lists, tuples and mappings."""
    if isinstance(value, torch.Tensor):
        return value.to(SETTINGS["device"])
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item) for item in value)
    if isinstance(value, Mapping):
        return {key: to_device(item) for key, item in value.items()}
    return value


@functools.cache
def materials() -> tuple[Any, tuple[Any, ...], dict[str, Any], Any]:
    """Return the reference model, its constructor's arguments (by place, by name) and the inputs: the same for all programs that are built."""
    problem = load("problem")
    torch.manual_seed(SETTINGS["seed"])
    workload = (getattr(problem, "WORKLOADS", None) or [{}])[SETTINGS["workload"]]
    inputs = to_device(problem.get_inputs(**workload))
    init = problem.get_init_inputs()
    named = dict(init) if isinstance(init, Mapping) else {}
    positional = () if named else tuple(init)
    torch.manual_seed(SETTINGS["seed"])
    model = problem.Model(*positional, **named).to(SETTINGS["device"])
    return model, positional, named, inputs


def build(which: str = "candidate") -> Callable[[], Any]:
    """Return a call without arguments of the candidate (`ModelNew`) or of the reference (`Model`), both with the reference's weights."""
    model, positional, named, inputs = materials()
    if which == "candidate":
        weights = model.state_dict()
        model = load("candidate").ModelNew(*positional, **named)
        if isinstance(model, torch.nn.Module):
            model = model.to(SETTINGS["device"])
            model.load_state_dict(weights, strict=True)

    def call() -> Any:
        with torch.no_grad():
            return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)

    return call


def synchronize() -> None:
    """Wait for the device."""
    if SETTINGS["device"] == "cuda":
        torch.cuda.synchronize()


def warm(call: Callable[[], Any]) -> None:
    """Call a few times, so that compiling and first-time allocation are over."""
    for _ in range(SETTINGS["warm_up"]):
        call()
    synchronize()


def turn() -> None:
    """Wait for this program's turn where several are prepared at once and measured one by one: PROFILE_TURN is a folder that says so by a file `go`."""
    if folder := os.environ.get("PROFILE_TURN"):
        Path(folder, "ready").touch()
        while not Path(folder, "go").exists():
            time.sleep(0.005)


def turn_is_over() -> None:
    """Say that the measuring is done, so that the next program may begin while this one writes and ends."""
    if folder := os.environ.get("PROFILE_TURN"):
        Path(folder, "over").touch()
