#!/usr/bin/env python3
"""The cpu backend's training step beside PyTorch's, in one run on one machine.

    bench_cpu.py [--bench PATH] [--out DIR] [--quick]

Order: ours, PyTorch, ours, so that a machine that slows down or warms up shows. Each side counts with its best sample, PyTorch with
its best thread count; every sample is kept. Writes to DIR (build/bench):

    bench_cpu-1.json, -2.json   Google Benchmark's own output of the two runs of ours, every row of bench/bench_cpu.cpp
    torch-H200.json, ...        tools/torch/torch_twin.py's output
    cpu.json                    the summary that profiles/cpu/ keeps and tools/results.py reads

Exits with 1 when a side cannot run, or when the two do not compute the same: the first minibatch without dropout must cost the same.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# H, B, T, keep, initial weights, and the ratio to PyTorch that the project asks of itself.
WORKLOADS = ((200, 20, 20, 1.0, 0.1, 1.8), (650, 20, 35, 0.5, 0.05, 1.6))
LARGE = (1500, 20, 35, 0.35)
SHARE_AIM = 0.70  # of sgemm, at H = 650
NO_TORCH = 77
SAME_COST = 1e-5


class Failure(Exception):
    """A sentence for the user."""


def run(command, title):
    print(f"{title} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == NO_TORCH:
        raise Failure("PyTorch is not there to compare with: tools/deps.sh ci installs it")
    if done.returncode:
        raise Failure(f"{title} failed with exit status {done.returncode}: {' '.join(command)}")
    return done.stdout


def bench_ours(bench, out, number, options):
    path = os.path.join(out, f"bench_cpu-{number}.json")
    run([bench, f"--benchmark_out={path}", "--benchmark_out_format=json", *options], f"cpu backend, run {number} of 2")
    with open(path, encoding="utf-8") as f:
        found = json.load(f)
    for row in found["benchmarks"]:
        if row.get("error_occurred"):
            raise Failure(f"{row['name']}: {row['error_message']}")
    return found


def bench_torch(out, H, B, T, keep, init, seconds):
    path = os.path.join(out, f"torch-H{H}.json")
    options = {"hidden": H, "batch": B, "seq": T, "keep": keep, "init": init, "seconds": seconds}
    command = [sys.executable, os.path.join(HERE, "torch/torch_twin.py"), "bench"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    text = run(command, f"PyTorch, H = {H}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return json.loads(text)


def samples(runs, name, counter):
    """One list per run."""
    return [[row[counter] for row in found["benchmarks"] if row["name"] == name and row["run_type"] == "iteration"] for found in runs]


def best_of(runs, name, counter):
    values = sum(samples(runs, name, counter), [])
    return max(values) if values else None


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown CPU"


def load_average():
    with open("/proc/loadavg", encoding="utf-8") as f:
        return float(f.read().split()[0])


def side_of(runs, H, B, T):
    """Ours at one shape, or None where this run had no such row."""
    shape = f"H:{H}/B:{B}/T:{T}"
    name = f"step/cpu/f32/{shape}"
    rate, square = best_of(runs, name, "FLOP/s"), best_of(runs, "sgemm/square/n:2048", "FLOP/s")
    products = best_of(runs, f"sgemm/step/{shape}", "FLOP/s")
    return rate and {
        "words_per_s": best_of(runs, name, "words/s"), "words_per_s_samples": samples(runs, name, "words/s"),
        "words_per_s_1_thread": best_of(runs, name + "/threads:1", "words/s"), "flop_per_s": rate, "sgemm_square_flop_per_s": square,
        "sgemm_products_flop_per_s": products, "of_square": rate / square, "of_products": rate / products,
        "first_nats": best_of(runs, name, "first_nats")}


def row_of(runs, twin, H, B, T, keep, bar):
    ours, theirs = side_of(runs, H, B, T), max(twin["results"], key=lambda r: r["words_per_s"])
    mine, other = ours["first_nats"], theirs["first_nats"]
    if keep == 1 and abs(mine - other) > SAME_COST * other:
        raise Failure(f"H = {H}: the first minibatch costs {mine:.7g} nats a word here and {other:.7g} in PyTorch")
    return {"hidden": H, "batch": B, "seq": T, "keep": keep, "ours": ours, "torch": theirs, "torch_all": twin["results"],
            "ratio": ours["words_per_s"] / theirs["words_per_s"], "bar": bar}


def large_row(runs):
    """The large model by itself: PyTorch's step of it takes seconds and says nothing new."""
    H, B, T, keep = LARGE
    ours = side_of(runs, H, B, T)
    return [{"hidden": H, "batch": B, "seq": T, "keep": keep, "ours": ours}] if ours else []


def show_side(label, side, verdict=""):
    print(f"{label:28}{side['words_per_s']:10.0f}{side['flop_per_s'] / 1e9:10.1f}{side['of_square']:10.0%}{side['of_products']:13.0%}   "
          f"{verdict}".rstrip())


def show(summary):
    print(f"{summary['cpu']}, {summary['threads']} threads; load average at the start {summary['load_average']:.2f}")
    print(f"{'':28}{'words/s':>10}{'GFLOP/s':>10}{'of sgemm':>10}{'of products':>13}   against PyTorch")
    for row in summary["rows"]:
        verdict = f"{row['ratio']:.2f} times ({'reaches' if row['ratio'] >= row['bar'] else 'BELOW'} {row['bar']})" if "ratio" in row else ""
        show_side(f"H {row['hidden']}, B {row['batch']}, T {row['seq']}, keep {row['keep']:g}", row["ours"], verdict)
        for theirs in row.get("torch_all", []):
            show_side(f"  PyTorch, {theirs['threads']} thread{'s' if theirs['threads'] > 1 else ''}", theirs)
    print("Best samples. of sgemm: the step's FLOP/s as a share of those of a 2048 x 2048 x 2048 product; of products: of the step's own\n"
          f"matrix products run alone through sgemm. The aim at H = 650 is {SHARE_AIM:.0%} of sgemm.")


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench/bench_cpu", metavar="PATH")
    parser.add_argument("--out", default="build/bench", metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="without H = 1500, and fewer samples")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)

    load = load_average()
    options = ["--benchmark_filter=(H:200|H:650|square)", "--benchmark_repetitions=3"] if arguments.quick else []
    again = ["--benchmark_filter=(step/cpu/f32|sgemm/step)/H:(200|650)/B:20/T:[0-9]+$|square/n:2048$", *options[1:]]
    bench = os.path.abspath(arguments.bench)
    try:
        runs = [bench_ours(bench, arguments.out, 1, options)]
        twins = {H: bench_torch(arguments.out, H, B, T, keep, init, 8 if arguments.quick else 16) for H, B, T, keep, init, _ in WORKLOADS}
        runs.append(bench_ours(bench, arguments.out, 2, again))
        rows = [row_of(runs, twins[H], H, B, T, keep, bar) for H, B, T, keep, _, bar in WORKLOADS] + large_row(runs)
    except Failure as fault:
        print(f"bench_cpu: {fault}", file=sys.stderr)
        return 1
    context, twin = runs[0]["context"], twins[WORKLOADS[0][0]]
    summary = {"cpu": cpu_name(), "threads": int(context["threads"]), "blas": context["blas"], "commit": context.get("commit", "unknown"),
               "torch": twin["torch"], "torch_blas": twin["blas"], "load_average": load, "rows": rows}
    path = os.path.join(arguments.out, "cpu.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(summary, f, indent=1)
        f.write("\n")
    show(summary)
    print(f"kept in {path} and beside it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
