#!/usr/bin/env python3
"""Trains the speech models of RESULTS.md on the spoken digits: settings tuned on valid, three seeds without and with
dropout, other values of keep, and a test on speakers who are not in the training data.

    frames_runs.py DATA UNSEEN [--plstm PATH] [--work DIR] [--out DIR] [--jobs N] [--only NAME ...] [--list]

DATA and UNSEEN are folders that tools/fsdd.py made, with --split recordings and --split speakers. Every run trains preset frames; RUNS
below lists what differs. A run keeps the weights of the epoch with the highest valid accuracy and scores test with them. The checkpoints
are in --work (build/frames-runs). The script writes to --out (profiles/avx512)

    frames-NAME.jsonl      plstm's log, with every 200th step line
    frames.jsonl           an object per run that has ended, in the order of RUNS

To continue after an interruption, run it again: finished runs are kept, and an unfinished run continues from its last epoch.
"""
import json
import os
import shutil
import sys

from demo import Log, percent, write_whole
from task_runs import Pipeline, has_epoch, main_of, override, parser_of, run_all

# Options that differ from preset frames, and the settings that were tried: {name: options}. MAIN has the setting of each side that is
# best on valid; three seeds were trained with it.
SHORT, SOON, LONG, LONGER = (["--hold", hold, "--decay", decay, "--epochs", epochs] for hold, decay, epochs in
                             (("5", "1.5", "10"), ("8", "1.5", "14"), ("14", "1.4", "24"), ("22", "1.4", "34")))
TUNE = {"none, short": ["--dropout-sites", "none", *SHORT], "none, soon": ["--dropout-sites", "none", *SOON],
        "none, long": ["--dropout-sites", "none", *LONG],
        "keep 0.7, soon": ["--keep", "0.7", *SOON], "keep 0.7, long": ["--keep", "0.7", *LONG],
        "keep 0.5, long": ["--keep", "0.5", *LONG], "keep 0.5, longer": ["--keep", "0.5", *LONGER]}
MAIN = {"none": "none, short", "dropout": "keep 0.7, long"}
SEEDS = (1, 2, 3)
CURVE = (0.6, 0.9)  # values of keep beside the one of the table

# {name: (purpose, folder, options)}, in the order of training. Seed 1 of the settings in MAIN is part of both the table and the tuning.
RUNS = {f"{side}-{seed}": ("main", "data", [*TUNE[MAIN[side]], "--seed", str(seed)]) for seed in SEEDS for side in ("dropout", "none")}
for setting in (name for name in TUNE if name not in MAIN.values()):
    RUNS["tune-" + setting.replace(", ", "-").replace(" ", "") + "-1"] = ("tune", "data", [*TUNE[setting], "--seed", "1"])
for side, setting in MAIN.items():
    RUNS[f"unseen-{side}-1"] = ("unseen", "unseen", [*TUNE[setting], "--seed", "1"])
for keep in CURVE:
    RUNS[f"curve-keep{keep}-1"] = ("curve", "data", ["--keep", str(keep), *LONG, "--seed", "1"])


