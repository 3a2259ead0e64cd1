"""What Nsight Compute's metrics are called here: names of `ncu --page raw` and of the details page.

Names are NVIDIA's (Nsight Compute documentation, metrics reference and sections); the common names and the way launches combine are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from tools.profiling.tally import How
from tools.profiling.types import Group

Meaning = tuple[str, Group, How]
"""Common name, group, how launches combine."""

_RAW: dict[str, Meaning] = {
    "gpu__time_duration.sum": ("device_time_us", "time", "sum"),
    "gpu__time_duration.avg": ("device_time_us", "time", "sum"),
    "dram__bytes_read.sum": ("dram_read_bytes", "traffic", "sum"),
    "dram__bytes_write.sum": ("dram_write_bytes", "traffic", "sum"),
    "dram__bytes_op_read.sum": ("dram_read_bytes", "traffic", "sum"),
    "dram__bytes_op_write.sum": ("dram_write_bytes", "traffic", "sum"),
    "dram__bytes.sum": ("dram_bytes", "traffic", "sum"),
    "lts__t_bytes.sum": ("l2_bytes", "traffic", "sum"),
    "l1tex__t_bytes.sum": ("l1_bytes", "traffic", "sum"),
    "l1tex__t_bytes_pipe_lsu_mem_global_op_ld.sum": ("global_load_bytes", "traffic", "sum"),
    "l1tex__t_bytes_pipe_lsu_mem_global_op_st.sum": ("global_store_bytes", "traffic", "sum"),
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": ("global_load_sectors", "traffic", "sum"),
    "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum": ("global_store_sectors", "traffic", "sum"),
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": ("global_load_requests", "traffic", "sum"),
    "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum": ("global_store_requests", "traffic", "sum"),
    "l1tex__t_requests_pipe_lsu_mem_local_op_ld.sum": ("local_load_requests", "traffic", "sum"),
    "l1tex__t_requests_pipe_lsu_mem_local_op_st.sum": ("local_store_requests", "traffic", "sum"),
    "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum": ("local_load_sectors", "traffic", "sum"),
    "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum": ("local_store_sectors", "traffic", "sum"),
    "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.ratio": ("global_load_bytes_per_sector", "traffic", "mean"),
    "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.ratio": ("global_store_bytes_per_sector", "traffic", "mean"),
    "lts__t_sectors_op_atom.sum": ("atomic_sectors", "traffic", "sum"),
    "lts__t_sectors_op_red.sum": ("reduction_sectors", "traffic", "sum"),
    "smsp__inst_executed_op_global_atom.sum": ("atomic_instructions", "instruction", "sum"),
    "smsp__inst_executed_op_global_red.sum": ("reduction_instructions", "instruction", "sum"),
    "lts__t_sector_hit_rate.pct": ("l2_hit_fraction", "rate", "mean"),
    "l1tex__t_sector_hit_rate.pct": ("l1_hit_fraction", "rate", "mean"),
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("compute_peak_fraction", "rate", "mean"),
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": ("memory_peak_fraction", "rate", "mean"),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": ("dram_peak_fraction", "rate", "mean"),
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("dram_peak_fraction", "rate", "mean"),
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": ("l2_peak_fraction", "rate", "mean"),
    "l1tex__throughput.avg.pct_of_peak_sustained_elapsed": ("l1_peak_fraction", "rate", "mean"),
    "l1tex__throughput.avg.pct_of_peak_sustained_active": ("l1_peak_fraction", "rate", "mean"),
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active": ("tensor_pipe_fraction", "rate", "mean"),
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": ("tensor_pipe_fraction", "rate", "mean"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("occupancy_fraction", "occupancy", "mean"),
    "sm__maximum_warps_per_active_cycle_pct": ("occupancy_limit_fraction", "occupancy", "mean"),
    "launch__occupancy_limit_registers": ("blocks_by_registers", "occupancy", "min"),
    "launch__occupancy_limit_shared_mem": ("blocks_by_shared_memory", "occupancy", "min"),
    "launch__occupancy_limit_warps": ("blocks_by_warps", "occupancy", "min"),
    "launch__occupancy_limit_blocks": ("blocks_by_blocks", "occupancy", "min"),
    "launch__waves_per_multiprocessor": ("waves", "occupancy", "mean"),
    "launch__registers_per_thread": ("registers_per_thread", "resource", "max"),
    "launch__shared_mem_per_block": ("shared_per_block_bytes", "resource", "max"),
    "launch__shared_mem_per_block_dynamic": ("dynamic_shared_per_block_bytes", "resource", "max"),
    "launch__shared_mem_per_block_static": ("static_shared_per_block_bytes", "resource", "max"),
    "launch__grid_size": ("grid_size", "resource", "max"),
    "launch__block_size": ("block_size", "resource", "max"),
    "launch__thread_count": ("threads", "resource", "max"),
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": ("shared_bank_conflicts", "traffic", "sum"),
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum": ("shared_load_bank_conflicts", "traffic", "sum"),
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum": ("shared_store_bank_conflicts", "traffic", "sum"),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum": ("shared_wavefronts", "traffic", "sum"),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum": ("shared_load_wavefronts", "traffic", "sum"),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": ("shared_store_wavefronts", "traffic", "sum"),
    "smsp__inst_executed.sum": ("warp_instructions", "instruction", "sum"),
    "sm__inst_executed.sum": ("warp_instructions", "instruction", "sum"),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("issue_active_fraction", "rate", "mean"),
    "smsp__issue_active.sum.pct_of_peak_sustained_active": ("issue_active_fraction", "rate", "mean"),
    "smsp__thread_inst_executed_per_inst_executed.ratio": ("active_threads_per_warp", "instruction", "mean"),
    "sm__cycles_active.avg": ("active_cycles", "time", "sum"),
    "sm__cycles_active.min": ("active_cycles_min", "time", "sum"),
    "sm__cycles_active.max": ("active_cycles_max", "time", "sum"),
    "sm__cycles_elapsed.max": ("elapsed_cycles", "time", "sum"),
    "profiler__replayer_passes": ("replay_passes", "other", "max"),
}
_DETAILS: dict[str, Meaning] = {
    "Duration": ("device_time_us", "time", "sum"),
    "DRAM Throughput": ("dram_peak_fraction", "rate", "mean"),
    "L1/TEX Cache Throughput": ("l1_peak_fraction", "rate", "mean"),
    "L2 Cache Throughput": ("l2_peak_fraction", "rate", "mean"),
    "Compute (SM) Throughput": ("compute_peak_fraction", "rate", "mean"),
    "SM [%]": ("compute_peak_fraction", "rate", "mean"),
    "Memory [%]": ("memory_peak_fraction", "rate", "mean"),
    "SOL DRAM": ("dram_peak_fraction", "rate", "mean"),
    "L1/TEX Hit Rate": ("l1_hit_fraction", "rate", "mean"),
    "L2 Hit Rate": ("l2_hit_fraction", "rate", "mean"),
    "Achieved Occupancy": ("occupancy_fraction", "occupancy", "mean"),
    "Theoretical Occupancy": ("occupancy_limit_fraction", "occupancy", "mean"),
    "Block Limit Registers": ("blocks_by_registers", "occupancy", "min"),
    "Block Limit Shared Mem": ("blocks_by_shared_memory", "occupancy", "min"),
    "Block Limit Warps": ("blocks_by_warps", "occupancy", "min"),
    "Block Limit SM": ("blocks_by_blocks", "occupancy", "min"),
    "Waves Per SM": ("waves", "occupancy", "mean"),
    "Registers Per Thread": ("registers_per_thread", "resource", "max"),
    "Dynamic Shared Memory Per Block": ("dynamic_shared_per_block_bytes", "resource", "max"),
    "Static Shared Memory Per Block": ("static_shared_per_block_bytes", "resource", "max"),
    "Grid Size": ("grid_size", "resource", "max"),
    "Block Size": ("block_size", "resource", "max"),
    "Threads": ("threads", "resource", "max"),
    "Executed Instructions": ("warp_instructions", "instruction", "sum"),
    "Issue Slots Busy": ("issue_active_fraction", "rate", "mean"),
    "Avg. Active Threads Per Warp": ("active_threads_per_warp", "instruction", "mean"),
    "Elapsed Cycles": ("elapsed_cycles", "time", "sum"),
    "SM Active Cycles": ("active_cycles", "time", "sum"),
}
MEANINGS: Mapping[str, Meaning] = MappingProxyType(_RAW | _DETAILS)

BLOCK_LIMITS = {
    "blocks_by_registers": "registers",
    "blocks_by_shared_memory": "shared_memory",
    "blocks_by_warps": "warps",
    "blocks_by_blocks": "blocks",
}
"""Figure to the limiter's name, as in `tools.targets`."""

