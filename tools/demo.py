#!/usr/bin/env python3
"""Measures the effect of dropout on the non-recurrent connections alone: the main demo, on the built-in corpus.

    demo.py [--plstm PATH] [--out DIR] [--seeds N] [--keep-curve]

The script trains the same over-large LSTM three times: without dropout, with dropout on the non-recurrent connections, and with dropout on
all connections. The three runs differ only in --dropout-sites. They run side by side, one core each. The script prints one table and writes
to DIR (build/demo):

    results.jsonl             an object per run; test_ppl is at the end of training, best_epoch_* at the lowest valid perplexity
    curves.svg                learning curves (gnuplot)
    <sites>-<seed>.jsonl      plstm's own log of a run, and -best.st its weights at the lowest valid perplexity
    keep_curve.jsonl, .svg    with --keep-curve: test perplexity against keep

The exit status is 1 if a run fails or if the claims (CLAIMS below) do not hold in a seed.
"""
import argparse
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import deque

TITLES = {"none": "no dropout", "nonrecurrent": "non-recurrent dropout", "all": "naive dropout"}
LONG_TITLES = {"none": "no dropout (end)", "best": "no dropout (best epoch)", "nonrecurrent": "non-recurrent dropout",
               "all": "naive dropout (all connections)"}
CLASSES = ("content", "after_short", "after_long", "filler")
CURVE_KEEPS = (0.35, 0.5, 0.65, 0.8)
PRESET_KEEP = 0.5  # the keep of --preset demo: this point of the curve needs no runs of its own

# (claim, lower, factor, higher): the test perplexity of `lower` must be at most `factor` times that of `higher`.
CLAIMS = (
    ("non-recurrent dropout is at least 4 % below naive dropout", "nonrecurrent", 0.96, "all"),
    ("non-recurrent dropout is at least 15 % below the best epoch of no dropout", "nonrecurrent", 0.85, "best"),
    ("non-recurrent dropout is at most half of no dropout at the end", "nonrecurrent", 0.5, "none"),
    ("non-recurrent dropout is at most a quarter above the best possible", "nonrecurrent", 1.25, "possible"),
)


class Failure(Exception):
    """An error whose text is a sentence for the user; the program exits with 1."""


class Interrupted(Exception):
    """Raised when a signal asks the program to stop; the argument is its number."""


class StopSignals:
    """Records SIGINT, SIGTERM and SIGHUP for the main loop; an exception from a handler could lose a process that was just started."""

    def __init__(self):
        self.number = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.note)

    def note(self, number, frame):
        del frame
        self.number = number

    def check(self):
        if self.number:
            raise Interrupted(self.number)


# ---- one process of plstm ----


def score_of(event, split):
    """Returns the score of a split in a line of the log: its perplexity or its accuracy."""
    return event.get(f"{split}_ppl", event.get(f"{split}_acc"))


def score_text(event, split):
    if f"{split}_acc" in event:
        return percent(event[f"{split}_acc"])
    return show(event.get(f"{split}_ppl"))


class Log:
    """Reads a JSON log while it is being written and keeps the parts that tables and progress need."""

    def __init__(self, path):
        self.path, self.offset, self.rest = path, 0, b""
        self.run, self.epochs, self.test = None, [], None
        self.step, self.tokens, self.step_seconds = None, 0, 0.0

    def read(self):
        try:
            with open(self.path, "rb") as f:
                f.seek(self.offset)
                data = f.read()
        except FileNotFoundError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            try:
                self.take(json.loads(line))
            except (ValueError, KeyError, TypeError) as fault:
                raise Failure(f"{self.path} has a line that plstm's log cannot have ({fault}): {line[:80]!r}") from fault

    def take(self, event):
        kind = event["event"]
        if kind == "run":
            self.run = event
        elif kind == "step":
            self.step = event
            if event["words_per_s"]:
                self.tokens += event["tokens"]
                self.step_seconds += event["tokens"] / event["words_per_s"]
        elif kind == "epoch":
            self.epochs.append(event)
        elif kind == "test":
            self.test = event
        elif kind == "eval":
            self.test = {**event, **{"test_" + key: event[key] for key in ("ppl", "acc", "acc_nosil") if key in event}}
            if "nats_each" in event:
                self.test["test_nats"] = event["nats_each"]

    def words_per_s(self):
        return self.tokens / self.step_seconds if self.step_seconds else math.nan

    def best_epoch(self):
        """Returns the epoch of --save-best: the first with the lowest valid perplexity or the highest accuracy."""
        scored = [e for e in self.epochs if score_of(e, "valid") is not None]
        return min(scored, key=lambda e: e["valid_ppl"] if "valid_ppl" in e else -e["valid_acc"]) if scored else None


