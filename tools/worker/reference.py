"""The trusted process of one problem on one device: input draws, the float64 reference, comparison statistics, and the timed baselines.

It imports the problem and never sees a candidate: candidates' outputs reach it as raw bytes in memory whose size is sealed. The draws and expected
outputs stay here; what leaves are statistics.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import logging
import math
import mmap
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tools.check.compare import ErrorStats, calibrate, compare, compare_exact
from tools.check.decision import doubtful_nulls, far_off, reject
from tools.check.floor import may_be_needed, needed_flops
from tools.check.held_out import changed, choose
from tools.check.nulls import null_outputs
from tools.check.operators import may_size_by_values, picks_among_equals, takes_integers_as_numbers
from tools.check.variation import contrast, distinct_values, perturb_weights, poke_rule, vary
from tools.check.variation_kinds import KINDS
from tools.sandbox.memory import limit_allocations
from tools.worker import objects, spread, tensors
from tools.worker.allowed import Tf32Operands
from tools.worker.amplify import amplify, damp_branches
from tools.worker.arena import Arena, align
from tools.worker.channel import Channel
from tools.worker.devices import Device, flat_bytes, open_device
from tools.worker.library import NoLibraryFormError, library_form
from tools.worker.server import Answer, CommandError, classify, serve
from tools.worker.timed import TimedSlots, last_slot, poke_values, raw_bits, replay
from tools.worker.trace import OperatorTrace
from tools.worker.wide import NotWideError, Wide, own_dtype, widen, widened

_Model = Callable[..., Any]  # Any: the problem's own arguments and outputs
_LOG = logging.getLogger(__name__)
_SNAPSHOT_BYTES = 256 << 20
_SPREAD_SEED = 0x5EED
_NULL_ELEMENTS = 1 << 18
_SMALL_BYTES = 64 << 20
"""Calls that move so much are repeated to learn more about the problem."""
_OTHER_SHARE = 0.02
"""Most elements that may differ between two draws of one seed."""
_FORMS = 6
"""Draws whose outputs must have the same shapes."""
_TRIED_ELEMENTS = 1 << 12
"""Elements that are changed at once to see whether an input's elements can change one by one."""
_SMALL_TRIES = 3
"""So often where there are fewer: one choice of them may be borne by chance."""
_COMPILE_MODES = {"compiled": None, "max_autotune": "max-autotune-no-cudagraphs"}
"""Graphs are left out: both sides are to pay for their launches."""


@dataclasses.dataclass
class _Draw:
    """One input draw with what PyTorch makes of it."""

    inputs: list[Any]  # Any: argument trees
    native: Any  # Any: output tree
    spec: Answer
    output_spec: Answer
    output_end: int
    kind: str
    aliases: bool


