"""A TritonBench operator for the problem of this folder: reference (baseline) and candidate on the problem's workloads.

Copy this folder to tritonbench/operators/<name>/ of a TritonBench checkout with this file as operator.py, then:
python run.py --op <name> --metrics latency,speedup,accuracy
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from tritonbench.utils.triton_op import BenchmarkOperator, register_benchmark  # type: ignore[import-not-found]  # of the checkout it is copied into

from .workload import SETTINGS, load, to_device


class Operator(BenchmarkOperator):  # type: ignore[misc]  # TritonBench is untyped here
    """Forward only. The candidate gets the reference's weights."""

    FWD_ONLY = True

    def __init__(self, tb_args: Any, extra_args: Any = None) -> None:
        super().__init__(tb_args, extra_args)
        self._problem = load("problem")
        init = self._problem.get_init_inputs()
        named = init if isinstance(init, Mapping) else {}
        positional = () if named else init
        torch.manual_seed(SETTINGS["seed"])
        self._reference = self._problem.Model(*positional, **named).to(self.device)
        self._candidate = load("candidate").ModelNew(*positional, **named)
        if isinstance(self._candidate, torch.nn.Module):
            self._candidate = self._candidate.to(self.device)
            self._candidate.load_state_dict(self._reference.state_dict(), strict=True)

    def get_input_iter(self) -> Generator[Any, None, None]:
        """Yield the inputs of each workload."""
        for workload in getattr(self._problem, "WORKLOADS", None) or [{}]:
            torch.manual_seed(SETTINGS["seed"])
            inputs = to_device(self._problem.get_inputs(**workload))
            yield tuple(inputs.values()) if isinstance(inputs, Mapping) else tuple(inputs)

    @register_benchmark(baseline=True)  # type: ignore[untyped-decorator]  # TritonBench is untyped here
    def reference(self, *inputs: Any) -> Callable[[], Any]:
        """Return the call of the reference in eager PyTorch."""
        return lambda: self._reference(*inputs)

    @register_benchmark()  # type: ignore[untyped-decorator]  # TritonBench is untyped here
    def candidate(self, *inputs: Any) -> Callable[[], Any]:
        """Return the call of the candidate."""
        return lambda: self._candidate(*inputs)
