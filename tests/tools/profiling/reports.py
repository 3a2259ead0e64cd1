"""Profilers' files in our own numbers, as texts: what the tests of the importers read."""

from __future__ import annotations

import gzip
import json
from typing import Any

NCU_HEAD = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",'
    '"Section Name","Metric Name","Metric Unit","Metric Value","Rule Name","Rule Type","Rule Description"'
)


def ncu_row(launch: int, kernel: str, metric: str, unit: str, value: str, rule: str = "") -> str:
    remark = f'"{rule}","OPT","{rule} says so"' if rule else '"","",""'
    return f'"{launch}","7","python","host","{kernel}","1","7","(128, 1, 1)","(10, 2, 1)","0","9.0","Section","{metric}","{unit}","{value}",{remark}'


NCU_DETAILS = "\n".join(
    [
        "output of the program, with, commas",
        '==PROF== Profiling "add_kernel" - 0: 0%....50%....100% - 9 passes',
        NCU_HEAD,
        ncu_row(0, "add_kernel", "Duration", "us", "1,000.00"),
        ncu_row(0, "add_kernel", "Memory Throughput", "Gbyte/s", "2.00"),
        ncu_row(0, "add_kernel", "Memory Throughput", "%", "80.00"),
        ncu_row(0, "add_kernel", "Achieved Occupancy", "%", "40.00"),
        ncu_row(0, "add_kernel", "Registers Per Thread", "register/thread", "32"),
        ncu_row(0, "add_kernel", "Block Limit Registers", "block", "16"),
        ncu_row(0, "add_kernel", "Block Limit Warps", "block", "8"),
        ncu_row(0, "add_kernel", "", "", "", rule="CPIStall"),
        '==PROF== Profiling "add_kernel" - 1: 0%....50%....100% - 9 passes',
        ncu_row(1, "add_kernel", "Duration", "us", "3,000.00"),
        ncu_row(1, "add_kernel", "Memory Throughput", "%", "40.00"),
        ncu_row(1, "add_kernel", "Achieved Occupancy", "%", "80.00"),
        ncu_row(2, "other_kernel", "Duration", "ns", "500.00"),
        ncu_row(2, "other_kernel", "dram__bytes_read.sum", "Mbyte", "n/a"),
    ]
)

NCU_RAW = "\n".join(
    [
        '"ID","Process ID","Kernel Name","Block Size","Grid Size","CC","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum",'
        '"smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio","launch__occupancy_limit_registers","launch__occupancy_limit_shared_mem",'
        '"l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum","l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum","sm__warps_active.avg.pct_of_peak_sustained_active",'
        '"smsp__sass_thread_inst_executed_op_ffma_pred_on.sum"',
        '"","","","","","","usecond","Mbyte","Kbyte","inst","block","block","sector","","%","inst"',
        '"0","7","gemm","(256, 1, 1)","(4, 4, 1)","9.0","1,000.00","2.00","1,000.00","7.5","2","8","3,200","100","25.00","1,000,000"',
        '"1","7","gemm","(256, 1, 1)","(4, 4, 1)","9.0","1,000.00","4.00","1,000.00","2.5","2","8","1,600","100","75.00","1,000,000"',
    ]
)

ROCPROFV3_TRACE = "\n".join(
    [
        '"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id","Start_Timestamp","End_Timestamp","LDS_Block_Size","Scratch_Size",'
        '"VGPR_Count","Accum_VGPR_Count","SGPR_Count","Workgroup_Size_X","Workgroup_Size_Y","Workgroup_Size_Z","Grid_Size_X","Grid_Size_Y","Grid_Size_Z"',
        '"KERNEL_DISPATCH","Agent 4",1,0,11,1,9,"scale(float*, int)",1,1000000,1010000,512,0,24,0,32,256,1,1,4096,2,1',
        '"KERNEL_DISPATCH","Agent 4",1,0,11,2,9,"scale(float*, int)",2,1015000,1035000,512,64,24,0,32,256,1,1,4096,2,1',
        '"MEMORY_COPY","Agent 4",1,0,11,3,0,"copy",3,1040000,1050000,0,0,0,0,0,1,1,1,1,1,1',
    ]
)

ROCPROFV3_COUNTERS = "\n".join(
    [
        '"Correlation_Id","Dispatch_Id","Agent_Id","Queue_Id","Process_Id","Thread_Id","Grid_Size","Kernel_Id","Kernel_Name","Workgroup_Size","LDS_Block_Size","Scratch_Size","VGPR_Count","SGPR_Count",'
        '"Counter_Name","Counter_Value","Start_Timestamp","End_Timestamp"',
        '1,1,4,1,11,11,8192,9,"scale(float*, int)",256,512,0,24,32,"FETCH_SIZE",1024.0,1000000,1010000',
        '1,1,4,1,11,11,8192,9,"scale(float*, int)",256,512,0,24,32,"TCC_HIT[0]",30,1000000,1010000',
        '1,1,4,1,11,11,8192,9,"scale(float*, int)",256,512,0,24,32,"TCC_HIT[1]",30,1000000,1010000',
        '1,1,4,1,11,11,8192,9,"scale(float*, int)",256,512,0,24,32,"TCC_MISS[0]",40,1000000,1010000',
        '2,2,4,1,11,11,8192,9,"scale(float*, int)",256,512,0,24,32,"FETCH_SIZE",3072.0,1015000,1035000',
    ]
)