class Job:
    """A running plstm command; its log is .jsonl, and its output goes to .out and .err beside it."""

    def __init__(self, title, stem, command):
        self.title, self.stem, self.command = title, stem, command
        self.process, self.seconds = None, 0.0
        self.log = Log(stem + ".jsonl")

    def start(self):
        for stale in (self.log.path, self.stem + ".out", self.stem + ".err"):
            if os.path.exists(stale):
                os.unlink(stale)
        self.began = time.monotonic()
        with open(self.stem + ".out", "wb") as out, open(self.stem + ".err", "wb") as err:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def poll(self):
        """Returns True when the process has ended; raises a Failure with its last line of output if it failed."""
        status = self.process.poll()
        self.log.read()
        if status is None:
            return False
        self.seconds = self.elapsed()
        if status:
            with open(self.stem + ".err", encoding="utf-8", errors="replace") as f:
                said = [line.strip() for line in f.read().replace("\r", "\n").splitlines() if line.strip()]
            how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
            raise Failure(f"{self.title} failed ({how}): {said[-1] if said else 'it printed nothing'}; "
                          f"the command was: {' '.join(self.command)}")
        if not self.log.test or score_of(self.log.test, "test") is None:
            raise Failure(f"{self.title} ended without a test score in {self.log.path}")
        return True

    def elapsed(self):
        return time.monotonic() - self.began

    def share(self):
        """Returns the fraction of the training run that is done."""
        return 0.0

    def progress(self):
        return "starting"


class Run(Job):
    """A training run."""

    def __init__(self, options, sites, seed, keep=None):
        self.sites, self.seed, self.keep = sites, seed, PRESET_KEEP if keep is None else keep
        name = f"{sites}-{seed}" + ("" if keep is None else f"-keep{keep}")
        stem = os.path.join(options.out, name)
        title = f"{TITLES[sites]}, seed {seed}" + ("" if keep is None else f", keep {keep}")
        command = [options.plstm, "train", "--preset", "demo", "--data", "synthetic", "--dropout-sites", sites,
                   "--seed", str(seed), "--threads", "1", "--quiet", "--log-json", stem + ".jsonl",
                   "--save-best", stem + "-best.st"]
        if keep is not None:
            command += ["--keep", str(keep)]
        super().__init__(title, stem, command)
        self.best_test = None  # the test event at the best epoch's weights
        self.options = options

    def start(self):
        if os.path.exists(self.stem + "-best.st"):
            os.unlink(self.stem + "-best.st")
        super().start()

    def share(self):
        log = self.log
        return log.step["step"] / (log.run["windows"] * log.run["epochs"]) if log.run and log.step else 0.0

    def progress(self):
        log = self.log
        if not log.run:
            return "starting"
        done, epochs = len(log.epochs), log.run["epochs"]
        if done == epochs:
            return "scoring test"
        text = f"epoch {done + 1:2}/{epochs}"
        if log.epochs:
            last = log.epochs[-1]
            text += f"  train {score_text(last, 'train')}  valid {score_text(last, 'valid')}"
        if log.step and log.step["words_per_s"]:
            text += f"  {log.words_per_s():6.0f} words/s"
        return text

    def follow_up(self):
        """Returns the jobs that must run after this one: without dropout the best epoch is scored too."""
        return BestEpoch(self) if self.sites == "none" else None

    def record(self):
        log, best = self.log, self.log.best_epoch()
        last = log.epochs[-1]
        return {
            "sites": self.sites, "seed": self.seed, "keep": log.run["keep"],
            "train_ppl": last["train_ppl"], "valid_ppl": last["valid_ppl"], "test_ppl": log.test["test_ppl"],
            "best_ppl": log.test["best_ppl"], "seconds": self.seconds, "words_per_s": log.words_per_s(),
            "epochs": len(log.epochs), "classes": log.test["classes"],
            "best_epoch": best["epoch"], "best_epoch_train_ppl": best["train_ppl"],
            "best_epoch_valid_ppl": best["valid_ppl"],
            "best_epoch_test_ppl": self.best_test and self.best_test["test_ppl"],
            "best_epoch_classes": self.best_test and self.best_test["classes"],
            "device": log.run["device"], "commit": log.run["commit"],
        }