class ReferenceWorker:
    """State of the reference process."""

    def __init__(self, channel: Channel, config: Answer) -> None:
        self._channel = channel
        self._config = config
        limit_allocations(config.get("data_bytes"))
        self._device: Device = open_device(config["device"], config["num_threads"])
        self._module: Any = None  # Any: the problem's module
        self._model: Any = None  # Any: nn.Module
        self._compiled: dict[str, _Model] = {}
        self._workloads: list[dict[str, Any]] = [{}]
        self._init: list[Any] = []
        self._init_data: list[Any] = []
        self._draw_now: _Draw | None = None
        self._fixed: dict[int, frozenset[int]] = {}
        """For each workload the inputs whose elements cannot change one by one."""
        self._undecided: set[int] = set()
        """Workloads for which ties in the inputs have several right answers."""
        self._numeric: set[int] = set()
        """Workloads whose integers are numbers to compute with."""
        self._narrows = True
        """Whether the model makes tensors of its own dtype, as far as is known, so that a float64 run must be watched."""
        self._given: dict[str, torch.Tensor] = {}
        self._amplified: dict[str, torch.Tensor] = {}
        """The problem's own weights and those with which its outputs depend on its inputs; both empty where its own do."""
        self._contrasted: set[int] = set()
        """Workloads whose outputs depend on inputs only where samples differ in more than noise."""
        self._surveyed: list[int] = []
        self._rounds = True
        """Whether the settings may round anything of this problem, as far as is known."""
        self._slots: TimedSlots | None = None
        self._slot_plan: tuple[int, list[int], list[Answer], Answer] | None = None
        self._in: Arena | None = None
        self._out: Arena | None = None
        self._serial = 0
        self._other_sizes: dict[str, Any] | None = None  # Any: int or a tuple of ints
        self._snapshot: list[torch.Tensor] = []
        self._novel_plan: tuple[list[Answer], list[Answer]] = ([], [])
        self._views: list[Any] = []
        """Arguments that lie in the arena, by fresh draw, on `cpu`."""
        self._own_outputs: mmap.mmap | None = None
        self._swept: list[Any] = []  # Any: output trees
        self._kept_draw: list[torch.Tensor] = []
        self._is_in_place = False
        """Whether the last sweep was made where the draws lie."""

    def run(self) -> None:
        """Serve until the other side closes."""
        serve(
            self._channel,
            {
                "open": self._open, "ping": lambda message, fds: {}, "survey": self._survey, "draw": self._draw, "held_out": self._held_out, "compare": self._compare, "unchanged": self._unchanged,
                "prepare": self._prepare, "compile": self._compile, "warm": self._warm, "block": self._block, "verify": self._verify, "release": self._release,
                "novel": self._novel, "sweep": self._sweep, "verify_sweep": self._verify_sweep, "store": self._store, "overwrite": self._overwrite,
                "idle": lambda message, fds: {"idle": self._device.is_idle()},
            },
        )  # fmt: skip

    # --- the problem ---------------------------------------------------------------------------------------------------------------------

    def _open(self, message: Answer, fds: list[int]) -> Answer:
        path = Path(message["path"])
        try:
            self._module = _import_problem(path)
        except BaseException as err:  # the problem's code may raise anything
            raise CommandError("problem", f"the problem cannot be imported: {_last_line(err)}") from err
        self._workloads = _workloads(self._module)
        try:
            self._init = list(self._module.get_init_inputs())
        except Exception as err:
            raise CommandError("problem", f"get_init_inputs() raised {_last_line(err)}") from err
        try:
            self._init_data = objects.to_data(self._init, self._module)
            init, _ = tensors.describe(self._init_data)
        except tensors.UnsupportedValueError as err:
            raise CommandError("problem", f"get_init_inputs(): {err}; objects may be of classes that the problem itself defines") from err
        torch.manual_seed(message["seed"])
        try:
            self._model = self._module.Model(*self._init).to(self._device.name)
        except Exception as err:
            kind = "oom" if classify(err) == "oom" and self._device.name != "cpu" else "problem"  # neighbours come and go on an accelerator
            raise CommandError(kind, f"Model(*get_init_inputs()) raised {_last_line(err)}{self._hint(err)}") from err
        tolerance = getattr(self._module, "TOLERANCE", None)
        if tolerance is not None and not _is_tolerance(tolerance):
            raise CommandError("problem", f"TOLERANCE must be a dict of numbers from 0, atol and rtol, got {tolerance!r}")
        try:
            tensors.describe(dict(self._model.state_dict()))
        except tensors.UnsupportedValueError as err:
            raise CommandError("problem", f"the model's state_dict(): {err}") from err
        perturb_weights(self._model, _generator(message["seed"]))
        blanks = list(map(self._blank_inputs, self._workloads))
        return {
            "workloads": [_workload_name(item, number) for number, item in enumerate(self._workloads)],
            "facts": self._device.facts(),
            "pid": os.getpid(),
            "model_bytes": sum(item.numel() * item.element_size() for item in self._model.state_dict().values()),
            "inputs_bytes": max((_nbytes(made) for made in blanks), default=0),
            "calls": [None if made is None else tensors.describe(made)[0] for made in blanks],
            "init": init,
        }

    def _hint(self, error: Exception) -> str:
        """Say what is the matter with files of two common kinds: those written for one device, and those whose constructor takes keywords, as KernelBook's."""
        if "CUDA" in str(error) and not self._device.name.startswith("cuda"):
            return "; model and inputs are moved to the device, so the file need not name one"
        if len(self._init) == 2 and isinstance(self._init[0], list | tuple) and isinstance(self._init[1], dict):
            return "; get_init_inputs() gives positional arguments: [[...], {...}] passes a list and a dict, not keywords"
        return ""

    def _blank_inputs(self, arguments: Mapping[str, Any]) -> list[Any] | None:  # Any: the workload's arguments; an argument tree
        """Return a workload's inputs as tensors without values; None where the generator needs values, or makes something that cannot be described."""
        try:
            with torch.device("meta"):
                made = list(self._module.get_inputs(**arguments))
            tensors.describe(made)
        except Exception:  # the problem's code may raise anything for tensors without values
            return None
        return made

    def _generate(self, workload: int, seed: int, kind: str, *, plain: bool = False) -> list[Any]:  # Any: argument trees
        """Draw inputs; `plain`: as the problem draws them, although its outputs hardly depend on those."""
        arguments = self._workloads[workload]

        def build() -> Any:  # Any: what the problem returns
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)
            return self._module.get_inputs(**arguments)

        try:
            if self._device.name == "cpu":
                made = build()
            else:
                try:
                    with torch.device(self._device.name):
                        made = build()
                except (RuntimeError, TypeError, ValueError):
                    made = build()
        except Exception as err:
            if classify(err) == "oom":
                raise CommandError("oom", f"get_inputs() ran out of memory: {_last_line(err)}") from err
            raise CommandError("problem", f"get_inputs({_keywords(arguments)}) raised {_last_line(err)}{self._hint(err)}") from err
        if not isinstance(made, (list, tuple)):
            raise CommandError("problem", f"get_inputs() must return a list of arguments, got {type(made).__name__}")
        try:
            tensors.describe(list(made))
        except tensors.UnsupportedValueError as err:
            raise CommandError("problem", f"get_inputs(): {err}") from err
        if any(tensor.requires_grad for tensor in tensors.tensors_of(made)):
            raise CommandError(
                "problem",
                "get_inputs() returns tensors that require gradients; only forward passes are evaluated, so a result would say nothing of training",
            )
        moved = tensors.map_tensors(list(made), lambda tensor: tensor.detach().to(self._device.name))
        if workload in self._contrasted and not plain:
            moved = contrast(moved, _generator(seed ^ 0xC0A1))
        return list(vary(moved, kind, _generator(seed ^ 0x5EED), integers_are_numbers=workload in self._numeric))

    def _call_native(self, inputs: list[Any]) -> Any:  # Any: argument and output trees
        with self._unchanged_state(), torch.no_grad():
            result = self._model(*inputs)
            self._device.synchronize()
        return result

    @contextmanager
    def _unchanged_state(self) -> Iterator[None]:
        """Undo what a call does to buffers (running statistics in training mode)."""
        saved = {name: value.clone() for name, value in self._buffers()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._buffers():
                    value.copy_(saved[name])

    def _buffers(self) -> list[tuple[str, torch.Tensor]]:
        """Return the buffers that a call may change; sparse ones are not in the state and count as constants."""
        return [item for item in self._model.named_buffers() if item[1].layout is torch.strided]

    def _call_after_another(self, inputs: list[Any]) -> list[torch.Tensor]:  # Any: argument trees
        """Return the outputs of a call that finds the buffers as an earlier one left them; none where calls leave them alone."""
        saved = {name: value.clone() for name, value in self._buffers()}
        if not saved:
            return []
        with self._unchanged_state(), torch.no_grad():
            self._model(*_copies(inputs))
            if all(bool((raw_bits(saved[name]) == raw_bits(value)).all()) for name, value in self._buffers() if value.numel()):
                return []
            result = self._model(*_copies(inputs))
            self._device.synchronize()
            return [tensor.detach().clone() for tensor in tensors.tensors_of(result)]

    def _call_allowed(self, inputs: list[Any]) -> list[torch.Tensor]:  # Any: argument trees
        """Return the outputs with the rounding that the settings allow to convolutions and matrix products; none where they allow none, or nothing is rounded."""
        flags = torch.backends
        if not self._device.name.startswith("cuda") or not (flags.cudnn.allow_tf32 or flags.cuda.matmul.allow_tf32) or not self._rounds:
            return []
        with Tf32Operands(matmul=flags.cuda.matmul.allow_tf32) as mode:
            try:
                result = [tensor.detach() for tensor in tensors.tensors_of(self._call_native(_copies(inputs)))]
            except Exception as err:
                self._device.reset_memory()
                if classify(err) != "oom":
                    raise
                # Without it the algorithm that cuDNN takes where memory is scarce would be the yardstick; one seen was 400 times finer, and an honest candidate wrong.
                raise CommandError("oom", f"no memory for the reference with rounded operands: {_last_line(err)}") from err
        self._rounds = mode.used
        return result if mode.used else []

    def _call_float64(self, inputs: list[Any], native: Any) -> tuple[list[torch.Tensor], str]:  # Any: trees
        """Return the reference outputs and how they were computed (`float64`, `float64 on cpu` or `native`)."""
        own = own_dtype([inputs, native])
        shapes = [tensor.shape for tensor in tensors.tensors_of(native)]
        for place in dict.fromkeys((self._device.name, "cpu")):
            for carries in (None, False, True) if not self._narrows else (False, True):
                mode = nullcontext() if carries is None else Wide(own, carries=carries, draws=place == self._device.name)
                try:
                    result = self._run_wide(inputs, place, mode)
                    if [tensor.shape for tensor in result] != shapes:
                        raise NotWideError("outputs have other shapes in float64")
                except Exception as err:
                    self._device.reset_memory()
                    if classify(err) == "oom":
                        break
                    continue
                self._narrows = isinstance(mode, Wide) and mode.used
                return result, "float64" if place == self._device.name else "float64 on cpu"
            else:
                break
        return [tensor.detach() for tensor in tensors.tensors_of(native)], "native"

    def _run_wide(
        self, inputs: list[Any], place: str, mode: AbstractContextManager[Any]
    ) -> list[torch.Tensor]:  # Any: argument trees, a mode
        with self._unchanged_state(), torch.no_grad():
            model = widen(self._model, place)
            wide = tensors.map_tensors(inputs, functools.partial(widened, place=place))
            with mode:
                result = [tensor.detach() for tensor in tensors.tensors_of(model(*wide))]
        self._device.synchronize()
        return result

    def _yardstick(self, inputs: list[Any], native: Any) -> tuple[list[torch.Tensor], list[torch.Tensor], str]:  # Any: trees
        """Return the reference outputs, outputs that are as far from them as PyTorch's own may be, and how the reference was computed.

        Where PyTorch's own result must be the reference, what it is off itself is told by calls whose values are one in the last place away.
        """
        reference, how = self._call_float64(inputs, native)
        own = [tensor.detach() for tensor in tensors.tensors_of(native)]
        if how != "native":
            return reference, own, how
        others: list[list[torch.Tensor]] = []
        try:
            for made in spread.samples(self._call_model, self._model, _copies(inputs), _SPREAD_SEED):
                others.append(made)
        except Exception as err:  # a neighbouring value that the problem refuses, or no memory: the samples until then say it
            self._device.reset_memory()
            _LOG.info("the spread of PyTorch's own result was told by %d samples: %s", len(others), _last_line(err))
        return reference, spread.widest(own, others), how

    def _call_model(self, model: Any, inputs: list[Any]) -> Any:  # Any: nn.Module, argument and output trees
        with self._unchanged_state():
            result = model(*inputs)
            self._device.synchronize()
        return result

    # --- draws and comparison --------------------------------------------------------------------------------------------------------------

    def _draw(self, message: Answer, fds: list[int]) -> Answer:
        self._draw_now = None
        plain = bool(message.get("plain"))
        self._set_weights(self._given if plain else self._amplified)
        if message["fresh_weights"]:
            perturb_weights(self._model, _generator(message["seed"] ^ 0x7E16))
        draw = self._make_draw(message["workload"], message["seed"], message["kind"], plain=plain)
        self._draw_now = draw
        state = dict(self._model.state_dict())
        state_spec, end = tensors.describe(state, _end(draw.spec))
        init_spec, end = tensors.describe(self._init_data, end)
        inputs_bytes = sum(entry["nbytes"] for entry in tensors.tensor_specs(draw.spec))
        answer = self._arenas(end, align(draw.output_end) * 2 + align(_packed_end(draw.inputs)) + align(1))
        memory = self._memory()
        self._device.trim()
        tensors.write(draw.inputs, draw.spec, memory)
        tensors.write(state, state_spec, memory)
        tensors.write(self._init_data, init_spec, memory)
        answer.update(
            args=draw.spec, state=state_spec, init=init_spec, outputs=draw.output_spec, kind=draw.kind, inputs_bytes=inputs_bytes,
            varied=[] if plain else self._varied(message["workload"]),
            outputs_bytes=sum(entry["nbytes"] for entry in tensors.tensor_specs(draw.output_spec)),
        )  # fmt: skip
        return answer

    def _held_out(self, message: Answer, fds: list[int]) -> Answer:
        """Draw inputs of other sizes; `changed` is empty where the problem has no size that can be changed without changing its model."""
        if len(self._workloads) > 1 or self._workloads[0]:
            return {"changed": {}}
        if self._other_sizes is None:
            given = self._input_shapes()
            self._other_sizes = choose(self._module, lambda: self._makes_sense(given, message["seed"]))
        if not self._other_sizes:
            return {"changed": {}}
        with changed(self._module, self._other_sizes):
            answer = self._draw({"workload": 0, "seed": message["seed"], "kind": "as_given", "fresh_weights": False}, [])
        return {**answer, "changed": self._other_sizes}

    def _input_shapes(self) -> list[Any]:  # Any: torch.Size
        """Return the shapes of the inputs, without making them where the generator allows that."""
        try:
            with torch.device("meta"):
                made = self._module.get_inputs()
        except Exception:  # the problem's code may need values
            made = self._module.get_inputs()
        return [tensor.shape for tensor in tensors.tensors_of(made)]

    def _makes_sense(self, given: list[Any], seed: int) -> bool:  # Any: shapes
        """True if the changed module makes other inputs for the same model, and the model takes them."""
        try:
            if repr(list(self._module.get_init_inputs())) != repr(self._init):
                return False
            shapes = self._input_shapes()
            if len(shapes) != len(given) or shapes == given or any(a.numel() > b.numel() for a, b in zip(shapes, given, strict=True)):
                return False
            self._make_draw(0, seed, "as_given")
        except Exception:  # the problem's code may raise anything for sizes that it was not written for
            self._device.reset_memory()
            return False
        return True

    def _make_draw(self, workload: int, seed: int, kind: str, *, plain: bool = False) -> _Draw:
        """Draw inputs; a kind for which the reference is not finite gives way to a milder one."""
        if kind == "structured" and workload in self._undecided:
            kind = "shifted"
        for number in range(KINDS.index(kind), -1, -1):
            inputs = self._generate(workload, seed, KINDS[number], plain=plain)
            try:
                native = self._call_native(given := _copies(inputs))
            except Exception as err:
                if number > 0:
                    continue
                if classify(err) == "oom":
                    raise CommandError("oom", f"the reference runs out of memory: {_last_line(err)}") from err
                raise CommandError("problem", f"Model.forward raised {_last_line(err)}{self._hint(err)}") from err
            finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors.tensors_of(native) if tensor.is_floating_point())
            if finite or number == 0:
                break
        _require_tensors(native)
        try:
            spec, _ = tensors.describe(inputs)
            output_spec, end = tensors.describe(tensors.map_tensors(native, lambda tensor: tensor.detach().contiguous()))
        except tensors.UnsupportedValueError as err:
            raise CommandError("problem", f"get_inputs() or Model.forward: {err}") from err
        return _Draw(inputs, native, spec, output_spec, end, KINDS[number], tensors.shares_memory(native, given))

    def _compare(self, message: Answer, fds: list[int]) -> Answer:
        """Compare what the candidate wrote with the current draw."""
        draw = self._current()
        actual = [tensors.view(self._written(), entry) for entry in tensors.tensor_specs(draw.output_spec)]
        stats, how = self._judged(actual, draw.inputs, draw.native)
        answer: Answer = {
            "stats": stats,
            "reference": how,
            "shapes": [list(tensor.shape) for tensor in tensors.tensors_of(draw.native)],
        }
        self._snapshot = [tensor.clone() for tensor in actual] if draw.output_end <= _SNAPSHOT_BYTES else []
        if message["echoed"]:
            spec, _ = tensors.describe(tensors.map_tensors(draw.inputs, lambda tensor: tensor.contiguous()), align(draw.output_end))
            echoes = (tensors.view(self._written(), entry) for entry in tensors.tensor_specs(spec))
            answer["inputs_changed"] = [
                number
                for number, (echo, mine) in enumerate(zip(echoes, tensors.tensors_of(draw.inputs), strict=True))
                if mine.numel() and not bool((raw_bits(echo.to(mine.device)) == raw_bits(mine)).all())
            ]
        self._device.trim()
        return answer

    def _unchanged(self, message: Answer, fds: list[int]) -> Answer:
        """Tell whether what the candidate wrote now equals what was compared."""
        actual = [tensors.view(self._written(), entry) for entry in tensors.tensor_specs(self._current().output_spec)]
        pairs = zip(self._snapshot, actual, strict=False)
        return {"unchanged": all(bool((raw_bits(a) == raw_bits(b)).all()) for a, b in pairs if a.numel())}

    def _judged(self, actual: list[torch.Tensor], inputs: list[Any], native: Any) -> tuple[list[Answer], str]:  # Any: trees
        """Return the statistics of a candidate's outputs for some inputs, and how the reference was computed; `native`: PyTorch's outputs for them."""
        reference, own, how = self._yardstick(inputs, native)
        return self._statistics(actual, reference, own, self._call_allowed(inputs)), how

    def _statistics(
        self,
        actual: list[torch.Tensor],
        reference: list[torch.Tensor],
        native: list[torch.Tensor],
        allowed: list[torch.Tensor] | None = None,
    ) -> list[Answer]:
        """Compare outputs one by one; `allowed`: the same outputs with what rounding PyTorch's settings allow, if they allow any."""
        declared = getattr(self._module, "TOLERANCE", None)
        found: list[ErrorStats] = []
        for number, (got, expected, own) in enumerate(zip(actual, reference, native, strict=True)):
            rounded = allowed[number] if allowed else None
            if got.numel() == 0:
                found.append(compare_exact(got.flatten(), own.flatten(), own.flatten()))
            elif own.is_floating_point():
                found.append(compare(got, expected, own, calibrate(expected, own, declared, rounded), rounded))
            elif own.is_complex():
                parts = [torch.view_as_real(tensor.resolve_conj()) for tensor in (got, expected, own)]
                found.append(compare(parts[0], parts[1].double(), parts[2], calibrate(parts[1], parts[2], declared)))
            else:
                found.append(compare_exact(got, expected.to(own.dtype), own))
        return [dataclasses.asdict(item) for item in found]

    def _survey(self, message: Answer, fds: list[int]) -> Answer:
        """Find out once per workload whether it can be tested: null candidates, randomness, in-place inputs, operators used."""
        first = self._make_draw(message["workload"], message["seeds"][0], "as_given")
        before = _copies(first.inputs)
        aliased = first.aliases
        call_bytes = sum(
            tensor.numel() * tensor.element_size()
            for tensor in tensors.tensors_of([first.inputs, first.native, dict(self._model.state_dict())])
        )
        again = list(tensors.tensors_of(self._call_native(first.inputs)))
        mutated = any(
            not bool((raw_bits(a) == raw_bits(b)).all())
            for a, b in zip(tensors.tensors_of(before), tensors.tensors_of(first.inputs), strict=True)
            if a.numel()
        )
        first.inputs = before
        if (
            call_bytes <= _SMALL_BYTES
        ):  # after the second call: drawing inputs sets the seed, with which a random reference would repeat itself
            self._require_repeatable(message["workload"], message["seeds"][0], before)
        later = [] if mutated else self._call_after_another(before)
        with OperatorTrace() as trace:
            self._call_native(_copies(before))
        if picks_among_equals(trace.counts):
            self._undecided.add(message["workload"])
        if takes_integers_as_numbers(trace.counts):
            self._numeric.add(message["workload"])
        if call_bytes <= _SMALL_BYTES and may_size_by_values(trace.counts):
            self._require_one_form(message["workload"], message["seeds"], first)
        flops = self._needed_flops(trace.counts, before)
        nulls: dict[str, list[list[Answer]]] = {}
        earlier: list[torch.Tensor] | None = None
        repeat: list[Answer] = []
        carried: list[Answer] = []
        draw: _Draw | None = first
        del first, before  # where a call moves gigabytes, what is not let go here does not fit beside the next draw in float64
        for seed in message["seeds"]:
            draw = draw or self._make_draw(message["workload"], seed, "shifted")
            native = [tensor.detach() for tensor in tensors.tensors_of(draw.native)]
            reference, own, _ = self._yardstick(draw.inputs, draw.native)
            if earlier is None and not mutated:
                repeat = self._statistics(again, native, native)
                carried = self._statistics(later, native, native) if later else []
            again, later = [], []
            self._try_nulls(nulls, draw.inputs, native, earlier, reference, own)
            earlier, draw = native, None
            del reference, own
        self._device.reset_memory()
        passing = doubtful_nulls(nulls)
        if passing and not mutated and not any(map(reject, [*repeat, *carried])):
            del earlier, native
            nulls = self._make_telling(message["workload"], message["seeds"], passing) or nulls
        self._surveyed.append(message["workload"])
        return {
            "varied": self._varied(message["workload"]),
            "nulls": nulls,
            "repeat": repeat,
            "carried": carried,
            "mutates_inputs": mutated,
            "outputs_alias_inputs": aliased,
            "operators": dict(trace.counts),
            "call_bytes": call_bytes,
            "flops": flops,
        }

    def _try_nulls(
        self,
        nulls: dict[str, list[list[Answer]]],
        inputs: list[Any],  # Any: argument trees
        native: list[torch.Tensor],
        earlier: list[torch.Tensor] | None,
        reference: list[torch.Tensor],
        own: list[torch.Tensor],
    ) -> None:
        """Add the null outputs' statistics, judged as a candidate's."""
        reference, own, allowed = _thinned(reference), _thinned(own), _thinned(self._call_allowed(inputs))
        for name, outputs in null_outputs(native, inputs, earlier).items():
            nulls.setdefault(name, []).append(self._statistics(_thinned(outputs), reference, own, allowed))

    def _make_telling(self, workload: int, seeds: list[int], passing: list[str]) -> dict[str, list[list[Answer]]] | None:
        """Find weights, inputs or both for which no null output passes, and stay with them; returns the nulls' statistics, None where none are found.

        They are tried on draws of one distribution, as timed inputs are, and those that passed must now be far off.
        """
        given = self._weights()
        ways = [(True, False), (False, True), (True, True)]
        for weights, inputs in ways if getattr(self._module, "WEIGHTS_CONSTANT", False) is not True else ways[1:2]:
            try:
                if inputs:
                    self._contrasted.add(workload)
                if not weights or self._amplify(workload, seeds[0]):
                    found = self._nulls(workload, seeds)
                    if far_off(found, passing) and all(far_off(self._nulls(item, seeds), ()) for item in self._surveyed if weights):
                        if weights:
                            self._given, self._amplified = self._given or given, self._weights()
                        return found
            except Exception as err:  # the problem's code may raise anything for values that it was not written for
                _LOG.info("no telling draws with %s: %s", "other weights" if weights else "other inputs", _last_line(err))
                self._device.reset_memory()
            self._set_weights(given)
            self._contrasted.discard(workload)
        return None

    def _amplify(self, workload: int, seed: int) -> bool:
        inputs = self._generate(workload, seed, "as_given")
        with self._unchanged_state():
            changed = [change(self._model, lambda: self._model(*_copies(inputs))) for change in (damp_branches, amplify)]
        return any(changed)

    def _nulls(self, workload: int, seeds: list[int]) -> dict[str, list[list[Answer]]]:
        """Return the null outputs' statistics on draws of the timed inputs' distribution."""
        nulls: dict[str, list[list[Answer]]] = {}
        earlier: list[torch.Tensor] | None = None
        for seed in seeds:
            draw = self._make_draw(workload, seed, "as_given")
            native = [tensor.detach() for tensor in tensors.tensors_of(draw.native)]
            if not all(bool(torch.isfinite(tensor).all()) for tensor in native if tensor.is_floating_point()):
                raise ArithmeticError("outputs are not finite")
            reference, own, _ = self._yardstick(draw.inputs, draw.native)
            self._try_nulls(nulls, draw.inputs, native, earlier, reference, own)
            earlier = native
        return nulls

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}

    def _set_weights(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy weights into the model, in place; nothing where there are none."""
        if values:
            with torch.no_grad():
                for name, tensor in self._model.state_dict().items():
                    tensor.copy_(values[name])

    def _varied(self, workload: int) -> list[str]:
        """Return what the evaluator made different from the problem's own, as labels."""
        return [*(["weights_amplified"] if self._amplified else []), *(["inputs_contrasted"] if workload in self._contrasted else [])]

    def _require_repeatable(self, workload: int, seed: int, inputs: list[Any]) -> None:  # Any: argument trees
        """Require that a seed stands for its inputs: they are drawn again to be compared."""
        again = self._generate(workload, seed, "as_given")
        if any(_share_of_others(*pair) > _OTHER_SHARE for pair in zip(tensors.tensors_of(inputs), tensors.tensors_of(again), strict=False)):
            raise CommandError(
                "problem",
                "get_inputs() gives other values for the same seed of torch, random and numpy.random; a generator of its own, such as "
                "numpy.random.default_rng(), needs a seed that it draws from one of these",
            )

    def _require_one_form(self, workload: int, seeds: list[int], first: _Draw) -> None:
        """Require that the outputs' shapes do not go by the inputs' values: timed calls rotate over several draws into the same memory."""
        form = [item.shape for item in tensors.tensors_of(first.native)]
        for number in range(1, _FORMS):
            other = [item.shape for item in tensors.tensors_of(self._make_draw(workload, seeds[0] + number, "as_given").native)]
            if other != form:
                shapes = " and ".join(str([tuple(shape) for shape in item]) for item in (form, other))
                raise CommandError(
                    "problem",
                    f"the shapes of the outputs depend on the values of the inputs ({shapes}); such a problem cannot be timed fairly",
                )

    def _needed_flops(self, operators: Mapping[str, int], inputs: list[Any]) -> float:  # Any: argument trees
        """Return the operations that no implementation can do without, 0.0 where that is not known; runs the model only where it may be."""
        if not may_be_needed(operators) or not all(map(_is_unstructured, tensors.tensors_of([inputs, dict(self._model.state_dict())]))):
            return 0.0
        with FlopCounterMode(display=False) as counter:
            self._call_native(_copies(inputs))
        return needed_flops(operators, {str(name): float(count) for name, count in counter.get_flop_counts().get("Global", {}).items()})

    # --- baselines -------------------------------------------------------------------------------------------------------------------------

    def _prepare(self, message: Answer, fds: list[int]) -> Answer:
        """Make the timed input sets and write them to the arena."""
        self._release(message, [])
        self._set_weights(self._amplified)
        workload, seeds = message["workload"], message["seeds"]
        sets = [self._generate(workload, seed, "as_given") for seed in seeds]
        specs, end = [], 0
        for arguments in sets:
            spec, end = tensors.describe(arguments, end)
            specs.append(spec)
        rules = [
            poke_rule(tensor) if _is_plain(entry) else None
            for tensor, entry in zip(tensors.tensors_of(sets[0]), tensors.tensor_specs(specs[0]), strict=True)
        ]
        native = self._call_native(_copies(sets[0]))
        if workload not in self._fixed:
            self._fixed[workload] = self._held_together(sets[0], rules, native)
        rules = [None if number in self._fixed[workload] else rule for number, rule in enumerate(rules)]
        for spec in specs:
            for entry, rule in zip(tensors.tensor_specs(spec), rules, strict=True):
                if rule is not None:
                    entry["poke"] = rule
        state = dict(self._model.state_dict())
        state_spec, end = tensors.describe(state, end)
        init_spec, end = tensors.describe(self._init_data, end)
        output_spec, output_end = tensors.describe(tensors.map_tensors(native, lambda tensor: tensor.detach().contiguous()))
        answer = self._arenas(end, align(output_end) + align(1))
        for arguments, spec in zip(sets, specs, strict=True):
            tensors.write(arguments, spec, self._memory())
        tensors.write(state, state_spec, self._memory())
        tensors.write(self._init, init_spec, self._memory())
        layout = [list(tensor.stride()) for tensor in tensors.tensors_of(native)]
        self._slots = TimedSlots(self._device, specs, sets, restore=message["restore"], layout=layout)
        self._slot_plan = (workload, seeds, specs, output_spec)
        answer.update(slots=specs, state=state_spec, init=init_spec, outputs=output_spec, layout=layout)
        return answer

    def _held_together(self, arguments: list[Any], rules: list[Answer | None], native: Any) -> frozenset[int]:  # Any: trees
        """Return which inputs must stay as drawn while calls are timed: with elements changed one by one the reference raises or gives another form.

        Corners of boxes and positive definite matrices are such inputs. `native`: PyTorch's outputs for the arguments.
        """
        form = [(item.shape, item.dtype) for item in tensors.tensors_of(native)]
        generator = np.random.default_rng(0)

        def is_borne(places: set[int]) -> bool:
            few = any(item.numel() < _TRIED_ELEMENTS for number, item in enumerate(tensors.tensors_of(arguments)) if number in places)
            return all(is_borne_once(places) for _ in range(_SMALL_TRIES if few else 1))

        def is_borne_once(places: set[int]) -> bool:
            try:
                trial = _copies(arguments)
                for number, (tensor, rule) in enumerate(zip(tensors.tensors_of(trial), rules, strict=True)):
                    if number in places and rule is not None:
                        count = min(tensor.numel(), _TRIED_ELEMENTS)
                        drawn = generator.random(count)
                        drawn = np.where(
                            generator.random(count) < 0.5, np.round(drawn), drawn
                        )  # what contradicts does so at the ends first
                        values = poke_values({"poke": rule, "dtype": tensors.NAMES[tensor.dtype]}, np.minimum(drawn, 1.0 - 2.0**-24))
                        where = torch.from_numpy(generator.integers(0, tensor.numel(), count))
                        tensor.as_strided((tensor.numel(),), (1,))[where.to(tensor.device)] = values.to(tensor.device)
                made = self._call_native(trial)
            except Exception as err:  # the reference may raise anything
                self._device.reset_memory()
                return classify(err) == "oom"  # nothing was learned
            return [(item.shape, item.dtype) for item in tensors.tensors_of(made)] == form

        places = {number for number, rule in enumerate(rules) if rule is not None}
        if is_borne(places):
            return frozenset()
        alone = {number for number in places if not is_borne({number})}
        return frozenset(alone if is_borne(places - alone) else places)

    def _compile(self, message: Answer, fds: list[int]) -> Answer:
        """Compile the reference with torch.compile (default mode, or max-autotune without graphs), or find its library form, and call it on the prepared workload."""
        arm = message["arm"]
        if arm == "library":
            return self._find_library_form()
        import torch._dynamo

        torch._dynamo.config.recompile_limit = 64
        if arm not in self._compiled:
            self._compiled[arm] = torch.compile(self._model, dynamic=False, mode=_COMPILE_MODES[arm])
        self._run_arm(arm, 2)
        return {}

    def _find_library_form(self) -> Answer:
        """Make the library's form of the reference and judge its output like a candidate's."""
        arguments = self._timed().arguments[0]
        with OperatorTrace() as trace:
            native = self._call_native(_copies(arguments))
        try:
            self._compiled["library"] = library_form(self._module, self._model, self._init, self._device.name, trace.counts)
            with self._unchanged_state(), torch.no_grad():
                made = self._compiled["library"](*_copies(arguments))
                self._device.synchronize()
            theirs, mine = list(tensors.tensors_of(made)), list(tensors.tensors_of(native))
            if [(item.shape, item.dtype) for item in theirs] != [(item.shape, item.dtype) for item in mine]:
                raise NoLibraryFormError("its outputs have other shapes or dtypes than Model's")
            wrong = next((why for item in self._judged(theirs, arguments, native)[0] if (why := reject(item))), "")
            if wrong:
                raise NoLibraryFormError(f"it does not compute what Model does: {wrong}")
        except NoLibraryFormError as err:
            self._compiled.pop("library", None)
            raise CommandError("no_library", str(err)) from err
        self._run_arm("library", 2)
        return {}

    def _warm(self, message: Answer, fds: list[int]) -> Answer:
        self._run_arm(message["arm"], message["calls"])
        return {}

    def _run_arm(self, arm: str, calls: int) -> None:
        slots, model = self._timed(), self._arm(arm)
        with torch.no_grad():
            for number in range(calls):
                model(*slots.arguments[number % len(slots.arguments)])
            self._device.synchronize()

    def _block(self, message: Answer, fds: list[int]) -> Answer:
        times, _ = self._timed().run(self._arm(message["arm"]), message["calls"], message["seed"], message["ahead_ms"])
        return {"device_ms": times}

    def _arm(self, arm: str) -> _Model:
        if arm == "eager":
            return self._model  # type: ignore[no-any-return]  # an nn.Module is callable
        if arm in self._compiled:
            return self._compiled[arm]
        if arm == "empty":
            return lambda *arguments: None
        raise CommandError("order", f"no arm {arm!r}")

    def _verify(self, message: Answer, fds: list[int]) -> Answer:
        """Compare the output of a timed block's last call with the reference on the inputs as they were then."""
        if self._slot_plan is None:
            raise CommandError("order", "verify before prepare")
        workload, seeds, specs, output_spec = self._slot_plan
        slots = self._timed()
        history = [(int(calls), int(seed)) for calls, seed in message["history"]]
        slot = last_slot(*history[-1], slots.sizes())
        inputs = self._generate(workload, seeds[slot], "as_given")
        chosen = [
            tensor for tensor, entry in zip(tensors.tensors_of(inputs), tensors.tensor_specs(specs[slot]), strict=True) if "poke" in entry
        ]
        replay(chosen, slots.entries, slot, len(seeds), history)
        actual = [tensors.view(self._written(), entry) for entry in tensors.tensor_specs(output_spec)]
        return {"stats": self._judged(actual, inputs, self._call_native(_copies(inputs)))[0]}

    def _novel(self, message: Answer, fds: list[int]) -> Answer:
        """Draw inputs that nobody has seen, one set for each seed, into the arena; no draws where their shapes differ from the prepared ones, or memory alone is asked for."""
        if self._slot_plan is None:
            raise CommandError("order", "novel before prepare")
        workload, _, specs, output_spec = self._slot_plan
        wanted = [entry["shape"] for entry in tensors.tensor_specs(specs[0])]
        size = align(_end(specs[0]) + align(1))
        stride = align(_end(output_spec) + align(1))
        answer = self._arenas(size * len(message["seeds"]), stride * len(message["seeds"]))
        draws: list[Answer] = []
        if message["only_memory"]:
            return answer
        for number, seed in enumerate(message["seeds"]):
            inputs = self._generate(workload, seed, "as_given")
            spec, end = tensors.describe(inputs, number * size)
            if [entry["shape"] for entry in tensors.tensor_specs(spec)] != wanted or end > (number + 1) * size:
                return {**answer, "draws": [], "outputs": []}
            tensors.write(inputs, spec, self._memory())
            draws.append(spec)
        self._kept_draw = []
        self._novel_plan = (draws, [tensors.moved(output_spec, number * stride) for number in range(len(draws))])
        if self._own_outputs is None or len(self._own_outputs) < stride * len(draws):
            self._own_outputs = mmap.mmap(-1, max(stride * len(draws), mmap.PAGESIZE))
            if self._device.name == "cpu":  # pages that are met for the first time would count as copying
                torch.frombuffer(self._own_outputs, dtype=torch.uint8)[:: mmap.PAGESIZE].zero_()
        self._views = [tensors.read(spec, self._memory(), self._device.name, in_place=True) for spec in draws if self._device.name == "cpu"]
        return {**answer, "draws": draws, "outputs": self._novel_plan[1]}

    def _sweep(self, message: Answer, fds: list[int]) -> Answer:
        """Do with a baseline what a candidate does with the fresh draws; arm `empty` moves the same bytes and computes nothing."""
        draws, places = self._novel_plan
        memory = self._own_outputs
        self._is_in_place = message["in_place"]
        if self._is_in_place:
            self._swept = []
            draws_there = [tensors.read(spec, self._memory(), self._device.name, in_place=True) for spec in message["draws"]] or self._views
            self._swept = self._timed().calls_in_place(self._arm(message["arm"]), draws_there)
            return {}
        if message["arm"] == "empty":
            nothing = tensors.map_tensors(tensors.read(places[0], memory, self._device.name), torch.zeros_like)
            model: _Model = lambda *arguments: nothing  # noqa: E731 - one expression
        else:
            model = self._arm(message["arm"])
        values = ([tensors.view(self._memory(), entry) for entry in tensors.tensor_specs(spec)] for spec in draws)
        self._timed().sweep(model, values, lambda number, result: tensors.write(result, places[number], memory))
        self._device.synchronize()
        return {}

    def _store(self, message: Answer, fds: list[int]) -> Answer:
        """Write the outputs of a baseline's sweep in place to where the candidate's are compared with them."""
        for result, place in zip(self._swept, self._novel_plan[1], strict=True):
            tensors.write(result, place, self._own_outputs)
        return {}

    def _overwrite(self, message: Answer, fds: list[int]) -> Answer:
        """Keep one of the fresh draws here and destroy them all in the arena: what has not been computed by now never will be."""
        self._kept_draw = [
            tensors.view(self._memory(), entry).clone() for entry in tensors.tensor_specs(self._novel_plan[0][int(message["chosen"])])
        ]
        for spec in self._novel_plan[0]:
            for entry in tensors.tensor_specs(spec):
                flat_bytes(tensors.view(self._memory(), entry)).fill_(0x33)
        return {}

    def _verify_sweep(self, message: Answer, fds: list[int]) -> Answer:
        """Compare all outputs of the candidate's sweep with the baseline's, and one of them with the float64 reference."""
        draws, places = self._novel_plan
        chosen = int(message["chosen"])
        # Copied into the slots, a draw's tensors meet the slots' other values; where it lies, a draw has its own.
        there = self._views[chosen] if self._is_in_place else self._timed().arguments[chosen % len(self._timed().arguments)]
        values = self._kept_draw or [tensors.view(self._memory(), entry) for entry in tensors.tensor_specs(draws[chosen])]
        fresh = iter([tensor.to(self._device.name) for tensor in values])
        self._kept_draw, self._swept = [], []
        inputs = tensors.map_tensors(there, lambda tensor: torch.empty_like(tensor).copy_(next(fresh)))
        stats, _ = self._judged(self._written_as(places[chosen]), inputs, self._call_native(_copies(inputs)))
        others = []
        for number, place in enumerate(places):
            if number == chosen:
                continue
            own = [tensors.view(self._own_outputs, entry) for entry in tensors.tensor_specs(place)]
            wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in own]
            others.append(self._statistics(self._written_as(place), wide, own))
        return {"stats": stats, "others": others}

    def _written_as(self, place: Answer) -> list[torch.Tensor]:
        """Return what the candidate wrote where a specification says."""
        return [tensors.view(self._written(), entry) for entry in tensors.tensor_specs(place)]

    def _release(self, message: Answer, fds: list[int]) -> Answer:
        self._draw_now = None
        self._slots = None
        self._device.reset_memory()
        return {}

    # --- memory ----------------------------------------------------------------------------------------------------------------------------

    def _arenas(self, input_bytes: int, output_bytes: int) -> Answer:
        """Make the arenas large enough; a new one's descriptor travels with the answer."""
        names, fds = [], []
        if self._in is None or self._in.size < input_bytes or self._out is None or self._out.size < output_bytes:
            self._serial += 1
        if self._in is None or self._in.size < input_bytes:
            if self._in is not None:
                self._in.close()
            self._in = Arena(input_bytes, readonly_for_peers=True)
        if self._out is None or self._out.size < output_bytes:
            if self._out is not None:
                self._out.close()
            self._out = Arena(output_bytes, readonly_for_peers=False)
        for name, arena in (("in", self._in), ("out", self._out)):
            names.append(name)
            fds.append(arena.fd)
        return {"arenas": names, "fds": fds, "serial": self._serial}

    def _memory(self) -> Any:  # Any: a writable buffer
        if self._in is None:
            raise CommandError("order", "no input arena")
        return self._in.memory

    def _written(self) -> Any:  # Any: a writable buffer
        if self._out is None:
            raise CommandError("order", "no output arena")
        return self._out.memory

    def _current(self) -> _Draw:
        if self._draw_now is None:
            raise CommandError("order", "no draw")
        return self._draw_now

    def _timed(self) -> TimedSlots:
        if self._slots is None:
            raise CommandError("order", "nothing is prepared")
        return self._slots


