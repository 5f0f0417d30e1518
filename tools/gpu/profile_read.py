#!/usr/bin/env python3
"""Summarises the output of profilers as a CSV table on standard output. Columns are found by name; a missing one stays empty.

    profile_read.py ncu FILE...    raw pages of Nsight Compute (ncu --page raw --csv --print-units base): a line per kernel and launch shape
    profile_read.py sass FILE      machine code (cuobjdump --dump-sass): the count of each opcode in each function
    profile_read.py trace FILE     a trace of tools/gpu/nvtx_trace.c: a line per range, and per kernel in it
"""
import csv
import io
import json
import re
import statistics
import sys


class Failure(Exception):
    """An error whose text is a sentence for the user."""


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def without_arguments(name):
    """Removes the argument list and the return type: `void f<(int)4>(float *)` becomes f<(int)4>."""
    name = name.strip()
    depth = at = 0
    for at in range(len(name) - 1, -1, -1) if name.endswith(")") else ():
        depth += {")": 1, "(": -1}.get(name[at], 0)
        if depth == 0:
            break
    return (name[:at] if at else name).removeprefix("void ").strip()


def size(text):
    """Formats (130, 1, 1) as 130x1x1."""
    return "x".join(re.findall(r"\d+", text))


# ---- Nsight Compute ----