class BestEpoch(Job):
    """Scores test with the weights of a run's best epoch."""

    def __init__(self, run):
        self.run = run
        stem = run.stem + "-best"
        super().__init__(run.title + ", best epoch", stem,
                         [run.options.plstm, "eval", "--weights", stem + ".st", "--data", "synthetic", "--split", "test",
                          "--threads", "1", "--quiet", "--log-json", stem + ".jsonl"])

    def progress(self):
        return "scoring test"

    def follow_up(self):
        self.run.best_test = self.log.test
        return None


# ---- all jobs, one core each ----


def show(ppl):
    return "-" if ppl is None or math.isnan(ppl) else f"{ppl:.2f}"


def percent(share):
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


class Progress:
    """Shows the running jobs on standard error: lines that are redrawn on a terminal, one line per seven epochs elsewhere."""

    def __init__(self, total):
        self.total, self.took, self.lines = total, [], 0
        self.live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.began = time.monotonic()
        self.said = {}

    def left(self, running, waiting):
        """Estimates the seconds until all runs have ended, if a waiting run starts whenever another ends. Returns None
        while no run has progressed far enough for an estimate."""
        trainings = [job for job in running if job.share() > 0.02]
        took = self.took + [job.elapsed() / job.share() for job in trainings]
        if not took:
            return None
        each = statistics.fmean(took)
        ends = sorted(max(0.0, job.elapsed() * (1 / job.share() - 1)) if job in trainings else 0.0 for job in running) or [0.0]
        for job in waiting:
            if isinstance(job, Run):
                ends = sorted(ends[1:] + [ends[0] + each])
        return ends[-1]

    def draw(self, running, waiting):
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            seconds = time.monotonic() - self.began
            left = self.left(running, waiting)
            left = "" if left is None else f", about {left:.0f} s left"
            lines = [f"{len(self.took)} of {self.total} trained, {seconds:.0f} s{left}"]
            lines += [f"  {job.title}: {job.progress()}" for job in running]
            self.erase()
            sys.stderr.write("".join(line[:width] + "\n" for line in lines))
            sys.stderr.flush()
            self.lines = len(lines)
            return
        for job in running:
            done = len(job.log.epochs)
            if done and done % 7 == 0 and self.said.get(job.stem) != done:
                self.said[job.stem] = done
                last = job.log.epochs[-1]
                self.say(f"{job.title}: epoch {done}/{job.log.run['epochs']}  train {score_text(last, 'train')}  "
                         f"valid {score_text(last, 'valid')}")

    def erase(self):
        if self.lines:
            sys.stderr.write(f"\x1b[{self.lines}F\x1b[J")
            self.lines = 0

    def say(self, text):
        if self.live:
            self.erase()
        print(text, file=sys.stderr, flush=True)


