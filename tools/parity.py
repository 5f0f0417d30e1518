#!/usr/bin/env python3
"""Measures the cost of a reduced precision in perplexity, by paired trainings that differ only in --precision.

    parity.py [--plstm PATH] [--out DIR] [--seeds N] [--first SEED] [--tolerance PERCENT] [--precisions LIST] [--budget SECONDS] [OPTION...]
    parity.py [--out DIR] [--tolerance PERCENT] [--precisions LIST] --logs LOG...      compares trainings that have ended

For each of N consecutive seeds from SEED (at least 5 for the claim) the program trains in f32 and in every precision of LIST (tf32,bf16),
with the same initial weights, minibatches and masks. Other options go to `plstm train`. The default is a small model on the built-in
corpus with the cpu backend, which simulates tf32 and bf16: it rounds both operands of every matrix product like tensor cores; sums are
float32.

The script prints the relative difference of test perplexity against f32, per seed and as the 95 % interval of its mean (Student's t), and
writes to DIR (build/parity):

    parity.jsonl                  an object per run
    parity.txt                    the printed text
    PRECISION-SEED.jsonl          plstm's own log of a run; the same command does not repeat a run that has ended

Exit status: 0 every interval lies inside +-PERCENT (0.5), 1 one does not or a run failed, 2 usage. With --budget no run starts after that
many seconds, and the script compares the seeds that ended in all precisions.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

SMALL = ["--data", "synthetic", "--backend", "cpu", "--threads", "1", "--hidden", "32", "--layers", "1", "--batch", "20", "--seq", "20",
         "--keep", "0.8", "--init", "0.1", "--epochs", "8", "--hold", "3", "--decay", "2"]
# Student's t: P(|t| <= T95[n-2]) = 0.95 with n - 1 degrees of freedom, n = 2..31.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
       2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


class Failure(Exception):
    """An error whose text is a sentence for the user; the program exits with 1."""


def interval(differences):
    """Returns (mean, half width of its 95 % interval) of at least two values."""
    half = T95[min(len(differences), len(T95) + 1) - 2] * statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences), half


def ended(log, wanted):
    """Returns the (run, test) lines of a log that has ended and whose run is the wanted one, else None."""
    try:
        with open(log, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
    except (FileNotFoundError, ValueError):
        return None
    run, last = (lines[0], lines[-1]) if lines else ({}, {})
    same = all(str(run.get(key)) == value for key, value in wanted.items())
    return (run, last) if same and last.get("event") == "test" else None


def train(options, precision, seed):
    """Runs one training, or reads its log if it has ended, and returns its object."""
    log = os.path.join(options.out, f"{precision}-{seed}.jsonl")
    command = [options.plstm, "train", *options.train, "--precision", precision, "--seed", str(seed), "--eval", "test", "--quiet",
               "--log-every", "100", "--log-json", log]
    wanted = {"seed": str(seed), "precision": precision}
    found = ended(log, wanted) if options.same_command else None
    if not found:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        found = ended(log, wanted)
        if not found:
            raise Failure(f"{log} has no test perplexity of {precision}, seed {seed}; the options must score the test split")
    return record_of(*found, options.train)


def record_of(run, test, train_options):
    """Returns the object of a run from the first and last line of its log."""
    keep = ("backend", "kernel", "precision", "seed", "device", "hidden", "layers", "batch", "seq", "keep", "epochs", "corpus", "commit")
    return {**{key: run[key] for key in keep if key in run}, "test_ppl": test["test_ppl"], "tokens": test["tokens"],
            "protocol": test["protocol"], "options": train_options}


def from_logs(options):
    """Returns runs[precision][seed] from the logs of trainings that have ended."""
    os.makedirs(options.out, exist_ok=True)
    runs, records = {p: {} for p in ("f32", *options.precisions)}, []
    for log in options.logs:
        found = ended(log, {})
        if not found:
            raise Failure(f"{log} is not the log of a training that has ended")
        records.append(record_of(*found, []))
        run = records[-1]
        if run["precision"] in runs:
            runs[run["precision"]][int(run["seed"])] = run["test_ppl"]
    write_whole(os.path.join(options.out, "parity.jsonl"), "".join(json.dumps(r) + "\n" for r in records))
    return runs


def compare(runs, precisions, tolerance):
    """Returns (table as text, whether every interval is inside the tolerance) of runs[precision][seed]."""
    text, inside = "", True
    seeds = [seed for seed in runs["f32"] if all(seed in runs[p] for p in precisions)]
    if len(seeds) < 2:
        raise Failure(f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'} ended in every precision; an interval needs at least two")
    text += f"{'seed':>6} {'f32 ppl':>10}" + "".join(f" {p + ' ppl':>10} {'differs':>9}" for p in precisions) + "\n"
    for seed in seeds:
        text += f"{seed:>6} {runs['f32'][seed]:>10.4f}"
        text += "".join(f" {runs[p][seed]:>10.4f} {100 * (runs[p][seed] / runs['f32'][seed] - 1):>+8.3f}%" for p in precisions) + "\n"
    for p in precisions:
        mean, half = interval([100 * (runs[p][s] / runs["f32"][s] - 1) for s in seeds])
        holds = -tolerance < mean - half and mean + half < tolerance
        inside = inside and holds
        text += f"{p} against f32, {len(seeds)} seeds: {mean:+.3f} % +- {half:.3f} % (95 %), " \
            f"{'inside' if holds else 'NOT inside'} +-{tolerance:g} %\n"
    return text, inside


def write_whole(path, text):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def run_all(options):
    """Trains all precisions of one seed after another, writes parity.jsonl after each run, and returns runs[precision][seed]."""
    os.makedirs(options.out, exist_ok=True)
    command = os.path.join(options.out, "command.json")
    try:
        with open(command, encoding="utf-8") as f:
            options.same_command = json.load(f) == options.train
    except (FileNotFoundError, ValueError):
        options.same_command = False
    write_whole(command, json.dumps(options.train) + "\n")
    runs, records, began = {p: {} for p in ("f32", *options.precisions)}, [], time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        for precision in runs:
            if options.budget is not None and time.monotonic() - began > options.budget:
                return runs
            record = train(options, precision, seed)
            records.append(record)
            if not (record["test_ppl"] or 0) > 0:
                raise Failure(f"{precision}, seed {seed}: the test perplexity is {record['test_ppl']}")
            runs[precision][seed] = record["test_ppl"]
            write_whole(os.path.join(options.out, "parity.jsonl"), "".join(json.dumps(r) + "\n" for r in records))
    return runs


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plstm", default="build/plstm")
    parser.add_argument("--out", default="build/parity")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=0.5)
    parser.add_argument("--precisions", default="tf32,bf16")
    parser.add_argument("--budget", type=float)
    parser.add_argument("--logs", nargs="+", metavar="LOG")
    options, options.train = parser.parse_known_args()
    options.train = options.train or SMALL
    options.precisions = options.precisions.split(",")
    if options.seeds < 2 or not 0 < options.tolerance < 100 or not set(options.precisions) <= {"tf32", "bf16"}:
        parser.error("--seeds must be at least 2, --tolerance a percentage, and --precisions a list of tf32 and bf16")
    try:
        text, inside = compare(from_logs(options) if options.logs else run_all(options), options.precisions, options.tolerance)
        text = f"plstm train {' '.join(options.train)}\n{text}" if not options.logs else text
        write_whole(os.path.join(options.out, "parity.txt"), text)
        print(text, end="")
    except (Failure, OSError, KeyError) as fault:
        print(f"parity: {fault}", file=sys.stderr)
        return 1
    return 0 if inside else 1


if __name__ == "__main__":
    sys.exit(main())
