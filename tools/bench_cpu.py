#!/usr/bin/env python3
"""Times the cpu backend's training step beside PyTorch's, in one run on one machine.

    bench_cpu.py [--bench PATH] [--out DIR] [--python PROGRAM] [--hidden N,N] [--rounds N] [--seconds S]

PyTorch first tries every configuration (thread count, eager or torch.compile, sparse or dense gradient of the embedding) and keeps the
fastest. Then the two programs take turns, --rounds times. The result of each side is its median; every sample is kept. The script writes
cpu.json to DIR (build/bench); profiles/ keeps this file and tools/results.py reads it. For shapes that --hidden leaves out, the file keeps
the rows that an earlier run of the same two programs on this machine wrote.

The exit status is 1 if one side cannot run or if the two sides do not compute the same: the first minibatch without dropout must have the
same cost in both.
"""
import argparse
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# H, B, T, keep, initial weights, clip, and the ratio to PyTorch that this project aims for.
WORKLOADS = ((200, 20, 20, 1.0, 0.1, 5, 1.25), (650, 20, 35, 0.5, 0.05, 5, 1.1), (1500, 20, 35, 0.35, 0.04, 10, 1.05))
NO_TORCH = 77
PR_SET_PDEATHSIG = 1
SAME_COST = 1e-5


class Failure(Exception):
    """An error whose text is a sentence for the user."""


