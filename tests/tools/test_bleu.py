"""tools/bleu.py against a sacrebleu that only says what it was asked; nothing is installed."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools"))
import bleu  # noqa: E402

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/bleu.py")
FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$(dirname "$0")/asked"
SAYS
"""
ANSWER = {"name": "BLEU", "score": 12.3456, "signature": "nrefs:1|tok:none", "verbose_score": "1/2/3/4"}


def run(folder, reference, hypothesis, *options, says=f"echo '{json.dumps(ANSWER)}'"):
    venv = os.path.join(folder, "venv")
    os.makedirs(os.path.join(venv, "bin"), exist_ok=True)
    with open(os.path.join(venv, "bin", "python"), "w", encoding="utf-8") as f:
        f.write(FAKE.replace("SAYS", says))
    os.chmod(os.path.join(venv, "bin", "python"), 0o755)
    with open(os.path.join(venv, f"sacrebleu-{bleu.VERSION}"), "w", encoding="utf-8"):
        pass
    for name, text in (("ref", reference), ("hyp", hypothesis)):
        if text is not None:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text)
    return subprocess.run([sys.executable, TOOL, os.path.join(folder, "ref"), os.path.join(folder, "hyp"), "--venv", venv, *options],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def in_folder(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
    return call


@in_folder
def test_the_score_and_its_signature(folder):
    done = run(folder, "a b\nc\n", "a b\nd")
    assert done.returncode == 0 and done.stdout == "BLEU 12.35  nrefs:1|tok:none  (1/2/3/4)\n", (done.stdout, done.stderr)
    with open(os.path.join(folder, "venv", "bin", "asked"), encoding="utf-8") as f:
        asked = f.read().split("\n")
    assert asked[:5] == ["-m", "sacrebleu", os.path.join(folder, "ref"), "-i", os.path.join(folder, "hyp")], asked
    assert asked[asked.index("--tokenize") + 1] == "none", asked
    done = run(folder, "a b\nc\n", "a b\nd\n", "--json")
    assert json.loads(done.stdout) == ANSWER, done.stdout


@in_folder
def test_files_that_do_not_match(folder):
    done = run(folder, "a\nb\n", "a\n")
    assert done.returncode == 1 and "has 2 lines" in done.stderr and "has 1" in done.stderr, done.stderr
    done = run(folder, "", "")
    assert done.returncode == 1 and "is empty" in done.stderr, done.stderr
    os.unlink(os.path.join(folder, "hyp"))
    done = run(folder, "a\n", None)
    assert done.returncode == 1 and "cannot be read" in done.stderr, done.stderr


@in_folder
def test_a_sacrebleu_that_fails(folder):
    done = run(folder, "a\n", "b\n", says="echo no such metric >&2; exit 2")
    assert done.returncode == 1 and "no such metric" in done.stderr and done.stderr.count("\n") == 1, done.stderr


if __name__ == "__main__":
    tap.main(globals())