def main(channel: Channel, config: Answer) -> None:
    """Run a reference worker on an inherited channel."""
    ReferenceWorker(channel, config).run()


def _import_problem(path: Path) -> Any:  # Any: a module
    spec = importlib.util.spec_from_file_location("problem", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["problem"] = module
    spec.loader.exec_module(module)
    return module


def _nbytes(inputs: list[Any] | None) -> int:  # Any: an argument tree
    """Return the bytes of tensors without values; 0 where there are none."""
    return sum(item.numel() * item.element_size() for item in tensors.tensors_of(inputs) if item.is_meta)


def _is_tolerance(value: Any) -> bool:  # Any: whatever the problem says
    return (
        isinstance(value, dict)
        and set(value) <= {"atol", "rtol"}
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) and 0.0 <= item < math.inf for item in value.values())
    )


def _workloads(module: Any) -> list[dict[str, Any]]:  # Any: the problem's module and keyword arguments
    declared = getattr(module, "WORKLOADS", None)
    if declared is None:
        return [{}]
    if not (isinstance(declared, (list, tuple)) and declared and all(isinstance(item, dict) for item in declared)):
        raise CommandError(
            "problem", f"WORKLOADS must be a non-empty list of dicts, each passed to get_inputs as keyword arguments; got {declared!r}"
        )
    parameters = inspect.signature(module.get_inputs).parameters.values()
    takes_name = any(item.name == "name" or item.kind is item.VAR_KEYWORD for item in parameters)  # else it is a name for people
    return [{key: value for key, value in item.items() if key != "name" or takes_name} for item in declared]


