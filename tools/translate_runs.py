#!/usr/bin/env python3
"""Trains the translation models of RESULTS.md on Multi30k: three seeds without and with dropout, then other values of keep.

    translate_runs.py DATA [--plstm PATH] [--work DIR] [--out DIR] [--jobs N] [--only NAME ...] [--list]

DATA has train.en, train.fr and so on. Every run trains preset translate; RUNS below lists what differs. A run keeps the weights of the
epoch with the lowest valid perplexity, scores test with them and translates it, with a beam of 12, once with the length penalty that is
best on valid and once without one, as in the paper. sacrebleu scores the translations. The checkpoints are in --work
(build/translate-runs). The script writes to --out (profiles/avx512)

    translate-NAME.jsonl      plstm's log, with every 200th step line
    translate.jsonl           an object per run that has ended, in the order of RUNS
    translate-NAME.txt        the translations of test, with the length penalty

To continue after an interruption, run it again: finished runs are kept, and an unfinished run continues from its last epoch.
"""
import json
import os
import shutil
import sys

import bleu
from demo import Log, show, write_whole
from task_runs import Pipeline, has_epoch, main_of, parser_of, run_all

# {name: options in addition to preset translate}, in the order of training. `none` is the plain LSTM; KEEP is the keep of the dropout model
# compared with it, and the other values make the curve. Words that occur fewer than MIN_COUNT times are <unk>, since the softmax is most
# of the work on a CPU.
SEEDS, KEEP, MIN_COUNT = (1, 2, 3), 0.8, 3
PENALTY = 0.6  # the length penalty of both sides: of 0, 0.6 and 1 the one with the best BLEU on valid (mean of both sides, seed 1)
SENTENCE, NBEST = 0, 5  # the line of test whose translations are shown, and their number
RUNS = {}
for seed in SEEDS:
    RUNS[f"none-{seed}"] = ["--dropout-sites", "none", "--seed", str(seed)]
    RUNS[f"keep{KEEP}-{seed}"] = ["--keep", str(KEEP), "--seed", str(seed)]
for keep in (0.9, 0.7):
    RUNS[f"keep{keep}-1"] = ["--keep", str(keep), "--seed", "1"]


class Translation(Pipeline):
    """Trains, scores and translates, then computes BLEU."""

    def __init__(self, options, name):
        super().__init__(options, name)
        self.steps = [*([] if self.log.test else [self.train]), self.score, self.translate, self.translate_plain, self.list_best]

    def data(self, name):
        return os.path.join(self.options.data, name)

    def train(self):
        self.train_on(self.options.data, ["--task", "translate", "--source", "en", "--target", "fr", "--preset",
                                          "translate", "--min-count", str(MIN_COUNT),
                                          *RUNS[self.name], *self.options.train_options.split()])

    def score(self):
        self.score_on(self.options.data)

    def translate(self):
        self.spawn(["translate", "--weights", self.path("best.st"), "--length-penalty", str(PENALTY)], self.data(self.test_name() + ".en"),
                   "translated.txt")

    def translate_plain(self):
        self.spawn(["translate", "--weights", self.path("best.st")], self.data(self.test_name() + ".en"), "plain.txt")

    def list_best(self):
        """Writes the n-best translations of one sentence, as an example."""
        write_whole(self.path("sentence.txt"), self.line_of("en"))
        self.spawn(["translate", "--weights", self.path("best.st"), "--nbest", str(NBEST)], self.path("sentence.txt"), "nbest.txt")

    def line_of(self, side):
        with open(self.data(f"{self.test_name()}.{side}"), encoding="utf-8") as f:
            return f.readlines()[SENTENCE]

    def nbest(self):
        with open(self.path("nbest.txt"), encoding="utf-8") as f:
            found = [line.rstrip("\n").split(" ||| ") for line in f]
        return {"source": self.line_of("en").strip(), "reference": self.line_of("fr").strip(),
                "nbest": [{"words": words, "score": float(score)} for _, words, score in found]}

    def test_name(self):
        return self.test()["test"]

    def finish(self):
        log, best, test = self.log, self.log.best_epoch(), self.test()
        score, plain = (bleu.bleu(self.data(self.test_name() + ".fr"), self.path(name), self.options.venv)
                        for name in ("translated.txt", "plain.txt"))
        result = {"name": self.name, "sites": log.run["dropout_sites"],
                  "keep": 1.0 if log.run["dropout_sites"] == "none" else log.run["keep"],
                  "seed": int(log.run["seed"]), "hidden": log.run["hidden"], "layers": log.run["layers"], "batch": log.run["batch"],
                  "epochs": len(log.epochs), "best_epoch": best["epoch"], "best_epoch_train_ppl": best["train_ppl"],
                  "best_epoch_valid_ppl": best["valid_ppl"], "best_epoch_test_ppl": test["ppl"], "train_ppl": log.epochs[-1]["train_ppl"],
                  "valid_ppl": log.epochs[-1]["valid_ppl"], "test_ppl": log.test["test_ppl"], "test": test["test"], "bleu": score["score"],
                  "bleu_plain": plain["score"], "length_penalty": PENALTY,
                  "bleu_signature": score["signature"], "beam": 12, "example": self.nbest(), "words_per_s": log.words_per_s(),
                  "minutes": sum(e["seconds"] for e in log.epochs) / 60, "backend": log.run["backend"], "device": log.run["device"],
                  "commit": log.run["commit"]}
        write_whole(self.path("result.json"), json.dumps(result) + "\n")