_STALL = re.compile(
    r"(?:smsp__average_warps?(?:_latency)?_issue_stalled_|smsp__pcsamp_warps_issue_stalled_)(?P<reason>\w+?)(?:_per_issue_active\.ratio|\.ratio|_per_warp_active\.pct)?"
)
_STALL_DETAILS = re.compile(r"Stall (?P<reason>[A-Z][\w ]*)")
_TENSOR = re.compile(r"sm__pipe_tensor(?:_op_\w+?)?_cycles_active\.avg\.pct_of_peak_sustained_active")
"""All matrix instructions, or one kind of them (`hmma`, `gmma`, `imma`); the busiest counts."""
_FLOPS = re.compile(
    r"(?:smsp|sm)__sass_thread_inst_executed_op_(?P<kind>[dfh])(?P<operation>add|mul|fma)_pred_on\.sum(?P<per>\.per_cycle_elapsed)?"
)
_INSTRUCTION = re.compile(r"(?:smsp|sm)__(?:sass_)?(?:thread_)?inst_(?:executed|issued)_(?P<what>(?:op|pipe)_\w+)\.sum")


_LEFT_OUT = re.compile(
    r"(?:device__attribute|nvlink|numa|c2clink|profiler|sass|launch__sass)_.*|.*\.(?:min|max|sum)\.(?:pct_of|per_)\w*|.*\.(?:min|max|avg)"
)


