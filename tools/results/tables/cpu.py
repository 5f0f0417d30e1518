"""The CPU sections: the cpu backend beside PyTorch, the breakdown of its time, and the emulator."""
import os
import re

from tables.data import Failure
from tables.text import link, number, share, table


def cpu_speed(data, _figures):
    """Returns the tables from the files of tools/bench_cpu.py. Files from before the programs took turns have both thread
    counts of PyTorch and only one load average."""
    text = ""
    benches = [(file, data.json(file)) for file in data.find("*/bench-cpu*.json")]
    # For each machine the build for its own CPU comes first.
    benches.sort(key=lambda bench: (os.path.dirname(bench[0]), bench[1].get("march", "native") != "native"))
    for file, bench in benches:
        rows, notes = [], []
        for row in bench["rows"]:
            shape = f"H {row['hidden']}, B {row['batch']}, T {row['seq']}, keep {row['keep']:g}"
            sides = [("plstm", row["ours"], f"{row['ratio']:.2f}" if "ratio" in row else "")]
            sides += [("plstm", side, "") for side in row.get("ours_other", [])]
            for theirs in row.get("torch_all", [row["torch"]] if "torch" in row else []):
                mode = f", {theirs['mode']}" if "mode" in theirs else ""
                is_best = theirs["threads"] == row["torch"]["threads"]
                sides.append((f"PyTorch {bench['torch']}{mode}", theirs, "1" if is_best else ""))
            rows += [[shape, program, str(side.get("threads", bench.get("threads"))), number(side["words_per_s"], 0),
                      number(side["flop_per_s"] / 1e9, 0), share(side["of_square"]), share(side["of_products"]), ratio,
                      data.hardware(file), link(file)]
                     for program, side, ratio in sides]
            if "load_average" in row:
                notes.append(f"H {row['hidden']} {row['load_average'][0]:.2f} to {row['load_average'][1]:.2f}")
        text += table(["training step", "program ", "threads", "words/s", "GFLOP/s", "of sgemm", "of its products",
                       "against PyTorch's best",
                       "hardware ", "data "], rows)
        libraries = f"of both: {bench['blas']}" if bench["blas"] == bench["torch_blas"] \
            else f"here: {bench['blas']}; in PyTorch: {bench['torch_blas']}"
        text += f"\nMatrix library {libraries}. "
        if "march" in bench:
            text += (f"plstm was compiled with MARCH={bench['march']} and uses vectors of {bench['vector_floats']} floats. "
                     "Times are medians; the two programs took turns. ")
        loads = "Load average before and after: " + ", ".join(notes) if notes else f"Load average at the start: {bench['load_average']:.2f}"
        text += f"{loads}; commit {bench['commit']}.\n\n"
    return text.rstrip("\n") + "\n" if text else "Not yet measured.\n"


# The group of a line of perf, by the first entry that matches: (object, symbol, group).
PERF_GROUPS = (
    (r"openblas", r"", "OpenBLAS: products over all T·B positions"),
    (r"bench_cpu|plstm", r"^tile_", "plstm: register tiles (recurrent products; without OpenBLAS all)"),
    (r"bench_cpu|plstm", r"^sgemm_run|^multiply|^pack|^transpose|^cut", "plstm: packing"),
    (r"bench_cpu|plstm", r"^cpu_layer_", "plstm: cells"),
    (r"bench_cpu|plstm", r"^cpu_softmax_|^softmax_row", "plstm: softmax"),
    (r"bench_cpu|plstm", r"^cpu_update|^sum_of_squares", "plstm: norm, clip, update"),
    (r"bench_cpu|plstm", r"^mask_", "plstm: masks"),
    (r"", r"", "everything else"),
)


def cpu_profile(data, _figures):
    """Returns a table of the shares of one thread's time, from lines of perf report such as `  6.02%  bench_cpu  [.] tile_20`."""
    rows = []
    for file in data.find("*/perf-H*.txt"):
        shares = dict.fromkeys((what for _, _, what in PERF_GROUPS), 0.0)
        for line in data.text(file).splitlines():
            found = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(\S+)", line)
            if not found:
                raise Failure(f"profiles/{file} has a line that perf report does not print: {line[:60]!r}")
            what = next(w for dso, symbol, w in PERF_GROUPS if re.search(dso, found[2]) and re.search(symbol, found[3]))
            shares[what] += float(found[1])
        shares["everything else"] += max(0.0, 100 - sum(shares.values()))  # the entries that perf omitted because they are small
        size = re.search(r"perf-H(\d+)", file)[1]
        rows.append([f"H {size}", *(f"{value:.1f} %" for value in shares.values()), data.hardware(file), link(file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["training step on one thread", *(what for _, _, what in PERF_GROUPS), "hardware ", "data "], rows)


def emulator(data, _figures):
    """Returns a table of the rows of bench/bench_emu.cpp, from Google Benchmark's JSON of the plain and of the race build."""
    rows = []
    for file in data.find("*/bench-emu-*.json"):
        run = data.json(file)
        build = re.search(r"bench-emu-(\w+)\.json$", file).group(1)
        for row in run["benchmarks"]:
            if row.get("run_type", "iteration") != "iteration":
                continue
            seconds = row["cpu_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[row["time_unit"]]
            rate = row.get("switches_per_s")
            rows.append([f"`{row['name'].replace('/iterations:1', '')}`", build, number(seconds, 3), number(rate / 1e6, 1) if rate else "",
                         number(row["peak_mb"], 0) if "peak_mb" in row else "", data.hardware(file), link(file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["row ", "build ", "CPU s", "million switches/s", "peak MB", "hardware ", "data "], rows)
