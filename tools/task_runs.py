"""What the trainings of RESULTS.md share whose runs go through stages (frames_runs.py, translate_runs.py)."""
import argparse
import os
import time

from demo import guarded, positive


def has_epoch(path):
    """Whether a log has a whole epoch."""
    with open(path, encoding="utf-8") as f:
        return any('"event":"epoch"' in line for line in f)


def run_all(pipelines, jobs, signals, publish, summary):
    """Takes every pipeline through its stages (ended, next, poll, stop), so many at a time, and publishes whenever one has ended."""
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
    """The options that such a program has; it adds its data."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=f"Trains {what} of RESULTS.md; goes on where it was stopped.", allow_abbrev=False)
    parser.add_argument("--plstm", default="build/plstm", metavar="PATH", help="the program (default build/plstm)")
    parser.add_argument("--work", default=f"build/{task}-runs", metavar="DIR", help=f"checkpoints (default build/{task}-runs)")
    parser.add_argument("--out", default=os.path.join(root, "profiles", "avx512"), metavar="DIR", help="results (default profiles/avx512)")
    parser.add_argument("--jobs", type=positive, default=2, metavar="N", help="runs at a time, a core each (default 2)")
    parser.add_argument("--only", nargs="+", choices=list(runs), metavar="NAME", help="these runs")
    parser.add_argument("--list", action="store_true", help="print how far each run is, and leave")
    parser.add_argument("--train-options", default="", help=argparse.SUPPRESS)  # tests train less
    return parser


def main_of(task, work):
    """Exit status of work(signals), which the same command continues."""
    return guarded(f"{task}_runs.py", work, "stopped; the same command goes on")
