#!/usr/bin/env python3
"""Measures the effect of dropout on speech frames, on the built-in utterances, in under three minutes on two cores.

    demo_speech.py [--plstm PATH] [--out DIR] [--seeds N | --seed K]

The script trains the same LSTM twice to predict the state of every frame, without dropout and with it (--dropout-sites none and
nonrecurrent; nothing else differs). It scores test with the weights of the epoch with the highest valid accuracy and prints one table,
with the accuracy of the generator's own posterior beside it. It writes to DIR (build/demo-speech):

    <sites>-<seed>.jsonl      plstm's own log of a run, -best.st the weights, -best.jsonl their scores
    curves.svg                learning curves (gnuplot)
    results.jsonl             an object per run

The exit status is 1 if a run fails or if dropout is not better in a seed (the claims below).
"""
import os
import statistics
import sys

from demo import PLOT_HEAD, BestEpoch, Failure, Run, demo_of_task, percent, plot, show, train_pairs, write_jsonl

TITLES = {"none": "no dropout", "nonrecurrent": "dropout"}
MORE_ACCURATE = 0.005  # test accuracy with dropout is higher by at least this much
FEWER_NATS = 0.95      # nats per frame with dropout over those without are at most this, each at its best epoch


class SpeechRun(Run):
    """A training run, followed by scoring the weights of its best epoch."""

    def __init__(self, options, sites, seed):
        super().__init__(options, sites, seed)
        self.title = f"{TITLES[sites]}, seed {seed}"
        self.command = [options.plstm, "train", "--task", "frames", "--preset", "demo", "--data", "synthetic", "--cmvn", "none",
                        "--dropout-sites", sites, "--seed", str(seed), "--threads", "1", "--quiet", "--log-json", self.stem + ".jsonl",
                        "--save-best", self.stem + "-best.st", *options.train_options.split()]

    def follow_up(self):
        return BestEpoch(self)

    def record(self):
        log, best, test = self.log, self.log.best_epoch(), self.best_test
        last = log.epochs[-1]
        return {"sites": self.sites, "seed": self.seed, "keep": 1.0 if self.sites == "none" else log.run["keep"],
                "train_acc": last["train_acc"], "valid_acc": last["valid_acc"], "test_acc": log.test["test_acc"],
                "test_acc_nosil": log.test["test_acc_nosil"], "test_nats": log.test["test_nats"],
                "best_epoch": best["epoch"], "best_epoch_train_acc": best["train_acc"], "best_epoch_valid_acc": best["valid_acc"],
                "best_epoch_test_acc": test["test_acc"], "best_epoch_test_acc_nosil": test["test_acc_nosil"],
                "best_epoch_test_nats": test["test_nats"], "possible_acc": test["best_acc"], "possible_acc_nosil": test["best_acc_nosil"],
                "possible_nats": test["best_nats"], "seconds": self.seconds, "frames_per_s": log.words_per_s(), "epochs": len(log.epochs),
                "device": log.run["device"], "commit": log.run["commit"]}


# ---- results ----


def mean(records, key):
    return statistics.fmean(r[key] for r in records)


def print_table(records):
    rows = [["", "train", "valid", "test", "without silence", "nats per frame", "seconds"]]
    for sites, title in TITLES.items():
        of = [r for r in records if r["sites"] == sites]
        epochs = sorted({r["best_epoch"] for r in of})
        when = f"best epoch {epochs[0]}" + (f"-{epochs[-1]}" if len(epochs) > 1 else "")
        for prefix, name, seconds in (("", "end", f"{mean(of, 'seconds'):.0f}"), ("best_epoch_", when, "-")):
            rows.append([f"{title} ({name})",
                         *(percent(mean(of, f"{prefix}{key}"))
                           for key in ("train_acc", "valid_acc", "test_acc", "test_acc_nosil")),
                         show(mean(of, prefix + "test_nats")), seconds])
    first = records[0]
    rows.append(["best possible", "-", "-", percent(first["possible_acc"]), percent(first["possible_acc_nosil"]),
                 show(first["possible_nats"]), "-"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    seeds = sorted({r["seed"] for r in records})
    print(f"Accuracy of the frames' states on the built-in utterances; "
          f"{'seed' if len(seeds) == 1 else 'mean of seeds'} {', '.join(map(str, seeds))}")
    for number, row in enumerate(rows):
        print((row[0].ljust(widths[0]) + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))).rstrip())
        if number in (0, len(rows) - 2):
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def check_claims(records):
    broken, by_seed = [], {}
    for r in records:
        by_seed.setdefault(r["seed"], {})[r["sites"]] = r
    for seed, side in by_seed.items():
        ours, none = side["nonrecurrent"], side["none"]
        acc, nats = "best_epoch_test_acc", "best_epoch_test_nats"
        print(f"seed {seed}: test accuracy {percent(ours[acc])} with dropout and {percent(none[acc])} without, "
              f"{100 * (ours[acc] - none[acc]):+.1f} points; nats per frame {show(ours[nats])} and {show(none[nats])}, "
              f"{100 * (ours[nats] / none[nats] - 1):+.1f} %, each at its best epoch")
        if ours[acc] < none[acc] + MORE_ACCURATE:
            broken.append(f"seed {seed}: the claim does not hold that accuracy is at least {100 * MORE_ACCURATE:g} "
                          f"point higher with dropout")
        if ours[nats] > FEWER_NATS * none[nats]:
            broken.append(f"seed {seed}: the claim does not hold that nats are at least {100 * (1 - FEWER_NATS):.0f} % lower with dropout")
    return broken


def curves_script(runs, possible):
    script, plots = PLOT_HEAD + "set xlabel 'epoch'\nset ylabel 'accuracy, %'\n", []
    colour = {"none": "#d62728", "nonrecurrent": "#1f77b4"}
    for i, run in enumerate(runs):
        script += f"$run{i} << EOD\n" + "".join(f"{e['epoch']} {100 * e['train_acc']} {100 * e['valid_acc']}\n"
                                                for e in run.log.epochs) + "EOD\n"
        for column, split, dashes in ((3, "valid", ""), (2, "train", "dt (6,4) ")):
            title = f"title '{TITLES[run.sites]}, {split}'" if i < len(TITLES) else "notitle"
            plots.append(f"$run{i} using 1:{column} with lines lw 2 {dashes}lc rgb '{colour[run.sites]}' {title}")
    plots.append(f"{100 * possible} with lines lw 1 lc rgb 'black' title 'best possible, test'")
    return script + "plot " + ", \\\n     ".join(plots) + "\n"


def demo(options, signals):
    runs = train_pairs(options, signals, SpeechRun, TITLES, "the built-in utterances")
    records = [run.record() for run in runs]
    results, figure = os.path.join(options.out, "results.jsonl"), os.path.join(options.out, "curves.svg")
    write_jsonl(results, records)
    print_table(records)
    broken = check_claims(records)
    drawn = plot(figure, curves_script(runs, records[0]["possible_acc"]))
    print(f"Results: {results}" + (f"; learning curves: {figure}" if drawn else ""))
    if broken:
        raise Failure("; ".join(broken))


if __name__ == "__main__":
    sys.exit(demo_of_task("speech", "one speech model", demo))