def stop(jobs):
    """Ends the running jobs with SIGTERM, then with SIGKILL."""
    alive = [job.process for job in jobs if job.process and job.process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + 3
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_all(runs, cores, signals):
    """Runs the jobs in order, one per core at a time, each followed by its follow_up. If the last round would not use
    every core, its jobs run together with the round before: on two cores, three runs end sooner side by side than two
    runs followed by a third."""
    waiting, running = deque(runs), []
    left_over = len(runs) % cores
    progress = Progress(len(runs))
    try:
        while waiting or running:
            signals.check()
            while waiting and (len(running) < cores or len(running) + len(waiting) <= cores + left_over):
                job = waiting.popleft()
                job.start()
                running.append(job)
            for job in list(running):
                if not job.poll():
                    continue
                running.remove(job)
                if isinstance(job, Run):
                    progress.took.append(job.seconds)
                    measure = "perplexity" if "test_ppl" in job.log.test else "accuracy"
                    progress.say(f"{job.title}: test {measure} {score_text(job.log.test, 'test')} after {job.seconds:.0f} s")
                after = job.follow_up()
                if after:
                    waiting.append(after)
            progress.draw(running, waiting)
            if running:
                time.sleep(0.2)
    finally:
        progress.erase()
        stop(running)


# ---- results ----


def write_whole(path, text):
    """Replaces a file at once, so that a reader sees the old file or the new one."""
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def write_jsonl(path, records):
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records))


def possible_by_split(plstm):
    """Returns the best possible perplexity of train and valid, from the lines `train  39999  13.8570 ...` of plstm data."""
    done = subprocess.run([plstm, "data", "synthetic"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    found = re.findall(r"^(train|valid|test)\s+\d+\s+(\d+\.\d+)\s", done.stdout, re.MULTILINE)
    return {split: float(ppl) for split, ppl in found}


def row_of(record, best_epoch=False):
    """Returns the numbers of a table row."""
    prefix = "best_epoch_" if best_epoch else ""
    classes = record[prefix + "classes"]
    row = {split: record[f"{prefix}{split}_ppl"] for split in ("train", "valid", "test")}
    row.update({name: classes[name]["ppl"] for name in CLASSES})
    if not best_epoch:
        row.update(words_per_s=record["words_per_s"], seconds=record["seconds"])
    return row


def possible_row(record, splits):
    row = {split: splits.get(split) for split in ("train", "valid")}
    row["test"] = record["best_ppl"]
    row.update({name: record["classes"][name]["best_ppl"] for name in CLASSES})
    return row


def cell(values, digits):
    """Returns the mean, with the sample standard deviation if there are several values."""
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    text = f"{statistics.fmean(values):.{digits}f}"
    return text + f" ±{statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def print_table(by_seed, splits):
    columns = [("train", 2), ("valid", 2), ("test", 2), ("words_per_s", 0), ("seconds", 0)] + [(name, 2) for name in CLASSES]
    headings = ["", "train", "valid", "test", "words/s", "seconds", *CLASSES]
    table = [headings]
    for key, title in LONG_TITLES.items():
        rows = [row_of(runs["none" if key == "best" else key], key == "best") for runs in by_seed.values()]
        if key == "best":
            epochs = sorted({runs["none"]["best_epoch"] for runs in by_seed.values()})
            title = title[:-1] + f" {epochs[0]}" + (f"-{epochs[-1]}" if len(epochs) > 1 else "") + ")"
        table.append([title] + [cell([row.get(name) for row in rows], digits) for name, digits in columns])
    possible = possible_row(next(iter(by_seed.values()))["none"], splits)
    table.append(["best possible"] + [cell([possible.get(name)], digits) for name, digits in columns])

    widths = [max(len(row[i]) for row in table) for i in range(len(headings))]
    seeds = ", ".join(str(seed) for seed in by_seed)
    print(f"Perplexity on the built-in corpus, by position class on test; "
          f"{'seed ' + seeds if len(by_seed) == 1 else f'mean ± standard deviation over seeds {seeds}'}")
    for number, row in enumerate(table):
        print((row[0].ljust(widths[0]) + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))).rstrip())
        if number in (0, len(table) - 2):
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def test_ppls(runs):
    return {"none": runs["none"]["test_ppl"], "best": runs["none"]["best_epoch_test_ppl"],
            "nonrecurrent": runs["nonrecurrent"]["test_ppl"], "all": runs["all"]["test_ppl"],
            "possible": runs["nonrecurrent"]["best_ppl"]}


