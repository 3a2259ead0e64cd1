"""Turn one compiled launch into the resource report of its kernel, and check it against the chip's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tools.compile import amd, nvidia
from tools.compile.launches import Launch
from tools.targets.base import KernelResources


def read_resources(launch: Launch, limits: Mapping[str, float]) -> KernelResources:
    """Return what a compiled launch needs.

    Raises:
        MachineError: The reader of cubins is missing.
        ValueError: The launch carries no binary that can be read.
    """
    compiled = launch.compiled
    assembly: Mapping[str, Any] = compiled.asm  # Any: text or bytes by stage
    num_warps, shared = int(compiled.metadata.num_warps), int(compiled.metadata.shared)
    if "cubin" in assembly:
        registers, spilled = nvidia.resource_usage(assembly["cubin"])
        kinds, widths = nvidia.instruction_mix(assembly["ptx"])
        fits = nvidia.blocks_per_multiprocessor(limits, registers=registers, shared_bytes=shared, num_warps=num_warps)
        binary = assembly["cubin"]
    elif "hsaco" in assembly:
        registers, spilled, waves = amd.resource_usage(assembly["amdgcn"])
        kinds, widths = amd.instruction_mix(assembly["amdgcn"])
        fits = amd.blocks_per_multiprocessor(limits, waves_per_simd=waves, shared_bytes=shared, num_warps=num_warps)
        binary = assembly["hsaco"]
    else:
        raise ValueError(f"no binary among the stages {', '.join(assembly)}")
    limiter = min(fits, key=lambda name: fits[name])
    return KernelResources(
        kernel=launch.kernel,
        specialisation=specialisation(launch),
        num_warps=num_warps,
        shared_bytes=shared,
        registers=registers,
        spill_bytes=spilled,
        occupancy_fraction=fits[limiter] * num_warps / limits["max_warps_per_multiprocessor"],
        limiter=limiter,
        mma=kinds,
        load_vector_bytes=max(widths, default=None),
        narrowest_load_bytes=min(widths, default=None),
        binary_bytes=len(binary),
    )


def specialisation(launch: Launch) -> str:
    """Return argument types and constexprs as text: `x_ptr=*float32, n=1000, BLOCK=64 | num_warps=4`."""
    parts = [f"{name}={_short(value)}" for name, value in launch.arguments.items()]
    options = [f"{name}={value}" for name, value in launch.options.items()]
    return ", ".join(parts) + (f" | {', '.join(options)}" if options else "")


def _short(value: object) -> str:
    if isinstance(value, dict) and "dtype" in value:
        return f"*{value['dtype']}"
    if isinstance(value, list):
        return f"({', '.join(_short(item) for item in value)})"
    return str(value)


def exceeded(resources: KernelResources, launch: Launch, limits: Mapping[str, float], target: str) -> Iterator[str]:
    """Yield one sentence for each limit of the chip that the launch exceeds; such a launch fails on the device although it compiled."""
    most = int(limits["shared_memory_per_block_bytes"])
    if nvidia.is_only_a_trap(launch.compiled.asm.get("ptx", "")):
        yield f"{resources.kernel}: the compiler left only a trap of it (a fault of the compiler): try other tile sizes, num_stages or num_warps"
    if resources.shared_bytes > most:
        yield f"{resources.kernel} needs {resources.shared_bytes:,} bytes of shared memory; {target} has {most:,} per block: use fewer num_stages or smaller tiles"
    threads, allowed = resources.num_warps * int(limits["warp_size"]), int(limits["max_threads_per_block"])
    if threads > allowed:
        yield f"{resources.kernel} has num_warps={resources.num_warps}, {threads:,} threads; {target} has at most {allowed:,} per block: use fewer warps"
    elif resources.occupancy_fraction == 0 and resources.shared_bytes <= most:
        yield f"{resources.kernel} does not fit on a multiprocessor of {target} ({resources.limiter}): use fewer warps or smaller tiles"
    for axis, extent in list(zip("xyz", launch.grid, strict=False))[1:]:
        if "max_grid_y" in limits and extent > limits["max_grid_y"]:
            yield f"{resources.kernel} is launched with {extent:,} programs on axis {axis}; {target} allows {int(limits['max_grid_y']):,}: put that dimension on axis x"


def remarks(resources: KernelResources, launch: Launch) -> Iterator[str]:
    """Yield what is legal and costs time."""
    if resources.spill_bytes:
        yield f"{resources.kernel} spills {resources.spill_bytes} bytes per thread to memory: use smaller tiles or more warps"
    uses_dot = bool(resources.mma)
    source = launch.compiled.asm.get("ttir", "")
    if not uses_dot and isinstance(source, str) and "tt.dot" in source:
        yield f"{resources.kernel} has a dot that no matrix instruction computes: check dtypes and tile sizes"
