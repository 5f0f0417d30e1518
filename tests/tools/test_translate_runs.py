"""Tests the translation demo and the trainings of RESULTS.md on tiny models, with a fake sacrebleu."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import bleu  # noqa: E402
import translate_runs  # noqa: E402

PLSTM = os.path.abspath(os.environ.get("PLSTM", "build/plstm"))
FAKE = """#!/bin/sh
echo '{"name": "BLEU", "score": 33.0, "signature": "nrefs:1|tok:none", "verbose_score": "1/2/3/4"}'
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
    with open(os.path.join(venv, f"sacrebleu-{bleu.VERSION}"), "w", encoding="utf-8"):
        pass
    return venv


def write_pairs(folder):
    for split, lines in (("train", 60), ("val", 10), ("test_2016_flickr", 10)):
        for side, words in (("en", "ab"), ("fr", "AB")):
            with open(os.path.join(folder, f"{split}.{side}"), "w", encoding="utf-8") as f:
                f.writelines(" ".join(words[(i * i + k) % 7 % 2] for k in range(1 + i % 4)) + "\n" for i in range(lines))


def runs(folder, *options):
    data, venv = os.path.join(folder, "data"), os.path.join(folder, "venv")
    if not os.path.exists(data):
        os.makedirs(data)
        write_pairs(data)
        fake_venv(folder)
    return subprocess.Popen([sys.executable, os.path.join(ROOT, "tools", "translate_runs.py"), data, "--plstm", PLSTM, "--work",
                             os.path.join(folder, "work"), "--out", os.path.join(folder, "out"), "--venv", venv, *options],
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


OURS = f"keep{translate_runs.KEEP}-1"
TINY = ("--only", "none-1", OURS, "--train-options", "--hidden 4 --layers 1 --batch 10 --epochs 3")


@in_folder
def test_runs_write_results_and_are_not_repeated(folder):
    done = runs(folder, *TINY)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    results = [json.loads(line) for line in read(folder, "out", "translate.jsonl").splitlines()]
    assert [r["name"] for r in results] == ["none-1", OURS], results
    assert [r["keep"] for r in results] == [1.0,
                                            translate_runs.KEEP] and all(r["bleu"] == 33.0 and r["epochs"] == 3
                                                                         for r in results), results
    assert all(r["test"] == "test_2016_flickr" and r["best_epoch_test_ppl"] > 1 for r in results), results
    example = results[0]["example"]
    assert example["source"] == "a" and example["reference"] == "A" and example["nbest"][0]["score"] < 0, example
    assert len(read(folder, "out", "translate-none-1.txt").splitlines()) == 10
    assert '"event":"run"' in read(folder, "out", f"translate-{OURS}.jsonl")
    assert OURS in out and "BLEU 33.00" in out, out
    before = os.stat(os.path.join(folder, "work", "none-1", "best.st")).st_mtime_ns
    again = runs(folder, *TINY)
    again.communicate(timeout=60)
    assert again.returncode == 0 and os.stat(os.path.join(folder, "work", "none-1", "best.st")).st_mtime_ns == before


@in_folder
def test_an_interrupted_run_continues(folder):
    options = ("--only", OURS, "--train-options", "--hidden 64 --layers 2 --batch 1 --epochs 40")
    first = runs(folder, *options)
    log = os.path.join(folder, "work", OURS, "log.jsonl")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (os.path.exists(log) and read(log).count('"event":"epoch"') > 1):
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM and "continues" in err, (first.returncode, err)
    assert not os.path.exists(os.path.join(folder, "out", "translate.jsonl"))
    assert f"partial-translate-{OURS}.jsonl" in os.listdir(os.path.join(folder, "out"))
    listed = runs(folder, *options, "--list")
    out, _ = listed.communicate(timeout=60)
    assert "epochs so far" in out, out
    second = runs(folder, *options)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    epochs = [json.loads(line)["epoch"] for line in read(log).splitlines() if '"event":"epoch"' in line]
    assert epochs == list(range(1, 41)), epochs
    assert os.listdir(os.path.join(folder, "out")).count("translate.jsonl") == 1
    assert not [name for name in os.listdir(os.path.join(folder, "out")) if name.startswith("partial")]


@in_folder
def test_a_failure_is_reported(folder):
    failed = runs(folder, "--only", "none-1", "--train-options", "--hidden 0")
    _, err = failed.communicate(timeout=60)
    assert failed.returncode == 1 and err.count("\n") == 1 and "--hidden" in err, err


def test_every_run_has_a_pair():
    seeds = [name.split("-")[1] for name in translate_runs.RUNS if name.startswith("none")]
    assert seeds == ["1", "2", "3"] and all(f"keep{translate_runs.KEEP}-{seed}" in translate_runs.RUNS for seed in seeds)


@in_folder
def test_the_demo_prints_a_table_and_sentences(folder):
    demo = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo_translate.py"), "--plstm", PLSTM, "--out",
                           os.path.join(folder, "demo"),
                           "--train-options", "--hidden 4 --layers 1 --epochs 1"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          timeout=120, check=False)
    assert demo.returncode == 1 and "does not hold" in demo.stderr, (demo.stdout, demo.stderr)  # so little training may show no effect
    lines = demo.stdout.splitlines()
    assert [line[:12] for line in lines[3:8]] == ["no dropout (", "no dropout (", "dropout (end", "dropout (bes", "-" * 12], lines
    assert lines[8].startswith("best possible") and lines[8].split()[2:5] == ["1.57", "1.57", "1.56"], lines
    assert demo.stdout.count("  source      ") == 5 and demo.stdout.count("  reference   ") == 5
    results = [json.loads(line) for line in read(folder, "demo", "results.jsonl").splitlines()]
    assert [r["sites"] for r in results] == ["none", "nonrecurrent"] and all(0 <= r["words_in_place"] < 1 for r in results)
    assert len(read(folder, "demo", "none-1.translated").splitlines()) == 1000


if __name__ == "__main__":
    tap.main(globals())