def publish(options):
    """Writes the results of finished runs, and all logs so far, to --out."""
    os.makedirs(options.out, exist_ok=True)
    results = []
    for name in RUNS:
        folder = os.path.join(options.work, name)
        for source, target in (("log.jsonl", f"translate-{name}.jsonl"), ("translated.txt", f"translate-{name}.txt")):
            path = os.path.join(folder, source)
            ended = os.path.exists(os.path.join(folder, "result.json"))
            if os.path.exists(path) and (ended or (source == "log.jsonl" and has_epoch(path))):
                shutil.copyfile(path, os.path.join(options.out, target if ended else "partial-" + target))
                if ended and os.path.exists(os.path.join(options.out, "partial-" + target)):
                    os.unlink(os.path.join(options.out, "partial-" + target))
        if os.path.exists(os.path.join(folder, "result.json")):
            with open(os.path.join(folder, "result.json"), encoding="utf-8") as f:
                results.append(f.read())
    if results:
        write_whole(os.path.join(options.out, "translate.jsonl"), "".join(results))


def summary(options):
    for name in RUNS:
        path = os.path.join(options.work, name, "result.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                r = json.load(f)
            print(f"{name:12} best epoch {r['best_epoch']:2} of {r['epochs']}: valid {r['best_epoch_valid_ppl']:.3f}  "
                  f"test {r['best_epoch_test_ppl']:.3f}  "
                  f"BLEU {r['bleu']:.2f} ({r['bleu_plain']:.2f} without a length penalty)  {r['minutes']:.1f} minutes")
        else:
            log = Log(os.path.join(options.work, name, "log.jsonl"))
            log.read()
            valid = ", ".join(show(epoch["valid_ppl"]) for epoch in log.epochs)
            print(f"{name:12} {len(log.epochs)} epochs so far, valid {valid}" if log.epochs else f"{name:12} not started")


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = parser_of("the translation models", "translate", RUNS)
    parser.add_argument("data", help="folder of Multi30k, tokenised: train.en, train.fr, val.en, ...")
    parser.add_argument("--venv", default=os.path.join(root, "build", "sacrebleu"), metavar="DIR", help="where sacrebleu is installed")
    options = parser.parse_args()

    def work(signals):
        if options.list:
            publish(options)
            summary(options)
            return
        bleu.installed(options.venv)
        run_all([Translation(options, name) for name in (options.only or RUNS)], options.jobs, signals,
                lambda: publish(options), lambda: summary(options))

    return main_of("translate", work)


if __name__ == "__main__":
    sys.exit(main())