ROCPROF_V1 = "\n".join(
    [
        '"Index","KernelName","gpu-id","queue-id","queue-index","pid","tid","grd","wgr","lds","scr","arch_vgpr","accum_vgpr","sgpr","wave_size","sig","obj","SQ_WAVES","SQ_INSTS_VALU","DispatchNs","BeginNs","EndNs","CompleteNs","DurationNs"',
        '0,"scale(float*, int) [clone .kd]",0,0,0,5,5,8192,256,512,0,24,4,32,64,"0x0","0x7f00",128,5120,100,1000,11000,12000,10000',
        '1,"scale(float*, int) [clone .kd]",0,0,1,5,5,8192,256,512,0,24,4,32,64,"0x0","0x7f00",128,5120,100,15000,35000,36000,20000',
    ]
)

PMC_PERF = "\n".join(
    [
        "Dispatch_ID,Kernel_Name,GPU_ID,Grid_Size,Workgroup_Size,LDS_Per_Workgroup,Scratch_Per_Workitem,Arch_VGPR,Accum_VGPR,SGPR,wave_size,obj,SQ_WAVES,TCC_EA_RDREQ[0],TCC_EA_RDREQ[1],TCC_EA_RDREQ_32B[0],"
        "TCC_EA_RDREQ_32B[1],wave_size_1,obj_1,SQ_WAVES_1,SQ_WAIT_ANY,Start_Timestamp,End_Timestamp",
        '0,"scale(float*, int) (.kd)",2,8192,256,512,0,24,0,32,64,0x7f00,128,100,100,20,20,64,0x7f01,128,900,1000,11000',
        '1,"scale(float*, int) (.kd)",2,8192,256,512,0,24,0,32,64,0x7f00,128,100,100,20,20,64,0x7f01,128,900,15000,35000',
    ]
)


def trace_event(name: str, category: str, start: float, length: float, thread: int = 1, **arguments: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread, "ts": start, "dur": length, "args": arguments}


def kineto(*events: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 1,
            "deviceProperties": [{"id": 0, "name": "A chip", "computeMajor": 9, "computeMinor": 0}],
            "displayTimeUnit": "ms",
            "traceEvents": [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}}, *events],
            "traceName": "t.json",
        }
    ).encode()


GPU_TRACE = kineto(
    trace_event("step", "user_annotation", 0.0, 500.0),
    trace_event("aten::linear", "cpu_op", 10.0, 100.0),
    trace_event("aten::mm", "cpu_op", 20.0, 60.0),
    trace_event("cudaLaunchKernel", "cuda_runtime", 30.0, 8.0),
    trace_event("cudaLaunchKernel", "cuda_runtime", 120.0, 4.0),
    trace_event("cudaDeviceSynchronize", "cuda_runtime", 200.0, 90.0),
    trace_event(
        "gemm", "kernel", 100.0, 50.0, thread=7, grid=[4, 4, 1], block=[256, 1, 1], **{"registers per thread": 90, "shared memory": 1024}
    ),
    trace_event(
        "gemm", "kernel", 170.0, 30.0, thread=7, grid=[4, 4, 1], block=[256, 1, 1], **{"registers per thread": 90, "shared memory": 1024}
    ),
    trace_event("relu", "kernel", 200.0, 20.0, thread=7),
    trace_event("Memcpy DtoH", "gpu_memcpy", 240.0, 10.0, thread=7, bytes=4096),
)

PROTON_TREE = json.dumps(
    [
        {
            "frame": {"name": "ROOT", "type": "function"},
            "metrics": {"count": 0, "time (ns)": 0},
            "children": [
                {
                    "frame": {"name": "layer", "type": "function"},
                    "metrics": {},
                    "children": [
                        {"frame": {"name": "gemm", "type": "function"}, "metrics": {"count": 4, "time (ns)": 200000, "device_id": "0", "device_type": "CUDA", "flops16": 1000, "bytes": 4000}, "children": []},
                        {"frame": {"name": "relu", "type": "function"}, "metrics": {"count": 1, "time (ns)": 50000, "device_id": "0", "device_type": "CUDA"}, "children": []},
                    ],
                }
            ],
        },
        {"CUDA": {"0": {"arch": "90", "num_sms": 132, "bus_width": 5120, "clock_rate": 1980000, "memory_clock_rate": 2619000}}},
    ]
)  # fmt: skip

PROTON_REGIONS = json.dumps(
    [
        {
            "frame": {"name": "ROOT", "type": "function"},
            "metrics": {"cycles": 0},
            "children": [
                {
                    "frame": {"name": "gemm", "type": "function"},
                    "metrics": {},
                    "children": [
                        {
                            "frame": {"name": "load", "type": "function"},
                            "metrics": {"cycles": 3000, "normalized_cycles": 30.0},
                            "children": [],
                        },
                        {
                            "frame": {"name": "dot", "type": "function"},
                            "metrics": {"cycles": 1000, "normalized_cycles": 10.0},
                            "children": [],
                        },
                    ],
                }
            ],
        },
        {"HIP": {"0": {"arch": "gfx950", "num_sms": 256}}},
    ]
)


def european(text: str) -> str:
    """The raw page as a machine with decimal commas prints it: `;` between cells, `1.000,00` for a thousand."""
    table = str.maketrans({",": ".", ".": ","})
    lines = text.split("\n")
    head = [line.replace('","', '";"') for line in lines[:2]]
    body = [
        ";".join(f'"{cell.translate(table) if cell[:1].isdigit() else cell}"' for cell in line.strip('"').split('","'))
        for line in lines[2:]
    ]
    return "\n".join([*head, *body])


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