# {column: (metric, factor)}; FLOP are the sum over FLOPS below
NCU_COLUMNS = {
    "us": ("gpu__time_duration.sum", 1e-3),
    "clock_mhz": ("sm__cycles_elapsed.avg.per_second", 1e-6),
    "sm_pct": ("sm__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "l1_pct": ("l1tex__throughput.avg.pct_of_peak_sustained_active", 1),
    "l2_pct": ("lts__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "dram_pct": ("dram__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "occupancy_pct": ("sm__warps_active.avg.pct_of_peak_sustained_active", 1),
    "registers": ("launch__registers_per_thread", 1),
    "shared_static": ("launch__shared_mem_per_block_static", 1),
    "shared_dynamic": ("launch__shared_mem_per_block_dynamic", 1),
    "dram_read": ("dram__bytes_read.sum", 1),
    "dram_written": ("dram__bytes_write.sum", 1),
    "l2_bytes": ("lts__t_bytes.sum", 1),
    "local_loads": ("smsp__inst_executed_op_local_ld.sum", 1),
    "bank_conflicts": ("l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", 1),
}
FLOPS = {"smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": 1, "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": 1,
         "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": 2, "sm__ops_path_tensor_src_bf16_dst_fp32.sum": 1,
         "sm__ops_path_tensor_src_tf32_dst_fp32.sum": 1}
UNITS = {"nsecond": 1, "ns": 1, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "second": 1e9, "s": 1e9,  # of a duration: ns
         "byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "cycle/second": 1, "cycle/nsecond": 1e9, "hz": 1, "Ghz": 1e9}


def number(text):
    """Parses a cell of ncu, whose digits may be grouped by commas; None if it is no number."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def ncu_launches(text):
    """Returns [{heading: (text, value in base units or None)}] of one raw page; other output of the program or ncu is skipped."""
    lines = text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith('"ID",')), None)
    if at is None or at + 2 >= len(lines):
        raise Failure("no table of ncu's raw page was found")
    headings, units, *rows = csv.reader(io.StringIO("\n".join(lines[at:])))
    if len(units) != len(headings) or units[0]:
        raise Failure("the line of units is missing, so this is not ncu's raw page")
    found = []
    for row in rows:
        if len(row) != len(headings):
            break  # cut short, or past the table
        values = {}
        for heading, unit, cell in zip(headings, units, row):
            value = number(cell)
            values[heading] = (cell, None if value is None else value * UNITS.get(unit.split("/block")[0], 1))
        found.append(values)
    return found


def ncu_table(texts):
    groups = {}
    for text in texts:
        for launch in ncu_launches(text):
            sizes = [size(launch.get(heading, ("", None))[0]) for heading in ("Grid Size", "Block Size")]
            groups.setdefault((without_arguments(launch["Kernel Name"][0]), *sizes), []).append(launch)
    rows = [["kernel", "grid", "block", "launches", *NCU_COLUMNS, "flop", "flop_per_byte", "flop_per_s"]]
    for key, launches in groups.items():
        values = lambda metric: [v[metric][1] for v in launches if v.get(metric, ("", None))[1] is not None]
        mean = lambda metric: statistics.fmean(found) if (found := values(metric)) else None
        cells = {column: None if (value := mean(metric)) is None else value * factor for column, (metric, factor) in NCU_COLUMNS.items()}
        terms = [None if (value := mean(metric)) is None else value * flop for metric, flop in FLOPS.items()]
        flop = sum(term for term in terms if term is not None) if any(term is not None for term in terms) else None
        moved = None if None in (cells["dram_read"], cells["dram_written"]) else cells["dram_read"] + cells["dram_written"]
        derived = [flop, flop / moved if flop and moved else None, flop / cells["us"] * 1e6 if flop and cells["us"] else None]
        rows.append([*key, len(launches), *(tidy(v) for v in (*cells.values(), *derived))])
    return rows


def tidy(value):
    return "" if value is None else f"{value:.6g}"


# ---- machine code ----


def sass_table(text):
    """Counts opcodes with the width of their data (.64, .128), without their other modifiers."""
    counts, function = {}, None
    for line in text.splitlines():
        named = re.match(r"\s*Function : (\S+)", line)
        if named:
            function = named[1]
        code = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", line)
        if code and function:
            opcode, *modifiers = code[1].split(".")
            opcode = ".".join([opcode, *(m for m in modifiers if m in ("64", "128"))])
            counts[function, opcode] = counts.get((function, opcode), 0) + 1
    if not counts:
        raise Failure("no machine code of cuobjdump was found")
    functions = list(dict.fromkeys(f for f, _ in counts))
    ordered = sorted(counts.items(), key=lambda item: (functions.index(item[0][0]), -item[1], item[0][1]))
    return [["function", "opcode", "count"], *([*key, n] for key, n in ordered)]


# ---- traces ----


def trace_events(text):
    """Returns the events of a Chrome trace, even if its end is missing."""
    try:
        return json.loads(text)
    except ValueError:
        events = []
        for line in text.splitlines():
            try:
                events.append(json.loads(line.strip().rstrip(",")))
            except ValueError:
                continue
        return events


def trace_table(text):
    slices = [e for e in trace_events(text) if isinstance(e, dict) and e.get("ph") == "X"]
    if not slices:
        raise Failure("no range was found")
    gpu = [e for e in slices if e["cat"] != "range"]
    ranges, kernels = {}, {}
    for e in slices:
        if e["cat"] == "range":
            ranges.setdefault(e["args"]["path"], []).append(e["dur"])
    for e in gpu:
        kernels.setdefault((e["cat"], e["args"]["path"], without_arguments(e["name"])), []).append(e["dur"])
    inside = lambda path: [e["dur"] for e in gpu if e["args"]["path"] == path or e["args"]["path"].startswith(path + "/")]
    rows = [["kind", "path", "name", "count", "total_us", "mean_us", "on_gpu", "gpu_us"]]
    for path, times in sorted(ranges.items()):
        below = inside(path)
        rows.append(["range", path, path.rsplit("/", 1)[-1], len(times), f"{sum(times):.3f}", f"{statistics.fmean(times):.3f}", len(below),
                     f"{sum(below):.3f}" if below else ""])
    for (kind, path, name), times in sorted(kernels.items(), key=lambda item: -sum(item[1])):
        rows.append([kind, path, name, len(times), f"{sum(times):.3f}", f"{statistics.fmean(times):.3f}", "", f"{sum(times):.3f}"])
    return rows


def main():
    kinds = {"ncu": ncu_table, "sass": lambda texts: sass_table(*texts), "trace": lambda texts: trace_table(*texts)}
    if sys.argv[1:] == ["--help"]:
        print(__doc__.strip())
        return 0
    if len(sys.argv) < 3 or sys.argv[1] not in kinds or (sys.argv[1] != "ncu" and len(sys.argv) != 3):
        print("usage: profile_read.py ncu FILE... | sass FILE | trace FILE", file=sys.stderr)
        return 2
    try:
        rows = kinds[sys.argv[1]]([read(path) for path in sys.argv[2:]])
    except (Failure, OSError, KeyError, TypeError) as fault:
        print(f"profile_read: {', '.join(sys.argv[2:])}: {fault}", file=sys.stderr)
        return 1
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
