"""What runs in the candidate's own process: build the model, call it on inputs that arrive as bytes, return raw bytes.

Nothing here decides anything. The other side computes the verdict from the bytes and measures time by its own clock; what this process says about itself is
used only to explain failures. It never sees the problem's source, a reference output or a seed of the value checks.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tools.check.sanitizers import instrument
from tools.worker import objects, tensors
from tools.worker.arena import align, map_received
from tools.worker.channel import Channel
from tools.worker.devices import Device, open_device
from tools.worker.server import Answer, CommandError, classify, serve
from tools.worker.timed import TimedSlots, raw_bits
from tools.worker.trace import OperatorTrace, launched_kernels, profile_kernels, profile_span, start_profiler, without_launches

_GUARD_BYTES = 512
_TEXT = 6000


class CandidateWorker:
    """The state of one candidate process. Operations arrive in the order load, state, call/prepare, warm, block."""

    def __init__(self, channel: Channel, config: Answer) -> None:
        self._channel = channel
        self._config = config
        self._device: Device | None = None
        self._model: Callable[..., Any] | None = None
        self._inputs: mmap.mmap | None = None
        self._outputs: mmap.mmap | None = None
        self._slots: TimedSlots | None = None
        self._last: Any = None
        self._weights: dict[str, torch.Tensor] = {}
        """Parameters and buffers by name, as they were when the weights were first loaded."""
        self._announced: list[Answer] = []
        self._views: list[Any] = []
        """Arguments that lie in the arena, by announced draw; None where they have to be built for each sweep."""
        self._places: list[Answer] = []
        self._swept: list[Any] = []
        self._launched: dict[str, int] = {}
        """Triton kernels launched in checked calls: a call that replays a recording launches nothing by name any more."""

    def run(self) -> None:
        """Serve until the other side closes."""
        serve(
            self._channel,
            {
                "probe": self._probe, "open": self._open, "compile": self._compile,
                "load": self._load, "arenas": self._arenas, "state": self._state, "call": self._call, "rewrite": self._rewrite,
                "prepare": self._prepare, "warm": self._warm, "block": self._block, "fetch": self._rewrite, "trace": self._trace, "repeat": self._repeat,
                "idle": self._idle, "ghost": self._ghost, "announce": self._announce, "sweep": self._sweep, "store": self._store, "profile": self._profile,
            },
        )  # fmt: skip

    def _probe(self, message: Answer, fds: list[int]) -> Answer:
        """Show that the device works inside the sandbox."""
        device = open_device(self._config["device"], self._config["num_threads"])
        total = float(torch.ones(1024, device=device.name).sum())
        device.synchronize()
        return {"works": total == 1024.0}

    def _open(self, message: Answer, fds: list[int]) -> Answer:
        """Initialise the device, and the profiler if asked to; nothing of the candidate is loaded yet."""
        self._device = open_device(self._config["device"], self._config["num_threads"])
        if message.get("profiler") is not True or self._device.name != "cuda":
            return {"profiler": "not asked for"}
        began = time.monotonic()
        note = start_profiler()
        return {"profiler": note, "profiler_s": time.monotonic() - began}

    def _compile(self, message: Answer, fds: list[int]) -> Answer:
        """Compile what the model launches, in a process that sees no device and is good for nothing else afterwards."""
        from tools.compile.ahead import compile_ahead  # what these import is needed in this process alone
        from tools.compile.job import move

        def call(device: str) -> None:
            module = _import_source(Path(message["path"]))
            model = module.ModelNew(*objects.from_data(tensors.read(message["init"], None, "cpu"), module))
            if isinstance(model, torch.nn.Module):
                move(model, device)
            for specification in message["calls"]:
                model(*tensors.read(specification, None, device))

        return compile_ahead(call, message["target"], message["limits"])

    def _idle(self, message: Answer, fds: list[int]) -> Answer:
        """Tell whether the device does nothing; asked only before the candidate is loaded."""
        return {"idle": self._device is not None and self._device.is_idle()}

    def _load(self, message: Answer, fds: list[int]) -> Answer:
        self._device = self._device or open_device(self._config["device"], self._config["num_threads"])
        self._arenas(message, fds)
        module = _import_source(Path(message["path"]))
        factory = getattr(module, "ModelNew", None)
        if factory is None:
            raise CommandError("missing_model", "the candidate does not define ModelNew")
        try:
            arguments = objects.from_data(tensors.read(message["init"], self._input_memory(), "cpu"), module)
            model = factory(*arguments)
            if isinstance(model, torch.nn.Module):
                model = model.to(self._device.name)
        except Exception as err:
            raise CommandError("oom" if classify(err) == "oom" else "construct", traceback.format_exc()) from err
        self._model = model
        state = model.state_dict() if isinstance(model, torch.nn.Module) else {}
        return {
            "state": {name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")} for name, value in state.items()}
        }

    def _arenas(self, message: Answer, fds: list[int]) -> Answer:
        """Map the descriptors named in `message["arenas"]`, in order: `in`, `out`."""
        for name, fd in zip(message.get("arenas", ()), fds, strict=True):
            if name == "in":
                self._inputs = map_received(fd, writable=False)
            else:
                self._outputs = map_received(fd, writable=True)
            os.close(fd)
        return {}

    def _state(self, message: Answer, fds: list[int]) -> Answer:
        """Load weights by name, strictly, in place; `in_memory`: into the memory of those that the model had when it was made."""
        if isinstance(self._model, torch.nn.Module) and self._device is not None:
            values = tensors.read(message["state"], self._input_memory(), self._device.name)
            if message["in_memory"]:
                with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
                    for name, value in values.items():
                        self._weights[name].data.copy_(value)
                return {}
            try:
                self._model.load_state_dict(values, strict=True)
            except (RuntimeError, KeyError) as err:
                raise CommandError("state", str(err)) from err
            self._weights = {
                name: item
                for name, item in torch.nn.Module.state_dict(self._model, keep_vars=True).items()
                if isinstance(item, torch.Tensor)
            }
        return {}

    def _call(self, message: Answer, fds: list[int]) -> Answer:
        """Call the model once on fresh copies and write outputs (and the inputs as they are afterwards) to the output arena."""
        device, model = self._ready()
        arguments = GuardedArguments(
            tensors.read(message["args"], self._input_memory(), device.name), exact=self._config.get("sanitize") is True
        )
        with torch.no_grad(), launched_kernels(is_wanted=device.name == "cuda") as launches:
            if message.get("late"):
                device.delay_values(list(tensors.tensors_of(arguments.tree)))
            poison(message["poison_bytes"], device)
            result = model(*arguments.tree)
            seen = result if _strict_types(result) else device.seen_in_order(result)
            device.synchronize()
        self._launched |= launches
        self._last = result
        answer = self._describe(result, arguments.tree, seen)
        answer["guards_intact"] = arguments.intact()
        if answer.get("written"):
            offset = align(answer["end"])
            spec, end = tensors.describe(tensors.map_tensors(arguments.tree, _contiguous), offset)
            if message["echo"] and end <= len(self._output_memory()):
                tensors.write(arguments.tree, spec, self._output_memory())
                answer["echoed"] = True
        return answer

    def _rewrite(self, message: Answer, fds: list[int]) -> Answer:
        """Write the last output once more."""
        self._ready()[0].synchronize()
        return self._describe(self._last, (), self._last)

    def _describe(
        self, result: Any, arguments: Any, seen: Any
    ) -> Answer:  # Any: whatever the candidate returned; an argument tree; a tree like the result
        """Describe a result and write its values as they were `seen` to the output arena."""
        problem = _strict_types(result)
        if problem:
            return {"invalid": problem}
        try:
            spec, end = tensors.describe(tensors.map_tensors(result, _contiguous))
        except tensors.UnsupportedValueError as err:
            return {"invalid": str(err)}
        devices = sorted({tensor.device.type for tensor in tensors.tensors_of(result)})
        answer: Answer = {"outputs": spec, "end": end, "devices": devices, "aliases": tensors.shares_memory(result, arguments)}
        if end <= len(self._output_memory()) and devices in ([], [self._config["device"]]):
            tensors.write(seen, spec, self._output_memory())
            answer["written"] = True
        return answer

    def _repeat(self, message: Answer, fds: list[int]) -> Answer:
        """Call again and again on the same inputs, each second time beside other work, and keep the output that differs most from the first."""
        device, model = self._ready()
        arguments = tensors.read(message["args"], self._input_memory(), device.name)
        began, kept, first, differing, worst, reused = time.monotonic(), [], None, 0, -1.0, False
        calls = 0
        while calls < message["calls"] and (calls < 2 or time.monotonic() - began < message["seconds"]):
            poison(message["poison_bytes"], device)
            if calls % 2:
                device.disturb()
            with torch.no_grad():
                result = model(*arguments)
                device.synchronize()
            calls += 1
            if first is None:
                self._last, kept, first = result, result, tensors.map_tensors(result, torch.clone)
                continue
            reused = reused or tensors.shares_memory(result, kept)
            distance = _distance(first, result)
            differing += distance > 0
            if distance > worst:
                worst, self._last = distance, tensors.map_tensors(result, torch.clone)
        return {"calls": calls, "differing": differing, "reused": reused}

    def _ghost(self, message: Answer, fds: list[int]) -> Answer:
        """Call on inputs that were not there before, without the Triton launches and then with them, and tell whether the outputs are the same."""
        device, model = self._ready()
        arguments = tensors.map_tensors(tensors.read(message["args"], self._input_memory(), device.name), _turned)
        poison(message["poison_bytes"], device)
        with torch.no_grad(), without_launches() as counts:
            try:
                ghost = tensors.map_tensors(model(*arguments), torch.clone)
                device.synchronize()
            except Exception:  # the candidate's code may raise anything when its kernels do nothing; then they matter
                return {"left_out": counts["left_out"], "same": False}
        if not counts["left_out"]:
            return {"left_out": 0, "same": False}
        with torch.no_grad():
            whole = model(*arguments)
            device.synchronize()
        return {"left_out": counts["left_out"], "same": _distance(ghost, whole) == 0.0}

    def _trace(self, message: Answer, fds: list[int]) -> Answer:
        """Record which operators and kernels one call runs."""
        device, model = self._ready()
        arguments = tensors.read(message["args"], self._input_memory(), device.name)
        answer: Answer = {}
        if device.name == "cuda":
            with torch.no_grad(), launched_kernels() as launches:
                answer["kernels"] = profile_kernels(lambda: model(*arguments))
            answer["launches"] = {**self._launched, **launches}
        if not answer.get("kernels"):
            with torch.no_grad(), OperatorTrace() as operators:
                model(*arguments)
            device.synchronize()
            answer["operators"] = operators.counts
        return answer

    def _prepare(self, message: Answer, fds: list[int]) -> Answer:
        device, _ = self._ready()
        self._last = None
        specs = message["slots"]
        arguments = [tensors.read(spec, self._input_memory(), device.name) for spec in specs]
        self._slots = TimedSlots(device, specs, arguments, restore=message["restore"] is True, layout=message["layout"])
        return {}

    def _warm(self, message: Answer, fds: list[int]) -> Answer:
        """Call each slot in turn; values stay as they are."""
        device, model = self._ready()
        if self._slots is None:
            raise CommandError("order", "warm before prepare")
        with torch.no_grad():
            for number in range(message["calls"]):
                self._last = model(*self._slots.arguments[number % len(self._slots.arguments)])
            device.synchronize()
        return {}

    def _block(self, message: Answer, fds: list[int]) -> Answer:
        _, model = self._ready()
        if self._slots is None:
            raise CommandError("order", "block before prepare")
        times, self._last = self._slots.run(model, message["calls"], message["seed"], message["ahead_ms"])
        return {"device_ms": times}

    def _profile(self, message: Answer, fds: list[int]) -> Answer:
        """Tell for how long the profiler saw the device at work during some calls on the timed inputs."""
        device, model = self._ready()
        if self._slots is None:
            raise CommandError("order", "profile before prepare")
        arguments, calls = self._slots.arguments, message["calls"]
        if device.name != "cuda":
            return {}

        def call_all() -> None:
            for number in range(calls):
                model(*arguments[number % len(arguments)])

        with torch.no_grad():
            return {**profile_span(call_all)}

    def _announce(self, message: Answer, fds: list[int]) -> Answer:
        """Take note of where the inputs of sweeps in place lie and their outputs go; before the inputs are there, so that a sweep is its calls alone."""
        device, _ = self._ready()
        self._announced, self._places = message["draws"], message["outputs"]
        self._views = [
            tensors.read(spec, self._input_memory(), device.name, in_place=True)
            if all(map(tensors.lies_as_it_should, tensors.tensor_specs(spec)))
            else None
            for spec in self._announced
        ]
        return {}

    def _sweep(self, message: Answer, fds: list[int]) -> Answer:
        """Call once on each of the draws, those announced if the message has none; write outputs to the arena at once or, with mode `in_place`, when asked."""
        device, model = self._ready()
        if self._slots is None:
            raise CommandError("order", "sweep before prepare")
        if message["mode"] != "copied":
            self._swept = []
            if message["draws"]:
                self._announce(message, fds)
            draws_there = [
                tensors.read(spec, self._input_memory(), device.name, in_place=True) if there is None else there
                for spec, there in zip(self._announced, self._views, strict=True)
            ]
            if message["mode"] == "at_once":
                for arguments, place in zip(draws_there, self._places, strict=True):
                    tensors.write(self._slots.calls_in_place(model, [arguments])[0], place, self._output_memory())
            else:
                self._swept = self._slots.calls_in_place(model, draws_there)
            return {}
        memory, places = self._output_memory(), message["outputs"]
        draws = ([tensors.view(self._input_memory(), entry) for entry in tensors.tensor_specs(spec)] for spec in message["draws"])
        self._slots.sweep(model, draws, lambda number, result: tensors.write(result, places[number], memory))
        device.synchronize()
        return {}

    def _store(self, message: Answer, fds: list[int]) -> Answer:
        """Write the outputs of the last sweep to the output arena; `reused`: some share memory, so that each has to be written before the next call."""
        if tensors.share_memory(self._swept):
            return {"reused": True}
        for result, place in zip(self._swept, self._places, strict=True):
            tensors.write(result, place, self._output_memory())
        return {}

    def _ready(self) -> tuple[Device, Callable[..., Any]]:
        if self._device is None or self._model is None:
            raise CommandError("order", "no model is loaded")
        return self._device, self._model

    def _input_memory(self) -> mmap.mmap:
        if self._inputs is None:
            raise CommandError("order", "no input arena")
        return self._inputs

    def _output_memory(self) -> mmap.mmap:
        if self._outputs is None:
            raise CommandError("order", "no output arena")
        return self._outputs


def main(channel: Channel, config: Answer) -> None:
    """Run a candidate worker on an inherited channel."""
    if config.get("sanitize") is True:
        instrument()
    CandidateWorker(channel, config).run()


def poison(nbytes: int, device: Device) -> None:
    """Leave NaN patterns in memory that the allocator is about to hand out, so that an output that is never written is never right by luck."""
    if nbytes > 0:
        for size in {nbytes, max(nbytes // 2, 1)}:
            block = torch.empty(size, dtype=torch.uint8, device=device.name)
            block.fill_(0xFF)
            del block


class GuardedArguments:
    """Argument tensors placed between guard bands whose pattern is checked afterwards."""

    def __init__(self, tree: Any, *, exact: bool = False) -> None:  # Any: argument tree
        """Place them; `exact`: each in a block of its own size instead, where a sanitizer watches the ends."""
        self._bands: list[torch.Tensor] = []
        self.tree = tensors.map_tensors(tree, torch.clone if exact else self._place)

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == 0 or tensor.numel() * tensor.element_size() > 256 << 20:
            return tensor
        pad = _GUARD_BYTES // tensor.element_size()
        storage = torch.empty(tensor.numel() + 2 * pad, dtype=tensor.dtype, device=tensor.device)
        bands = (storage[:pad].view(torch.uint8), storage[pad + tensor.numel() :].view(torch.uint8))
        for band in bands:
            band.fill_(0x5A)
            self._bands.append(band)
        placed = storage.as_strided(tensor.shape, tensor.stride(), pad)
        if tensor.device.type == "cpu":  # a storage that begins with it, as the reference's has: `as_strided` counts from there
            inner = torch.from_dlpack(storage[pad : pad + tensor.numel()].view(torch.uint8))
            placed = inner.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
        placed.copy_(tensor)
        return placed

    def intact(self) -> bool:
        """True if every guard band still holds its pattern."""
        return all(bool((band == 0x5A).all()) for band in self._bands)


def _import_source(path: Path) -> Any:  # Any: a module
    spec = importlib.util.spec_from_file_location("candidate", path)
    if spec is None or spec.loader is None:
        raise CommandError("import", f"cannot import {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["candidate"] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as err:
        raise CommandError("exit", f"the candidate called sys.exit({err.code!r}) while it was imported") from err
    except BaseException as err:  # the candidate's code may raise anything
        raise CommandError("oom" if classify(err) == "oom" else "import", traceback.format_exc()[-_TEXT:]) from err
    return module


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    """Return a floating tensor with its elements moved on by one in the last dimension; others as they are, since their order may carry meaning."""
    return torch.roll(tensor, 1, -1) if tensor.is_floating_point() and tensor.dim() > 1 else tensor


def _distance(first: Any, second: Any) -> float:  # Any: trees of tensors
    """Return 0.0 if all bits agree, else how far the furthest elements are apart (infinite where one of them is not finite)."""
    furthest = 0.0
    for one, other in zip(tensors.tensors_of(first), tensors.tensors_of(second), strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        if one.numel() and not bool((raw_bits(one) == raw_bits(other)).all()):
            gap = (one.to(torch.complex128 if one.is_complex() else torch.float64) - other).abs()
            furthest = max(furthest, float(torch.nan_to_num(gap, nan=float("inf")).max()), 1e-300)
    return furthest


def _contiguous(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if tensor.is_contiguous() else tensor.detach().contiguous()


def _strict_types(result: Any) -> str:  # Any: whatever the candidate returned
    """Return what is wrong with the types in a result: only plain tensors with real storage count."""
    if isinstance(result, torch.Tensor):
        if type(result) is not torch.Tensor:
            return f"subclass: the output is a {type(result).__name__}, not a plain torch.Tensor"
        if result.layout is not torch.strided or result.device.type == "meta":
            return f"layout: the output has layout {result.layout} on {result.device.type}; a strided tensor with storage is needed"
        if result.is_neg() or result.is_conj():
            return "lazy: the output is a lazily negated or conjugated view"
        return ""
    if isinstance(result, (list, tuple)):
        return next((text for text in map(_strict_types, result) if text), "")
    if isinstance(result, dict):
        return next((text for text in map(_strict_types, result.values()) if text), "")
    return ""
