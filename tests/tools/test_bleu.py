"""Tests tools/bleu.py with a fake sacrebleu that only records its arguments; nothing is installed."""
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


def write(folder, name, lines):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(line + "\n" for line in lines)
    return path


def dataset(folder):
    """Writes two test images with captions, one without, and one of another split."""
    images = [{"split": "test", "sentences": [{"tokens": ["a", "b"]}, {"tokens": ["c"]}]},
              {"split": "train", "sentences": [{"tokens": ["x"]}]},
              {"split": "test", "sentences": []}, {"split": "test", "sentences": [{"tokens": []}, {"tokens": ["d"]}]}]
    with open(os.path.join(folder, "dataset.json"), "w", encoding="utf-8") as f:
        json.dump({"images": images}, f)


@in_folder
def test_several_references(folder):
    run(folder, "a\n", "b\n")  # makes the fake
    second = write(folder, "second", ["x"])
    done = subprocess.run([sys.executable, TOOL, os.path.join(folder, "ref"), second, os.path.join(folder, "hyp"),
                           "--venv", os.path.join(folder, "venv")],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    with open(os.path.join(folder, "venv", "bin", "asked"), encoding="utf-8") as f:
        asked = f.read().split("\n")
    assert asked[2:6] == [os.path.join(folder, "ref"), second, "-i", os.path.join(folder, "hyp")], asked


@in_folder
def test_captions_of_a_split(folder):
    says = 'for f in "$@"; do case "$f" in */reference-*|*/hypothesis) cp "$f" "$(dirname "$0")/";; esac; done; ' \
        + f"echo '{json.dumps(ANSWER)}'"
    run(folder, "a\n", "b\n", says=says)
    dataset(folder)
    hypothesis = write(folder, "captions", ["one", "two", "three"])
    words = [sys.executable, TOOL, "--captions", folder, hypothesis, "--venv", os.path.join(folder, "venv")]
    done = subprocess.run([*words, "--json"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0 and json.loads(done.stdout) == dict(ANSWER, images=2, left_out=1), (done.stdout, done.stderr)
    kept = {}
    for name in ("reference-0", "reference-1", "hypothesis"):
        with open(os.path.join(folder, "venv", "bin", name), encoding="utf-8") as f:
            kept[name] = f.read()
    assert kept == {"reference-0": "a b\nd\n", "reference-1": "c\n\n", "hypothesis": "one\nthree\n"}, kept
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert "1 images without captions were left out" in done.stdout, done.stdout
    for more, said in (((), "has 3 images of split test"), (("--split", "val"), "unknown split")):
        write(folder, "captions", ["one"])
        done = subprocess.run([*words, *more], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    with open(os.path.join(folder, "dataset.json"), "w", encoding="utf-8") as f:
        f.write("{")
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and "is not JSON" in done.stderr, done.stderr


def test_real_scores_where_they_are_installed():
    """BLEU with several references, and CIDEr, match values computed by hand."""
    folder = os.path.join(os.path.dirname(TOOL), "..", "build", "sacrebleu")
    if not os.path.exists(os.path.join(folder, f"sacrebleu-{bleu.VERSION}")):
        raise tap.Skip(f"sacrebleu {bleu.VERSION} is not installed in build/sacrebleu; tools/bleu.py installs it")
    with tempfile.TemporaryDirectory() as scratch:
        hypothesis = write(scratch, "hyp", ["a b c d e", "f g h i"])
        references = [write(scratch, "one", ["x", "f g h i"]), write(scratch, "two", ["a b c d e", ""])]
        assert abs(bleu.bleu(references, hypothesis, folder)["score"] - 100) < 1e-9  # each line is one of its references
        assert bleu.bleu(references[0], hypothesis, folder)["score"] < 70
    if not os.path.exists(os.path.join(folder, f"pycocoevalcap-{bleu.CIDER_VERSION}")):
        raise tap.Skip(f"pycocoevalcap {bleu.CIDER_VERSION} is not installed in build/sacrebleu; tools/bleu.py --cider installs it")
    good = bleu.cider([["a b c d e"], ["f g h i j"]], ["a b c d e", "f g h i j"], folder)
    assert abs(good - 10) < 1e-6 and bleu.cider([["a b c d e"], ["f g h i j"]], ["f g h i j", "a b c d e"], folder) < 1e-6, good


@in_folder
def test_a_sacrebleu_that_fails(folder):
    done = run(folder, "a\n", "b\n", says="echo no such metric >&2; exit 2")
    assert done.returncode == 1 and "no such metric" in done.stderr and done.stderr.count("\n") == 1, done.stderr


if __name__ == "__main__":
    tap.main(globals())
