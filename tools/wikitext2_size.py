#!/usr/bin/env python3
"""Trains on a text as large as WikiText-2 and checks the memory and the times that plstm reports.

    wikitext2_size.py [--plstm PATH] [--steps N] [--threads N] [--hidden H ...] [--out FILE] [--folder DIR]

The script writes a random text with WikiText-2's numbers of words and types (by Zipf's law) to DIR (default: a temporary folder) and trains
preset small with H units (200, 650) for N minibatches. It prints one JSON object per H, or writes it to FILE: words/s (median of the
minibatches without the first), the bytes that `plstm train` announced and the peak of the process, the seconds of the minibatches in the
log and those of the process. The exit status is 1 if a check fails (CHECKS below).
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

WORDS = {"train": 2088628, "valid": 217646, "test": 245569}
TYPES = 33278

# (claim, test of a record). The program, its libraries and the text are not part of the memory that is announced for the model.
CHECKS = (
    ("the peak is within what was announced, its libraries (100 MB) and the text",
     lambda r: r["peak_bytes"] <= 1.02 * r["announced_bytes"] + 100e6 + r["text_bytes"]),
    ("at least four fifths of what was announced are used", lambda r: r["peak_bytes"] >= 0.8 * r["announced_bytes"]),
    ("the minibatches fit into the time of the process", lambda r: r["logged_seconds"] <= r["seconds"]),
    ("the minibatches as logged are at least half of what the process took beyond its start",
     lambda r: r["logged_seconds"] >= 0.5 * (r["seconds"] - r["start_seconds"])),
)


class Failure(Exception):
    """An error whose text is a sentence for the user."""


def write_text(folder):
    draw = random.Random(1)
    types = ["<eos>", "<unk>"] + [f"word{i}" for i in range(TYPES - 2)]  # <eos> is each newline
    weights = [1 / rank for rank in range(1, TYPES)]
    for split, words in WORDS.items():
        tokens = draw.choices(types[1:], weights, k=words)
        for at in range(24, words, 25):
            tokens[at] = "\n"
        if split == "train":
            # Every type occurs, at positions that are no newline.
            places = [at for at in range(words) if at % 25 != 24][:TYPES - 1]
            for at, word in zip(places, types[1:]):
                tokens[at] = word
        # A newline is a token of its own, without spaces around it.
        text = " ".join(tokens).replace(" \n ", "\n").replace(" \n", "\n")
        with open(os.path.join(folder, f"wiki.{split}.tokens"), "w", encoding="ascii") as f:
            f.write(text)


def run(command, log):
    """Runs a command and returns (seconds, peak bytes, standard output, log lines)."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([*command, "--log-json", log], stdin=subprocess.DEVNULL, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode:
        raise Failure(f"{' '.join(command)} ended with {child.returncode}")
    with open(log, encoding="utf-8") as f:
        return time.monotonic() - start, usage.ru_maxrss * 1024, text, [json.loads(line) for line in f]


def measure(options, folder, hidden):
    command = [options.plstm, "train", "--preset", "small", "--hidden", str(hidden), "--data", folder, "--eval", "none",
               "--threads", str(options.threads), "--quiet"]
    log = os.path.join(folder, "log.jsonl")
    start_seconds, *_ = run([*command, "--max-steps", "0"], log)
    seconds, peak, said, events = run([*command, "--max-steps", str(options.steps)], log)
    first, steps = events[0], [e for e in events if e["event"] == "step"]
    if (first["V"], first["tokens"]["train"]) != (TYPES, WORDS["train"]) or len(steps) != options.steps:
        raise Failure(f"plstm read {first['V']} types and {first['tokens']} words and did {len(steps)} minibatches")
    announced = re.search(r"parameters, ([0-9.]+) (MiB|GiB) needed", said)
    if not announced:
        raise Failure("plstm train announced no memory")
    return {"hidden": hidden, "threads": options.threads, "device": first["device"], "commit": first["commit"],
            "types": TYPES, "words": WORDS["train"],
            "steps": options.steps, "words_per_s": statistics.median(e["words_per_s"] for e in steps[1:] or steps),
            "announced_bytes": float(announced[1]) * (1 << 20 if announced[2] == "MiB" else 1 << 30), "peak_bytes": peak,
            "text_bytes": sum(os.path.getsize(os.path.join(folder, f"wiki.{split}.tokens")) for split in WORDS),
            "logged_seconds": sum(e["tokens"] / e["words_per_s"] for e in steps), "seconds": seconds, "start_seconds": start_seconds}


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False,
                                     description="Trains on a text as large as WikiText-2 and checks the announced "
                                     "memory.")
    parser.add_argument("--plstm", default=os.path.join("build", "plstm"), metavar="PATH")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="minibatches (default 20)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="default: all cores")
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 650], metavar="H", help="number of units (default 200 and 650)")
    parser.add_argument("--out", metavar="FILE", help="JSON lines")
    parser.add_argument("--folder", metavar="DIR", help="folder of the text (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plstm-wikitext2-") as temporary:
        folder = options.folder or temporary
        os.makedirs(folder, exist_ok=True)
        write_text(folder)
        records = [measure(options, folder, hidden) for hidden in options.hidden]
    text = "".join(json.dumps(record) + "\n" for record in records)
    print(text, end="")
    if options.out:
        with open(options.out, "w", encoding="utf-8") as f:
            f.write(text)
    broken = [f"H {record['hidden']}: the claim does not hold: {says}" for record in records for says, holds in CHECKS if not holds(record)]
    if broken:
        raise Failure("; ".join(broken))


if __name__ == "__main__":
    try:
        main()
    except Failure as fault:
        print(f"wikitext2_size: {fault}", file=sys.stderr)
        sys.exit(1)