def below(low, high):
    return f"{100 * (1 - low / high):.1f} % below"


def print_reading(by_seed):
    """Prints one sentence that explains the table."""
    ppls = [test_ppls(runs) for runs in by_seed.values()]
    mean = {key: statistics.fmean(p[key] for p in ppls) for key in ppls[0]}
    train = statistics.fmean(runs["none"]["train_ppl"] for runs in by_seed.values())
    after = {sites: statistics.fmean(runs[sites]["classes"]["after_long"]["ppl"] for runs in by_seed.values())
             for sites in ("nonrecurrent", "all")}
    print(f"\nResult: without dropout the model learns its training text by heart (train {train:.1f}, test {mean['none']:.1f}). "
          f"Dropout on the non-recurrent connections alone brings the test perplexity to {mean['nonrecurrent']:.1f}, where "
          f"{mean['possible']:.1f} is the best possible. The same dropout on all connections, including the recurrent ones, stays at "
          f"{mean['all']:.1f} and loses most where the state has to be remembered across a parenthesis "
          f"(after_long: {after['nonrecurrent']:.1f} against {after['all']:.1f}).")


def check_claims(by_seed):
    """Prints the comparison of each seed and returns a sentence for each claim that does not hold."""
    broken = []
    for seed, runs in by_seed.items():
        ppl = test_ppls(runs)
        print(f"seed {seed}: non-recurrent {ppl['nonrecurrent']:.2f} is {below(ppl['nonrecurrent'], ppl['all'])} naive "
              f"{ppl['all']:.2f} and "
              f"{below(ppl['nonrecurrent'], ppl['best'])} the best epoch of no dropout {ppl['best']:.2f}")
        for says, lower, factor, higher in CLAIMS:
            if not ppl[lower] <= factor * ppl[higher]:
                broken.append(f"seed {seed}: the claim does not hold that {says}: {ppl[lower]:.2f} against {ppl[higher]:.2f}")
    return broken


# ---- figures ----


def plot(path, script):
    """Runs gnuplot, whose SVG depends only on the script. Returns False and prints a line if gnuplot is missing or fails."""
    gnuplot = shutil.which("gnuplot")
    if not gnuplot:
        print(f"gnuplot was not found, so {path} was not drawn (tools/deps.sh installs it)", file=sys.stderr)
        return False
    done = subprocess.run([gnuplot], input=script.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env=dict(os.environ, LC_ALL="C"))
    if done.returncode or not done.stdout.rstrip().endswith(b"</svg>"):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        print(f"gnuplot could not draw {path}: {said[-1] if said else 'it printed nothing'}", file=sys.stderr)
        return False
    write_whole(path, done.stdout.decode())
    return True


COLOURS = {"none": "#7f7f7f", "nonrecurrent": "#1f77b4", "all": "#d62728"}
PLOT_HEAD = """set encoding utf8
set terminal svg size 860,480 font "sans-serif,13" background "white"
set grid ytics lc rgb "#dddddd"
set key outside right top Left reverse samplen 2 spacing 1.3
"""


def curves_script(runs, possible):
    """Plots valid perplexity after each epoch (lines) and train perplexity (dashes), with one colour per kind of dropout."""
    data, plots = "", []
    for number, run in enumerate(runs):
        data += f"$run{number} << END\n"
        for epoch in run.log.epochs:
            data += f"{epoch['epoch']} {epoch['train_ppl']:.6g} {epoch['valid_ppl']:.6g}\n"
        data += "END\n"
        first = run.seed == runs[0].seed
        width = 2 if first else 1
        name = TITLES[run.sites]
        plots.append(f"$run{number} using 1:3 with lines lw {width} lc rgb '{COLOURS[run.sites]}' "
                     + (f"title '{name}: valid'" if first else "notitle"))
        plots.append(f"$run{number} using 1:2 with lines lw {width} dt (6,4) lc rgb '{COLOURS[run.sites]}' "
                     + ("title 'train, as trained'" if first else "notitle"))
    if possible:
        plots.append(f"{possible:.6g} with lines lw 1 lc rgb 'black' title 'best possible (valid)'")
    values = [epoch[key] for run in runs for epoch in run.log.epochs for key in ("train_ppl", "valid_ppl")]
    return (PLOT_HEAD + data + "set logscale y\nset xlabel 'epoch'\nset ylabel 'perplexity'\n"
            "set ytics (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500)\n"
            f"set yrange [{0.9 * min(values):.3g}:{1.1 * max(values):.3g}]\n"
            f"plot [1:{len(runs[0].log.epochs)}] " + ", \\\n     ".join(plots) + "\n")


