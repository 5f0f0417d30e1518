"""Shared parts of the programs that train the models of RESULTS.md in stages (caption_runs.py, frames_runs.py, translate_runs.py)."""
import argparse
import json
import os
import subprocess
import time

from demo import Failure, Log, guarded, positive


class Pipeline:
    """Runs the steps of one run, one process at a time, in a folder of its own. `steps` are methods, each of which starts a process. The
    task's class defines finish, which writes result.json when all have ended."""

    def __init__(self, options, name):
        self.options, self.name, self.process, self.steps = options, name, None, []
        self.folder = os.path.join(options.work, name)
        self.log = Log(self.path("log.jsonl"))
        self.log.read()

    def path(self, name):
        return os.path.join(self.folder, name)

    def ended(self):
        return os.path.exists(self.path("result.json"))

    def spawn(self, command, source=None, target=None):
        command = ["nice", "-n", "19", self.options.plstm, *command, "--threads", "1"]
        with open(source or os.devnull, "rb") as stdin, open(self.path(target or "out.txt"), "wb") as out, \
                open(self.path("err.txt"), "wb") as err:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err)

    def train_on(self, data, first):
        """Trains with the options `first`, or continues from the last checkpoint."""
        how = ["--resume", self.path("last.st")] if os.path.exists(self.path("last.st")) else first
        self.spawn(["train", *how, "--data", data, "--save", self.path("last.st"), "--save-best", self.path("best.st"), "--log-json",
                    self.path("log.jsonl"), "--log-every", "200", "--quiet"])

    def score_on(self, data):
        self.spawn(["eval", "--weights", self.path("best.st"), "--data", data, "--split", "test", "--log-json",
                    self.path("test.jsonl"), "--quiet"])

    def test(self):
        """Returns the result of score_on."""
        with open(self.path("test.jsonl"), encoding="utf-8") as f:
            return json.loads(f.readline())

    def next(self):
        """Starts the next step. Returns False if all are done and the result is written."""
        if self.steps:
            os.makedirs(self.folder, exist_ok=True)
            self.steps.pop(0)()
            return True
        self.log.read()
        self.finish()
        return False

    def poll(self):
        status = self.process.poll()
        if status:
            with open(self.path("err.txt"), encoding="utf-8", errors="replace") as f:
                said = f.read().strip().splitlines()
            raise Failure(f"{self.name} failed with exit status {status}: {said[-1] if said else 'it printed nothing'}")
        return status is not None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def override(options, more):
    """Returns the options with those of `more` replaced or appended; each option is a name and a value."""
    return [word for pair in {**dict(zip(options[::2], options[1::2])), **dict(zip(more[::2], more[1::2]))}.items() for word in pair]


def has_epoch(path):
    """Returns whether a log has a complete epoch."""
    with open(path, encoding="utf-8") as f:
        return any('"event":"epoch"' in line for line in f)


def run_all(pipelines, jobs, signals, publish, summary):
    """Runs every pipeline through its stages (ended, next, poll, stop), `jobs` at a time, and publishes whenever one has ended."""
    waiting, running = [p for p in pipelines if not p.ended()], []
    try:
        while waiting or running:
            signals.check()
            while waiting and len(running) < jobs:
                pipeline = waiting.pop(0)
                pipeline.next()
                running.append(pipeline)
            for pipeline in list(running):
                if pipeline.poll() and not pipeline.next():
                    running.remove(pipeline)
                    publish()
                    summary()
            time.sleep(0.5)
    finally:
        for pipeline in running:
            pipeline.stop()
        publish()


def parser_of(what, task, runs):
    """Returns a parser of the shared options; the program adds its data."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=f"Trains {what} of RESULTS.md; continues where it was stopped.", allow_abbrev=False)
    parser.add_argument("--plstm", default="build/plstm", metavar="PATH", help="the program (default build/plstm)")
    parser.add_argument("--work", default=f"build/{task}-runs", metavar="DIR",
                        help=f"folder of the checkpoints (default build/{task}-runs)")
    parser.add_argument("--out", default=os.path.join(root, "profiles", "avx512"), metavar="DIR",
                        help="folder of the results (default profiles/avx512)")
    parser.add_argument("--jobs", type=positive, default=2, metavar="N", help="runs at a time, one core each (default 2)")
    parser.add_argument("--only", nargs="+", choices=list(runs), metavar="NAME", help="these runs")
    parser.add_argument("--list", action="store_true", help="print the progress of each run and exit")
    parser.add_argument("--train-options", default="", help=argparse.SUPPRESS)  # for tests, which train less
    return parser


def main_of(task, work):
    """Runs work(signals), which the same command continues after a stop, and returns the exit status."""
    return guarded(f"{task}_runs.py", work, "stopped; the same command continues")