def _workload_name(arguments: dict[str, Any], number: int) -> str:  # Any: keyword arguments
    return (
        ",".join(f"{key}={value}" for key, value in arguments.items())[:80]
        if arguments
        else "default"
        if number == 0
        else f"workload {number}"
    )


def _keywords(arguments: dict[str, Any]) -> str:  # Any: keyword arguments
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _require_tensors(result: Any) -> None:  # Any: what the problem returns
    """Raise unless the outputs are tensors in tuples, lists and dicts; None, whole numbers, truth values and texts may stand beside them."""
    wrong = _first_wrong(result)
    if wrong is None and any(True for _ in tensors.tensors_of(result)):
        return
    found = type(result if wrong is None else wrong).__name__
    raise CommandError("problem", f"Model.forward must return a tensor or a tuple, list or dict of tensors, got {found}")


def _first_wrong(result: Any) -> Any:  # Any: what the problem returns
    if result is None or isinstance(result, (torch.Tensor, bool, int, str)):
        return None
    if not isinstance(result, (dict, list, tuple)):
        return result
    items = result.values() if isinstance(result, dict) else result
    return next((wrong for item in items if (wrong := _first_wrong(item)) is not None), None)


def _is_unstructured(tensor: torch.Tensor) -> bool:
    """True if nothing shows in a tensor's values that would let a product with it take fewer operations: zeros, few values, repeated rows."""
    if tensor.dim() < 2 or not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if 0 in [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1] or distinct_values(tensor) is not None:
        return False
    return bool(torch.count_nonzero(tensor) > 0.9 * tensor.numel())


