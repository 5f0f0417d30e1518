#!/usr/bin/env python3
"""Trains and scores the caption models of RESULTS.md on the built-in scenes: in each of three repetitions a model without dropout, a
model with dropout, and ten models without dropout whose probabilities are averaged.

    caption_runs.py [--plstm PATH] [--work DIR] [--out DIR] [--jobs N] [--only NAME ...] [--list]

Every run trains preset demo with more units; RUNS below lists what differs. First a few settings of each side are tried with one training
each (TUNED); the setting with the lowest valid perplexity is used in every repetition. A run keeps the weights of the epoch with the lowest
valid perplexity. Repetition r then scores and describes the test images with plain-r-1 (`none`), with dropout-r, and with the averaged
probabilities of plain-r-1 to plain-r-10. The search has a beam of 12, with a length penalty that was chosen on valid and without one;
sacrebleu and pycocoevalcap score the captions. The weights are in --work (build/caption-runs). The script writes to --out (profiles/avx512)

    caption.jsonl            an object per repetition and side, an object per setting that was tried, and one for the shuffled images
    caption-logs.jsonl       plstm's logs of the runs, one after the other, without their step lines
    caption-SIDE-R.txt       the captions of test

To continue after an interruption, run it again: finished runs are kept, and an unfinished run starts again.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

import bleu
from demo import Failure, Log, guarded, positive, show, write_whole
from task_runs import override

REPETITIONS, MEMBERS = (1, 2, 3), range(1, 11)
# The length penalty of all sides: of 0, 0.6, 1 and 1.5 the one with the best BLEU on valid (mean of none and dropout, repetition 1).
PENALTY = 1
# The settings to try: {name: (side, keep, epochs, epochs at the first learning rate, seed)}.
TUNED = {"tune-none-18": ("none", 1.0, 18, 8, 1), "tune-none-26": ("none", 1.0, 26, 14, 1), "tune-0.8-40": ("dropout", 0.8, 40, 26, 1),
         "tune-0.6-40": ("dropout", 0.6, 40, 26, 1)}
HIDDEN = 192  # twice the units of the demo, whose models without dropout are too small to overfit much


def settings(name):
    """Returns the options of a setting in TUNED, without its seed."""
    side, keep, epochs, hold, _ = TUNED[name]
    return [*(["--dropout-sites", "none"] if side == "none" else ["--keep", str(keep)]), "--epochs", str(epochs), "--hold", str(hold)]


RUNS = {name: ["--seed", str(setting[4])] for name, setting in TUNED.items()}  # in addition to the setting's options
for repetition in REPETITIONS:
    RUNS[f"plain-{repetition}-1"] = ["--seed", str(100 * repetition + 1)]  # in addition to the options of the side's best setting
    RUNS[f"dropout-{repetition}"] = ["--seed", str(100 * repetition + 1)]
for repetition in REPETITIONS:
    for member in MEMBERS[1:]:
        RUNS[f"plain-{repetition}-{member}"] = ["--seed", str(100 * repetition + member)]
SIDES = ("none", "dropout", "ensemble")


class Training:
    """A run of plstm train."""

    def __init__(self, options, name):
        self.options, self.name, self.process = options, name, None
        self.folder = os.path.join(options.work, name)
        self.log = Log(self.path("log.jsonl"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def ended(self):
        return os.path.exists(self.path("ended"))

    def side(self):
        return "dropout" if self.name.startswith("dropout") else "none"

    def start(self, decided):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        more = settings(self.name if self.name in TUNED else decided)
        how = override(["--hidden", str(HIDDEN), *RUNS[self.name], *more], self.options.train_options.split())
        command = [*self.options.nice.split(), self.options.plstm, "train", "--task", "caption", "--preset", "demo",
                   "--data", "scenes", "--threads", "1",
                   "--quiet", "--save-best", self.path("best.st"), "--log-json", self.path("log.jsonl"), "--log-every", "200", *how]
        with open(self.path("out.txt"), "wb") as out, open(self.path("err.txt"), "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def poll(self):
        status = self.process.poll()
        if status:
            with open(self.path("err.txt"), encoding="utf-8", errors="replace") as f:
                raise Failure(f"{self.name} failed with exit status {status}: {bleu.last_line(f.read())}")
        if status == 0:
            write_whole(self.path("ended"), "")
        return status is not None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def read(self):
        self.log = Log(self.path("log.jsonl"))
        self.log.read()
        return self.log


def plstm(options, *words, out=None):
    with open(out or os.devnull, "wb") as stdout:
        threads = [] if words[0] == "data" else ["--threads", "1"]
        done = subprocess.run([*options.nice.split(), options.plstm, *words, *threads, "--quiet"], stdin=subprocess.DEVNULL, stdout=stdout,
                              stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failure(f"plstm {words[0]} failed: {bleu.last_line(done.stderr)}")


def first_line(path):
    with open(path, encoding="utf-8") as f:
        return json.loads(f.readline())


def members_of(side, repetition):
    """Returns the names of the runs whose probabilities a side averages."""
    if side == "dropout":
        return [f"dropout-{repetition}"]
    return [f"plain-{repetition}-{member}" for member in (MEMBERS if side == "ensemble" else MEMBERS[:1])]


def chosen(options, side):
    """Returns the name of the setting of a side with the lowest valid perplexity, or None until all its trainings have ended."""
    tuned = [Training(options, name) for name, setting in TUNED.items() if setting[0] == side]
    if not all(run.ended() for run in tuned):
        return None
    return min(tuned, key=lambda run: run.read().best_epoch()["valid_ppl"]).name


def scenes_folder(options):
    """Writes the scenes as dataset.json and features.npy, and a second copy in which each test image has the features of another."""
    right, shuffled = os.path.join(options.work, "scenes"), os.path.join(options.work, "scenes-shuffled")
    if not os.path.exists(os.path.join(right, "features.npy")):
        shutil.rmtree(right, ignore_errors=True)
        plstm(options, "data", "scenes", "--task", "caption", "--write", right)
    if not os.path.exists(os.path.join(shuffled, "features.npy")):
        os.makedirs(shuffled, exist_ok=True)
        shutil.copyfile(os.path.join(right, "dataset.json"), os.path.join(shuffled, "dataset.json"))
        shuffle(right, shuffled)
    return right, shuffled


def shuffle(source, target):
    """Moves the features by one image within each split, so that every image gets those of the image before it."""
    with open(os.path.join(source, "dataset.json"), encoding="utf-8") as f:
        split = [image["split"] for image in json.load(f)["images"]]
    with open(os.path.join(source, "features.npy"), "rb") as f:
        data = f.read()
    start = 10 + int.from_bytes(data[8:10], "little")
    size = (len(data) - start) // len(split)
    rows = [data[start + i * size:start + (i + 1) * size] for i in range(len(split))]
    last = {name: i for i, name in enumerate(split)}
    moved = []
    for i, name in enumerate(split):
        moved.append(rows[last[name]])
        last[name] = i
    path = os.path.join(target, "features.npy")
    with open(path + ".tmp", "wb") as f:
        f.write(data[:start] + b"".join(moved))
    os.replace(path + ".tmp", path)


def describe(options, weights, data, folder, name, penalty):
    """Writes the captions of test under a length penalty to NAME.txt and returns them with the scores of sacrebleu and pycocoevalcap."""
    found, text = os.path.join(folder, name + ".jsonl"), os.path.join(folder, name + ".txt")
    plstm(options, "caption", "--weights", weights, "--data", "scenes", "--length-penalty", str(penalty), "--json", out=found)
    with open(found, encoding="utf-8") as f:
        found = [json.loads(line)["found"][0] for line in f]
    write_whole(text, "".join(one["words"] + "\n" for one in found))
    return found, bleu.caption_scores(data, "test", text, options.venv, with_cider=True)


def measure(options, side, repetition):
    """Returns the object of a repetition and side, whose runs must have ended."""
    runs = [Training(options, name) for name in members_of(side, repetition)]
    logs = [run.read() for run in runs]
    folder = os.path.join(options.work, f"{side}-{repetition}-test")
    result = os.path.join(folder, "result.json")
    if os.path.exists(result):
        return first_line(result)
    os.makedirs(folder, exist_ok=True)
    right, shuffled = scenes_folder(options)
    weights = ",".join(run.path("best.st") for run in runs)
    ppl = {}
    for what, data in (("test", right), ("shuffled", shuffled)):
        log = os.path.join(folder, what + ".jsonl")
        plstm(options, "eval", "--weights", weights, "--data", data, "--split", "test", "--log-json", log)
        ppl[what] = first_line(log)["ppl"]
    found, score = describe(options, weights, right, folder, "captions", PENALTY)
    _, plain = describe(options, weights, right, folder, "plain", 0)
    run, best = logs[0].run, [log.best_epoch() for log in logs]
    record = {"repetition": repetition, "side": side, "members": len(runs), "keep": run["keep"] if side == "dropout" else 1.0,
              "hidden": run["hidden"], "layers": run["layers"], "batch": run["batch"], "epochs": len(logs[0].epochs), "hold": run["hold"],
              "best_epochs": [epoch["epoch"] for epoch in best], "train_ppl": best[0]["train_ppl"] if len(runs) == 1 else None,
              "valid_ppl": best[0]["valid_ppl"] if len(runs) == 1 else None, "test_ppl": ppl["test"], "shuffled_ppl": ppl["shuffled"],
              "best_ppl": logs[0].test["best_ppl"], "bleu": score["score"], "bleu_parts": score["verbose_score"],
              "bleu_signature": score["signature"],
              "cider": score["cider"], "length_penalty": PENALTY,
              "bleu_plain": plain["score"], "cider_plain": plain["cider"],
              "true": sum(one["annotator_logp"] is not None for one in found) / len(found), "beam": 12,
              "seconds": sum(epoch["seconds"] for log in logs for epoch in log.epochs), "backend": run["backend"], "device": run["device"],
              "commit": run["commit"]}
    write_whole(result, json.dumps(record) + "\n")
    return record


def tuned_records(options):
    for name, (side, keep, _, hold, seed) in TUNED.items():
        run = Training(options, name)
        if run.ended():
            best = run.read().best_epoch()
            yield {"tuned": side, "keep": keep, "epochs": len(run.log.epochs), "hold": hold, "seed": seed, "valid_ppl": best["valid_ppl"],
                   "best_epoch": best["epoch"], "chosen": chosen(options, side) == name}


def publish(options):
    """Writes the results of all finished runs to --out."""
    os.makedirs(options.out, exist_ok=True)
    records = list(tuned_records(options))
    for repetition in REPETITIONS:
        for side in SIDES:
            if all(Training(options, name).ended() for name in members_of(side, repetition)):
                records.append(measure(options, side, repetition))
                shutil.copyfile(os.path.join(options.work, f"{side}-{repetition}-test", "captions.txt"),
                                os.path.join(options.out, f"caption-{side}-{repetition}.txt"))
    logs = []
    for name in RUNS:
        run = Training(options, name)
        if run.ended():
            with open(run.path("log.jsonl"), encoding="utf-8") as f:
                logs += [line for line in f if '"event":"step"' not in line]
    if records:
        write_whole(os.path.join(options.out, "caption.jsonl"), "".join(json.dumps(record) + "\n" for record in records))
        write_whole(os.path.join(options.out, "caption-logs.jsonl"), "".join(logs))
    return records


def tell(records):
    for r in records:
        if "tuned" in r:
            print(f"{r['tuned']}, keep {r['keep']}: valid {r['valid_ppl']:.3f} at epoch {r['best_epoch']} of "
                  f"{r['epochs']}{' (chosen)' if r['chosen'] else ''}")
        else:
            print(f"{r['repetition']} {r['side']:9} test {r['test_ppl']:.3f} (shuffled {r['shuffled_ppl']:.1f})  BLEU "
                  f"{r['bleu']:.2f}  CIDEr {r['cider']:.3f}  "
                  f"true {100 * r['true']:.1f} %  {r['seconds']:.0f} s")


def run_all(options, signals):
    waiting = [Training(options, name) for name in (options.only or RUNS)]
    waiting = [run for run in waiting if not run.ended()]
    running, decided = [], {}
    try:
        while waiting or running:
            signals.check()
            decided = {side: decided.get(side) or chosen(options, side) for side in ("none", "dropout")}
            ready = [run for run in waiting if run.name in TUNED or decided[run.side()]]
            if not ready and not running:
                raise Failure(f"{waiting[0].name} needs the tuning runs of its side first; add to --only: {', '.join(TUNED)}")
            while ready and len(running) < options.jobs:
                run = ready.pop(0)
                waiting.remove(run)
                run.start(decided[run.side()])
                running.append(run)
            for run in list(running):
                if run.poll():
                    running.remove(run)
                    best = run.read().best_epoch()
                    print(f"{run.name}: valid {show(best['valid_ppl'])} at epoch {best['epoch']}", file=sys.stderr, flush=True)
            time.sleep(0.1)
    finally:
        for run in running:
            run.stop()


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description="Trains the caption models of RESULTS.md; continues where it was "
                                     "stopped.", allow_abbrev=False)
    parser.add_argument("--plstm", default="build/plstm", metavar="PATH", help="the program (default build/plstm)")
    parser.add_argument("--work", default="build/caption-runs", metavar="DIR", help="folder of the weights (default build/caption-runs)")
    parser.add_argument("--out", default=os.path.join(root, "profiles", "avx512"), metavar="DIR",
                        help="folder of the results (default profiles/avx512)")
    parser.add_argument("--venv", default=os.path.join(root, "build", "sacrebleu"), metavar="DIR", help="where sacrebleu is installed")
    parser.add_argument("--jobs", type=positive, default=2, metavar="N", help="runs at a time, one core each (default 2)")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), metavar="NAME", help="these runs")
    parser.add_argument("--list", action="store_true", help="print the finished runs and exit")
    parser.add_argument("--nice", default="nice -n 19", metavar="COMMAND", help="command that starts plstm (default nice -n 19)")
    parser.add_argument("--train-options", default="", help=argparse.SUPPRESS)  # for tests, which train less
    options = parser.parse_args()

    def work(signals):
        bleu.cider_installed(options.venv)
        if not options.list:
            run_all(options, signals)
        tell(publish(options))

    return guarded("caption_runs.py", work, "stopped; the same command continues")


if __name__ == "__main__":
    sys.exit(main())
