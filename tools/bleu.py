#!/usr/bin/env python3
"""BLEU of translations by sacrebleu, on files that are tokenised already.

    bleu.py REFERENCE HYPOTHESIS [--json]     a sentence a line on both sides

sacrebleu (PyPI) is installed once, into a virtual environment under build/; --tokenize none leaves the words as they are. Prints the
score with sacrebleu's signature, or with --json an object {"score":, "signature":, ...} as sacrebleu writes it.
"""
import argparse
import json
import os
import subprocess
import sys
import venv

VERSION = "2.5.1"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Failure(Exception):
    """A sentence for the user; the program exits with 1."""


def lines_of(path):
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as fault:
        raise Failure(f"{path} cannot be read: {fault.strerror}") from fault
    return data.count(b"\n") + (not data.endswith(b"\n") if data else 0)


def installed(folder):
    """The Python that has sacrebleu; a folder that was left half made is made anew."""
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, f"sacrebleu-{VERSION}")
    if os.path.exists(stamp):
        return python
    print(f"installing sacrebleu {VERSION} into {os.path.relpath(folder)}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"sacrebleu=={VERSION}"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = done.stdout.strip().splitlines()
        raise Failure(f"pip could not install sacrebleu: {said[-1] if said else 'it said nothing'}")
    with open(stamp, "w", encoding="utf-8"):
        pass
    return python


def bleu(reference, hypothesis, folder):
    """What sacrebleu says of two files."""
    counts = [lines_of(path) for path in (reference, hypothesis)]
    if counts[0] != counts[1]:
        raise Failure(f"{reference} has {counts[0]} lines and {hypothesis} has {counts[1]}")
    if not counts[0]:
        raise Failure(f"{reference} is empty")
    done = subprocess.run([installed(folder), "-m", "sacrebleu", reference, "-i", hypothesis, "-m", "bleu", "--tokenize", "none", "--force",
                           "--width", "4"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        raise Failure(f"sacrebleu failed: {said[-1] if said else done.stdout.strip()}") from None


def main():
    parser = argparse.ArgumentParser(description="BLEU of tokenised translations, by sacrebleu.", allow_abbrev=False)
    parser.add_argument("reference")
    parser.add_argument("hypothesis")
    parser.add_argument("--json", action="store_true", help="print what sacrebleu writes")
    parser.add_argument("--venv", default=os.path.join(ROOT, "build", "sacrebleu"), metavar="DIR", help="where sacrebleu is installed")
    options = parser.parse_args()
    try:
        result = bleu(options.reference, options.hypothesis, options.venv)
    except Failure as failure:
        print(f"bleu.py: {failure}", file=sys.stderr)
        return 1
    print(json.dumps(result) if options.json else f"BLEU {result['score']:.2f}  {result['signature']}  ({result['verbose_score']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