def keep_script(records, possible):
    data, plots = "", []
    for sites in ("nonrecurrent", "all"):
        data += f"${sites} << END\n"
        for keep in CURVE_KEEPS:
            ppls = [r["test_ppl"] for r in records if r["sites"] == sites and r["keep"] == keep]
            data += f"{keep} {statistics.fmean(ppls):.6g} {min(ppls):.6g} {max(ppls):.6g}\n"
        data += "END\n"
        colour = COLOURS[sites]
        plots.append(f"${sites} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb '{colour}' title '{TITLES[sites]}'")
    plots.append(f"{possible:.6g} with lines lw 1 lc rgb 'black' title 'best possible'")
    return (PLOT_HEAD + data + "set xlabel 'keep'\nset ylabel 'test perplexity (mean, lowest, highest)'\n"
            "plot [0.3:0.85] " + ", \\\n     ".join(plots) + "\n")


# ---- the curve over keep ----


def print_keep_curve(records):
    seeds = sorted({r["seed"] for r in records})
    print(f"\nTest perplexity by keep, mean over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
    print(f"{'keep':>6}{'non-recurrent':>16}{'naive':>10}{'naive is worse by':>20}")
    for keep in CURVE_KEEPS:
        mean = {sites: statistics.fmean(r["test_ppl"] for r in records if r["sites"] == sites and r["keep"] == keep)
                for sites in ("nonrecurrent", "all")}
        print(f"{keep:6.2f}{mean['nonrecurrent']:16.2f}{mean['all']:10.2f}{100 * (mean['all'] / mean['nonrecurrent'] - 1):18.1f} %")


def write_keep_curve(options, runs):
    records = [run.record() for run in runs if run.sites != "none"]
    write_jsonl(os.path.join(options.out, "keep_curve.jsonl"), records)
    print_keep_curve(records)
    plot(os.path.join(options.out, "keep_curve.svg"), keep_script(records, records[0]["best_ppl"]))


# ---- the program ----


def demo(options, signals):
    plstm = shutil.which(options.plstm) or ""
    if not plstm:
        raise Failure(f"{options.plstm} is not there: `make` builds it")
    options.plstm = plstm if os.path.isabs(options.plstm) else options.plstm
    os.makedirs(options.out, exist_ok=True)

    cores = len(os.sched_getaffinity(0))
    seeds = range(1, options.seeds + 1)
    runs = [Run(options, sites, seed) for seed in seeds for sites in ("none", "nonrecurrent", "all")]
    curve = [Run(options, sites, seed, keep) for seed in seeds for keep in CURVE_KEEPS if keep != PRESET_KEEP
             for sites in ("nonrecurrent", "all")] if options.keep_curve else []
    print(f"Training {len(runs) + len(curve)} models on the built-in corpus on {cores} core{'s' * (cores > 1)}",
          file=sys.stderr, flush=True)
    run_all(runs + curve, cores, signals)

    by_seed = {seed: {run.sites: run.record() for run in runs if run.seed == seed} for seed in seeds}
    results = os.path.join(options.out, "results.jsonl")
    write_jsonl(results, [run.record() for run in runs])
    splits = possible_by_split(options.plstm)
    print_table(by_seed, splits)
    print_reading(by_seed)
    figure = os.path.join(options.out, "curves.svg")
    drawn = plot(figure, curves_script(runs, splits.get("valid")))
    broken = check_claims(by_seed)
    if options.keep_curve:
        write_keep_curve(options, runs + curve)
    print(f"Results: {results}" + (f"; learning curves: {figure}" if drawn else ""))
    if broken:
        raise Failure("; ".join(broken))


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def guarded(program, work, stopped="stopped"):
    """Runs work(StopSignals()) and returns the exit status: a failure prints its sentence, a signal gives 128 plus its number."""
    try:
        work(StopSignals())
    except Failure as failure:
        print(f"{program}: {failure}", file=sys.stderr)
        return 1
    except Interrupted as why:
        print(f"{program}: {stopped}", file=sys.stderr)
        return 128 + why.args[0]
    return 0


def demo_of_task(task, model, demo_of):
    """Parses the command line of demo_TASK.py, runs demo_of(options, signals), which trains `model` without and with
    dropout, and returns the exit status."""
    parser = argparse.ArgumentParser(description=f"Trains {model} without and with dropout, and compares.", allow_abbrev=False)
    parser.add_argument("--plstm", default="build/plstm", metavar="PATH", help="the program (default build/plstm)")
    parser.add_argument("--out", default=f"build/demo-{task}", metavar="DIR",
                        help=f"folder of logs and results (default build/demo-{task})")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="run seeds 1 to N (default 1)")
    parser.add_argument("--seed", type=positive, metavar="K", help="run only this seed")
    parser.add_argument("--train-options", default="", help=argparse.SUPPRESS)  # for tests, which train less
    options = parser.parse_args()

    def work(signals):
        if not shutil.which(options.plstm):
            raise Failure(f"{options.plstm} is not there: `make` builds it")
        os.makedirs(options.out, exist_ok=True)
        demo_of(options, signals)

    return guarded(f"demo_{task}.py", work)


