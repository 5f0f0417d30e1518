#!/usr/bin/env python3
"""Measures the effect of dropout on translation, on the built-in parallel corpus, in under three minutes on two cores.

    demo_translate.py [--plstm PATH] [--out DIR] [--seeds N | --seed K]

The script trains the same LSTM twice, without dropout and with it (--dropout-sites none and nonrecurrent; nothing else differs), and keeps
the weights of the epoch with the lowest valid perplexity. It translates the test sentences with them by beam search and prints one table
and some of the sentences. It writes to DIR (build/demo-translate):

    text/                      the corpus, train.source, train.target and so on
    <sites>-<seed>.jsonl       plstm's own log of a run, -best.st the weights, -best.jsonl their scores, .translated the test sentences
    results.jsonl              an object per run

The exit status is 1 if a run fails or if dropout is not better in a seed (CLAIM below).
"""
import os
import statistics
import subprocess
import sys

from demo import BestEpoch, Failure, Job, Run, check_below, demo_of_task, show, train_pairs, write_builtin, write_jsonl

TITLES = {"none": "no dropout", "nonrecurrent": "dropout"}
CLAIM = 0.9  # test perplexity with dropout over that without is at most this, each at its best epoch
SHOWN = 5


class TranslateRun(Run):
    """A training run, followed by scoring and translating with the weights of its best epoch."""

    def __init__(self, options, sites, seed):
        super().__init__(options, sites, seed)
        self.title = f"{TITLES[sites]}, seed {seed}"
        self.command = [options.plstm, "train", "--task", "translate", "--preset", "demo", "--data", "synthetic", "--dropout-sites",
                        sites, "--seed", str(seed), "--threads", "1", "--quiet", "--log-json", self.stem + ".jsonl", "--save-best",
                        self.stem + "-best.st", *options.train_options.split()]
        self.translated = None

    def follow_up(self):
        return Scored(self)

    def record(self):
        log, best = self.log, self.log.best_epoch()
        reference = lines_of(os.path.join(self.options.out, "text", "test.target"))
        words = [(a, b) for ours, theirs in zip(self.translated, reference) for a, b in aligned(ours.split(), theirs.split())]
        return {"sites": self.sites, "seed": self.seed, "keep": 1.0 if self.sites == "none" else log.run["keep"],
                "train_ppl": log.epochs[-1]["train_ppl"], "valid_ppl": log.epochs[-1]["valid_ppl"], "test_ppl": log.test["test_ppl"],
                "best_epoch": best["epoch"], "best_epoch_train_ppl": best["train_ppl"], "best_epoch_valid_ppl": best["valid_ppl"],
                "best_epoch_test_ppl": self.best_test["test_ppl"], "best_ppl": log.test["best_ppl"],
                "words_in_place": sum(a == b for a, b in words) / len(words), "seconds": self.seconds, "words_per_s": log.words_per_s(),
                "epochs": len(log.epochs), "device": log.run["device"], "commit": log.run["commit"]}


class Scored(BestEpoch):
    """Scores test with the weights of a run's best epoch, followed by the translation of its sentences."""

    def follow_up(self):
        super().follow_up()
        return Translation(self.run)


class Translation(Job):
    def __init__(self, run):
        self.run = run
        super().__init__(run.title + ", translating", run.stem + "-translate",
                         [run.options.plstm, "translate", "--weights", run.stem + "-best.st", "--threads", "1"])

    def start(self):
        self.log.test = {"test_ppl": 0.0}  # this command writes no log
        self.began = 0
        with open(os.path.join(self.run.options.out, "text", "test.source"), "rb") as source, \
                open(self.run.stem + ".translated", "wb") as out, open(self.stem + ".err", "wb") as err:
            self.process = subprocess.Popen(self.command, stdin=source, stdout=out, stderr=err)

    def progress(self):
        return "translating test"

    def follow_up(self):
        self.run.translated = lines_of(self.run.stem + ".translated")


def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read().splitlines()


def aligned(ours, theirs):
    """Counts the equal words at equal positions; a position that only one sentence has counts as wrong."""
    n = max(len(ours), len(theirs))
    return zip(ours + [None] * (n - len(ours)), theirs + [""] * (n - len(theirs)))


# ---- results ----


def mean(records, key):
    return statistics.fmean(r[key] for r in records)


def print_table(records, best):
    rows = [["", "train", "valid", "test", "words in place", "seconds"]]
    for sites, title in TITLES.items():
        of = [r for r in records if r["sites"] == sites]
        epochs = sorted({r["best_epoch"] for r in of})
        rows.append([f"{title} (end)", *(show(mean(of, key)) for key in ("train_ppl", "valid_ppl", "test_ppl")), "-",
                     f"{mean(of, 'seconds'):.0f}"])
        rows.append([f"{title} (best epoch {epochs[0]}" + (f"-{epochs[-1]}" if len(epochs) > 1 else "") + ")",
                     *(show(mean(of, "best_epoch_" + key)) for key in ("train_ppl", "valid_ppl", "test_ppl")),
                     f"{100 * mean(of, 'words_in_place'):.1f} %", "-"])
    rows.append(["best possible", *(show(best.get(split)) for split in ("train", "valid", "test")), "-", "-"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    seeds = sorted({r["seed"] for r in records})
    print(f"Perplexity of the target given the source on the built-in parallel corpus; {'seed' if len(seeds) == 1 else 'mean of seeds'} "
          f"{', '.join(map(str, seeds))}")
    for number, row in enumerate(rows):
        print((row[0].ljust(widths[0]) + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))).rstrip())
        if number in (0, len(rows) - 2):
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def print_sentences(options, runs):
    source, reference = (lines_of(os.path.join(options.out, "text", f"test.{side}")) for side in ("source", "target"))
    print(f"\nThe first {SHOWN} test sentences (beam 12, weights of the best epoch); the generator of the corpus "
          f"chooses among synonyms, so "
          "a correct translation may differ from the reference")
    for i in range(SHOWN):
        print(f"  source      {source[i]}\n  reference   {reference[i]}")
        for run in runs:
            print(f"  {TITLES[run.sites]:<11} {run.translated[i]}")
        print()


def best_possible(options):
    done = subprocess.run([options.plstm, "data", "synthetic", "--task", "translate"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("best possible"):
            split, ppl = line.rsplit(", ", 1)[1].split(": ")
            found[split] = float(ppl)
    return found


def demo(options, signals):
    write_builtin(options, "text", "synthetic", "--task", "translate")
    runs = train_pairs(options, signals, TranslateRun, TITLES, "the built-in parallel corpus")
    records = [run.record() for run in runs]
    results = os.path.join(options.out, "results.jsonl")
    write_jsonl(results, records)
    print_table(records, best_possible(options))
    print_sentences(options, runs[:2])
    broken = check_below(records, CLAIM, f"at least {100 * (1 - CLAIM):.0f} % below none")
    print(f"Results: {results}")
    if broken:
        raise Failure("; ".join(broken))


if __name__ == "__main__":
    sys.exit(demo_of_task("translate", "one translation model", demo))