def cpu_name():
    """Returns the CPU's name as the Linux kernel reports it, with family, model and widest vector unit, since the name
    alone is vague on cloud machines."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        facts = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    vectors = next((word for flag, word in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "no AVX2")
    return f"{facts.get('model name', 'unknown CPU')} (family {facts.get('cpu family', '?')} model {facts.get('model', '?')}, {vectors})"


def load_average():
    with open("/proc/loadavg", encoding="utf-8") as f:
        return float(f.read().split()[0])


class Ours:
    def __init__(self, bench, out, shape, seconds):
        self.bench, self.path, self.shape, self.seconds, self.rows, self.context = bench, os.path.join(
            out, "bench_cpu.json"), shape, seconds, {}, {}

    def round(self):
        """Takes one sample of the step for every thread count, and of the sgemm rates."""
        wanted = f"^(step/cpu/f32/{self.shape}|sgemm/step/{self.shape}|sgemm/square/n:2048)(/threads:1)?$"
        command = [self.bench, f"--benchmark_filter={wanted}", "--benchmark_repetitions=1", f"--benchmark_min_time={self.seconds}",
                   f"--benchmark_out={self.path}", "--benchmark_out_format=json"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Failure(f"the cpu backend's benchmark failed with exit status {done.returncode}: {done.stderr.strip()[-300:]}")
        with open(self.path, encoding="utf-8") as f:
            found = json.load(f)
        self.context = found["context"]
        for row in found["benchmarks"]:
            if row.get("error_occurred"):
                raise Failure(f"{row['name']}: {row['error_message']}")
            self.rows.setdefault(row["name"], []).append(row)

    def samples(self, name, counter):
        return [row[counter] for row in self.rows.get(name, [])]

    def result(self):
        """The result of the faster thread count."""
        step, found = f"step/cpu/f32/{self.shape}", []
        for threads, suffix in ((int(self.context["threads"]), ""), (1, "/threads:1")):
            words = self.samples(step + suffix, "words/s")
            if not words:
                continue
            rate = statistics.median(self.samples(step + suffix, "FLOP/s"))
            square, products = (statistics.median(self.samples(name + suffix, "FLOP/s"))
                                for name in ("sgemm/square/n:2048", f"sgemm/step/{self.shape}"))
            found.append({"threads": threads, "words_per_s": statistics.median(words), "words_per_s_samples": words, "flop_per_s": rate,
                          "sgemm_square_flop_per_s": square, "sgemm_products_flop_per_s": products, "of_square": rate / square,
                          "of_products": rate / products, "first_nats": self.samples(step + suffix, "first_nats")[0]})
        found.sort(key=lambda side: -side["words_per_s"])
        return found


class Torch:
    """A running tools/torch/torch_twin.py, which waits between its samples."""

    def __init__(self, python, H, B, T, keep, init, clip, seconds, threads):
        options = {"hidden": H, "batch": B, "seq": T, "keep": keep, "init": init, "clip": clip, "seconds": seconds, "threads": threads}
        command = [sys.executable, os.path.join(HERE, "torch/torch_twin.py"), *(["--python", python] if python else []), "bench"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        # The child ends with this process, however that ends, so it never runs beside the next measurement.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.words_per_s, self.facts = [], json.loads(self.line())

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            status = self.process.wait()
            if status == NO_TORCH:
                raise Failure("no PyTorch was found to compare with; tools/deps.sh ci installs Debian's, and PEER=pypi installs the newest")
            raise Failure(f"PyTorch's side failed with exit status {status}")
        return text

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.words_per_s.append(float(self.line()))

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def result(self, words):
        side = {key: self.facts[key] for key in ("threads", "mode", "embedding_gradient", "first_nats", "tried")}
        square, products = self.facts["sgemm_square_flop_per_s"], self.facts["sgemm_products_flop_per_s"]
        rate = statistics.median(self.words_per_s) / words * self.facts["flop_per_step"]
        return {**side, "words_per_s": statistics.median(self.words_per_s), "words_per_s_samples": self.words_per_s, "flop_per_s": rate,
                "sgemm_square_flop_per_s": square, "sgemm_products_flop_per_s": products, "of_square": rate / square,
                "of_products": rate / products}


def measure(arguments, workload):
    """Returns the row of one shape, and the facts that hold for the whole run."""
    H, B, T, keep, init, clip, bar = workload
    load = load_average()
    print(f"H = {H}: PyTorch looks for its fastest configuration ...", file=sys.stderr, flush=True)
    threads = len(os.sched_getaffinity(0))
    theirs = Torch(arguments.python, H, B, T, keep, init, clip, arguments.seconds, "1" if threads == 1 else f"{threads},1")
    ours = Ours(os.path.abspath(arguments.bench), arguments.out, f"H:{H}/B:{B}/T:{T}", arguments.seconds)
    try:
        for number in range(1, arguments.rounds + 1):
            print(f"H = {H}: round {number} of {arguments.rounds} ...", file=sys.stderr, flush=True)
            ours.round()
            theirs.round()
    finally:
        theirs.close()
    mine, other = ours.result(), theirs.result(T * B)
    if keep == 1 and abs(mine[0]["first_nats"] - other["first_nats"]) > SAME_COST * other["first_nats"]:
        raise Failure(f"H = {H}: the first minibatch costs {mine[0]['first_nats']:.7g} nats per word here and "
                      f"{other['first_nats']:.7g} in PyTorch, "
                      "and the two must be equal")
    row = {"hidden": H, "batch": B, "seq": T, "keep": keep, "ours": mine[0], "ours_other": mine[1:], "torch": other,
           "ratio": mine[0]["words_per_s"] / other["words_per_s"], "bar": bar, "rounds": arguments.rounds,
           "load_average": [load, load_average()]}
    context = ours.context
    return row, {"cpu": cpu_name(), "march": context["march"], "vector_floats": int(context["vector_floats"]), "blas": context["blas"],
                 "commit": context["commit"], "torch": theirs.facts["torch"], "torch_blas": theirs.facts["blas"]}


def show_side(label, side, verdict=""):
    print(f"{label:44}{side['words_per_s']:10.0f}{side['flop_per_s'] / 1e9:10.1f}{side['of_square']:10.0%}{side['of_products']:13.0%}   "
          f"{verdict}".rstrip())


def show(summary):
    print(f"{summary['cpu']}, MARCH={summary['march']}: vectors of {summary['vector_floats']} floats")
    print(f"{'':44}{'words/s':>10}{'GFLOP/s':>10}{'of sgemm':>10}{'of products':>13}   against PyTorch {summary['torch']}")
    for row in summary["rows"]:
        verdict = f"{row['ratio']:.2f} times ({'reaches' if row['ratio'] >= row['bar'] else 'BELOW'} {row['bar']})"
        threads = lambda side: f"{side['threads']} thread{'s' if side['threads'] > 1 else ''}"
        show_side(f"H {row['hidden']}, B {row['batch']}, T {row['seq']}, keep {row['keep']:g}: {threads(row['ours'])}",
                  row["ours"], verdict)
        for side in row["ours_other"]:
            show_side(f"  {threads(side)}", side)
        show_side(f"  PyTorch, {row['torch']['mode']}, {threads(row['torch'])}", row["torch"])
        print(f"  load average {row['load_average'][0]:.2f} before, {row['load_average'][1]:.2f} after")
    print("All times are medians. of sgemm: the step's FLOP/s as a share of the rate of a 2048 x 2048 x 2048 matrix "
          "product; of products: as a\n"
          "share of the rate of the step's own matrix products run alone. Each side uses its own library.")


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench/bench_cpu", metavar="PATH")
    parser.add_argument("--out", default="build/bench", metavar="DIR")
    parser.add_argument("--python", metavar="PROGRAM", help="a Python that has PyTorch (default: the first one found here)")
    parser.add_argument("--hidden", metavar="N,N", help="measure only these of 200, 650, 1500")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="seconds per sample, which has at least one step")
    arguments = parser.parse_args()
    known = [str(w[0]) for w in WORKLOADS]
    wanted = arguments.hidden.split(",") if arguments.hidden else known
    if arguments.rounds < 1 or not set(wanted) <= set(known):
        parser.error(f"--hidden must list some of {','.join(known)}, and --rounds must be at least 1")
    os.makedirs(arguments.out, exist_ok=True)
    path = os.path.join(arguments.out, "cpu.json")
    try:
        for workload in WORKLOADS:
            if str(workload[0]) not in wanted:
                continue
            row, facts = measure(arguments, workload)
            summary, rows = {}, []
            if os.path.exists(path):
                with open(path, encoding="utf-8") as f:
                    summary = json.load(f)
                if all(summary.get(key) == value for key, value in facts.items()):
                    rows = [r for r in summary["rows"] if r["hidden"] != row["hidden"]]
            summary = {**facts, "rows": sorted([*rows, row], key=lambda r: r["hidden"])}
            with open(path + ".tmp", "w", encoding="utf-8") as f:
                json.dump(summary, f, indent=1)
                f.write("\n")
            os.replace(path + ".tmp", path)
    except Failure as fault:
        print(f"bench_cpu: {fault}", file=sys.stderr)
        return 1
    show(summary)
    print(f"written to {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
