#!/usr/bin/env python3
"""Lists the metrics that Nsight Compute collects for tools/profile.sh, and checks without a GPU that they exist.

    ncu_metrics.py fast|roofline|full    prints the names, joined by commas, for `ncu --metrics`
    ncu_metrics.py --check [CHIP]        looks up each name (default chip GH100) in CUPTI's host library and, if it is installed, in
                                         `ncu --query-metrics`; exit status 1: some names are unknown, 77: neither source is here

Every profile has the metrics of fast: time, utilisation of the units, occupancy and launch. roofline adds bytes and operations, which
place a kernel under its roof. full adds stall reasons, bank conflicts, hit rates and instruction counts; it takes the most passes.
"""
import ctypes
import glob
import os
import re
import shutil
import subprocess
import sys

FAST = {
    "gpu__time_duration.sum": "ns of the kernel on the GPU",
    "sm__cycles_elapsed.avg.per_second": "SM clock while it ran, Hz: clocks are left alone",
    "sm__cycles_elapsed.max": "cycles of the longest SM",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "utilisation of the busiest pipe of the SMs",
    "l1tex__throughput.avg.pct_of_peak_sustained_active": "L1 and shared memory",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "L2",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "device memory",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "achieved occupancy",
    "sm__inst_executed_pipe_tensor.sum": "tensor core instructions",
    "launch__grid_size": "blocks",
    "launch__block_size": "threads per block",
    "launch__registers_per_thread": "registers per thread",
    "launch__shared_mem_per_block_static": "bytes of static shared memory per block",
    "launch__shared_mem_per_block_dynamic": "bytes of dynamic shared memory per block",
    "launch__waves_per_multiprocessor": "at most 1 in a persistent kernel",
}
ROOFLINE = {
    "dram__bytes_read.sum": "bytes read from device memory",
    "dram__bytes_write.sum": "bytes written to device memory",
    "lts__t_bytes.sum": "bytes through L2",
    "l1tex__t_bytes.sum": "bytes through L1",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": "float32 additions",
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": "float32 multiplications",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": "float32 multiply-adds, 2 FLOP each",
    "sm__ops_path_tensor_src_bf16_dst_fp32.sum": "operations of tensor cores, bf16",
    "sm__ops_path_tensor_src_tf32_dst_fp32.sum": "operations of tensor cores, TF32",
}
STALLS = ("barrier", "branch_resolving", "dispatch_stall", "drain", "lg_throttle", "long_scoreboard",
          "math_pipe_throttle", "membar", "mio_throttle",
          "no_instruction", "not_selected", "selected", "short_scoreboard", "sleeping", "wait")
FULL = {
    **{f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio": f"warps that waited for {reason}, per "
       f"instruction" for reason in STALLS},
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "cycles in which a scheduler issued",
    "smsp__inst_executed.sum": "warp instructions",
    "smsp__inst_executed_op_shared_ld.sum": "loads from shared memory",
    "smsp__inst_executed_op_local_ld.sum": "loads from local memory: spills",
    "smsp__inst_executed_op_local_st.sum": "stores to local memory: spills",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": "bank conflicts in shared memory",
    "l1tex__t_sector_hit_rate.pct": "hits in L1",
    "lts__t_sector_hit_rate.pct": "hits in L2",
    "lts__t_requests_op_atom.sum": "atomics at L2",
    "lts__t_requests_op_red.sum": "reductions at L2",
    "sm__inst_executed_pipe_fma.sum": "instructions of the FMA pipe",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": "tensor cores busy",
}
LISTS = {"fast": FAST, "roofline": {**FAST, **ROOFLINE}, "full": {**FAST, **ROOFLINE, **FULL}}
OWN = "launch__"  # ncu derives these from the launch's arguments: they are no hardware counters, and neither source lists them
OLDEST_NCU = 2024
CUPTI_PLACES = ("/usr/local/cuda/lib64", "/usr/local/cuda/extras/CUPTI/lib64")


def needs_hardware():
    return [name for name in LISTS["full"] if not name.startswith(OWN)]


# ---- CUPTI's host library, which supports every chip up to its release and needs no driver ----