def _is_plain(entry: Answer) -> bool:
    """True if the tensor arrives with its strides, so that storage order is the same on both sides."""
    return tensors.is_dense(entry["shape"], entry["stride"])


def _copies(inputs: list[Any]) -> list[Any]:  # Any: argument trees
    return list(tensors.map_tensors(inputs, lambda tensor: tensor.clone()))


def _thinned(outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return about every n-th element of large tensors: enough to see that a null output is wrong."""
    return [
        tensor.reshape(-1)[:: tensor.numel() // _NULL_ELEMENTS + 1] if tensor.numel() > _NULL_ELEMENTS else tensor for tensor in outputs
    ]


def _packed_end(inputs: list[Any]) -> int:  # Any: argument trees
    return tensors.describe(inputs)[1]


def _end(spec: Answer) -> int:
    return max((entry["offset"] + entry["nbytes"] for entry in tensors.tensor_specs(spec)), default=0)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


def _share_of_others(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how many elements are not about the same; sums in any order are, on an accelerator."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return 1.0
    if not one.numel():
        return 0.0
    mine, theirs = (item.to(torch.complex128 if item.is_complex() else torch.float64) for item in (one, other))
    return 1.0 - float(torch.isclose(mine, theirs, rtol=1e-2, atol=1e-3, equal_nan=True).double().mean())


def _last_line(error: BaseException) -> str:
    """Return the error's own words and the last line of the problem's file on the way to it, if it got there at all."""
    lines = traceback.format_exception_only(error)
    module = sys.modules.get("problem")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == getattr(module, "__file__", None)]
    place = f" (line {frames[-1].lineno})" if frames else ""
    return lines[-1].strip()[:600] + place