def write_builtin(options, name, *words):
    """Writes the built-in data to the folder `name` of --out with `plstm data WORDS --write`, and returns that folder."""
    folder = os.path.join(options.out, name)
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([options.plstm, "data", *words, "--write", folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failure(f"the built-in data could not be written: {done.stderr.strip()}")
    return folder


def check_below(records, most, claim):
    """Prints each seed's test perplexities at the best epoch. Returns a sentence for each seed in which
    the perplexity with dropout is not below `most` times that without."""
    broken, by_seed = [], {}
    for r in records:
        by_seed.setdefault(r["seed"], {})[r["sites"]] = r["best_epoch_test_ppl"]
    for seed, ppl in by_seed.items():
        less = 100 * (1 - ppl["nonrecurrent"] / ppl["none"])
        print(f"seed {seed}: test perplexity {ppl['nonrecurrent']:.2f} with dropout is {less:.1f} % below "
              f"{ppl['none']:.2f} without, each at its best epoch")
        if ppl["nonrecurrent"] >= most * ppl["none"]:
            broken.append(f"seed {seed}: the claim does not hold that dropout is {claim}")
    return broken


def train_pairs(options, signals, make, sides, data):
    """Trains make(options, side, seed) for every seed and side, on all cores; returns the runs."""
    cores = len(os.sched_getaffinity(0))
    runs = [make(options, side, seed) for seed in ([options.seed] if options.seed else range(1, options.seeds + 1)) for side in sides]
    print(f"Training {len(runs)} models on {data} on {cores} core{'s' * (cores > 1)}", file=sys.stderr, flush=True)
    run_all(runs, cores, signals)
    return runs


def main():
    parser = argparse.ArgumentParser(description="Trains one over-large LSTM with no, non-recurrent and naive dropout, and compares.",
                                     allow_abbrev=False)
    parser.add_argument("--plstm", default="build/plstm", metavar="PATH", help="the program (default build/plstm)")
    parser.add_argument("--out", default="build/demo", metavar="DIR", help="folder of logs and results (default build/demo)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="run seeds 1 to N (default 1)")
    parser.add_argument("--keep-curve", action="store_true", help="also train at other values of keep, for the curve over keep")
    options = parser.parse_args()
    return guarded("demo.py", lambda signals: demo(options, signals))


if __name__ == "__main__":
    sys.exit(main())