class Initialize(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("private", ctypes.c_void_p), ("type", ctypes.c_int), ("chip", ctypes.c_char_p),
                ("available", ctypes.c_void_p), ("host", ctypes.c_void_p)]


class Properties(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("private", ctypes.c_void_p), ("host", ctypes.c_void_p), ("metric", ctypes.c_char_p),
                ("description", ctypes.c_char_p), ("unit", ctypes.c_char_p), ("dimension", ctypes.c_char_p), ("type", ctypes.c_int)]


def cupti():
    """Returns the library, or None. It opens libnvperf_host by its bare name, so that library must be loaded first."""
    for place in CUPTI_PLACES:
        libraries = sorted(glob.glob(os.path.join(place, "libcupti.so.*")))
        helper = os.path.join(place, "libnvperf_host.so")
        if libraries and os.path.exists(helper):
            try:
                ctypes.CDLL(helper, mode=ctypes.RTLD_GLOBAL)
                library = ctypes.CDLL(libraries[-1])
                return library if hasattr(library, "cuptiProfilerHostGetMetricProperties") else None
            except OSError:
                return None
    return None


def unknown_to_cupti(library, chip, names):
    """Returns the names that are not metrics of this chip, or None if the library does not support the chip."""
    start = Initialize(ctypes.sizeof(Initialize), None, 0, chip.upper().encode(), None, None)
    if library.cuptiProfilerHostInitialize(ctypes.byref(start)):
        return None
    unknown = []
    for name in names:
        size = Properties.type.offset + ctypes.sizeof(ctypes.c_int)  # to the end of the last field, as CUPTI counts
        if library.cuptiProfilerHostGetMetricProperties(ctypes.byref(Properties(size, None, start.host, name.encode()))):
            unknown.append(name)
    return unknown


# ---- ncu ----


def unknown_to_ncu(ncu, chip, names):
    """Returns the names that `ncu --query-metrics` does not list for this chip, compared by base name, which is all that
    it prints. Returns None if ncu is too old for the names of Hopper's tensor metrics, or lists nothing."""
    version = subprocess.run([ncu, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120).stdout
    year = re.search(r"Version (\d{4})", version)
    if not year or int(year[1]) < OLDEST_NCU:
        return None
    done = subprocess.run([ncu, "--query-metrics", "--chips", chip.lower()], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)
    known = set(re.findall(r"^([a-z]\w*__\w+)\s", done.stdout, re.MULTILINE))
    return [name for name in names if name.split(".")[0] not in known] if known else None


def check(chip):
    """Returns [(source, unknown names)] of the sources that are installed and support the chip."""
    found, library, ncu = [], cupti(), os.environ.get("NCU") or shutil.which("ncu")
    if library:
        found.append(("CUPTI", unknown_to_cupti(library, chip, needs_hardware())))
    if ncu:
        found.append(("ncu --query-metrics", unknown_to_ncu(ncu, chip, needs_hardware())))
    return [(source, unknown) for source, unknown in found if unknown is not None]


def main():
    arguments = sys.argv[1:]
    if arguments == ["--help"]:
        print(__doc__.strip())
        return 0
    if len(arguments) == 1 and arguments[0] in LISTS:
        print(",".join(LISTS[arguments[0]]))
        return 0
    if not arguments or arguments[0] != "--check" or len(arguments) > 2:
        print(f"usage: ncu_metrics.py {'|'.join(LISTS)} or ncu_metrics.py --check [CHIP]", file=sys.stderr)
        return 2
    chip = arguments[1] if len(arguments) == 2 else "GH100"
    found = check(chip)
    for source, unknown in found:
        print(f"{source}, {chip}: {len(needs_hardware()) - len(unknown)} metrics known"
              + (f", not {', '.join(unknown)}" if unknown else ""))
    if not found:
        print(f"ncu_metrics: found neither a CUPTI host library nor an ncu of at least {OLDEST_NCU} that knows {chip}", file=sys.stderr)
        return 77
    return 1 if any(unknown for _, unknown in found) else 0


if __name__ == "__main__":
    sys.exit(main())
