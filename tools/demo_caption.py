#!/usr/bin/env python3
"""Measures the effect of dropout on captions, on the built-in scenes, in under three minutes on two cores.

    demo_caption.py [--plstm PATH] [--out DIR] [--seeds N | --seed K]

The script trains the same single-layer LSTM twice, without dropout and with it (--dropout-sites none and nonrecurrent; nothing else
differs), and keeps the weights of the epoch with the lowest valid perplexity. It describes the test images with them by beam search and
prints one table and some of the captions. It writes to DIR (build/demo-caption):

    page.html                  pictures with their captions
    scenes/                    the scenes as dataset.json and features.npy
    <sites>-<seed>.jsonl       plstm's own log of a run, -best.st the weights, -best.jsonl their scores, .captions the test captions
    results.jsonl              an object per run

"true" is the share of captions that the generator of the scenes could have given: every word of them is true of the picture. The exit
status is 1 if a run fails or if dropout is not better in a seed.
"""
import json
import os
import sys

import caption_page
import captions
from demo import BestEpoch, Failure, Job, Run, check_below, demo_of_task, show, train_pairs, write_builtin, write_jsonl, write_whole
from demo_translate import mean

TITLES = {"none": "no dropout", "nonrecurrent": "dropout"}
SHOWN = 4


class CaptionRun(Run):
    """A training run, followed by scoring and describing the test images with the weights of its best epoch."""

    def __init__(self, options, sites, seed):
        super().__init__(options, sites, seed)
        self.title = f"{TITLES[sites]}, seed {seed}"
        self.command = [options.plstm, "train", "--task", "caption", "--preset", "demo", "--data", "scenes", "--dropout-sites", sites,
                        "--seed", str(seed), "--threads", "1", "--quiet", "--log-json", self.stem + ".jsonl", "--save-best",
                        self.stem + "-best.st", *options.train_options.split()]
        self.found = None  # one object of `plstm caption --json` per test image

    def follow_up(self):
        return Scored(self)

    def captions(self):
        return [found["found"][0]["words"] for found in self.found]

    def record(self):
        log, best = self.log, self.log.best_epoch()
        true = [found["found"][0]["annotator_logp"] is not None for found in self.found]
        return {"sites": self.sites, "seed": self.seed, "keep": 1.0 if self.sites == "none" else log.run["keep"],
                "train_ppl": log.epochs[-1]["train_ppl"], "valid_ppl": log.epochs[-1]["valid_ppl"], "test_ppl": log.test["test_ppl"],
                "best_epoch": best["epoch"], "best_epoch_train_ppl": best["train_ppl"], "best_epoch_valid_ppl": best["valid_ppl"],
                "best_epoch_test_ppl": self.best_test["test_ppl"], "best_ppl": log.test["best_ppl"], "true": sum(true) / len(true),
                "seconds": self.seconds, "words_per_s": log.words_per_s(), "epochs": len(log.epochs), "device": log.run["device"],
                "commit": log.run["commit"]}


class Scored(BestEpoch):
    """Scores test with the weights of a run's best epoch, followed by the description of the images."""

    def __init__(self, run):
        super().__init__(run)
        self.command[self.command.index("synthetic")] = "scenes"

    def follow_up(self):
        super().follow_up()
        return Description(self.run)


class Description(Job):
    def __init__(self, run):
        self.run = run
        super().__init__(run.title + ", describing", run.stem + "-describe",
                         [run.options.plstm, "caption", "--weights", run.stem + "-best.st", "--data", "scenes", "--json", "--threads", "1"])

    def start(self):
        super().start()
        self.log.test = {"test_ppl": 0.0}  # this command writes no log

    def progress(self):
        return "describing test"

    def follow_up(self):
        with open(self.stem + ".out", encoding="utf-8") as f:
            self.run.found = [json.loads(line) for line in f]
        write_whole(self.run.stem + ".captions", "".join(words + "\n" for words in self.run.captions()))


# ---- results ----


def print_table(records):
    rows = [["", "train", "valid", "test", "true", "seconds"]]
    for sites, title in TITLES.items():
        of = [r for r in records if r["sites"] == sites]
        epochs = sorted({r["best_epoch"] for r in of})
        rows.append([f"{title} (end)", *(show(mean(of, key)) for key in ("train_ppl", "valid_ppl", "test_ppl")), "-",
                     f"{mean(of, 'seconds'):.0f}"])
        rows.append([f"{title} (best epoch {epochs[0]}" + (f"-{epochs[-1]}" if len(epochs) > 1 else "") + ")",
                     *(show(mean(of, "best_epoch_" + key)) for key in ("train_ppl", "valid_ppl", "test_ppl")),
                     f"{100 * mean(of, 'true'):.1f} %", "-"])
    rows.append(["best possible", "-", "-", show(records[0]["best_ppl"]), "-", "-"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    seeds = sorted({r["seed"] for r in records})
    print(f"Perplexity of captions of the built-in scenes; {'seed' if len(seeds) == 1 else 'mean of seeds'} {', '.join(map(str, seeds))}")
    for number, row in enumerate(rows):
        print((row[0].ljust(widths[0]) + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))).rstrip())
        if number in (0, len(rows) - 2):
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def print_captions(images, runs):
    print(f"\nThe first {SHOWN} test images (beam 12, weights of the best epoch); the annotator chooses what to "
          f"mention, and chooses among synonyms")
    for i, image in enumerate(images[:SHOWN]):
        for k, words in enumerate(captions.captions_of(image)[:2]):
            print(f"  {'' if k else 'annotator':<11} {words}")
        for run in runs:
            print(f"  {TITLES[run.sites]:<11} {run.captions()[i]}")
        print()


def demo(options, signals):
    dataset = captions.read(write_builtin(options, "scenes", "scenes", "--task", "caption"))
    runs = train_pairs(options, signals, CaptionRun, TITLES, "the built-in scenes")
    records = [run.record() for run in runs]
    results, page = os.path.join(options.out, "results.jsonl"), os.path.join(options.out, "page.html")
    write_jsonl(results, records)
    write_whole(page, caption_page.page(dataset, "test", [(TITLES[run.sites], run.captions()) for run in runs[:2]], 60, None))
    print_table(records)
    print_captions(captions.images_of(dataset, "test"), runs[:2])
    broken = check_below(records, 1, "below none")
    print(f"Results: {results}\nPictures with their captions: {page}")
    if broken:
        raise Failure("; ".join(broken))


if __name__ == "__main__":
    sys.exit(demo_of_task("caption", "one caption model", demo))