def is_wanted(metric: str) -> bool:
    """Return whether a column of the raw page is kept: of 841 on an H100 most are the chip's attributes, and the extremes of figures whose mean is there too."""
    return metric in MEANINGS or not _LEFT_OUT.fullmatch(metric)


def meaning(metric: str, unit: str) -> Meaning:
    """Return what a metric is; metrics without a common name keep theirs and combine by their kind: `.sum` adds up, the rest is a mean."""
    if metric == "Memory Throughput":
        return ("memory_peak_fraction", "rate", "mean") if unit == "%" else ("dram_bytes_per_s", "rate", "mean")
    if metric in MEANINGS:
        return MEANINGS[metric]
    if _TENSOR.fullmatch(metric):
        return "tensor_pipe_fraction", "rate", "mean"
    if match := _STALL.fullmatch(metric) or _STALL_DETAILS.fullmatch(metric):
        return f"stall_{match['reason'].lower().replace(' ', '_')}", "stall", "mean"
    if (match := _FLOPS.fullmatch(metric)) and not match["per"]:
        return f"thread_{match['kind']}{match['operation']}", "instruction", "sum"
    if match := _INSTRUCTION.fullmatch(metric):
        return f"instructions_{match['what']}", "instruction", "sum"
    if metric.endswith(".sum"):
        return metric, "other", "sum"
    if metric.startswith(("launch__", "device__attribute_")):
        return metric, "resource", "max"
    return metric, "other", "mean"