class Speech(Pipeline):
    """Trains a model, then scores it."""

    def __init__(self, options, name):
        super().__init__(options, name)
        self.what, where, self.train_options = RUNS[name]
        self.data = options.unseen if where == "unseen" else options.data
        self.steps = [*([] if self.log.test else [self.train]), self.score]

    def train(self):
        self.train_on(self.data, ["--task", "frames", *override(self.train_options, self.options.train_options.split())])

    def score(self):
        self.score_on(self.data)

    def finish(self):
        log, best, test = self.log, self.log.best_epoch(), self.test()
        none, last = log.run["dropout_sites"] == "none", log.epochs[-1]
        lowest = min(log.epochs, key=lambda e: e["valid_nats"])
        result = {"name": self.name, "what": self.what, "setting": self.setting(), "sites": log.run["dropout_sites"],
                  "keep": 1.0 if none else log.run["keep"],
                  "seed": int(log.run["seed"]),
                  **{key: log.run[key] for key in ("hidden", "layers", "batch", "lr", "hold", "decay", "F", "V",
                                                   "frames")},
                  "epochs": len(log.epochs), "best_epoch": best["epoch"],
                  **{f"best_epoch_{key}": best[key] for key in ("train_acc", "valid_acc", "valid_acc_nosil", "valid_nats")},
                  "best_epoch_test_acc": test["acc"], "best_epoch_test_acc_nosil": test["acc_nosil"],
                  "best_epoch_test_nats": test["nats_each"],
                  **{key: last[key] for key in ("train_acc", "valid_acc", "valid_acc_nosil", "valid_nats")},
                  **{key: log.test[key] for key in ("test_acc", "test_acc_nosil", "test_nats")},
                  "lowest_valid_nats": lowest["valid_nats"], "lowest_nats_epoch": lowest["epoch"], "frames_per_s": log.words_per_s(),
                  "minutes": sum(e["seconds"] for e in log.epochs) / 60, "backend": log.run["backend"], "device": log.run["device"],
                  "commit": log.run["commit"]}
        write_whole(self.path("result.json"), json.dumps(result) + "\n")

    def setting(self):
        """Returns the name of the run's tuned setting, or None."""
        return next((name for name, options in TUNE.items() if self.train_options[:-2] == options), None)


def publish(options):
    """Writes the results of finished runs, and all logs so far, to --out."""
    os.makedirs(options.out, exist_ok=True)
    results = []
    for name in RUNS:
        folder = os.path.join(options.work, name)
        path, ended = os.path.join(folder, "log.jsonl"), os.path.exists(os.path.join(folder, "result.json"))
        if os.path.exists(path) and (ended or has_epoch(path)):
            shutil.copyfile(path, os.path.join(options.out, f"frames-{name}.jsonl" if ended else f"partial-frames-{name}.jsonl"))
            if ended and os.path.exists(os.path.join(options.out, f"partial-frames-{name}.jsonl")):
                os.unlink(os.path.join(options.out, f"partial-frames-{name}.jsonl"))
        if ended:
            with open(os.path.join(folder, "result.json"), encoding="utf-8") as f:
                results.append(f.read())
    if results:
        write_whole(os.path.join(options.out, "frames.jsonl"), "".join(results))


def summary(options):
    for name in RUNS:
        path = os.path.join(options.work, name, "result.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                r = json.load(f)
            print(f"{name:20} best epoch {r['best_epoch']:2} of {r['epochs']}: train "
                  f"{percent(r['best_epoch_train_acc'])}  valid {percent(r['best_epoch_valid_acc'])}  "
                  f"test {percent(r['best_epoch_test_acc'])}, {percent(r['best_epoch_test_acc_nosil'])} without "
                  f"silence, {r['best_epoch_test_nats']:.3f} nats  "
                  f"{r['minutes']:.1f} minutes")
        else:
            log = Log(os.path.join(options.work, name, "log.jsonl"))
            log.read()
            valid = ", ".join(percent(epoch["valid_acc"]) for epoch in log.epochs)
            print(f"{name:20} {len(log.epochs)} epochs so far, valid {valid}" if log.epochs else f"{name:20} not started")


def main():
    parser = parser_of("the speech models", "frames", RUNS)
    parser.add_argument("data", help="folder made by tools/fsdd.py")
    parser.add_argument("unseen", help="folder made by tools/fsdd.py --split speakers")
    options = parser.parse_args()

    def work(signals):
        if options.list:
            publish(options)
            summary(options)
        else:
            run_all([Speech(options, name) for name in (options.only or RUNS)], options.jobs, signals,
                    lambda: publish(options), lambda: summary(options))

    return main_of("frames", work)


if __name__ == "__main__":
    sys.exit(main())
