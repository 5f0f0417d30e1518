"""Tests the caption demo and the trainings of RESULTS.md on tiny models, with a fake sacrebleu and pycocoevalcap. It also checks that the
model uses the image: with shuffled images a trained model is far worse."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import bleu  # noqa: E402
import caption_runs  # noqa: E402

PLSTM = os.path.abspath(os.environ.get("PLSTM", "build/plstm"))
FAKE = """#!/bin/sh
if [ "$1" = -c ]; then cat > "$(dirname "$0")/cider-asked"; echo 1.25; exit; fi
echo '{"name": "BLEU", "score": 33.0, "signature": "nrefs:5|tok:none", "verbose_score": "1/2/3/4"}'
"""


def in_folder(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
    return call


def fake_venv(folder):
    venv = os.path.join(folder, "venv")
    os.makedirs(os.path.join(venv, "bin"))
    python = os.path.join(venv, "bin", "python")
    with open(python, "w", encoding="utf-8") as f:
        f.write(FAKE)
    os.chmod(python, 0o755)
    for stamp in (f"sacrebleu-{bleu.VERSION}", f"pycocoevalcap-{bleu.CIDER_VERSION}"):
        with open(os.path.join(venv, stamp), "w", encoding="utf-8"):
            pass
    return venv


def runs(folder, *options):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools", "caption_runs.py"), "--plstm", PLSTM, "--work",
                           os.path.join(folder, "work"),
                           "--out", os.path.join(folder, "out"), "--venv", os.path.join(folder, "venv"), "--nice", "", *options],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


TINY = ("--only", *caption_runs.TUNED, "dropout-2", "plain-2-1", "--train-options", "--hidden 4 --batch 50 --max-steps 60")


@in_folder
def test_runs_write_results_and_are_not_repeated(folder):
    fake_venv(folder)
    done = runs(folder, *TINY)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in read(folder, "out", "caption.jsonl").splitlines()]
    tuned, sides = records[:4], records[4:]
    assert [(r["tuned"], r["keep"]) for r in tuned] == [setting[:2]
                                                        for setting in caption_runs.TUNED.values()] and all(
                                                            r["epochs"] == 1 for r in tuned), tuned
    assert [(r["repetition"], r["side"], r["members"]) for r in sides] == [(2, "none", 1), (2, "dropout", 1)], sides
    best = min((r for r in tuned if r["tuned"] == "dropout"), key=lambda r: r["valid_ppl"])
    assert sides[0]["keep"] == 1.0 and sides[1]["keep"] == best["keep"] and best["chosen"] and sum(r["chosen"] for r in tuned) == 2
    assert all(r["bleu"] == r["bleu_plain"] == 33.0 and r["length_penalty"] == caption_runs.PENALTY
               and r["cider"] == 1.25 and r["test_ppl"] > r["best_ppl"] > 1 and 0 <= r["true"] <= 1
               for r in sides), sides
    asked = json.loads(read(folder, "venv", "bin", "cider-asked"))
    assert len(asked["references"]) == len(asked["hypotheses"]) == 500 and len(asked["references"][0]) == 5
    assert len(read(folder, "out", "caption-none-2.txt").splitlines()) == 500
    logs = [json.loads(line)["event"] for line in read(folder, "out", "caption-logs.jsonl").splitlines()]
    assert logs == ["run", "epoch", "test"] * 6, logs
    before = os.stat(os.path.join(folder, "work", "plain-2-1", "best.st")).st_mtime_ns
    again = runs(folder, *TINY)
    assert again.returncode == 0 and os.stat(os.path.join(folder, "work", "plain-2-1", "best.st")).st_mtime_ns == before
    assert "2 none" in again.stdout and "BLEU 33.00" in again.stdout, again.stdout


@in_folder
def test_a_failure_is_reported(folder):
    fake_venv(folder)
    failed = runs(folder, "--only", "plain-1-1")
    assert failed.returncode == 1 and "tuning runs of its side first" in failed.stderr, failed.stderr
    failed = runs(folder, "--only", "tune-0.8-40", "--train-options", "--hidden 0")
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1 and "--hidden" in failed.stderr, failed.stderr


def test_every_repetition_has_its_sides():
    for repetition in caption_runs.REPETITIONS:
        names = [name for side in caption_runs.SIDES for name in caption_runs.members_of(side, repetition)]
        assert set(names) <= set(caption_runs.RUNS) and len(caption_runs.members_of("ensemble", repetition)) == 10
    seeds = [tuple(words) for name, words in caption_runs.RUNS.items() if name.startswith("plain")]
    assert len(set(seeds)) == len(seeds)


@in_folder
def test_the_model_uses_the_image(folder):
    """TASKS 4: with the images shuffled, the perplexity is at least 1.5 times as high."""
    weights = os.path.join(folder, "read.st")
    right, shuffled = os.path.join(folder, "right"), os.path.join(folder, "shuffled")
    train = ["train", "--task", "caption", "--preset", "demo", "--data", "scenes", "--dropout-sites", "none",
             "--epochs", "12", "--hold", "9", "--decay", "2",
             "--hidden", "64",
             "--eval", "none", "--quiet", "--threads", "1", "--save", weights]
    for words in (train, ["data", "scenes", "--task", "caption", "--write", right]):
        subprocess.run([PLSTM, *words], check=True, stdout=subprocess.DEVNULL)
    os.makedirs(shuffled)
    with open(os.path.join(shuffled, "dataset.json"), "w", encoding="utf-8") as f:
        f.write(read(right, "dataset.json"))
    caption_runs.shuffle(right, shuffled)
    ppl = []
    for data in (right, shuffled):
        log = os.path.join(folder, "eval.jsonl")
        subprocess.run([PLSTM, "eval", "--weights", weights, "--data", data, "--log-json", log, "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        ppl.append(json.loads(read(log))["ppl"])
    assert ppl[1] >= 1.5 * ppl[0], ppl


@in_folder
def test_the_demo_prints_a_table_captions_and_a_page(folder):
    demo = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo_caption.py"), "--plstm", PLSTM, "--out",
                           os.path.join(folder, "demo"),
                           "--train-options", "--hidden 4 --epochs 1"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120, check=False)
    assert demo.returncode == 0 or "does not hold" in demo.stderr, (demo.stdout, demo.stderr)  # so little training may show no effect
    lines = demo.stdout.splitlines()
    assert [line[:12] for line in lines[3:8]] == ["no dropout (", "no dropout (", "dropout (end", "dropout (bes", "-" * 12], lines
    assert lines[8].startswith("best possible"), lines
    assert demo.stdout.count("  annotator   ") == 4 and "page.html" in demo.stdout
    results = [json.loads(line) for line in read(folder, "demo", "results.jsonl").splitlines()]
    assert [r["sites"] for r in results] == ["none", "nonrecurrent"] and all(0 <= r["true"] <= 1 for r in results)
    assert len(read(folder, "demo", "none-1.captions").splitlines()) == 500
    assert read(folder, "demo", "page.html").count("<figure>") == 60


if __name__ == "__main__":
    tap.main(globals())
